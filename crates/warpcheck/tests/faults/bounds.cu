// Accesses beyond allocations, shared and local memory. The cases of bounds.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == read above
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    y[t] = x[«t + 1¦t»]; // FAULT
}

// == write above
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    y[«t + 1¦t»] = t; // FAULT
}

// == read below
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    y[t] = x[«t - 1¦63 - t»]; // FAULT
}

// == write below
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    y[«t - 3¦63 - t»] = t; // FAULT
}

// == far above
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    y[t] = x[t + «100000000¦0»]; // FAULT
}

// == far below
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    y[t - «90000000¦0»] = t; // FAULT
}

// == far beyond 32 bits
kernel k(const int* x, int* y) {
    long long t = threadIdx.x;
    y[t] = x[t + «(t << 40)¦0»]; // FAULT
}

// == one turn too many
kernel k(const int* x, int* y, int n) {
    int sum = 0;
    for (int i = 0; i «<=¦<» n; i++)
        sum += x[i]; // FAULT
    y[0] = sum;
}

// == unguarded tail of the grid
kernel k(int* x, int n) {
    int i = blockIdx.x * 32 + threadIdx.x;
    «¦if (i < n)»
    x[i] = i; // FAULT
}

// == guard with the wrong sign
kernel k(int* x, int n) {
    int i = blockIdx.x * 32 + threadIdx.x;
    if (i «<=¦<» n)
        x[i] = i; // FAULT
}

// == rows for columns
kernel k(int* x) {
    int r = threadIdx.x % 8;
    for (int c = 0; c < 20; c++)
        if (threadIdx.x < 8)
            x[«c * 20 + r¦r * 20 + c»] = c; // FAULT
}

// == a vector over the end
kernel k(const float4* x, float4* y) {
    int t = threadIdx.x;
    «¦if (t < 15)»
    y[t] = x[t]; // FAULT
}

// == a double over the end
kernel k(double* x) {
    int t = threadIdx.x;
    «¦if (t < 15)»
    x[t] = 1.0; // FAULT
}

// == a byte over the end
kernel k(unsigned char* x) {
    int t = threadIdx.x;
    x[t] = 0;
    x[t + «30¦29»] = 1; // FAULT
}

// == a short over the end
kernel k(const short* x, short* y) {
    int t = threadIdx.x;
    «¦if (t < 31)»
    y[t] = x[t]; // FAULT
}

// == an atomic over the end
kernel k(int* x) {
    atomicAdd(&x[threadIdx.x % «11¦10»], 1); // FAULT
}

// == a compare-and-swap below
kernel k(int* x) {
    int t = threadIdx.x;
    atomicCAS(&x[«t - 1¦t»], 0, 7); // FAULT
}

// == a negative index by overflow
kernel k(int* x, int n) {
    int i = n * «n¦0» + threadIdx.x;
    x[i] = 1; // FAULT
}

// == an unsigned index below zero
kernel k(int* x) {
    unsigned i = threadIdx.x «- 1u¦»;
    x[i] = 1; // FAULT
}

// == a member of a structure
struct P { int a, b, c; };
kernel k(const P* p, int* y) {
    int t = threadIdx.x;
    y[t] = p[t].«c¦b»; // FAULT
}

// == through a pointer in memory
kernel k(int* x, int** p) {
    int* q = *p;
    q[threadIdx.x «* 2¦»] = 5; // FAULT
}

// == a stencil without its edge
kernel k(const int* x, int* y) {
    int i = blockIdx.x * 32 + threadIdx.x;
    int right = «x[i + 1]¦i < 63 ? x[i + 1] : 0»; // FAULT
    y[i] = x[i] + right;
}

// == in a function that is not inlined
__noinline__ __device__ int fetch(const int* x, int i) {
    return x[i]; // FAULT
}
kernel k(const int* x, int* y) {
    y[threadIdx.x] = fetch(x, threadIdx.x «+ 8¦»);
}

// == one thread of the last block
kernel k(const int* x, int* y) {
    int i = blockIdx.x * 16 + threadIdx.x;
    if (i == 63)
        y[i «+ 1¦»] = 2; // FAULT
    else
        y[i] = x[i];
}

// == in a divergent branch
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    if (t % 3 == 1)
        y[t] = x[t + «60¦30»]; // FAULT
    else
        y[t] = 0;
}

// == a module's array
__device__ int table[16];
kernel k(int* y) {
    y[threadIdx.x] = table[threadIdx.x % «17¦16»]; // FAULT
}

// == a constant array
__constant__ int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
kernel k(int* y, int n) {
    y[threadIdx.x] = table[threadIdx.x % (n «+ 1¦»)]; // FAULT
}

// == a pointer that starts inside
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    y[t «¦- 1»] = x[0]; // FAULT
}

// == a buffer that is too small
kernel k(int* x) {
    x[threadIdx.x] = 1; // FAULT
}

// == an asynchronous copy's source
kernel k(const int4* x, int4* y) {
    __shared__ int4 s[32];
    int t = threadIdx.x;
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[t]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + t «+ 1¦») : "memory"); // FAULT
    asm volatile("cp.async.wait_all;" ::: "memory");
    y[t] = s[t];
}
