// Races in global memory. The cases of race_global.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == one word written by two blocks
kernel k(int* x, int* y) {
    x[threadIdx.x «¦+ 32 * blockIdx.x»] = blockIdx.x; // FAULT
}

// == a sum without an atomic
kernel k(int* x, int* y) {
    if (threadIdx.x == 0)
        «x[0] += blockIdx.x¦atomicAdd(x, blockIdx.x)»; // FAULT
}

// == a histogram without atomics
kernel k(int* x, int* y) {
    if (threadIdx.x < 8)
        «x[threadIdx.x]++¦atomicAdd(&x[threadIdx.x], 1)»; // FAULT
}

// == another block's result in the same launch
kernel k(int* x, int* y) {
    int i = blockIdx.x * 32 + threadIdx.x;
    x[i] = i; // FAULT
    __syncthreads();
    y[i] = x[«63 - i¦blockIdx.x * 32 + 31 - threadIdx.x»]; // OTHER
}

// == a stencil in place
kernel k(int* x, int* y) {
    int i = blockIdx.x * 32 + threadIdx.x;
    int v = x[i + 1]; // OTHER
    __syncthreads();
    «x¦y»[i] = v; // FAULT
}

// == a word that another block has read, and its owner as well
kernel k(int* x, int* y) {
    int i = blockIdx.x * 32 + threadIdx.x;
    int v = x[i];
    if (blockIdx.x == 0) v += x[i + 32]; // OTHER
    __syncthreads();
    «x¦y»[i] = v; // FAULT
}

// == an atomic against a plain store
kernel k(int* x, int* y) {
    if (blockIdx.x == 1 && threadIdx.x == 0)
        «x[0] = 100¦atomicExch(x, 100)»; // FAULT
    else
        atomicMax(x, threadIdx.x); // OTHER
}

// == an atomic against a plain read
kernel k(int* x, int* y) {
    int v = atomicAdd(x, 1); // FAULT
    if (blockIdx.x == 1 && threadIdx.x == 0)
        y[v] = «x[0]¦atomicAdd(x, 0)»; // OTHER
}

// == grid-stride loops that overlap
kernel k(int* x, int* y) {
    for (int i = blockIdx.x * «16¦32» + threadIdx.x; i < 128; i += 64)
        x[i] = i + blockIdx.x; // FAULT
}

// == the last block's sum without waiting
kernel k(int* x, int* y) {
    if (threadIdx.x == 0) {
        x[blockIdx.x] = blockIdx.x; // FAULT
        «¦__threadfence();»
        bool last = «blockIdx.x == 3¦atomicAdd(&x[10], 1) == 3»;
        «¦__threadfence();»
        if (last)
            for (int i = 0; i < 4; i++) y[0] += x[i]; // OTHER
    }
}

// == an output index that wraps too early
kernel k(int* x, int n) {
    int i = (blockIdx.x * 32 + threadIdx.x) % («n / 2¦n»);
    x[i] = blockIdx.x * 32 + threadIdx.x; // FAULT
}

// == a vector over another block's words
kernel k(int* x, int* y) {
    if (blockIdx.x == 0) ((int4*)x)[threadIdx.x] = make_int4(1, 2, 3, 4); // FAULT
    else x[4 * threadIdx.x + 1 «¦+ 128»] = 9; // OTHER
}

// == a module's variable
__device__ int total;
kernel k(int* x, int* y) {
    if (threadIdx.x == 0)
        «total += 1¦atomicAdd(&total, 1)»; // FAULT
}

// == a flag without an atomic
kernel k(int* x, int* y) {
    if (threadIdx.x == 0) {
        if (blockIdx.x == 0) {
            x[0] = 1; // FAULT
        } else {
            y[0] = x[«0¦1»]; // OTHER
        }
    }
}

// == in a function that is not inlined
__noinline__ __device__ void put(int* x, int i, int v) {
    x[i] = v; // FAULT
}
kernel k(int* x, int* y) {
    put(x, threadIdx.x «¦+ 32 * blockIdx.x», blockIdx.x);
}

// == bytes written by two blocks
kernel k(unsigned char* x, int* y) {
    x[threadIdx.x «¦+ 32 * blockIdx.x»] = blockIdx.x; // FAULT
}

// == warps without a barrier
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    x[t] = t; // FAULT
    «__threadfence()¦__syncthreads()»;
    y[t] = x[63 - t]; // OTHER
}

// == lanes without __syncwarp
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    x[t] = t; // FAULT
    «¦__syncwarp();»
    y[t] = x[31 - t]; // OTHER
}

// == one word written by all
kernel k(int* x, int* y) {
    «¦if (threadIdx.x == 63)»
    x[0] = threadIdx.x; // FAULT
}

// == a scatter with a collision
kernel k(int* x, int n) {
    int t = threadIdx.x;
    «¦if (t < n)»
    x[t * 7 % n] = t; // FAULT
}

// == an accumulator of the block
kernel k(int* x, int* y) {
    if (threadIdx.x % 32 == 0)
        «x[0] += threadIdx.x¦atomicAdd(x, threadIdx.x)»; // FAULT
}

// == a compaction with a plain counter
kernel k(int* x, int* y) {
    if (threadIdx.x % 32 == 5) {
        int at = «x[0]; x[0] = at + 1¦atomicAdd(x, 1)»; // FAULT
        y[«threadIdx.x¦at»] = threadIdx.x;
    }
}

// == a buffer reused in a loop
kernel k(int* x, int* y) {
    int t = threadIdx.x, v = t;
    for (int i = 0; i < 3; i++) {
        x[t] = v; // FAULT
        __syncthreads();
        v += x[(t + 33) % 64]; // OTHER
        «¦__syncthreads();»
    }
    y[t] = v;
}

// == an atomic and then a plain read
kernel k(int* x, int* y) {
    atomicAdd(x, 1); // FAULT
    «¦__syncthreads();»
    if (threadIdx.x == 0) y[0] = x[0]; // OTHER
}
