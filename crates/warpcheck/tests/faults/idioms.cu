// Idioms of CUDA's libraries: how threads order their accesses without a barrier of the block, and what is allowed although it looks
// wrong. The cases of idioms.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin, which must be clean.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.
// What comes before the first case is part of all: the instructions that libcu++ uses.
#define LOAD(v, p, how) asm volatile("ld." how ".b32 %0, [%1];" : "=r"(v) : "l"(p) : "memory")
#define STORE(p, v, how) asm volatile("st." how ".b32 [%0], %1;" :: "l"(p), "r"(v) : "memory")
#define ADD(old, p, v, how) asm volatile("atom.add." how ".u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory")
#define CAS(old, p, a, b, how) asm volatile("atom.cas." how ".b32 %0, [%1], %2, %3;" : "=r"(old) : "l"(p), "r"(a), "r"(b) : "memory")
#define AT(x) ((unsigned)__cvta_generic_to_shared(&(x)))
#define INIT(b, n) asm volatile("mbarrier.init.shared.b64 [%0], %1;" :: "r"(AT(b)), "r"(n) : "memory")
#define ARRIVE(b) asm volatile("{ .reg .b64 s; mbarrier.arrive.shared.b64 s, [%0]; }" :: "r"(AT(b)) : "memory")
#define WAIT(b, parity) for (unsigned done = 0; !done;) asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(AT(b)), "r"(parity) : "memory")
#define COPY(to, from) asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(AT(to)), "l"(from) : "memory")
typedef unsigned long long barrier;

// == lanes of a warp meet at a memory barrier
kernel k(int* x, int* y) {
    __shared__ barrier b;
    __shared__ int s[64];
    int t = threadIdx.x;
    if (t == 0) INIT(b, 64);
    __syncthreads();
    s[t] = x[t]; // FAULT
    ARRIVE(b);
    «¦WAIT(b, 0);»
    y[t] = s[t ^ 1]; // OTHER
}

// == half of a warp arrives and the other half waits
kernel k(int* x, int* y) {
    __shared__ barrier b;
    __shared__ int s[16];
    int t = threadIdx.x;
    if (t == 0) INIT(b, 16);
    __syncwarp();
    if (t < 16) {
        «ARRIVE(b);¦»
        s[t] = x[t]; // FAULT
        «¦ARRIVE(b);»
    } else {
        WAIT(b, 0);
        y[t] = s[31 - t]; // OTHER
    }
}

// == a ring of stages between a producer and consumers
kernel k(int* x, int* y) {
    __shared__ barrier full[2], empty[2];
    __shared__ int s[2][32];
    int t = threadIdx.x, sum = 0;
    if (t < 2) {
        INIT(full[t], 32);
        INIT(empty[t], 64);
    }
    __syncthreads();
    if (t < 32) {
        for (int i = 0; i < 6; i++) {
            if (i >= 2) WAIT(empty[i % 2], i / 2 - 1 & 1);
            s[i % 2][t] = x[t] + i; // FAULT
            ARRIVE(full[i % 2]);
        }
    } else {
        for (int i = 0; i < 6; i++) {
            WAIT(full[i % 2], i / 2 & 1);
            «ARRIVE(empty[i % 2]);¦»
            sum += s[i % 2][(t + 5) % 32]; // OTHER
            «¦ARRIVE(empty[i % 2]);»
        }
        y[t] = sum;
    }
}

// == asynchronous copies that arrive at a memory barrier
kernel k(int* x, int* y) {
    __shared__ barrier b;
    __shared__ int s[64];
    int t = threadIdx.x;
    if (t == 0) INIT(b, 64);
    __syncthreads();
    COPY(s[t], x + t); // FAULT
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" :: "r"(AT(b)) : "memory"); // FAULT
    «¦WAIT(b, 0);»
    y[t] = s[t ^ 3]; // OTHER
}

