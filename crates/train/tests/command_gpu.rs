//! What is missing for a GPU, as a user meets it: `alexnet doctor`, and every error of `--device cuda`; `gradcheck`.
#![cfg(unix)]

mod command;

use std::process::Command;

use command::{Done, Place, done, real_driver};

/// A run of one step.
const STEP: &str =
    "train --data sample --limit-train 2 --limit-test 1 --batch-size 2 --epochs 1 --resize 16 --device cuda";

fn run(mut command: Command, variables: &[(&str, &str)]) -> Done {
    command.envs(variables.iter().copied());
    let mut done = done(command.output().unwrap());
    // Which code the driver takes is found by offering it a cubin.
    let offered = |line: &&str| line.starts_with("warpcheck: a module is refused: this is a cubin");
    done.error = done.error.split_inclusive('\n').filter(|line| !offered(line)).collect();
    done
}

#[track_caller]
fn fails(done: &Done, words: &[&str]) {
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.error.starts_with("error: ") && !done.error.contains("panicked"), "{}", done.error);
    for word in words {
        assert!(done.error.contains(word), "no `{word}` in: {}", done.error);
    }
}

#[test]
fn doctor_says_what_is_there() {
    let place = Place::new();
    let done = run(place.cuda("doctor --device cuda", "all"), &[]);
    assert_eq!((done.code, done.error.as_str()), (0, ""), "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    for (part, words) in [
        ("driver", "supports CUDA 1"),
        ("device", ", compute capability "),
        ("device", " GiB free"), /* of so many */
        ("nvrtc", "libnvrtc.so"),
        ("cache", "compiled kernels, "),
        ("cpu", "thread"),
        ("verdict", "every kernel compiles and loads in fp32, tf32, fp16, bf16"),
    ] {
        assert!(lines.iter().any(|line| line.starts_with(part) && line.contains(words)), "{part}: {}", done.out);
    }
    // Two GPUs, and the second asked for.
    if !real_driver() {
        let done = run(place.cuda("doctor --device cuda:1", "all"), &[("WARPCHECK_DEVICES", "2")]);
        assert!(done.code == 0 && done.out.contains("device   cuda:1 "), "{done:?}");
    }
}

#[test]
fn doctor_says_what_is_missing_and_fails_only_if_it_was_asked_for() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    let (home, file) = (place.path("home"), place.path("file"));
    let (home, file) = (home.to_str().unwrap(), file.to_str().unwrap());
    // No NVRTC anywhere.
    let nowhere = [("HOME", home), ("XDG_CACHE_HOME", home), ("ALEXNET_CACHE", home), ("ALEXNET_NVRTC", "/nowhere")];
    let done = run(place.cuda("doctor", "all"), &nowhere);
    assert!(done.code == 0 && done.out.contains("nvrtc    missing: /nowhere"), "{done:?}");
    assert!(done.out.contains("verdict  --device auto takes the CPU"), "{done:?}");
    fails(&run(place.cuda("doctor --device cuda", "all"), &nowhere), &["/nowhere", "ALEXNET_NVRTC"]);
    // A cache that cannot be written costs time, nothing else.
    let done = run(place.cuda("doctor --device cpu", "all"), &[("ALEXNET_CACHE", file)]);
    assert!(done.code == 0 && done.out.contains("cache    missing: ") && done.out.contains("set ALEXNET_CACHE"));
    // Nothing to fetch with: PATH is empty.
    let bare = [("HOME", home), ("XDG_CACHE_HOME", home), ("ALEXNET_CACHE", home)];
    fails(&run(place.cuda("doctor --fetch-nvrtc", "all"), &bare), &["cannot fetch NVRTC: ", "pip", "ALEXNET_NVRTC"]);
    // A machine with a GPU need not have a network.
    if real_driver() {
        return;
    }
    // It is there already.
    assert_eq!(run(place.cuda("doctor --fetch-nvrtc", "all"), &[]).code, 0);
    let none = [("WARPCHECK_DEVICES", "0")];
    let done = run(place.cuda("doctor", "all"), &none);
    assert!(done.code == 0 && done.out.contains("driver   missing: the NVIDIA driver finds no GPU; check nvidia-smi"));
    fails(&run(place.cuda("doctor --device cuda", "all"), &none), &["cuda:0: the NVIDIA driver finds no GPU"]);
    if matches!(alexnet_kernels::device_count(), Err(alexnet_kernels::Error::NoDriver)) {
        let done = place.run("doctor");
        assert!(done.code == 0 && done.out.contains("driver   missing: no NVIDIA driver"), "{done:?}");
        place.fail("doctor --device cuda", 1, &["cuda:0: no NVIDIA driver: libcuda.so is not on the loader's path"]);
        // Without one `auto` takes the CPU and has nothing to tell.
        let done = place.run(&STEP.replace("--device cuda", "--device auto --epochs 0 --out cpu"));
        assert!(done.code == 0 && done.error.is_empty() && done.out.contains("device   cpu ("), "{done:?}");
    }
}

