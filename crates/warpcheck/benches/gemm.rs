//! How fast a kernel runs: an fp32 GEMM with tiles in shared memory, as NVRTC compiles it, in multiply-adds a second.

#![allow(missing_docs, reason = "criterion_group makes an undocumented function")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use warpcheck::{
    engine::Engine,
    launch::{Launch, LaunchOptions},
    memory::Kind,
    profile::Profile,
};

const SIZE: u32 = 256;

fn gemm(c: &mut Criterion) {
    let engine = Engine::new();
    let profile = Profile::default();
    let module = engine.load(0, &profile, include_bytes!("gemm.ptx")).expect("the PTX loads");
    let kernel = module.kernel("gemm").expect("the kernel is there");
    let bytes = u64::from(SIZE * SIZE * 4);
    let buffer = || {
        let address = engine.memory().allocate(Kind::Device, 0, bytes, 256, "matrix").expect("there is memory");
        let data: Vec<u8> = (0..SIZE * SIZE).flat_map(|i| ((i % 17) as f32 - 8.0).to_le_bytes()).collect();
        engine.memory().write(address, &data).expect("the buffer is large enough");
        address
    };
    let mut params: Vec<u8> = [buffer(), buffer(), buffer()].iter().flat_map(|a| a.to_le_bytes()).collect();
    params.extend([SIZE; 3].iter().flat_map(|n| n.to_le_bytes()));
    let launch = Launch {
        kernel: &kernel,
        device: 0,
        profile: &profile,
        grid: [SIZE / 64, SIZE / 64, 1],
        block: [256, 1, 1],
        dynamic_shared: 0,
        params: &params,
    };
    let mut group = c.benchmark_group("gemm");
    group.throughput(Throughput::Elements(u64::from(SIZE).pow(3))).sample_size(20);
    let one = |options: LaunchOptions| LaunchOptions { threads: 1, ..options };
    let counted = LaunchOptions { count: true, ..LaunchOptions::default() };
    for (name, options) in [
        ("unchecked, one core", one(LaunchOptions::default())),
        ("all checks, one core", one(LaunchOptions::checked())),
        ("counters, one core", one(counted)),
        ("unchecked, all cores", LaunchOptions::default()),
        ("all checks, all cores", LaunchOptions::checked()),
    ] {
        group.bench_with_input(BenchmarkId::from_parameter(name), &options, |b, options| {
            b.iter(|| {
                let outcome = engine.launch(&launch, options);
                assert!(outcome.error.is_none() && outcome.findings.is_empty());
                outcome.printed
            });
        });
    }
    group.finish();
}

criterion_group!(benches, gemm);
criterion_main!(benches);
