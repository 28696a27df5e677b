// Addresses that are no multiple of the access's size. The cases of misaligned.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == a short at an odd address
kernel k(char* x) {
    *(short*)(x + 2 * threadIdx.x «+ 1¦») = 1; // FAULT
}

// == a word at half a word
kernel k(char* x) {
    *(int*)(x + 4 * threadIdx.x «+ 2¦») = 1; // FAULT
}

// == a word at an odd address, read
kernel k(const char* x, int* y) {
    y[threadIdx.x] = *(const int*)(x + 4 * threadIdx.x «+ 3¦»); // FAULT
}

// == eight bytes at four
kernel k(char* x) {
    *(long long*)(x + 8 * threadIdx.x «+ 4¦») = 1; // FAULT
}

// == a double at two
kernel k(const char* x, double* y) {
    y[threadIdx.x] = *(const double*)(x + 8 * threadIdx.x «+ 2¦»); // FAULT
}

// == a pair of words at four
kernel k(const int* x, int2* y) {
    y[threadIdx.x] = *(const int2*)(x + 2 * threadIdx.x «+ 1¦»); // FAULT
}

// == sixteen bytes at eight
kernel k(const float* x, float4* y) {
    y[threadIdx.x] = *(const float4*)(x + 4 * threadIdx.x «+ 2¦»); // FAULT
}

// == sixteen bytes at four, written
kernel k(float* x) {
    *(float4*)(x + 4 * threadIdx.x «+ 1¦») = make_float4(1, 2, 3, 4); // FAULT
}

// == rows of an odd number of words as vectors
kernel k(float* x, int n) {
    *(float4*)(x + threadIdx.x * («n¦(n + 3) / 4 * 4»)) = make_float4(1, 2, 3, 4); // FAULT
}

// == an atomic at two
kernel k(char* x) {
    atomicAdd((int*)(x + 4 * threadIdx.x «+ 2¦»), 1); // FAULT
}

// == a wide atomic at four
kernel k(char* x) {
    atomicAdd((unsigned long long*)(x + 8 * threadIdx.x «+ 4¦»), 1ull); // FAULT
}

// == a pointer that the host shifted
kernel k(int* x, int* y) {
    y[threadIdx.x] = 3; // FAULT
}

// == shared memory, a word
kernel k(int* y) {
    __shared__ __align__(8) char s[80];
    int t = threadIdx.x;
    *(int*)(s + 4 * t «+ 1¦») = t; // FAULT
    «¦__syncwarp(); y[t] = *(int*)(s + 60 - 4 * t);»
}

// == shared memory, sixteen bytes
kernel k(float4* y) {
    __shared__ __align__(16) float s[80];
    int t = threadIdx.x;
    for (int i = t; i < 80; i += 16) s[i] = i;
    __syncthreads();
    y[t] = *(float4*)(s + 4 * t «+ 3¦»); // FAULT
}

// == dynamic shared memory after a byte
kernel k(double* y) {
    extern __shared__ __align__(16) char s[];
    int t = threadIdx.x;
    double* d = (double*)(s + «4¦8»);
    d[t] = t; // FAULT
    «¦y[t] = d[t];»
}

// == local memory
kernel k(int* y, int n) {
    __align__(8) char a[32];
    for (int i = 0; i < 32; i++) a[i] = i * n;
    y[threadIdx.x] = *(int*)(a + threadIdx.x % 4 * 4 + «n¦4 * n»); // FAULT
}

// == rows of a matrix for tensor cores
kernel k(int* y) {
    __shared__ __align__(16) unsigned short s[8][«12¦16»];
    int t = threadIdx.x;
    for (int i = t; i < 96; i += 32) ((unsigned short*)s)[i] = i;
    «¦for (int i = 96 + t; i < 128; i += 32) ((unsigned short*)s)[i] = i;»
    __syncwarp();
    unsigned a, from = (unsigned)__cvta_generic_to_shared(&s[t % 8][0]);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(from) : "memory"); // FAULT
    y[t] = a;
}

// == an asynchronous copy
kernel k(const int* x, int4* y) {
    __shared__ int4 s[32];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[t]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + 4 * t «+ 1¦») : "memory"); // FAULT
    asm volatile("cp.async.wait_all;" ::: "memory");
    y[t] = s[t];
}