// == stages of asynchronous copies, counted by groups
kernel k(int* x, int* y) {
    __shared__ int s[3][64];
    int t = threadIdx.x, sum = 0;
    for (int i = 0; i < 2; i++) {
        COPY(s[i][t], x + 64 * i + t); // FAULT
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int i = 0; i < 6; i++) {
        asm volatile("cp.async.wait_group «2¦1»;" ::: "memory"); // FAULT
        __syncthreads();
        sum += s[i % 3][t ^ 9]; // OTHER
        if (i < 4) COPY(s[(i + 2) % 3][t], x + 64 * (i % 2) + t); // FAULT
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    asm volatile("cp.async.wait_all;" ::: "memory"); // FAULT
    y[t] = sum;
}

// == a flag between warps, released and acquired
kernel k(int* x, int* y) {
    __shared__ int s, flag;
    int t = threadIdx.x, seen = 0;
    if (t == 0) flag = 0;
    __syncthreads();
    if (t == 0) {
        s = x[5]; // FAULT
        STORE(&flag, 1, "«relaxed¦release».cta");
    } else if (t == 32) {
        while (!seen) LOAD(seen, &flag, "acquire.cta");
        y[0] = s; // OTHER
    }
}

// == a flag in global memory for the own block
kernel k(int* x, int* y) {
    int t = threadIdx.x, seen = 0;
    if (t == 40) {
        x[9] = 7; // FAULT
        STORE(x, 1, "«relaxed¦release».gpu");
    } else if (t == 0) {
        while (!seen) LOAD(seen, x, "acquire.gpu");
        y[0] = x[9]; // OTHER
    }
}

// == a volatile flag and a fence
kernel k(int* x, int* y) {
    __shared__ int s;
    __shared__ volatile int flag;
    int t = threadIdx.x;
    if (t == 0) flag = 0;
    __syncthreads();
    if (t == 0) {
        s = x[1]; // FAULT
        «¦__threadfence_block();»
        flag = 1;
    } else if (t == 32) {
        while (flag == 0) { }
        __threadfence_block();
        y[0] = s; // OTHER
    }
}

// == an atomic flag and a fence before the data instead of after
kernel k(int* x, int* y) {
    __shared__ int s, flag;
    int t = threadIdx.x;
    if (t == 0) flag = 0;
    __syncthreads();
    if (t == 0) {
        «__threadfence_block();¦»
        s = x[1]; // FAULT
        «¦__threadfence_block();»
        atomicExch(&flag, 1);
    } else if (t == 32) {
        while (atomicAdd(&flag, 0) == 0) { }
        __threadfence_block();
        y[0] = s; // OTHER
    }
}

// == a flag for what the whole warp has written
kernel k(int* x, int* y) {
    __shared__ int s[32], flag;
    int t = threadIdx.x, seen = 0;
    if (t == 0) flag = 0;
    __syncthreads();
    if (t < 32) {
        s[t] = x[t]; // FAULT
        «¦__syncwarp();»
        if (t == 0) STORE(&flag, 1, "release.cta");
    } else {
        if (t == 32)
            while (!seen) LOAD(seen, &flag, "acquire.cta");
        __syncwarp();
        y[t] = s[63 - t]; // OTHER
    }
}

// == a flag that one lane waits for
kernel k(int* x, int* y) {
    __shared__ int s[32], flag;
    int t = threadIdx.x, seen = 0;
    if (t == 0) flag = 0;
    __syncthreads();
    if (t < 32) {
        s[t] = x[t]; // FAULT
        __syncwarp();
        if (t == 0) STORE(&flag, 1, "release.cta");
    } else {
        if (t == 32)
            while (!seen) LOAD(seen, &flag, "acquire.cta");
        «¦__syncwarp();»
        y[t] = s[63 - t]; // OTHER
    }
}

// == a latch
kernel k(int* x, int* y) {
    __shared__ int s[64], count;
    int t = threadIdx.x, old, left = 1;
    if (t == 0) count = 64;
    __syncthreads();
    s[t] = x[t]; // FAULT
    ADD(old, &count, -1, "«relaxed¦release».cta");
    while (left) LOAD(left, &count, "acquire.cta");
    y[t] = s[t ^ 33]; // OTHER
}

// == a counter in the shared memory that is kept for libraries
kernel k(int* x, int* y) {
    __shared__ int s[64];
    int t = threadIdx.x, at, seen = 0;
    asm("mov.u32 %0, %%reserved_smem_offset_1;" : "=r"(at));
    s[t] = x[t]; // FAULT
    asm volatile("red.release.cta.shared.add.u32 [%0], 1;" :: "r"(at) : "memory");
    while (seen < «1¦64») asm volatile("ld.acquire.cta.shared.u32 %0, [%1];" : "=r"(seen) : "r"(at) : "memory");
    y[t] = s[t ^ 33]; // OTHER
}

// == a semaphore
kernel k(int* x, int* y) {
    __shared__ int s, count;
    int t = threadIdx.x, seen, old;
    if (t == 0) count = 1, s = 0;
    __syncthreads();
    if (t % 16 == 0) {
        for (bool got = false; !got;) {
            LOAD(seen, &count, "relaxed.cta");
            if (seen > 0) {
                CAS(old, &count, seen, seen - 1, "acquire.cta");
                got = old == seen;
            }
        }
        s += x[t] + 1; // FAULT
        ADD(old, &count, 1, "«relaxed¦release».cta");
    }
    __syncthreads();
    y[t] = s;
}

// == a spin lock between warps
kernel k(int* x, int* y) {
    if (threadIdx.x % 32 == 0) {
        while (atomicCAS(x, 0, 1) != 0) { }
        __threadfence();
        x[1] += 1; // FAULT
        «¦__threadfence();»
        atomicExch(x, 0);
    }
}

// == a spin lock in shared memory
kernel k(int* x, int* y) {
    __shared__ int lock, s;
    int t = threadIdx.x;
    if (t == 0) lock = s = 0;
    __syncthreads();
    if (t % 32 == 0) {
        while (atomicCAS(&lock, 0, 1) != 0) { }
        __threadfence_block();
        s += t; // FAULT
        «¦__threadfence_block();»
        *(volatile int*)&lock = 0;
    }
    __syncthreads();
    y[t] = s;
}

// == a lock for each lane of a warp
kernel k(int* x, int* y) {
    for (bool done = false; !done;) {
        if (atomicCAS(x, 0, 1) == 0) {
            «¦__threadfence();»
            x[1] += 1; // FAULT
            «¦__threadfence();»
            atomicExch(x, 0);
            done = true;
        }
    }
}

// == a lock that all lanes spin on
kernel k(int* x, int* y) {
    while (atomicCAS(x, 0, 1) != 0) { }
    x[1] += 1; // FAULT
    «¦__threadfence();»
    atomicExch(x, 0);
}

// == the last block after a fence, a barrier and an atomic
kernel k(int* x, int* y) {
    __shared__ bool last;
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    y[i] = i; // FAULT
    «¦__threadfence();»
    __syncthreads();
    if (t == 0) last = atomicAdd(x, 1) == gridDim.x - 1;
    __syncthreads();
    if (last) {
        __threadfence();
        int sum = 0;
        for (int j = t; j < 256; j += 64) sum += y[j]; // OTHER
        x[1 + t] = sum;
    }
}

// == the last block after a barrier, a fence and an atomic
kernel k(int* x, int* y) {
    __shared__ bool last;
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    y[i] = i; // FAULT
    «¦__syncthreads();»
    if (t == 0) {
        __threadfence();
        last = atomicAdd(x, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last) {
        int sum = 0;
        for (int j = t; j < 256; j += 64) sum += y[j]; // OTHER
        x[1 + t] = sum;
    }
}

// == the last block by acquire and release
kernel k(int* x, int* y) {
    __shared__ int old;
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    y[i] = i; // FAULT
    __syncthreads();
    if (t == 0) ADD(old, x, 1, "acq_rel.«cta¦gpu»");
    __syncthreads();
    if (old == gridDim.x - 1) {
        int sum = 0;
        for (int j = t; j < 256; j += 64) sum += y[j]; // OTHER
        x[1 + t] = sum;
    }
}

// == a prefix that each block waits for
kernel k(int* x, int* y) {
    volatile int* flags = x;
    int b = blockIdx.x;
    if (threadIdx.x == 0) {
        int sum = b;
        if (b > 0) {
            while (flags[b - 1] == 0) { }
            __threadfence();
            sum += y[b - 1]; // OTHER
        }
        y[b] = sum; // FAULT
        «¦__threadfence();»
        flags[b] = 1;
    }
}

// == a barrier of the grid by hand
kernel k(int* x, int* y) {
    volatile int* open = x + 1;
    int t = threadIdx.x, b = blockIdx.x;
    y[b * 32 + t] = t; // FAULT
    __syncthreads();
    if (t == 0) {
        «¦__threadfence();»
        if (atomicAdd(x, 1) == 3) {
            x[0] = 0; // FAULT
            __threadfence();
            *open = 1;
        } else {
            while (*open == 0) { }
        }
        __threadfence();
    }
    __syncthreads();
    x[2 + b * 32 + t] = y[(b + 1) % 4 * 32 + t]; // OTHER
}

// == one value stored by all
kernel k(int* x, int* y) {
    __shared__ int s;
    s = «threadIdx.x / 2¦5»; // FAULT
    __syncthreads();
    y[threadIdx.x] = s;
}

// == a result that all lanes of a warp store
kernel k(int* x, int* y) {
    __shared__ int s[2];
    int t = threadIdx.x;
    s[t / 32] = «__shfl_up_sync(~0u, t, 1)¦__reduce_add_sync(~0u, t)»; // FAULT
    __syncthreads();
    y[t] = s[t % 2];
}

// == a flag that any thread raises
kernel k(int* x, int* y) {
    __shared__ int found;
    found = 0; // FAULT
    «¦__syncthreads();»
    if (x[threadIdx.x] == threadIdx.x % 2) found = 1; // FAULT
    __syncthreads();
    y[threadIdx.x] = found;
}

// == threads that leave before a barrier
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    «if (t < 40)¦if (t >= 40) return;»
        __syncthreads(); // FAULT
    y[t] = x[t];
}

// == threads that leave a loop with a barrier
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    for (int i = 0; i < 4 + t / 32; i++) {
        x[t] += i;
        __syncthreads(); // FAULT
    }
    «y[t] = 1;¦»
}

