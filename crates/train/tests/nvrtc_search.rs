//! NVRTC is found wherever a machine has it. What cannot be used is passed over, and `doctor` says why.
#![cfg(target_os = "linux")]

mod command;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use command::{Done, Place, done, nvrtc, real_driver};

/// A command with warpcheck as its driver and no NVRTC but where the variables say; `{}` in them is the place's folder.
fn run(place: &Place, arguments: &str, variables: &[(&str, &str)]) -> Done {
    let mut command = place.cuda(arguments, "none");
    for name in ["ALEXNET_NVRTC", "CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "VIRTUAL_ENV"] {
        command.env_remove(name);
    }
    for (name, folder) in [("HOME", "home"), ("XDG_CACHE_HOME", "xdg"), ("ALEXNET_CACHE", "cache")] {
        command.env(name, place.path(folder));
    }
    let root = place.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    for (name, value) in variables {
        let mut value = value.replace("{}", &root);
        if *name == "LD_LIBRARY_PATH" {
            value = format!("{value}:{root}/driver");
        }
        command.env(name, value);
    }
    done(command.output().unwrap())
}

/// A usable NVRTC of this machine, and its version.
fn real() -> (PathBuf, String) {
    let (major, minor) = nvrtc().version();
    (nvrtc().path().to_owned(), format!("{major}.{minor}"))
}

/// Whether this machine has no NVRTC under `/usr/local` or on the loader's path, which are searched last.
fn bare(place: &Place) -> bool {
    run(place, "doctor --device cpu", &[]).out.contains("nvrtc    missing")
}

/// Links to the real NVRTC under this name and to the libraries beside it.
fn lay_out(place: &Place, folder: &str, name: &str) {
    let (file, _) = real();
    let folder = place.path(folder);
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(file.parent().unwrap()).unwrap().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("libnvrtc-builtins")) {
            symlink(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    symlink(file, folder.join(name)).unwrap();
}

/// Builds the stand-in for a version as a library and its built-in functions; `None` without a C compiler.
fn fake(place: &Place, file: &str, version: u32, more: &[&str]) -> Option<PathBuf> {
    let path = place.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvrtc/fake.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-DOLDEST=75", &format!("-DVERSION={version}"), "-o"])
        .args([&path, &source])
        .args(more)
        .status();
    if built.is_err() {
        println!("left out: no C compiler");
        return None;
    }
    assert!(built.unwrap().success());
    let builtins = format!("libnvrtc-builtins.so.{}.{}", version / 1000, version % 1000 / 10);
    fs::copy(&path, path.with_file_name(builtins)).unwrap();
    Some(path)
}

/// The lines of `doctor` about libraries that it passed over.
fn passed_over(done: &Done) -> Vec<&str> {
    done.out.lines().filter_map(|line| line.strip_prefix("         passed over ")).collect()
}

#[test]
fn every_place_is_searched() {
    let (_, version) = real();
    let site = "lib/python3.12/site-packages/nvidia";
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("named", &[("ALEXNET_NVRTC", "{}/named"), ("CUDA_HOME", "/nowhere")]),
        ("named", &[("ALEXNET_NVRTC", "{}/named/libnvrtc.so.12")]),
        ("named", &[("ALEXNET_NVRTC", "named")]),
        ("cache/nvrtc-12.9.86", &[("ALEXNET_NVRTC", "")]),
        ("xdg/warpcheck/nvrtc-12.9.86", &[]),
        ("cuda/lib64", &[("CUDA_HOME", "{}/cuda")]),
        ("cuda/lib", &[("CUDA_PATH", "{}/cuda")]),
        ("conda/targets/x86_64-linux/lib", &[("CONDA_PREFIX", "{}/conda")]),
        (&format!("conda/{site}/cuda_nvrtc/lib"), &[("CONDA_PREFIX", "{}/conda")]),
        (&format!("venv/{site}/cuda_nvrtc/lib"), &[("VIRTUAL_ENV", "{}/venv")]),
        (&format!("venv/{site}/cu13/lib"), &[("VIRTUAL_ENV", "{}/venv")]),
        (&format!("prefix/{site}/cu13/lib"), &[("PATH", "relative:{}/prefix/bin")]),
        ("prefix/lib64/python3/dist-packages/nvidia/cuda_nvrtc/lib", &[("PATH", "{}/prefix/bin")]),
        (&format!("target/{site}/cu13/lib"), &[("PATH", "{}/link")]),
        (&format!("pyenv/versions/3.12.1/{site}/cu13/lib"), &[("PATH", "{}/pyenv/shims")]),
        (&format!("home/.local/{site}/cuda_nvrtc/lib"), &[("PATH", "{}/prefix/bin")]),
        ("libraries", &[("LD_LIBRARY_PATH", "{}/empty:{}/libraries")]),
        ("libraries", &[("LD_LIBRARY_PATH", "libraries")]),
    ];
    let bare = bare(&Place::new());
    for (folder, variables) in cases {
        if folder.contains("x86_64") && cfg!(not(target_arch = "x86_64")) || *folder == "libraries" && !bare {
            continue;
        }
        for name in ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc.so"] {
            let place = Place::new();
            for python in ["prefix/bin", "target/bin", "pyenv/shims"].map(|folder| place.path(folder)) {
                fs::create_dir_all(&python).unwrap();
                // Never run.
                fs::write(python.join("python3"), "").unwrap();
            }
            fs::create_dir(place.path("link")).unwrap();
            symlink(place.path("target/bin/python3"), place.path("link/python3")).unwrap();
            lay_out(&place, folder, name);
            let named: Vec<(&str, String)> =
                variables.iter().map(|(variable, value)| (*variable, value.replace("libnvrtc.so.12", name))).collect();
            let named: Vec<(&str, &str)> = named.iter().map(|(variable, value)| (*variable, value.as_str())).collect();
            let done = run(&place, "doctor --device cpu", &named);
            // The folder of a relative path is found by the loader, and the library by what is mapped into memory.
            let relative = named.contains(&("LD_LIBRARY_PATH", "libraries"));
            let file = if relative { real().0.canonicalize().unwrap() } else { place.path(folder).join(name) };
            let line = format!("nvrtc    {version}, {}, for sm_", file.display());
            assert!(done.out.contains(&line), "{folder}/{name}, {named:?}: {done:?}");
            assert!(done.code == 0 && passed_over(&done).is_empty(), "{done:?}");
        }
    }
}

