// Launches that never end, and those that stop themselves. The cases of stuck.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == a loop without an end
kernel k(int* y, int n) {
    volatile int* v = y;
    while («true¦v[0] < n») { // FAULT
        v[threadIdx.x] = v[threadIdx.x] + 1; // FAULT
    } // FAULT
}

// == a flag that nobody sets
kernel k(int* y, int n) {
    volatile int* flag = y + 64;
    if (threadIdx.x == 0)
        while (*flag == «0¦1») { } // FAULT
    y[threadIdx.x] = n;
}

// == an index that stands still
kernel k(int* y, int n) {
    for (int i = 0; i < 100; i += «n / 4¦n / 3») { // FAULT
        y[threadIdx.x] += 1; // FAULT
    } // FAULT
}

// == a loop in one lane
kernel k(int* y, int n) {
    int t = threadIdx.x, i = t;
    while (i != «40¦t») { // FAULT
        i = t == 45 ? i + 2 : 40; // FAULT
        atomicAdd(&y[t], i); // FAULT
    } // FAULT
}

// == a wait for a block that never comes
kernel k(int* y, int n) {
    if (threadIdx.x == 0) {
        atomicAdd(y, 1);
        while (atomicAdd(y, 0) < «n¦2») { } // FAULT
    }
}

// == a lock that is never released
kernel k(int* y, int n) {
    if (threadIdx.x == 0) {
        while (atomicCAS(y, 0, 1) != 0) { } // FAULT
        atomicAdd(y + 1, n);
        __threadfence();
        «¦atomicExch(y, 0);»
    }
}

// == a ping without a pong
kernel k(int* y, int n) {
    __shared__ int s;
    int t = threadIdx.x;
    if (t == 0) s = 0;
    __syncthreads();
    if (t == 0) atomicExch(&s, «2¦1»);
    if (t == 32) {
        while (atomicAdd(&s, 0) != 1) { } // FAULT
        y[0] = n;
    }
}

// == a memory barrier that waits for too many
kernel k(int* y, int n) {
    __shared__ __align__(8) unsigned long long bar;
    unsigned at = (unsigned)__cvta_generic_to_shared(&bar), done = 0;
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" :: "r"(at), "r"(«33¦32») : "memory");
    __syncthreads();
    unsigned long long state;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(at) : "memory");
    while (!done) // FAULT
        asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" // FAULT
                     : "=r"(done) : "r"(at), "l"(state) : "memory"); // FAULT
    y[threadIdx.x] = n;
}

// == a loop without an end around a barrier
kernel k(int* y, int n) {
    int t = threadIdx.x, i = 0;
    do {
        y[t] += i; // FAULT
        i = i * 3 % (n + 4); // FAULT
        __syncthreads(); // FAULT
    } while (i != «7¦0»); // FAULT
}

// == two barriers in opposite order
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < 32) {
        asm volatile("bar.sync 1, 64;" ::: "memory"); // FAULT
        asm volatile("bar.sync 2, 64;" ::: "memory");
    } else {
        asm volatile("bar.sync «2¦1», 64;" ::: "memory"); // FAULT
        asm volatile("bar.sync «1¦2», 64;" ::: "memory");
    }
    y[t] = n;
}

// == halves of a warp at two barriers
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < 16) {
        y[t] = n;
        __syncwarp(«0xffffffff¦0xffff»); // FAULT
        y[t] = 1;
    } else {
        y[t] = __shfl_sync(«0xffffffff¦0xffff0000», t, 20); // FAULT
    }
}

// == an assertion
extern "C" __device__ void __assertfail(const char*, const char*, unsigned, const char*, size_t);
kernel k(int* y, int n) {
    if (n * blockIdx.x + threadIdx.x > «30¦34») __assertfail("in range", "model.cu", 9, "k", 1); // FAULT
    y[threadIdx.x] = 1;
}

// == a trap
kernel k(int* y, int n) {
    if (threadIdx.x == 41 && n == «3¦4»)
        __trap(); // FAULT
    y[threadIdx.x] = 2;
}
