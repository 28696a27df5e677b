// Barriers that not everybody reaches, or that are not the same for all. The cases of barrier.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == half of a warp
kernel k(int* y, int n) {
    int t = threadIdx.x;
    «if (t < 16)¦»
        __syncthreads(); // FAULT
    y[t] = t;
}

// == every other lane of two warps
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t % 2 «== 0¦>= 0») {
        y[t] = n;
        __syncthreads(); // FAULT
        y[t] += t;
    }
}

// == both sides of a branch
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t % «4 < n¦32 >= 0») {
        y[t] = 1;
        __syncthreads(); // FAULT
        y[t] += 5;
    } else {
        y[t] = 2;
        __syncthreads(); // FAULT
        y[t] *= 7;
    }
}

// == a loop of different length in each lane
kernel k(int* y, int n) {
    int t = threadIdx.x;
    for (int i = 0; i < «t % 4 + n¦n»; i++) {
        y[t] += i;
        __syncthreads(); // FAULT
    }
}

// == a lane that leaves the loop early
kernel k(int* y, int n) {
    int t = threadIdx.x;
    for (int i = 0; i < 2 * n; i++) {
        y[t] += i;
        if («y[t] > 4 && t == 7¦i > n») break;
        __syncthreads(); // FAULT
    }
    y[t] = 0;
}

// == a switch
kernel k(int* y, int n) {
    int t = threadIdx.x;
    switch («t % 3¦n») {
        case 0: y[t] = 8; break;
        case 3: y[t] = 4; __syncthreads(); break; // FAULT
        default: y[t] = 9; __syncthreads(); y[t]--; break; // FAULT
    }
}

// == in a function that is not inlined
__noinline__ __device__ void meet(int* y) {
    y[threadIdx.x] = 2;
    __syncthreads(); // FAULT
}
kernel k(int* y, int n) {
    if (threadIdx.x «> 20¦< 32»)
        meet(y);
}

// == a barrier that counts
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if («t != n¦n == 3»)
        y[t] = __syncthreads_count(t > n); // FAULT
}

// == a warp that returned early
kernel k(int* y, int n) {
    int t = threadIdx.x;
    «if (t >= 32) return;¦»
    y[t] = t;
    __syncthreads(); // FAULT
    y[t] += n;
}

// == fewer rounds in the last warp
kernel k(int* y, int n) {
    int t = threadIdx.x;
    for (int i = 0; i < n «+ (t < 64)¦»; i++) {
        y[t] += i;
        __syncthreads(); // FAULT
    }
}

// == a barrier for one warp only
kernel k(int* y, int n) {
    int t = threadIdx.x;
    y[t] = t;
    if (t / 32 «== 0¦>= 0»)
        __syncthreads(); // FAULT
}

// == a tail that returns before the tile's barrier
kernel k(int* y, int n) {
    __shared__ int s[64];
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    «if (i >= n) return;¦»
    s[t] = i;
    __syncthreads(); // FAULT
    if (i < n) y[i] = s[t ^ 1];
}

// == a named barrier that waits for too many
kernel k(int* y, int n) {
    y[threadIdx.x] = n;
    asm volatile("bar.sync 2, %0;" :: "r"(«96¦64») : "memory"); // FAULT
}

// == a count that is no multiple of a warp
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < «40¦32»)
        asm volatile("bar.sync 1, %0;" :: "r"(«40¦32») : "memory"); // FAULT
    y[t] = n;
}

// == two names
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < 32) asm volatile("bar.sync 1, 64;" ::: "memory"); // FAULT
    else asm volatile("bar.sync «2¦1», 64;" ::: "memory"); // FAULT
    y[t] = n;
}

// == two counts
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < 32) asm volatile("bar.sync 1, 96;" ::: "memory"); // FAULT
    else asm volatile("bar.sync 1, «64¦96»;" ::: "memory"); // FAULT
    y[t] = n;
}

// == all threads against some
kernel k(int* y, int n) {
    int t = threadIdx.x;
    y[t] = t;
    if (t < 32) asm volatile("«bar.sync 3, 64¦bar.sync 0»;" ::: "memory"); // FAULT
    else __syncthreads(); // FAULT
    y[t] += n;
}

// == a vote that leaves its caller out
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < 8)
        y[t] = __ballot_sync(«0x0f¦0xff», t > n); // FAULT
}

// == a shuffle with lanes that have left
kernel k(int* y, int n) {
    int t = threadIdx.x;
    «if (t > 20) return;¦»
    y[t] = __shfl_sync(0xffffffff, t * n, 1); // FAULT
}

// == a shuffle in one branch for all
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t < 16)
        y[t] = __shfl_xor_sync(«0xffffffff¦0xffff», t * n, 1); // FAULT
}

// == a barrier of a warp whose lanes have left
kernel k(int* y, int n) {
    int t = threadIdx.x;
    «if (t == 31) return;¦»
    y[t] = t;
    __syncwarp(); // FAULT
    y[t] += n;
}

// == a barrier of a warp in one branch
kernel k(int* y, int n) {
    int t = threadIdx.x;
    y[t] = t;
    if (t % 2) {
        __syncwarp(«0xffffffff¦0xaaaaaaaa»); // FAULT
        y[t] = n;
    }
}

// == different masks at one vote
kernel k(int* y, int n) {
    int t = threadIdx.x;
    y[t] = __any_sync(«t < 16 ? 0xffffffffu : 0xffff0000u¦0xffffffffu», t == n); // FAULT
}

// == a match for lanes that never come
kernel k(int* y, int n) {
    int t = threadIdx.x;
    if (t >= 30 «¦|| true»)
        y[t] = __match_any_sync(0xffffffff, t / n); // FAULT
}