#[test]
fn what_cannot_be_used_is_passed_over_with_its_reason() {
    let place = Place::new();
    let Some(thirteen) = fake(&place, "cuda/lib64/libnvrtc.so.13", 13_000, &[]) else { return };
    if real_driver() {
        return;
    }
    let (file, version) = real();
    let name = file.file_name().unwrap().to_str().unwrap();
    fake(&place, "cuda/lib64/libnvrtc.so", 11_080, &[]).unwrap();
    fake(&place, "path/lib/libnvrtc.so.12", 12_000, &["-DnvrtcGetCUBIN=other"]).unwrap();
    fs::create_dir_all(place.path("conda/lib")).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(place.path("conda/lib/libnvrtc.so.12"), bytes).unwrap();
    fs::write(place.path("conda/lib/libnvrtc.so.13"), "<html>404 Not Found</html>").unwrap();
    let packages = "venv/lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib";
    fs::create_dir_all(place.path(packages)).unwrap();
    fs::copy(&file, place.path(packages).join("libnvrtc.so.12")).unwrap();
    lay_out(&place, "good", name);
    // NVRTC looks on the loader's path for its built-in functions, before the folder that it lies in.
    let builtins = format!("libnvrtc-builtins.so.{version}");
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("empty").join(&builtins), "").unwrap();

    let mut variables = vec![
        ("CUDA_HOME", "{}/cuda"),
        ("CUDA_PATH", "{}/path"),
        ("CONDA_PREFIX", "{}/conda"),
        ("VIRTUAL_ENV", "{}/venv"),
        ("LD_LIBRARY_PATH", "{}/empty"),
    ];
    let expected = [
        ("cuda/lib64/libnvrtc.so.13", "NVRTC 13.0 needs a driver for CUDA 13, this one is for 12.9"),
        ("cuda/lib64/libnvrtc.so", "NVRTC 11.8 cannot be used, at least 12.0 is needed"),
        ("path/lib/libnvrtc.so.12", "undefined symbol: nvrtcGetCUBIN"),
        ("conda/lib/libnvrtc.so.13", "not a shared library for this machine (64-bit ELF)"),
        ("conda/lib/libnvrtc.so.12", "damaged: cut off at "),
        (&format!("{packages}/libnvrtc.so.12"), &format!("{builtins} is not beside it")),
    ];
    // Nothing is left: all of it is told, by every command.
    if bare(&place) {
        for arguments in ["doctor --device cuda", "gradcheck --device cuda --layer relu"] {
            let done = run(&place, arguments, &variables);
            assert!(done.code == 1, "{done:?}");
            for (file, reason) in expected {
                assert!(done.error.contains(&format!("{}: ", place.path(file).display())), "{file}: {done:?}");
                assert!(done.error.contains(reason), "{reason}: {done:?}");
            }
            for place in
                [", CUDA_HOME=/", "VIRTUAL_ENV=/", "/usr/local/cuda*, the loader's path; install it, or set ALEXNET"]
            {
                assert!(done.error.contains(place), "{place}: {done:?}");
            }
        }
    }
    variables[4].1 = "{}/empty:{}/good";
    let done = run(&place, "doctor --device cpu", &variables);
    assert!(done.out.contains(&format!("nvrtc    {version}, {}", place.path("good").display())), "{done:?}");
    let passed_over = passed_over(&done);
    assert_eq!(passed_over.len(), expected.len(), "{done:?}");
    for (line, (file, reason)) in passed_over.iter().zip(expected) {
        assert!(line.starts_with(&format!("{}: ", place.path(file).display())) && line.contains(reason), "{line}");
    }
    // It compiles, with the others in the process.
    let done = run(&place, "gradcheck --device cuda --layer relu", &variables);
    assert!(done.code == 0 && done.out.ends_with("within the tolerance\n"), "{done:?}");

    // In one place the newest goes first, also if another folder of the place holds it.
    lay_out(&place, "both/lib64", "libnvrtc.so.12");
    fs::create_dir_all(place.path("both/lib")).unwrap();
    for entry in fs::read_dir(thirteen.parent().unwrap()).unwrap().flatten() {
        fs::copy(entry.path(), place.path("both/lib").join(entry.file_name())).unwrap();
    }
    let done = run(&place, "doctor --device cpu", &[("CUDA_HOME", "{}/both")]);
    assert!(done.out.contains("both/lib64/libnvrtc.so.12, for sm_"), "{done:?}");
    assert!(
        done.out.contains("passed over ") && done.out.contains("both/lib/libnvrtc.so.13: NVRTC 13.0 needs"),
        "{done:?}"
    );
    // Too new for the GPU: asked for one of compute capability 7.0.
    let done = run(&place, "doctor --device cpu", &[("CUDA_HOME", "{}/both"), ("WARPCHECK_PROFILE", "v100")]);
    let reason = "NVRTC 13.0 compiles for compute capability 7.5 and newer, the GPU has 7.0";
    assert!(done.out.contains(reason) && done.out.contains("both/lib64/libnvrtc.so.12"), "{done:?}");

    // What the user names is not passed over, whatever else there is.
    lay_out(&place, "cache/nvrtc-12.9.86", "libnvrtc.so.12");
    for (named, words) in [
        ("{}/cuda/lib64/libnvrtc.so.13", "needs a driver for CUDA 13"),
        ("{}/cuda/lib64", "needs a driver for CUDA 13"),
        ("{}/conda/lib", "damaged: cut off at "),
        ("{}/venv", "holds none of libnvrtc.so.13, libnvrtc.so.12, libnvrtc.so"),
        ("{}/nowhere", "No such file"),
    ] {
        let done = run(&place, "doctor --device cuda", &[("ALEXNET_NVRTC", named)]);
        assert!(done.code == 1 && done.error.contains(words), "{named}: {done:?}");
        assert!(done.error.contains("ALEXNET_NVRTC names it; unset that, or set it to a folder"), "{done:?}");
        assert!(done.out.contains("nvrtc    missing: "), "{done:?}");
    }
    // In a folder that holds several, one is enough.
    let done = run(&place, "doctor --device cpu", &[("ALEXNET_NVRTC", "{}/both/lib64")]);
    assert!(done.code == 0 && done.out.contains("both/lib64/libnvrtc.so.12, for sm_"), "{done:?}");
}

