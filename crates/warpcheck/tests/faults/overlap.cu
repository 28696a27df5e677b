// Programmatic dependent launch. The cases of overlap.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its
// twin. `a`, `b` and `k` run in this order, each a programmatic dependent of the one before. `await_grids()` is
// `griddepcontrol.wait`, `start_dependents()` is `griddepcontrol.launch_dependents`.

// == a result is read without a wait
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
}

// == a result is read before the wait
kernel a(int* x, int* y, int* w) {
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
    start_dependents();
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    int v = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
    await_grids();
    y[threadIdx.x + 64 * blockIdx.x] = v;
}

// == an operand is overwritten without a wait
kernel a(int* x, int* y, int* w) {
    start_dependents();
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // OTHER
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    x[127 - threadIdx.x - 64 * blockIdx.x] = 2; // FAULT
}

// == an operand is changed in place without a wait
kernel a(int* x, int* y, int* w) {
    start_dependents();
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // OTHER
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    int v = x[threadIdx.x + 64 * blockIdx.x];
    x[threadIdx.x + 64 * blockIdx.x] = v + 2; // FAULT
}

// == a result is written again without a wait
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    x[threadIdx.x + 64 * blockIdx.x] = 1; // FAULT
}

// == the wrong array is prefetched
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = w[threadIdx.x + 64 * blockIdx.x]; // OTHER
}
kernel k(int* x, int* y, int* w) {
    int first = «x¦w»[threadIdx.x + 64 * blockIdx.x]; // FAULT
    await_grids();
    y[threadIdx.x + 64 * blockIdx.x] = first + x[127 - threadIdx.x];
}

// == a prefetch by cp.async
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    __shared__ int tile[64];
    unsigned to = (unsigned)__cvta_generic_to_shared(tile + threadIdx.x);
    const int* from = «x¦w» + threadIdx.x + 64 * blockIdx.x;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory"); // FAULT
    await_grids();
    asm volatile("cp.async.wait_all;" ::: "memory");
    y[threadIdx.x + 64 * blockIdx.x] = tile[threadIdx.x] + x[threadIdx.x + 64 * blockIdx.x];
}

// == a launch that does not let its dependents start
kernel a(int* x, int* y, int* w) {
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
}

// == a plain read of a counter
kernel a(int* x, int* y, int* w) {
    start_dependents();
    atomicAdd(x, 1); // OTHER
}
kernel k(int* x, int* y, int* w) {
    int v = «x[0]¦atomicAdd(x, 1)»; // FAULT
    await_grids();
    y[threadIdx.x + 64 * blockIdx.x] = v;
}

// == other bytes of a word
kernel a(int* x, int* y, int* w) {
    start_dependents();
    ((char*)x)[2 * (threadIdx.x + 64 * blockIdx.x)] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    ((char*)x)[2 * (threadIdx.x + 64 * blockIdx.x) + «0¦1»] = 2; // FAULT
}

// == only some threads wait
kernel a(int* x, int* y, int n) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int n) {
    int i = threadIdx.x + 64 * blockIdx.x;
    if (i < «n¦n + 28») await_grids();
    y[i] = x[i]; // FAULT
}

// == a thread waits for its block
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    if (threadIdx.x == 0) await_grids();
    «¦__syncthreads();»
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
}

// == a lane waits for its warp
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    if (threadIdx.x % 32 == 7) await_grids();
    «¦__syncwarp();»
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
}

// == a warp waits for its block
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel k(int* x, int* y, int* w) {
    if (threadIdx.x < 32) await_grids();
    int barrier = «1 + threadIdx.x / 32¦1»; // each warp for itself, or both together
    asm volatile("bar.sync %0, «32¦64»;" ::"r"(barrier) : "memory");
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
}

// == the launch between does not wait
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel b(int* x, int* y, int* w) {
    start_dependents();
    «¦await_grids();»
    w[threadIdx.x + 64 * blockIdx.x] = 1;
}
kernel k(int* x, int* y, int* w) {
    await_grids();
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
}

// == the launch between lets its dependents start too early
kernel a(int* x, int* y, int* w) {
    start_dependents();
    x[threadIdx.x + 64 * blockIdx.x] = 1; // OTHER
}
kernel b(int* x, int* y, int* w) {
    «start_dependents();¦»
    await_grids();
    start_dependents();
    w[threadIdx.x + 64 * blockIdx.x] = 1;
}
kernel k(int* x, int* y, int* w) {
    int early = x[threadIdx.x + 64 * blockIdx.x]; // FAULT
    await_grids();
    y[threadIdx.x + 64 * blockIdx.x] = early + w[threadIdx.x + 64 * blockIdx.x];
}

// == the launch between has read it too
kernel a(int* x, int* y, int* w) {
    start_dependents();
    y[threadIdx.x + 64 * blockIdx.x] = x[threadIdx.x + 64 * blockIdx.x];
}
kernel b(int* x, int* y, int* w) {
    int v = x[threadIdx.x + 64 * blockIdx.x]; // OTHER
    await_grids();
    start_dependents();
    w[threadIdx.x + 64 * blockIdx.x] = v;
}
kernel k(int* x, int* y, int* w) {
    «¦await_grids();»
    x[threadIdx.x + 64 * blockIdx.x] = 3; // FAULT
}
