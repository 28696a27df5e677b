//! Random bytes, truncated and mutated PTX: an error that names the line, or a module that runs to an end. No panic, no
//! unbounded memory or time.

#[macro_use]
mod support;

use std::time::{Duration, Instant};
use support::{Gpu, Random, compile};
use warpcheck::launch::LaunchOptions;

const SOURCE: &str = r#"
__constant__ float weights[4] = {1, 2, 3, 4};
__device__ int counter;
__noinline__ __device__ float helper(float a, int n) { while (n-- > 0) a = a * 0.5f + 1.0f; return a; }
extern "C" __global__ void k(float* x, float* y) {
    __shared__ float s[64];
    int t = threadIdx.x;
    float local[8];
    for (int i = 0; i < 8; i++) local[i] = x[(t + i) % 64] * weights[i % 4];
    s[t] = local[(t * 3) % 8];
    __syncthreads();
    float v = helper(s[63 - t], t % 5);
    v += __shfl_xor_sync(0xffffffff, v, 3);
    switch (t % 6) { case 0: v = sinf(v); break; case 1: v *= 3; break; case 2: atomicAdd(&counter, 1); break; case 5: v = -v; }
    if (v > 1e30f) printf("big %f\n", v);
    y[t] = v;
}"#;

/// Loads, and runs what loads; says how it ended.
fn survive(gpu: &Gpu, image: &[u8], runs: bool) -> bool {
    let begun = Instant::now();
    let loaded = gpu.engine.load(0, &gpu.profile, image);
    let ok = match loaded {
        Err(e) => {
            assert!(!e.to_string().is_empty());
            false
        }
        Ok(module) => {
            let kernel = module.kernel("k").filter(|k| runs && k.params.len() == 2 && k.param_bytes == 16);
            if kernel.is_some_and(|k| k.static_shared <= 48 << 10) {
                let (x, y) = (gpu.zeros(1024), gpu.zeros(1024));
                let options = LaunchOptions { budget: 5_000, seconds: 0, threads: 1, ..LaunchOptions::checked() };
                gpu.launch(&module, "k", ([1; 3], [64, 1, 1], 0), args![x, y], &options);
                gpu.free(x);
                gpu.free(y);
            }
            gpu.engine.unload(&module);
            true
        }
    };
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", String::from_utf8_lossy(image));
    ok
}

/// What PTX is written with.
const ALPHABET: &[u8] = b"\n\t ;,.%@{}[]()<>:+-0123456789xfabcdreglst_$\"/*";

#[test]
fn random_bytes() {
    let gpu = Gpu::new();
    let mut random = Random(41);
    for i in 0..3000 {
        let length = (random.draw() % 400) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| random.draw() as u8).collect();
        if i % 2 == 0 {
            bytes = bytes.iter().map(|b| ALPHABET[usize::from(*b) % ALPHABET.len()]).collect();
        }
        if i % 3 == 0 {
            bytes = [b".version 8.8\n.target sm_80\n.address_size 64\n".to_vec(), bytes].concat();
        }
        survive(&gpu, &bytes, true);
    }
}

#[test]
fn truncated_at_every_line() {
    let ptx = compile(SOURCE, 80, &[]);
    let gpu = Gpu::new();
    assert!(survive(&gpu, ptx.as_bytes(), true), "whole, it runs");
    let ends: Vec<usize> = ptx.match_indices('\n').map(|(i, _)| i).collect();
    for end in ends {
        survive(&gpu, &ptx.as_bytes()[..end], true);
        survive(&gpu, &ptx.as_bytes()[..end - end.min(3)], false);
    }
}

#[test]
fn ten_thousand_mutations() {
    let ptx = compile(SOURCE, 80, &[]);
    let lines: Vec<&str> = ptx.lines().collect();
    let words: Vec<&str> = ptx.split_whitespace().collect();
    let gpu = Gpu::new();
    let mut random = Random(42);
    let (mut loaded, mut refused) = (0, 0);
    for i in 0..10_000 {
        let mut pick = |n: usize| (random.draw() % n as u64) as usize;
        let image = match i % 5 {
            // One byte changed, a line dropped, doubled or exchanged, a word replaced by another.
            0 => {
                let mut bytes = ptx.clone().into_bytes();
                let at = pick(bytes.len());
                bytes[at] = pick(256) as u8;
                bytes
            }
            1 => {
                let at = pick(lines.len());
                let kept: Vec<_> = lines.iter().enumerate().filter(|(j, _)| *j != at).map(|(_, l)| *l).collect();
                kept.join("\n").into_bytes()
            }
            2 => {
                let (mut all, from, to) = (lines.clone(), pick(lines.len()), pick(lines.len()));
                all.insert(to, lines[from]);
                all.join("\n").into_bytes()
            }
            3 => {
                let (mut all, a, b) = (lines.clone(), pick(lines.len()), pick(lines.len()));
                all.swap(a, b);
                all.join("\n").into_bytes()
            }
            _ => {
                let (at, word) = (pick(lines.len()), words[pick(words.len())]);
                let mut all: Vec<String> = lines.iter().map(|l| l.to_string()).collect();
                let mut parts: Vec<&str> = lines[at].split_whitespace().collect();
                if !parts.is_empty() {
                    let n = pick(parts.len());
                    parts[n] = word;
                }
                all[at] = parts.join(" ");
                all.join("\n").into_bytes()
            }
        };
        if survive(&gpu, &image, true) { loaded += 1 } else { refused += 1 }
    }
    assert!(loaded > 500 && refused > 500, "{loaded} loaded, {refused} refused");
}

#[test]
fn declared_sizes_are_not_believed() {
    let gpu = Gpu::new();
    let head = ".version 8.8\n.target sm_80\n.address_size 64\n";
    for body in [
        ".global .b8 huge[18446744073709551615];",
        ".global .b8 huge[9223372036854775807];",
        ".shared .b8 huge[4294967295];\n.visible .entry k() { ret; }",
        ".visible .entry k() { .local .b8 huge[1099511627776]; ret; }",
        ".visible .entry k(.param .b8 huge[4294967295]) { ret; }",
        ".visible .entry k() { .reg .b32 %r<4294967295>; ret; }",
        ".const .align 1073741824 .b8 x[4];",
    ] {
        let begun = Instant::now();
        let text = format!("{head}{body}");
        if let Err(e) = gpu.engine.load(0, &gpu.profile, text.as_bytes()) {
            assert!(!e.to_string().is_empty());
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{body}");
    }
    let deep = format!("{head}.visible .entry k() {{ {} ret; {} }}", "{".repeat(100_000), "}".repeat(100_000));
    assert!(gpu.engine.load(0, &gpu.profile, deep.as_bytes()).is_err());
}

#[test]
fn errors_name_the_line() {
    let gpu = Gpu::new();
    let text = ".version 8.8\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n\t.reg .b32 %r<3>;\n\tfrob.u32 %r1, %r2;\n\tret;\n}\n";
    let error =
        gpu.engine.load(0, &gpu.profile, text.as_bytes()).map(|_| ()).expect_err("no such instruction").to_string();
    assert!(error.contains('7') && error.contains("frob"), "{error}");
}