// == lanes that leave before a vote
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    «if (t < 40)¦if (t >= 40) return;»
        y[t] = __ballot_sync(0xffffffff, x[t] & 1); // FAULT
    x[t] += 1;
}

// == lanes that leave before their warp's barrier
kernel k(int* x, int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    if (t >= 40) return;
    s[t] = x[t]; // FAULT
    «¦__syncwarp();»
    y[t] = s[t ^ 1]; // OTHER
}

// == a vector of which one component is not used
kernel k(int4* x, int* y) {
    __shared__ int4 s[32];
    int t = threadIdx.x;
    s[t].x = t; s[t].y = 2; s[t].w = 3;
    int4 v = s[t]; // FAULT
    y[t] = v.x + v.y + v.«z¦w»;
}

// == a tile of eight lanes
kernel k(int* x, int* y) {
    __shared__ int s[64];
    int t = threadIdx.x;
    unsigned mask = «0xfu << (t & 28)¦0xffu << (t & 24)»;
    s[t] = x[t]; // FAULT
    __syncwarp(mask);
    y[t] = s[t ^ 5]; // OTHER
}

// == a shuffle after a fence
kernel k(int* x, int* y) {
    __shared__ int s[32];
    int t = threadIdx.x;
    s[t] = x[t]; // FAULT
    «¦__threadfence_block();»
    int other = __shfl_xor_sync(~0u, t, 1);
    y[t] = s[other]; // OTHER
}

