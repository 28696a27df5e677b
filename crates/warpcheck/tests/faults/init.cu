// Reads of memory that nobody wrote. The cases of init.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == a whole buffer
kernel k(const int* x, int* y) {
    y[threadIdx.x] = x[threadIdx.x] + 1; // FAULT
}

// == the second half
kernel k(const int* x, int* y) {
    y[threadIdx.x] = x[threadIdx.x] * 3; // FAULT
}

// == the last byte
kernel k(const char* x, char* y) {
    y[threadIdx.x] = x[threadIdx.x] + 1; // FAULT
}

// == the last bytes of a vector
kernel k(const float4* x, float* y) {
    float4 v = x[threadIdx.x]; // FAULT
    y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// == half of a double
kernel k(const double* x, double* y) {
    *y = *x + 1.0; // FAULT
}

// == an accumulator
kernel k(float* x) {
    x[threadIdx.x] += 1.0f; // FAULT
}

// == bins of a histogram
kernel k(int* x) {
    atomicAdd(&x[threadIdx.x % 8], 1); // FAULT
}

// == what only even threads wrote
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    if (t % 2 == 0 «¦|| true»)
        x[t] = t;
    __syncthreads();
    y[t] = x[63 - t] + 1; // FAULT
}

// == a count before it is set
kernel k(const int* x, int* y) {
    int n = x[0]; // FAULT
    for (int i = 0; i < n % 8; i++) y[threadIdx.x] += i;
}

// == what the last thread should have written
kernel k(int* x, int* y, int n) {
    int t = threadIdx.x;
    if (t < n «¦+ 1»)
        x[t] = t;
    __syncthreads();
    y[t] = x[t] * 2; // FAULT
}

// == in a function that is not inlined
__noinline__ __device__ float scale(const float* x, int i) {
    return x[i] * 0.5f; // FAULT
}
kernel k(const float* x, float* y) {
    y[threadIdx.x] = scale(x, threadIdx.x);
}

// == the operand of a branch
kernel k(const int* x, int* y) {
    if (x[threadIdx.x] > 0) // FAULT
        y[threadIdx.x] = 1;
    else
        y[threadIdx.x] = 2;
}

// == never written
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    «¦s[t] = t; __syncwarp();»
    y[t] = s[31 - t] + 1; // FAULT
    if (y[t] == 77777) s[t] = 1;
}

// == written by the first warp only
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    if (t < «32¦64») s[t] = t;
    __syncthreads();
    y[t] = s[t] + 1; // FAULT
}

// == a reduction of more than was stored
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = t;
    «¦if (t < 16) s[48 + t] = 0;»
    __syncthreads();
    for (int w = 32; w > 0; w >>= 1) {
        if (t < w) s[t] += s[t + w]; // FAULT
        __syncthreads();
    }
    if (t == 0) *y = s[0];
}

// == a tile's edge that the guard left out
kernel k(const float* x, float* y, int n) {
    __shared__ float s[64];
    int t = threadIdx.x;
    if (t < n) s[t] = x[t];
    «¦else s[t] = 0;»
    __syncthreads();
    y[t] = s[t] + 1.0f; // FAULT
}

// == the other stage of a double buffer
kernel k(int* y) {
    __shared__ int s[2][32];
    int t = threadIdx.x, sum = 0;
    s[0][t] = t;
    for (int i = 0; i < 2; i++) {
        __syncwarp();
        sum += s[«1 - (i & 1)¦i & 1»][31 - t]; // FAULT
        __syncwarp();
        s[1 - (i & 1)][t] = i;
    }
    y[t] = sum;
}

// == dynamic memory
kernel k(float* y) {
    extern __shared__ float s[];
    int t = threadIdx.x;
    s[t] = 1;
    «¦s[32 + t] = 2;»
    __syncwarp();
    y[t] = s[t] + s[63 - t]; // FAULT
}

// == a counter
kernel k(int* y) {
    __shared__ int n;
    «¦if (threadIdx.x == 0) n = 0;»
    __syncthreads();
    atomicAdd(&n, 1); // FAULT
    __syncthreads();
    if (threadIdx.x == 0) *y = n;
}

// == bytes between shorts
kernel k(int* y) {
    __shared__ __align__(4) unsigned short s[64];
    int t = threadIdx.x;
    s[2 * t] = t;
    «¦s[2 * t + 1] = t;»
    __syncwarp();
    y[t] = ((int*)s)[31 - t] + 1; // FAULT
}

// == rows of a matrix for tensor cores
kernel k(int* y) {
    __shared__ __align__(16) unsigned short s[8][8];
    int t = threadIdx.x;
    if (t < «28¦32») { s[t / 4][2 * (t % 4)] = t; s[t / 4][2 * (t % 4) + 1] = t; }
    __syncwarp();
    unsigned a, from = (unsigned)__cvta_generic_to_shared(&s[t % 8][0]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(from) : "memory"); // FAULT
    y[t] = a + 1;
}

// == an array's end
kernel k(int* y, int n) {
    int a[16];
    for (int i = 0; i < «n¦n + 4»; i++) a[i] = i * threadIdx.x;
    y[threadIdx.x] = a[(threadIdx.x * 3) % 16] + 1; // FAULT
}

// == an element that only some threads set
kernel k(int* y, int n) {
    int a[8];
    for (int i = 0; i < 8; i++)
        if (i % n != 3 || threadIdx.x < «20¦32») a[(i + n) % 8] = i;
    int sum = 0;
    for (int i = 0; i < 2 * n; i++) sum += a[(i * n + i) % 8]; // FAULT
    y[threadIdx.x] = sum;
}

// == a result that a function did not fill in
__noinline__ __device__ void parts(int v, int n, int* out) {
    for (int i = 0; i < n; i++) out[i] = v >> i;
}
kernel k(int* y, int n) {
    int a[4];
    parts(threadIdx.x, «n¦n + 1», a);
    y[threadIdx.x] = a[0] + a[n] * 2; // FAULT
}
