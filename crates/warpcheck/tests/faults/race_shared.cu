// Races in shared memory. The cases of race_shared.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == a neighbour read without a barrier
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    «¦__syncthreads();»
    y[t] = s[63 - t]; // OTHER
}

// == one word written by two warps
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    «¦if (t < 32)»
    s[t % 32] = t; // FAULT
    __syncthreads();
    y[t] = s[t % 32];
}

// == the first barrier of a reduction left out
kernel k(int* y) {
    __shared__ int s[128];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    «¦__syncthreads();»
    if (t < 64) y[t] = s[t] + s[t + 64]; // OTHER
}

// == a tile overwritten while it is read
kernel k(const int* x, int* y) {
    __shared__ int s[64];
    int t = threadIdx.x, sum = 0;
    for (int i = 0; i < 4; i++) {
        s[t] = x[64 * i + t]; // FAULT
        __syncthreads();
        sum += s[63 - t]; // OTHER
        «¦__syncthreads();»
    }
    y[t] = sum;
}

// == the next broadcast before the last was read
kernel k(int* y) {
    __shared__ int v;
    int t = threadIdx.x, sum = 0;
    for (int i = 0; i < 3; i++) {
        if (t == 32 * i) v = i; // FAULT
        __syncthreads();
        sum += v; // OTHER
        «¦__syncthreads();»
    }
    y[t] = sum;
}

// == an atomic against a plain read
kernel k(int* y) {
    __shared__ int n;
    int t = threadIdx.x;
    if (t == 0) n = 0;
    __syncthreads();
    atomicAdd(&n, 1); // FAULT
    «¦__syncthreads();»
    if (t == 0) y[t] = n; // OTHER
}

// == an atomic against a plain write
kernel k(int* y) {
    __shared__ int n;
    int t = threadIdx.x;
    if (t == 40) n = 5; // FAULT
    «¦__syncthreads();»
    if (t < 32) atomicMax(&n, t); // OTHER
    __syncthreads();
    y[t] = n;
}

// == a plain increment
kernel k(int* y) {
    __shared__ int n;
    int t = threadIdx.x;
    if (t == 0) n = 0;
    __syncthreads();
    if (t % 32 == 0)
        «n++¦atomicAdd(&n, 1)»; // FAULT
    __syncthreads();
    y[t] = n;
}

// == bins of a histogram
kernel k(int* y) {
    __shared__ int s[8];
    int t = threadIdx.x;
    if (t < 8) s[t] = 0;
    __syncthreads();
    «s[t % 8] += 1¦atomicAdd(&s[t % 8], 1)»; // FAULT
    __syncthreads();
    y[t] = s[t % 8];
}

// == a barrier before the write instead of after
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    «__syncthreads();¦»
    s[t] = t; // FAULT
    «¦__syncthreads();»
    y[t] = s[(t + 32) % 64]; // OTHER
}

// == a scan in place
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = 1;
    __syncthreads();
    for (int o = 1; o < 64; o *= 2) {
        int v = t >= o ? s[t - o] : 0; // OTHER
        «¦__syncthreads();»
        s[t] += v; // FAULT
        __syncthreads();
    }
    y[t] = s[t];
}

// == a transpose without a barrier
kernel k(const int* x, int* y) {
    __shared__ int s[16][17];
    int i = threadIdx.x, j = threadIdx.y;
    s[j][i] = x[j * 16 + i]; // FAULT
    «¦__syncthreads();»
    y[j * 16 + i] = s[i][j]; // OTHER
}

// == a barrier of half the block
kernel k(int* y) {
    __shared__ int s[128];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    asm volatile("bar.sync %0, %1;" :: "r"(«1 + t / 64¦1»), "r"(«64¦128») : "memory");
    y[t] = s[127 - t]; // OTHER
}

