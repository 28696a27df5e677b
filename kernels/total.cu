// total: adds a batch's losses and correct predictions to running totals, which the host reads every few steps.
//
// losses, correct (len) of float; totals (2) of double. One block; thread t adds the elements t, t + 256, … in double,
// then the threads' sums are added in a tree: always the same order. Minimum memory traffic: both arrays.
//
// total_sum adds the totals of several micro-batches in their order.
#include "prelude.cuh"

KERNEL void __launch_bounds__(256) total_add(const float* losses, const float* correct, u32 len, double* totals) {
    begin_kernel();
    __shared__ double sums[2][256];
    double loss = 0.0, hits = 0.0;
    for (u32 i = threadIdx.x; i < len; i += 256) loss += (double)losses[i], hits += (double)correct[i];
    sums[0][threadIdx.x] = loss;
    sums[1][threadIdx.x] = hits;
    for (u32 half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            for (int i = 0; i < 2; i++) sums[i][threadIdx.x] += sums[i][threadIdx.x + half];
    }
    if (threadIdx.x < 2) {
        // Thread 0 wrote both sums.
        __syncwarp(3);
        totals[threadIdx.x] += sums[threadIdx.x][0];
    }
}

struct Totals { const double* of[32]; };

// totals += of[0], then of[1], …; a thread for losses and one for correct predictions.
KERNEL void total_sum(const __grid_constant__ Totals from, u32 count, double* totals) {
    begin_kernel();
    double sum = totals[threadIdx.x];
    for (u32 i = 0; i < count; i++) sum += from.of[i][threadIdx.x];
    totals[threadIdx.x] = sum;
}