#[test]
fn doctor_compiles_every_precision_and_files_in_parallel() {
    let place = Place::new();
    if real_driver() || fake(&place, "fake/libnvrtc.so.12", 12_000, &[]).is_none() {
        return;
    }
    let entries = |place: &Place| fs::read_dir(place.path("cache/kernels")).unwrap().count();
    // By a bare name: a relative path of the loader.
    let variables = [("LD_LIBRARY_PATH", "fake"), ("FAKE_NVRTC", "{}/most")];
    if !bare(&place) {
        return;
    }
    let done = run(&place, "doctor --device cuda", &variables);
    assert!(done.code == 0 && done.out.contains("/fake/libnvrtc.so.12, for sm_75 to sm_80\n"), "{done:?}");
    assert!(done.out.contains("): every kernel compiles and loads in fp32, tf32, fp16, bf16\n"), "{done:?}");
    assert_eq!(place.read("most"), b"2");
    // Other commands compile the files of one precision in parallel. (They fail: nothing is in this module.)
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        fs::remove_dir_all(place.path("cache")).unwrap();
        fs::remove_file(place.path("most")).unwrap();
        assert_eq!(run(&place, "gradcheck --device cuda --layer relu", &variables).code, 1);
        assert_eq!(place.read("most"), b"2");
        assert_eq!(run(&place, "doctor --device cuda", &variables).code, 0);
    }
    let first = entries(&place);
    assert_eq!(run(&place, "doctor --device cuda", &variables).code, 0);
    assert_eq!(entries(&place), first);
    // Another build of the same version and length has other keys.
    let builtins = place.path("fake/libnvrtc-builtins.so.12.0");
    let mut bytes = fs::read(&builtins).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&builtins, bytes).unwrap();
    assert_eq!(run(&place, "doctor --device cuda", &variables).code, 0);
    assert_eq!(entries(&place), 2 * first);
}
