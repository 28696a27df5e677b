//! Data movement: transposes, vectors, bytes, dynamic shared memory, three dimensions, constants, globals, local arrays.

use crate::support::gpu::assert_clean;
use crate::{ALL, AMPERE, ENDS, launch, prove};

#[test]
fn transpose_through_a_padded_tile() {
    let source = r#"
extern "C" __global__ void transpose(const float* x, float* y, int rows, int columns) {
    __shared__ float tile[32][33];
    int c = blockIdx.x * 32 + threadIdx.x, r = blockIdx.y * 32 + threadIdx.y;
    for (int i = 0; i < 32; i += 8)
        if (c < columns && r + i < rows) tile[threadIdx.y + i][threadIdx.x] = x[(r + i) * columns + c];
    __syncthreads();
    c = blockIdx.y * 32 + threadIdx.x, r = blockIdx.x * 32 + threadIdx.y;
    for (int i = 0; i < 32; i += 8)
        if (c < rows && r + i < columns) y[(r + i) * rows + c] = tile[threadIdx.x][threadIdx.y + i];
}"#;
    let (rows, columns) = (71usize, 100usize);
    let x: Vec<u32> = (0..rows * columns).map(|i| i as u32).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * x.len()));
        let args = args![dx, dy, rows as i32, columns as i32];
        let outcome = gpu.launch(module, "transpose", ([4, 3, 1], [32, 8, 1], 0), args, o);
        assert_clean("transpose", &outcome);
        gpu.download::<u32>(dy, x.len())
    });
    let expected: Vec<u32> = (0..columns).flat_map(|c| (0..rows).map(move |r| (r * columns + c) as u32)).collect();
    assert_eq!(got, expected);
}

#[test]
fn vectors_of_eight_and_sixteen_bytes() {
    let source = r#"
struct __align__(8) Pair { int a, b; };
struct __align__(16) Four { float x, y, z, w; };
struct __align__(16) Wide { double a, b; };
struct __align__(4) Bytes { unsigned char a, b, c, d; };
struct __align__(8) Shorts { short a, b, c, d; };
extern "C" __global__ void move(const Pair* p, const Four* f, const Wide* w, const Bytes* b, const Shorts* h,
                                Pair* po, Four* fo, Wide* wo, Bytes* bo, Shorts* ho) {
    __shared__ Four s[64];
    int t = threadIdx.x;
    Pair q = p[t]; po[t] = Pair{q.b, q.a};
    s[t] = f[t];
    __syncthreads();
    Four v = s[63 - t]; fo[t] = Four{v.w, v.z, v.y, v.x};
    Wide d = w[t]; wo[t] = Wide{d.b, d.a};
    Bytes e = b[t]; bo[t] = Bytes{e.d, e.c, e.b, e.a};
    Shorts k = h[t]; ho[t] = Shorts{k.d, k.c, k.b, k.a};
}"#;
    let words: Vec<u32> = (0..256u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let sizes = [8, 16, 16, 4, 8];
        let inputs = sizes.map(|_| gpu.upload(&words));
        let outputs = sizes.map(|s| gpu.allocate(64 * s));
        let args: Vec<_> = inputs.into_iter().chain(outputs).map(crate::support::Arg::from).collect();
        launch(gpu, module, "move", (1, 64), &args, o);
        sizes.iter().zip(outputs).flat_map(|(s, d)| gpu.download::<u8>(d, 64 * s)).collect::<Vec<u8>>()
    });
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    // Every element with its members in reverse; the sixteen-byte ones in reverse order as well.
    let reversed = |size: usize, member: usize| -> Vec<Vec<u8>> {
        bytes.chunks(size).take(64).map(|e| e.chunks(member).rev().flatten().copied().collect()).collect()
    };
    let mut four = reversed(16, 4);
    four.reverse();
    let parts = [reversed(8, 4), four, reversed(16, 8), reversed(4, 1), reversed(8, 2)];
    let expected: Vec<u8> = parts.into_iter().flatten().flatten().collect();
    assert_eq!(got, expected);
}

#[test]
fn dynamic_shared_memory_carved_up() {
    let source = r#"
extern __shared__ __align__(16) unsigned char raw[];
extern "C" __global__ void carve(const int* x, long long* y, int n) {
    int* a = (int*)raw;
    long long* b = (long long*)(raw + 4 * n);
    int t = threadIdx.x;
    if (t < n) { a[t] = x[t]; }
    __syncthreads();
    if (t < n) b[t] = (long long)a[n - 1 - t] * 1000000007LL;
    __syncthreads();
    if (t < n) y[t] = b[(t + 1) % n];
}"#;
    let n = 512usize;
    let x: Vec<i32> = (0..n as i32).map(|i| 77 * i - 9000).collect();
    let got = prove(source, ALL, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(8 * n));
        let outcome = gpu.launch(module, "carve", ([1; 3], [512, 1, 1], 12 * 512), args![dx, dy, n as i32], o);
        assert_clean("carve", &outcome);
        gpu.download::<i64>(dy, n)
    });
    let expected: Vec<i64> = (0..n).map(|t| i64::from(x[n - 1 - (t + 1) % n]) * 1_000_000_007).collect();
    assert_eq!(got, expected);
}

