// Accesses beyond shared and local memory. The cases of bounds_shared.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == read above
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = t;
    __syncthreads();
    y[t] = s[«t + 1¦63 - t»]; // FAULT
}

// == write above
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[«t + 1¦t»] = t; // FAULT
    __syncthreads();
    y[t] = s[«63¦t»];
}

// == write below
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t «- 1¦»] = t; // FAULT
    __syncthreads();
    y[t] = s[«0¦t»];
}

// == far away
kernel k(int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    s[t] = t;
    __syncthreads();
    y[t] = s[t «+ 300000¦»]; // FAULT
}

// == less dynamic memory than used
kernel k(int* y) {
    extern __shared__ int s[];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    __syncthreads();
    y[t] = s[«0¦63 - t»];
}

// == no dynamic memory at all
kernel k(int* y) {
    extern __shared__ int s[];
    int t = threadIdx.x;
    s[t] = t; // FAULT
    «¦__syncthreads(); y[t] = s[63 - t];»
}

// == a tile without its padding
kernel k(int* y) {
    __shared__ int s[32 * «32¦33»];
    int t = threadIdx.x;
    for (int i = 0; i < 32; i++)
        s[t * 33 + i] = i; // FAULT
    __syncwarp();
    y[t] = s[t];
}

// == a vector over the end
kernel k(float4* y) {
    __shared__ __align__(16) float s[«127¦128»];
    int t = threadIdx.x;
    for (int i = 0; i < 3; i++) s[4 * t + i] = 0;
    if (t < 31 «¦|| true») s[4 * t + 3] = 0;
    __syncwarp();
    y[t] = *(float4*)&s[4 * t]; // FAULT
}

// == an atomic over the end
kernel k(int* y) {
    __shared__ int s[8];
    int t = threadIdx.x;
    if (t < 8) s[t] = 0;
    __syncthreads();
    atomicAdd(&s[t % «9¦8»], 1); // FAULT
    __syncthreads();
    if (t < 8) y[t] = s[t];
}

// == through a generic pointer
__noinline__ __device__ void put(int* p, int i, int v) {
    p[i] = v; // FAULT
}
kernel k(int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    put(s, t «+ 4¦», t);
    __syncwarp();
    y[t] = s[«8¦t»];
}

// == rows of a matrix for tensor cores
kernel k(int* y) {
    __shared__ __align__(16) unsigned short s[8][8];
    int t = threadIdx.x;
    s[t / 4][t % 4] = t; s[t / 4][t % 4 + 4] = t;
    __syncwarp();
    unsigned a, from = (unsigned)__cvta_generic_to_shared(&s[t % 8 «+ 1¦»][0]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(from) : "memory"); // FAULT
    y[t] = a;
}

// == an asynchronous copy's target
kernel k(const int4* x, int4* y) {
    __shared__ int4 s[32];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[t «+ 1¦»]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + t) : "memory"); // FAULT
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (t < 31) y[t] = s[t «+ 1¦»];
}

// == a local array, read
kernel k(int* y, int n) {
    int a[16];
    for (int i = 0; i < 16; i++) a[i] = i * n;
    y[threadIdx.x] = a[(threadIdx.x * 5) % (n «+ 1¦»)]; // FAULT
}

// == a local array, written
kernel k(int* y, int n) {
    int a[16];
    for (int i = 0; i < 16; i++) a[i] = i * n;
    a[threadIdx.x % n «- 1¦»] = 3; // FAULT
    int sum = 0;
    for (int i = 0; i < n; i++) sum += a[(i * 7) % 16];
    y[threadIdx.x] = sum;
}
