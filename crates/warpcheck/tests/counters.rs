//! Counters of kernels whose counts are known by arithmetic, by the hardware's rules: a global request touches the
//! distinct 32-byte sectors of its lanes; shared memory has 32 banks of 4 bytes, and a word is broadcast.

#[macro_use]
mod support;

use support::{Gpu, compile};
use warpcheck::count::Counters;
use warpcheck::launch::LaunchOptions;

/// Counters of one launch of `k(float* x, float* y)` with one warp a block.
fn count(body: &str, grid: u32) -> Counters {
    let source = format!("extern \"C\" __global__ void k(float* x, float* y) {{ int t = threadIdx.x; {body} }}");
    let gpu = Gpu::new();
    let module = gpu.load(&compile(&source, 80, &[]));
    let (x, y) = (gpu.zeros(1 << 16), gpu.zeros(1 << 16));
    let options = LaunchOptions { count: true, ..LaunchOptions::default() };
    let outcome = gpu.launch(&module, "k", ([grid, 1, 1], [32, 1, 1], 0), args![x, y], &options);
    support::gpu::assert_clean(body, &outcome);
    outcome.counters.expect("counters were asked for")
}

#[test]
fn sectors_of_global_loads() {
    for (name, load, sectors, ideal) in [
        ("coalesced words", "x[t]", 4, 4),
        ("misaligned by a word", "x[t + 1]", 5, 4),
        ("every second word", "x[2 * t]", 8, 4),
        ("every eighth word", "x[8 * t]", 32, 4),
        ("far apart", "x[64 * t]", 32, 4),
        ("reversed", "x[31 - t]", 4, 4),
        ("one byte each", "((unsigned char*)x)[t]", 1, 1),
        ("two bytes each", "((unsigned short*)x)[t]", 2, 2),
        ("eight bytes each", "((float2*)x)[t].y", 8, 8),
        ("sixteen bytes each", "((float4*)x)[t].w", 16, 16),
    ] {
        // A vector's other members must be used, or the compiler loads the one alone.
        let load = load
            .replace("((float2*)x)[t].y", "sum2(((float2*)x)[t])")
            .replace("((float4*)x)[t].w", "sum4(((float4*)x)[t])");
        let body = format!(
            "auto sum2 = [](float2 v) {{ return v.x + v.y; }}; auto sum4 = [](float4 v) {{ return v.x + v.y + v.z + v.w; }}; y[t] = {load};"
        );
        let c = count(&body, 3);
        assert_eq!((c.global_load.requests, c.global_load.sectors), (3, 3 * sectors), "{name}");
        assert_eq!(c.global_load.ideal_sectors, 3 * ideal, "{name}");
        assert_eq!((c.global_store.requests, c.global_store.sectors, c.global_store.bytes), (3, 12, 384), "{name}");
        assert_eq!((c.blocks, c.warps), (3, 3));
    }
}

#[test]
fn a_broadcast_and_part_of_a_warp() {
    let c = count("if (t < 8) y[t] = x[t / 8];", 1);
    assert_eq!((c.global_load.requests, c.global_load.sectors), (1, 1));
    assert_eq!((c.global_store.requests, c.global_store.sectors, c.global_store.bytes), (1, 1, 32));
}

#[test]
fn compulsory_bytes() {
    // Every block reads the same 128 bytes and writes the same 64 words of its own.
    let c = count("y[64 * blockIdx.x + t] = x[t]; y[64 * blockIdx.x + 32 + t] = x[t] + 1;", 4);
    assert_eq!((c.unique_bytes_read, c.unique_bytes_written), (128, 1024));
}

#[test]
fn bytes_that_an_earlier_launch_left_in_the_second_level_cache() {
    let source = "extern \"C\" __global__ void k(const float* x, float* y) {
        int i = blockIdx.x * 1024 + threadIdx.x; y[i] = x[i] + 1; }";
    let gpu = Gpu::of("t4");
    let module = gpu.load(&compile(source, 75, &[]));
    let options = LaunchOptions { count: true, ..LaunchOptions::default() };
    // Of 4 MiB of cache 70 % count: 716 pages.
    let launch = |x, y, grid| {
        let c = gpu.launch(&module, "k", ([grid, 1, 1], [1024, 1, 1], 0), args![x, y], &options).counters.unwrap();
        assert_eq!(c.unique_bytes_read, u64::from(grid) * 4096);
        c.resident_bytes_read
    };
    let (x, y, z) = (gpu.zeros(8 << 20), gpu.zeros(8 << 20), gpu.zeros(8 << 20));
    assert_eq!(launch(x, y, 256), 0, "nothing is there at first");
    assert_eq!(launch(x, y, 256), 1 << 20, "read before");
    assert_eq!(launch(y, z, 256), 1 << 20, "written before");
    assert_eq!(launch(x, y, 1024), (716 - 512) << 12, "x came before y and z");
    assert_eq!(launch(x, z, 256), 0, "8 MiB drove it out");
    assert_eq!(launch(x, z, 300), 1 << 20, "part of what is read");
}

