// The kernel that the benchmark runs: C (m × n) = A (m × k) · B (k × n), tiles of 64 × 64, a block of 256 threads with
// 4 × 4 elements each. gemm.ptx is what NVRTC 12.9 makes of it for compute_80, with -lineinfo.
extern "C" __global__ void __launch_bounds__(256)
gemm(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c, int m, int n, int k) {
    __shared__ float a_tile[16][64];
    __shared__ float b_tile[16][64];
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    int row = blockIdx.y * 64, column = blockIdx.x * 64;
    float sum[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += 16) {
        for (int i = threadIdx.x; i < 64 * 16; i += 256) {
            int r = i / 16, d = i % 16;
            a_tile[d][r] = row + r < m && k0 + d < k ? a[(row + r) * k + k0 + d] : 0.0f;
        }
        for (int i = threadIdx.x; i < 64 * 16; i += 256) {
            int d = i / 64, s = i % 64;
            b_tile[d][s] = column + s < n && k0 + d < k ? b[(k0 + d) * n + column + s] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int d = 0; d < 16; d++) {
            float x[4], y[4];
            for (int i = 0; i < 4; i++) x[i] = a_tile[d][ty * 4 + i];
            for (int j = 0; j < 4; j++) y[j] = b_tile[d][tx * 4 + j];
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += x[i] * y[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int r = row + ty * 4 + i, s = column + tx * 4 + j;
            if (r < m && s < n) c[r * n + s] = sum[i][j];
        }
}
