//! The compiler that the other tests stand on.

mod support;

use support::nvrtc;

#[test]
fn compiles_cuda_c_with_lines_for_every_target() {
    let source = "extern \"C\" __global__ void twice(float* x) {\n  x[threadIdx.x] *= 2.0f;\n}\n";
    for arch in [70, 75, 80, 86, 89, 90] {
        let ptx = nvrtc::compile(source, arch, &[]);
        assert!(ptx.contains(&format!(".target sm_{arch}")), "{ptx}");
        assert!(ptx.contains(".visible .entry twice("), "{ptx}");
        assert!(ptx.contains("test.cu\"") && ptx.contains(".loc\t1 2"), "{ptx}");
    }
}

#[test]
fn says_what_is_wrong_with_a_source() {
    let log = nvrtc::try_compile("__global__ void f() { undeclared = 1; }", 80, &[]).expect_err("undeclared");
    assert!(log.contains("undeclared"), "{log}");
    assert!(nvrtc::try_compile("int x;", 80, &["--no-such-option"]).is_err());
}

#[test]
fn is_kept_whole_in_the_cache() {
    let folder = nvrtc::folder().expect("fetched by now or before");
    assert!(folder.join("libnvrtc.so.12").is_file() && folder.join("libnvrtc-builtins.so.12.9").is_file());
    let waiting: Vec<_> = (0..8).map(|_| std::thread::spawn(nvrtc::folder)).collect();
    for thread in waiting {
        assert_eq!(thread.join().expect("no panic").as_ref(), Ok(&folder));
    }
}
