// Freed, null, read-only and wild addresses. The cases of lifetime.rs: `«bad¦good»` is the first alternative in the faulty kernel, the second in its twin.
// The finding must be at `// FAULT`; the other side of a race at `// OTHER`. `kernel` is `extern "C" __global__ void`.

// == read: freed memory
kernel k(const int* x, int* y) {
    y[threadIdx.x] = x[threadIdx.x]; // FAULT
}

// == written: freed memory
kernel k(int* x) {
    x[threadIdx.x] = 1; // FAULT
}

// == added to
kernel k(int* x) {
    atomicAdd(x, 1); // FAULT
}

// == one of two buffers
kernel k(const int* a, const int* b, int* y) {
    int i = blockIdx.x * 32 + threadIdx.x;
    int v = a[i];
    v += b[i]; // FAULT
    y[i] = v;
}

// == through a pointer in memory
kernel k(int* x, int** p) {
    int* q = *p;
    q[threadIdx.x] = 7; // FAULT
}

// == as vectors
kernel k(const float4* x, float4* y) {
    y[threadIdx.x] = x[threadIdx.x]; // FAULT
}

// == by one lane only
kernel k(const int* x, int* y) {
    int t = threadIdx.x;
    if (t == 40)
        y[t] = x[t]; // FAULT
    else
        y[t] = t;
}

// == read: null pointers
kernel k(const int* x, int* y) {
    y[threadIdx.x] = x[threadIdx.x]; // FAULT
}

// == written: null pointers
kernel k(int* x) {
    x[threadIdx.x] = 1; // FAULT
}

// == a member
struct Node { long long value; int pad[5]; int next; };
kernel k(const Node* n, int* y) {
    *y = n->next; // FAULT
}

// == an atomic
kernel k(unsigned* x) {
    atomicMax(x + 3, threadIdx.x); // FAULT
}

// == at the end of a list
struct Node { Node* next; };
kernel k(Node* last, Node* first, int* y) {
    int n = 0;
    while («n < 3¦first && n < 3») {
        first = first->next; // FAULT
        n++;
    }
    *y = n + (first != nullptr);
}

// == behind a check that is the wrong way round
kernel k(const int* x, int* y) {
    if (x «==¦!=» nullptr)
        y[threadIdx.x] = x[threadIdx.x]; // FAULT
    else
        y[threadIdx.x] = 1;
}

// == a constant
__constant__ int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
kernel k(int* y) {
    const int* p = table;
    y[threadIdx.x] = table[threadIdx.x];
    int* q = «(int*)p¦y + 8»;
    asm volatile("st.b32 [%0], %1;" :: "l"(q + threadIdx.x), "r"(5) : "memory"); // FAULT
}

// == an atomic on a constant
__constant__ int table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
kernel k(int* y) {
    const int* p = table;
    y[threadIdx.x] = table[threadIdx.x];
    int* q = «(int*)p¦y + 8»;
    asm volatile("red.add.s32 [%0], %1;" :: "l"(q + threadIdx.x), "r"(5) : "memory"); // FAULT
}

// == a small integer
kernel k(int* x) {
    *x = 1; // FAULT
}

// == an address of nothing
kernel k(int* x) {
    *x = 1; // FAULT
}

// == not even canonical
kernel k(const int* x, int* y) {
    *y = *x; // FAULT
}

// == data taken for a pointer
kernel k(long long* x, int* y) {
    int t = threadIdx.x;
    x[t] = 0x7f7f7f7f00000000 + 4 * t;
    int* p = «(int*)x[t]¦y + t»;
    *p = 4; // FAULT
}