#[test]
fn wavefronts_of_shared_memory() {
    for (name, index, wavefronts, ideal) in [
        ("no conflict", "t", 1, 1),
        ("broadcast", "t / 32", 1, 1),
        ("two ways", "2 * t", 2, 1),
        ("four ways", "4 * t", 4, 1),
        ("thirty-two ways", "32 * t", 32, 1),
        ("padded column", "33 * t", 1, 1),
        ("odd stride", "5 * t", 1, 1),
        ("pairs share a word", "t / 2", 1, 1),
        ("swizzled column", "32 * t + (t ^ 7)", 1, 1),
    ] {
        let body = format!(
            "__shared__ float s[33 * 32]; for (int i = t; i < 33 * 32; i += 32) s[i] = x[i]; __syncwarp(); y[t] = s[{index}];"
        );
        let c = count(&body, 1);
        assert_eq!((c.shared_load.requests, c.shared_load.wavefronts), (1, wavefronts), "{name}");
        assert_eq!(c.shared_load.ideal_wavefronts, ideal, "{name}");
        assert_eq!((c.shared_store.requests, c.shared_store.wavefronts), (33, 33), "{name}");
    }
    for (ty, zero, sum, phases) in [
        ("float2", "make_float2(1, 2)", "v.x + v.y", 2),
        ("float4", "make_float4(1, 2, 3, 4)", "v.x + v.y + v.z + v.w", 4),
    ] {
        let body = format!("__shared__ {ty} s[32]; s[t] = {zero}; __syncwarp(); {ty} v = s[31 - t]; y[t] = {sum};");
        let c = count(&body, 1);
        assert_eq!((c.shared_load.wavefronts, c.shared_load.ideal_wavefronts), (phases, phases), "{ty}");
        assert_eq!((c.shared_store.wavefronts, c.shared_store.ideal_wavefronts), (phases, phases), "{ty}");
    }
}

#[test]
fn the_first_level_cache_serves_what_a_block_has_loaded() {
    let loads = |load: &str| {
        let body = format!("float s = 0; for (int j = 0; j < 8; j++) s += {load}(x + 8 * t + j); y[t] = s;");
        let c = count(&body, 3);
        assert_eq!((c.global_load.requests, c.global_load.sectors), (3 * 8, 3 * 8 * 32), "{load}");
        // 32 threads, 32 bytes apart: 8 lines a request.
        assert_eq!((c.global_load.lines, c.global_load.single), (3 * 8 * 8, 0), "{load}");
        assert_eq!((c.global_store.lines, c.global_store.single, c.global_store.l2_sectors), (3, 3, 12), "{load}");
        c.global_load.l2_sectors
    };
    assert_eq!(loads("__ldca"), 3 * 32);
    assert_eq!(loads("__ldg"), 3 * 32);
    assert_eq!(loads("__ldcg"), 3 * 8 * 32, "past the cache");
}

#[test]
fn scalar_loads_of_neighbouring_words_count_as_one() {
    let load = |first: &str| {
        let body = format!(
            "__shared__ float s[256]; for (int i = t; i < 256; i += 32) s[i] = x[i]; __syncwarp();
             const float* p = s + {first}; y[t] = p[0] + p[1] * p[2] - p[3];"
        );
        let c = count(&body, 1);
        (c.shared_load.requests, c.shared_load.wavefronts, c.shared_load.single, c.shared_load.bytes)
    };
    assert_eq!(load("4 * t"), (1, 4, 0, 512), "16 bytes a thread");
    assert_eq!(load("(int)x[0]"), (1, 4, 0, 512), "a broadcast: four groups of eight threads");
    // An odd address: four requests of one word, in banks 4t + 1.
    assert_eq!(load("4 * t + 1"), (4, 16, 0, 512));
}