// == a warp's reduction written for lockstep
kernel k(int* x, int* y) {
    __shared__ volatile int s[64];
    int t = threadIdx.x;
    s[t] = x[t]; // FAULT
    __syncthreads();
    if (t < 32) {
        int v = s[t];
        for (int w = 32; w > 0; w /= 2) {
            v += s[t + w]; // OTHER
            «¦__syncwarp();»
            s[t] = v; // FAULT
            «¦__syncwarp();»
        }
        if (t == 0) y[0] = v;
    }
}

// == an atomic beside a volatile read
kernel k(int* x, int* y) {
    __shared__ int n;
    int t = threadIdx.x;
    if (t == 0) n = 0;
    __syncthreads();
    atomicAdd(&n, 1); // FAULT
    «¦__syncthreads();»
    y[t] = *(volatile int*)&n; // OTHER
}

// == a look before an atomic
kernel k(int* x, int* y) {
    int t = threadIdx.x;
    if (t > *(volatile int*)x) «*x = t¦atomicMax(x, t)»; // FAULT
}

// == storage of a block's reduction used again
kernel k(int* x, int* y) {
    __shared__ int part[2];
    int t = threadIdx.x;
    for (int i = 0; i < 3; i++) {
        int v = x[t] + i;
        for (int w = 16; w > 0; w /= 2) v += __shfl_down_sync(~0u, v, w);
        if (t % 32 == 0) part[t / 32] = v; // FAULT
        __syncthreads();
        y[t] = part[0] + part[1]; // OTHER
        «¦__syncthreads();»
    }
}
