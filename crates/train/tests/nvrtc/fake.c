// Stands in for NVRTC: VERSION (13000 is 13.0) and the oldest architecture OLDEST are given by -D. It compiles to an empty
// module and, when the process ends, writes the number of compilations that ran at once into the file that FAKE_NVRTC names.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char ptx[] = ".version 8.0\n.target sm_80\n.address_size 64\n";
static atomic_int running, most;

int nvrtcVersion(int *major, int *minor) { return *major = VERSION / 1000, *minor = VERSION % 1000 / 10, 0; }
int nvrtcGetNumSupportedArchs(int *count) { return *count = 2, 0; }
int nvrtcGetSupportedArchs(int *list) { return list[0] = OLDEST, list[1] = 80, 0; }
int nvrtcCreateProgram(void **program, const char *source, const char *name, int n, void *headers, void *names) {
    return *program = &running, 0;
}
int nvrtcCompileProgram(void *program, int n, const char **options) {
    atomic_fetch_add(&running, 1);
    // Waits for another one.
    for (int i = 0; i < 500 && atomic_load(&most) < 2; i++) {
        int now = atomic_load(&running);
        if (now > atomic_load(&most)) atomic_store(&most, now);
        usleep(1000);
    }
    return atomic_fetch_sub(&running, 1), 0;
}
int nvrtcGetProgramLogSize(void *program, size_t *size) { return *size = 1, 0; }
int nvrtcGetProgramLog(void *program, char *log) { return *log = 0, 0; }
int nvrtcGetPTXSize(void *program, size_t *size) { return *size = sizeof ptx, 0; }
int nvrtcGetPTX(void *program, char *to) { return memcpy(to, ptx, sizeof ptx), 0; }
int nvrtcGetCUBINSize(void *program, size_t *size) { return *size = 4, 0; }
int nvrtcGetCUBIN(void *program, char *to) { return memcpy(to, "\177ELF", 4), 0; }
int nvrtcDestroyProgram(void **program) { return *program = NULL, 0; }
const char *nvrtcGetErrorString(int status) { return "an error"; }

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAKE_NVRTC");
    FILE *file = path && atomic_load(&most) ? fopen(path, "w") : NULL;
    if (file) fprintf(file, "%d", atomic_load(&most)), fclose(file);
}