#[test]
fn a_stencil_in_three_dimensions() {
    let source = r#"
extern "C" __global__ void stencil(const float* x, float* y, int nx, int ny, int nz) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y,
        k = blockIdx.z * blockDim.z + threadIdx.z;
    if (i >= nx || j >= ny || k >= nz) return;
    int p = (k * ny + j) * nx + i;
    float v = -6.0f * x[p];
    v += i > 0 ? x[p - 1] : 0.0f;
    v += i + 1 < nx ? x[p + 1] : 0.0f;
    v += j > 0 ? x[p - nx] : 0.0f;
    v += j + 1 < ny ? x[p + nx] : 0.0f;
    v += k > 0 ? x[p - nx * ny] : 0.0f;
    v += k + 1 < nz ? x[p + nx * ny] : 0.0f;
    y[p] = v;
}"#;
    let (nx, ny, nz) = (19usize, 10, 7);
    let x: Vec<f32> = (0..nx * ny * nz).map(|i| (i * i % 101) as f32).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (dx, dy) = (gpu.upload(&x), gpu.allocate(4 * x.len()));
        let args = args![dx, dy, nx as i32, ny as i32, nz as i32];
        let outcome = gpu.launch(module, "stencil", ([3, 3, 4], [8, 4, 2], 0), args, o);
        assert_clean("stencil", &outcome);
        gpu.download::<f32>(dy, x.len())
    });
    let at = |i: i64, j: i64, k: i64| {
        let inside = (0..nx as i64).contains(&i) && (0..ny as i64).contains(&j) && (0..nz as i64).contains(&k);
        if inside { x[((k * ny as i64 + j) * nx as i64 + i) as usize] } else { 0.0 }
    };
    // Whole numbers: any order is exact.
    for (p, got) in got.iter().enumerate() {
        let (i, j, k) = ((p % nx) as i64, (p / nx % ny) as i64, (p / nx / ny) as i64);
        let sum = at(i - 1, j, k) + at(i + 1, j, k) + at(i, j - 1, k) + at(i, j + 1, k) + at(i, j, k - 1);
        assert_eq!(*got, sum + at(i, j, k + 1) - 6.0 * at(i, j, k), "{i} {j} {k}");
    }
}

#[test]
fn every_thread_knows_where_it_is() {
    let source = r#"
extern "C" __global__ void where(unsigned* y) {
    unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned lane, warp, lt, sm, ns;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    asm volatile("mov.u32 %0, %%warpid;" : "=r"(warp));
    asm volatile("mov.u32 %0, %%lanemask_lt;" : "=r"(lt));
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    asm volatile("mov.u32 %0, %%nsmid;" : "=r"(ns));
    bool ok = lane == t % 32 && lt == (1u << lane) - 1 && warp < 64 && sm < ns && warpSize == 32;
    y[b * blockDim.x * blockDim.y * blockDim.z + t] = ok ? b << 16 | t : 0xffffffffu;
}"#;
    let got = prove(source, ENDS, |gpu, module, o| {
        let y = gpu.allocate(4 * 24 * 105);
        let outcome = gpu.launch(module, "where", ([2, 3, 4], [7, 5, 3], 0), args![y], o);
        assert_clean("where", &outcome);
        gpu.download::<u32>(y, 24 * 105)
    });
    let expected: Vec<u32> = (0..24).flat_map(|b| (0..105).map(move |t| b << 16 | t)).collect();
    assert_eq!(got, expected);
}

#[test]
fn constants_globals_and_local_arrays() {
    let source = r#"
__constant__ float weights[5] = {1.0f, -2.5f, 3.25f, 0.5f, 8.0f};
__device__ int table[4] = {10, 20, 30, 40};
__device__ int* pointer = &table[1];
__device__ unsigned char letters[] = "warpcheck";
__device__ double wide = 2.75;
struct Nested { int a; short b[3]; float c; };
__constant__ Nested nested = {7, {1, 2, 3}, 1.5f};
extern "C" __global__ void use(float* y, int* z, int n) {
    int t = threadIdx.x;
    float local[16];
    for (int i = 0; i < 16; i++) local[i] = weights[(i + t) % 5] * i;
    int swap = (t * 7) % 16;
    float v = local[swap];
    local[swap] = local[15 - swap];
    local[15 - swap] = v;
    float sum = 0;
    for (int i = 0; i < n; i++) sum += local[i] * (i + 1);
    y[t] = sum + (float)wide + nested.c + nested.b[t % 3];
    z[t] = table[t % 4] + *pointer + pointer[1] + letters[t % 8] + nested.a;
}"#;
    let got = prove(source, ALL, |gpu, module, o| {
        let (y, z) = (gpu.allocate(4 * 64), gpu.allocate(4 * 64));
        launch(gpu, module, "use", (1, 64), args![y, z, 16i32], o);
        [gpu.download::<u32>(y, 64), gpu.download::<u32>(z, 64)].concat()
    });
    let weights = [1.0f32, -2.5, 3.25, 0.5, 8.0];
    for t in 0..64usize {
        let mut local: Vec<f32> = (0..16).map(|i| weights[(i + t) % 5] * i as f32).collect();
        let swap = t * 7 % 16;
        local.swap(swap, 15 - swap);
        // Multiples of ½ below 2²⁴: exact in any order.
        let sum: f32 = (0..16).map(|i| local[i] * (i + 1) as f32).sum();
        let y = sum + 2.75 + 1.5 + [1.0, 2.0, 3.0][t % 3];
        assert_eq!(f32::from_bits(got[t]), y, "{t}");
        let z = [10, 20, 30, 40][t % 4] + 20 + 30 + i32::from(b"warpcheck\0"[t % 8]) + 7;
        assert_eq!(got[64 + t] as i32, z, "{t}");
    }
}