#[test]
fn machine_instructions_are_fewer_than_those_of_ptx() {
    let c = count("y[t] = fmaf(x[t], 2.5f, x[t + 32]);", 2);
    assert!(c.issued * 3 < c.warp_instructions * 2, "{} of {}", c.issued, c.warp_instructions);
    // The thread's number, two addresses, two loads, a multiply-add, a store, the end.
    assert_eq!(c.issued, 2 * 8);
}

#[test]
fn matrices_for_tensor_cores() {
    // Rows of 16 bytes: 8 of them in different 16-byte bank groups are one wavefront; 128 bytes apart they are eight.
    for (pitch, wavefronts) in [(8, 1), (64, 8), (72, 1)] {
        let body = format!(
            "__shared__ __align__(16) unsigned short s[8 * {pitch}]; for (int i = t; i < 8 * {pitch}; i += 32) s[i] = i; __syncwarp();
             unsigned a, p = (unsigned)__cvta_generic_to_shared(&s[t % 8 * {pitch}]);
             asm volatile(\"ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%0}}, [%1];\" : \"=r\"(a) : \"r\"(p) : \"memory\");
             y[t] = a;"
        );
        let c = count(&body, 1);
        assert_eq!((c.shared_load.requests, c.shared_load.wavefronts), (1, wavefronts), "pitch {pitch}");
    }
    let c = count(
        "unsigned a[4] = {0, 0, 0, 0}, b[2] = {0, 0}; float d[4] = {1, 2, 3, 4};
         asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\"
         : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));
         y[t] = d[0] + d[3];",
        2,
    );
    assert_eq!((c.flops_tensor, c.flops_tf32, c.classes.tensor), (2 * 2 * 16 * 8 * 16, 0, 2));
    let c = count(
        "unsigned a[4] = {0, 0, 0, 0}, b[2] = {0, 0}; float d[4] = {1, 2, 3, 4};
         asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\"
         : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));
         y[t] = d[0] + d[3];",
        2,
    );
    assert_eq!((c.flops_tensor, c.flops_tf32), (2 * 2 * 16 * 8 * 8, 2 * 2 * 16 * 8 * 8));
}

#[test]
fn floating_point_operations() {
    let c = count("y[t] = fmaf(x[t], 2.5f, x[t + 32]); ", 1);
    assert_eq!((c.flops_f32, c.flops_f64), (64, 0));
    let c = count("y[t] = x[t] * x[t + 32];", 2);
    assert_eq!(c.flops_f32, 64);
    let c = count("double d = x[t]; y[t] = (float)fma(d, d, 1.25);", 1);
    assert_eq!((c.flops_f32, c.flops_f64), (0, 64));
    let c = count("if (t < 10) y[t] = x[t] + x[t + 32];", 1);
    assert_eq!(c.flops_f32, 10);
}

#[test]
fn atomics_and_barriers() {
    let c = count(
        "__shared__ int n; if (t == 0) n = 0; __syncthreads(); atomicAdd(&n, 1); atomicAdd(&x[t % 4], 1.0f); __syncthreads(); y[t] = n;",
        2,
    );
    assert_eq!(c.barriers, 4);
    assert_eq!((c.shared_atomics, c.global_atomics), (64, 64));
}

#[test]
fn counts_do_not_depend_on_threads_or_order() {
    let source =
        "extern \"C\" __global__ void k(float* x, float* y) { int i = blockIdx.x * 64 + threadIdx.x; float s = 0;
        for (int j = 0; j < i % 7; j++) s += x[(i * j) % 1000]; y[i] = s; }";
    let ptx = compile(source, 80, &[]);
    let counters = [(None, 1), (Some(5), 2), (Some(9), 0)].map(|(schedule, threads)| {
        let gpu = Gpu::new();
        let module = gpu.load(&ptx);
        let (x, y) = (gpu.zeros(4096), gpu.zeros(4096));
        let options = LaunchOptions { count: true, schedule, threads, ..LaunchOptions::default() };
        gpu.launch(&module, "k", ([12, 1, 1], [64, 1, 1], 0), args![x, y], &options).counters
    });
    assert!(counters[0].is_some());
    assert!(counters.iter().all(|c| *c == counters[0]));
}