#[test]
fn every_error_of_a_gpu() {
    let place = Place::new();
    let train = |more: &str, variables: &[(&str, &str)]| run(place.cuda(&format!("{STEP} {more}"), "mem"), variables);
    fails(&train("", &[("ALEXNET_NVRTC", "/nowhere")]), &["cuda:0: /nowhere", "ALEXNET_NVRTC"]);
    if !real_driver() {
        let done = train("--device cuda:7", &[]);
        fails(&done, &["cuda:7: there is no device cuda:7: the driver has 1, cuda:0 to cuda:0"]);
        fails(&train("", &[("WARPCHECK_DEVICES", "0")]), &["the NVIDIA driver finds no GPU", "CUDA_VISIBLE_DEVICES"]);
        // `auto` says why not and goes on, unless something only a GPU has was asked for.
        let without = [("WARPCHECK_DEVICES", "0")];
        let done = train("--device auto --epochs 0", &without);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.error.starts_with("using the CPU: cuda:0: the NVIDIA driver finds no GPU"), "{}", done.error);
        fails(&train("--device auto --precision fp16", &without), &["finds no GPU"]);

        // The GPU's memory counts, not the machine's; and the batch that is named does fit.
        let t4 = [("WARPCHECK_PROFILE", "t4")];
        let done = train("--batch-size 1000000 --out a", &t4);
        fails(&done, &["a batch of 1000000 images needs ", "14.6 GiB is free", "hint: use --batch-size "]);
        let half = train("--batch-size 1000000 --precision fp16 --out a", &t4);
        let largest = |done: &Done| -> usize {
            let (_, hint) = done.error.split_once("--batch-size ").unwrap();
            hint.split_once(' ').unwrap().0.parse().unwrap()
        };
        assert!(largest(&half) as f64 > 1.7 * largest(&done) as f64, "{done:?} {half:?}");

        // A kernel that fails: here one that runs for too long. The second time it is named.
        let budget = ("WARPCHECK_BUDGET", "500");
        fails(&train("--out b", &[budget]), &["cuda:0: a kernel launched before the ", "ALEXNET_SYNC=1 tells which"]);
        fails(&train("--out c", &[budget, ("ALEXNET_SYNC", "1")]), &["cuda:0: execution of ", "CUDA_ERROR_LAUNCH"]);
    }
    assert!(!place.path("a").exists());
}

#[test]
fn gradients_are_checked_by_command() {
    let place = Place::new();
    let out = place.succeed_on_cuda("gradcheck --device cuda --layer conv --shape 2x5x4", "all");
    assert!(out.starts_with("device cuda:0 (") && out.contains("\nconv: 2 images of 5x5x4\n"), "{out}");
    assert!(
        out.contains("  ok     conv layers.0.weight ") && out.contains("worst [") && out.contains(" numeric "),
        "{out}"
    );
    assert!(out.ends_with("gradients are within the tolerance\n"), "{out}");
    let out = place.succeed("gradcheck --device cpu");
    for layer in alexnet_core::gradcheck::network::LAYERS {
        assert!(out.contains(&format!("\n{layer}: ")), "{layer}: {out}");
    }
    // In f32 no gradient is right to 14 digits.
    place.fail(
        "gradcheck --device cpu --layer lrn --rtol 1e-14 --atol 0",
        1,
        &["gradients of cpu", "outside the tolerance"],
    );
    place.fail("gradcheck --device cpu --layer conv --shape 3x1000x", 2, &["expected three numbers"]);
    place.fail("gradcheck --device cpu --layer groupnorm", 2, &["softmax_cross_entropy"]);
}