#[test]
fn a_struct_as_a_parameter() {
    let source = r#"
struct View { const int* data; int rows, columns; long long stride; short scale[3]; unsigned char flag; };
extern "C" __global__ void view(View v, int* y, char tail) {
    int r = threadIdx.y, c = threadIdx.x;
    if (r < v.rows && c < v.columns)
        y[r * v.columns + c] = v.data[r * v.stride + c] * v.scale[(r + c) % 3] + (v.flag ? tail : 0);
}"#;
    let data: Vec<i32> = (0..100).collect();
    let got = prove(source, ENDS, |gpu, module, o| {
        let (dx, y) = (gpu.upload(&data), gpu.allocate(4 * 15));
        let mut view = [0u8; 32];
        view[..8].copy_from_slice(&dx.0.to_le_bytes());
        view[8..12].copy_from_slice(&3i32.to_le_bytes());
        view[12..16].copy_from_slice(&5i32.to_le_bytes());
        view[16..24].copy_from_slice(&10i64.to_le_bytes());
        for (i, scale) in [2i16, -3, 5].into_iter().enumerate() {
            view[24 + 2 * i..26 + 2 * i].copy_from_slice(&scale.to_le_bytes());
        }
        view[30] = 1;
        let outcome = gpu.launch(module, "view", ([1; 3], [8, 4, 1], 0), args![view, y, -4i8], o);
        assert_clean("view", &outcome);
        gpu.download::<i32>(y, 15)
    });
    let expected: Vec<i32> =
        (0..3).flat_map(|r| (0..5).map(move |c| (r * 10 + c) * [2, -3, 5][(r + c) as usize % 3] - 4)).collect();
    assert_eq!(got, expected);
}

#[test]
fn asynchronous_copies_in_groups_with_zero_fill() {
    let source = r#"
__device__ void copy16(void* to, const void* from, int bytes) {
    unsigned s = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(s), "l"(from), "r"(bytes) : "memory");
}
__device__ void copy4(void* to, const void* from) {
    unsigned s = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(s), "l"(from) : "memory");
}
extern "C" __global__ void pipeline(const int* x, int* y, int stages) {
    __shared__ __align__(16) int s[2][256];
    int t = threadIdx.x;
    copy16(&s[0][4 * t], x + 4 * t, 16);
    asm volatile("cp.async.commit_group;");
    int sum = 0;
    for (int i = 0; i < stages; i++) {
        if (i + 1 < stages) copy16(&s[(i + 1) & 1][4 * t], x + (i + 1) * 256 + 4 * t, i + 2 < stages ? 16 : 4);
        asm volatile("cp.async.commit_group;");
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        for (int k = 0; k < 4; k++) sum += s[i & 1][(t + 64 * k) % 256] * (i + 1);
        __syncthreads();
    }
    y[t] = sum;
    copy4(&s[0][t], x + t);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    y[64 + t] = s[0][63 - t];
}"#;
    let stages = 5;
    let x: Vec<i32> = (0..256 * stages).map(|i| i * 31 % 997).collect();
    let got = prove(source, AMPERE, |gpu, module, o| {
        let (dx, y) = (gpu.upload(&x), gpu.allocate(4 * 128));
        launch(gpu, module, "pipeline", (1, 64), args![dx, y, stages], o);
        gpu.download::<i32>(y, 128)
    });
    let expected: Vec<i32> = (0..64usize)
        .map(|t| {
            let stage = |i: i32, p: usize| {
                // The last stage copies four bytes of each sixteen and fills up with zeros.
                if i + 1 == stages && !p.is_multiple_of(4) { 0 } else { x[i as usize * 256 + p] }
            };
            (0..stages).map(|i| (0..4).map(|k| stage(i, (t + 64 * k) % 256) * (i + 1)).sum::<i32>()).sum()
        })
        .chain((0..64).map(|t| x[63 - t]))
        .collect();
    assert_eq!(got, expected);
}
