//! `printf` and `assert` on the device.

use crate::support::{Gpu, compile};
use warpcheck::finding::FindingKind;
use warpcheck::launch::{Fault, LaunchOptions};

#[test]
fn printf_formats_as_in_c() {
    let source = r#"
extern "C" __global__ void print(const char* s, double d, long long w, int i) {
    if (threadIdx.x != 0) return;
    printf("plain\n");
    printf("%d %5d|%-5d|%05d %+d %x %#X %o %u\n", i, i, i, i, i, i, 255, 8, -1);
    printf("%lld %llu %llx %c%c %s %%\n", w, w, w, 'o', 'k', "text");
    printf("%f %.2f %10.3e %g %8.1f|\n", d, d, d, d, d);
    printf("%*d|%.*f|%-8s|%.3s\n", 6, i, 1, d, "ab", "abcdef");
    printf("block %d of %d\n", blockIdx.x, gridDim.x);
}"#;
    let gpu = Gpu::new();
    let module = gpu.load(&compile(source, 80, &[]));
    let args = args![gpu.zeros(8), 1234.5678f64, -5_000_000_000i64, 42i32];
    let o = LaunchOptions { threads: 1, ..LaunchOptions::checked() };
    let outcome = gpu.launch(&module, "print", ([1, 1, 1], [32, 1, 1], 0), args, &o);
    crate::support::gpu::assert_clean("print", &outcome);
    let expected = "plain\n42    42|42   |00042 +42 2a 0XFF 10 4294967295\n\
        -5000000000 18446744068709551616 fffffffed5fa0e00 ok text %\n\
        1234.567800 1234.57  1.235e+03 1234.57   1234.6|\n    42|1234.6|ab      |abc\nblock 0 of 1\n";
    assert_eq!(outcome.printed, expected);
}

#[test]
fn a_failed_assertion_stops_the_launch() {
    let source = r#"
#define NDEBUG_OFF
extern "C" __device__ void __assertfail(const char*, const char*, unsigned, const char*, size_t);
#define check(c) ((c) ? (void)0 : __assertfail(#c, "model.cu", 77, __func__, 1))
extern "C" __global__ void positive(const int* x) {
    check(x[threadIdx.x] > 0);
}"#;
    let gpu = Gpu::new();
    let module = gpu.load(&compile(source, 80, &[]));
    let shape = ([1, 1, 1], [64, 1, 1], 0);
    let good = gpu.upload(&vec![1i32; 64]);
    gpu.run(&module, "positive", shape, args![good]);
    let mut data = vec![1i32; 64];
    data[37] = 0;
    let bad = gpu.upload(&data);
    let outcome = gpu.launch(&module, "positive", shape, args![bad], &LaunchOptions::checked());
    assert_eq!(outcome.error, Some(Fault::Assert));
    let finding = outcome.findings.iter().find(|f| f.kind == FindingKind::Assert).expect("an assertion");
    assert_eq!(finding.thread, [37, 0, 0]);
    assert!(finding.message.contains("x[threadIdx.x] > 0"), "{}", finding.message);
    let unchecked = gpu.launch(&module, "positive", shape, args![bad], &LaunchOptions::default());
    assert_eq!(unchecked.error, Some(Fault::Assert));
}