// == bytes of one word, overlapping
kernel k(int* y) {
    __shared__ __align__(4) unsigned char s[256];
    int t = threadIdx.x;
    s[4 * (t % 32) + «1¦t / 32»] = t; // FAULT
    __syncthreads();
    y[t] = s[4 * (t % 32) + «1¦t / 32»];
}

// == a word over another's bytes
kernel k(int* y) {
    __shared__ __align__(4) unsigned char s[256];
    int t = threadIdx.x;
    if (t < 32) *(int*)(s + 4 * t) = t; // FAULT
    «¦__syncthreads();»
    if (t >= 32) s[4 * (t - 32) + 3] = 1; // OTHER
    __syncthreads();
    y[t] = s[t];
}

// == dynamic memory used twice
kernel k(int* y) {
    extern __shared__ int s[];
    int t = threadIdx.x;
    s[t] = t;
    __syncthreads();
    int v = s[63 - t]; // OTHER
    «¦__syncthreads();»
    float* f = (float*)s;
    f[t] = v * 0.5f; // FAULT
    __syncthreads();
    y[t] = f[t / 2];
}

// == vectors against words
kernel k(int* y) {
    __shared__ __align__(16) int s[128];
    int t = threadIdx.x;
    if (t < 32) ((int4*)s)[t] = make_int4(t, t, t, t); // FAULT
    «¦__syncthreads();»
    if (t >= 32) y[t] = s[4 * (t - 32) + 2]; // OTHER
}

// == a barrier that only even rounds have
kernel k(int* y, int n) {
    __shared__ int s[64];
    int t = threadIdx.x, v = t;
    for (int i = 0; i < n; i++) {
        s[t] = v; // FAULT
        «if (i % 2 == 0)¦» __syncthreads();
        v += s[63 - t]; // OTHER
        __syncthreads();
    }
    y[t] = v;
}

// == an asynchronous copy against its reader
kernel k(const int4* x, int4* y) {
    __shared__ int4 s[64];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[t]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + t) : "memory"); // FAULT
    asm volatile("cp.async.wait_all;" ::: "memory"); // FAULT
    «¦__syncthreads();»
    y[t] = s[63 - t]; // OTHER
}

// == a reduction without its barrier
kernel k(int* y) {
    __shared__ int s[128];
    int t = threadIdx.x;
    s[t] = t;
    __syncthreads();
    for (int w = 64; w > 0; w >>= 1) {
        if (t < w) s[t] += s[t + w]; // FAULT
        «__syncwarp();¦__syncthreads();»
    }
    if (t == 0) *y = s[0];
}

// == a value broadcast without a barrier
kernel k(int* y) {
    __shared__ int v[2];
    int t = threadIdx.x;
    if (t == 0) v[0] = y[0] + 42; // FAULT
    asm volatile("" ::: "memory");
    «if (t > 31)¦__syncthreads();»
    y[t] = v[t >> 8]; // OTHER
}

// == lanes without __syncwarp
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    «¦__syncwarp();»
    y[t] = s[31 - t]; // OTHER
}

// == a warp's reduction without __syncwarp
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = t; s[t + 32] = 0;
    __syncwarp();
    for (int w = 16; w > 0; w >>= 1) {
        int v = s[t + w]; // OTHER
        __syncwarp();
        s[t] += v; // FAULT
        «¦__syncwarp();»
    }
    y[t] = s[t];
}

// == two lanes write one word
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    s[t «/ 2¦»] = t; // FAULT
    __syncwarp();
    y[t] = s[t / 2];
}

// == branches of one warp
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x, v = 0;
    if (t < 16) s[t] = t; // FAULT
    «¦__syncwarp();»
    if (t >= 16) v = s[t - 16]; // OTHER
    y[t] = v;
}

// == a mask that leaves the writer out
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    if (t < 16) __syncwarp(0xffff); else __syncwarp(0xffff0000);
    «¦__syncwarp();»
    y[t] = s[31 - t]; // OTHER
}
