/* Runs a command and acts at its n-th system call on a file below a folder. `campaign` compiles and uses it.
 *
 *   tracer FOLDER LOG ACTION N VALUE COMMAND...
 *
 * Calls of all threads and child processes are counted from 1, if a path or descriptor of theirs lies in FOLDER.
 * ACTION: log    write every call to LOG, and the bytes of writes to LOG.bytes
 *         kill   SIGKILL instead of the n-th call
 *         error  the n-th call is not made and fails with errno VALUE
 *         full   from the n-th call on, calls that need room or write to the disk fail with errno VALUE
 *         short  from the n-th call on, every VALUE-th read and write moves only a part of its bytes
 * LOG gets a line for each call that was acted on. The exit status is the command's, or 128 and the signal's number.
 *
 * ptrace instead of a preloaded library: the command's own code makes system calls without libc. A seccomp filter stops it
 * at these calls only. Linux on x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(__linux__) || !defined(__x86_64__)
#error "for Linux on x86-64"
#endif

/* Arguments: f descriptor, d descriptor of a folder followed by p, a path; - something else. */
static const struct call { int number; const char *name, *arguments; } CALLS[] = {
#define CALL(name, arguments) { SYS_##name, #name, arguments }
    CALL(open, "p"), CALL(openat, "dp"), CALL(creat, "p"), CALL(close, "f"),
    CALL(read, "f"), CALL(pread64, "f"), CALL(readv, "f"), CALL(getdents64, "f"), CALL(lseek, "f"),
    CALL(write, "f"), CALL(pwrite64, "f"), CALL(writev, "f"), CALL(copy_file_range, "--f"), CALL(sendfile, "f"),
    CALL(fallocate, "f"), CALL(ftruncate, "f"), CALL(truncate, "p"), CALL(fsync, "f"), CALL(fdatasync, "f"),
    CALL(flock, "f"), CALL(fchmod, "f"), CALL(chmod, "p"),
    CALL(rename, "pp"), CALL(renameat, "dpdp"), CALL(renameat2, "dpdp"), CALL(link, "pp"), CALL(linkat, "dpdp"),
    CALL(symlink, "-p"), CALL(unlink, "p"), CALL(unlinkat, "dp"), CALL(mkdir, "p"), CALL(mkdirat, "dp"), CALL(rmdir, "p"),
    CALL(stat, "p"), CALL(lstat, "p"), CALL(fstat, "f"), CALL(newfstatat, "dp"), CALL(statx, "dp"), CALL(readlink, "p"),
};
enum { COUNT = sizeof CALLS / sizeof *CALLS, TASKS = 1024 };

/* A thread, and the call that it is in. */
static struct task {
    pid_t id;
    const struct call *call;
    long number;
    int existed;
    struct user_regs_struct registers;
    char path[2][PATH_MAX];
} tasks[TASKS];

static const char *root;
static FILE *log_file, *bytes_file;

static void fail(const char *what) { perror(what); exit(125); }

/* The thread's entry; `fresh` if it was not known. */
static struct task *task_of(pid_t id, int *fresh) {
    struct task *unused = NULL;
    *fresh = 0;
    for (int i = 0; i < TASKS; i++) {
        if (tasks[i].id == id) return &tasks[i];
        if (!tasks[i].id && !unused) unused = &tasks[i];
    }
    if (!unused) { fprintf(stderr, "tracer: too many threads\n"); exit(125); }
    *fresh = 1;
    unused->id = id;
    unused->call = NULL;
    return unused;
}

static int inside(const char *path) {
    size_t length = strlen(root);
    return !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static void read_link(pid_t id, const char *of, int number, char *to) {
    char name[64];
    snprintf(name, sizeof name, number < 0 ? "/proc/%d/%s" : "/proc/%d/%s/%d", id, of, number);
    ssize_t length = readlink(name, to, PATH_MAX - 1);
    to[length < 0 ? 0 : length] = 0;
}

/* Copies from the thread's memory; returns what could be copied. */
static ssize_t copy(pid_t id, unsigned long address, void *to, size_t length) {
    struct iovec here = { to, length }, there = { (void *)address, length };
    return process_vm_readv(id, &here, 1, &there, 1, 0);
}

static void read_path(pid_t id, int folder, unsigned long address, char *to) {
    char path[PATH_MAX] = "", base[PATH_MAX];
    for (size_t at = 0; at < sizeof path - 1;) { /* Not across a page that may not be there. */
        size_t part = 4096 - (address + at) % 4096;
        if (part > sizeof path - 1 - at) part = sizeof path - 1 - at;
        if (copy(id, address + at, path + at, part) < (ssize_t)part || memchr(path + at, 0, part)) break;
        at += part;
    }
    if (path[0] == '/') { strcpy(to, path); return; }
    read_link(id, folder == AT_FDCWD ? "cwd" : "fd", folder == AT_FDCWD ? -1 : folder, base);
    if (snprintf(to, PATH_MAX, path[0] ? "%s/%s" : "%s", base, path) >= PATH_MAX) to[0] = 0;
}

static unsigned long argument(const struct user_regs_struct *r, int index) {
    const unsigned long all[] = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 };
    return all[index];
}

static int is(const struct task *task, const char *names) { /* `names` are between blanks. */
    char name[64];
    snprintf(name, sizeof name, " %s ", task->call->name);
    return strstr(names, name) != NULL;
}

/* Whether the call concerns the folder; fills in its paths. */
static int concerns(struct task *task) {
    int found = 0, paths = 0, folder = AT_FDCWD;
    task->path[0][0] = task->path[1][0] = 0;
    for (const char *kind = task->call->arguments; *kind; kind++) {
        unsigned long value = argument(&task->registers, kind - task->call->arguments);
        if (*kind == 'd') folder = (int)value;
        if (*kind == 'f') read_link(task->id, "fd", (int)value, task->path[paths]);
        if (*kind == 'p') read_path(task->id, folder, value, task->path[paths]);
        if (*kind == 'f' || *kind == 'p') found |= inside(task->path[paths++]);
    }
    return found;
}

static void line(const struct task *task, long result, unsigned long offset, unsigned long length) {
    unsigned long flags = is(task, " open ") ? task->registers.rsi : is(task, " creat ") ? O_CREAT | O_TRUNC : task->registers.rdx;
    fprintf(log_file, "%ld\t%s\t%ld\t%s\t%s\t%lu\t%d\t%lu\t%lu\n", task->number, task->call->name, result, task->path[0],
            task->path[1], flags, task->existed, offset, length);
}

/* After the call: logs it, with the bytes that it wrote. */
static void finished(struct task *task) {
    struct user_regs_struct now;
    if (ptrace(PTRACE_GETREGS, task->id, 0, &now)) return;
    long result = (long)now.rax;
    unsigned long offset = 0, length = 0;
    if (result > 0 && is(task, " write pwrite64 writev copy_file_range sendfile ")) {
        char name[64], text[256] = "";
        int out = (int)argument(&task->registers, is(task, " copy_file_range ") ? 2 : 0);
        snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", task->id, out);
        FILE *info = fopen(name, "r");
        if (info) { if (!fgets(text, sizeof text, info)) text[0] = 0; fclose(info); }
        length = result;
        offset = is(task, " pwrite64 ") ? task->registers.r10 : strtoul(text + 4, NULL, 10) - length; /* "pos:" */
        /* From the file, which is the same for all these calls: no other thread writes to it meanwhile. */
        snprintf(name, sizeof name, "/proc/%d/fd/%d", task->id, out);
        int file = open(name, O_RDONLY | O_CLOEXEC);
        char *bytes = malloc(length);
        if (file < 0 || pread(file, bytes, length, offset) != (ssize_t)length) fail(task->path[0]);
        if (fwrite(bytes, 1, length, bytes_file) != length) fail("bytes");
        free(bytes);
        close(file);
    } else if (is(task, " ftruncate truncate ")) {
        length = task->registers.rsi;
    }
    line(task, result, offset, length);
}

static void filter(void) {
    struct sock_filter program[COUNT + 3];
    int at = 0;
    program[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++)
        program[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[i].number, COUNT - i, 0);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog all = { at, program };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all)) fail("seccomp");
}

int main(int count, char **arguments) {
    if (count < 7) { fprintf(stderr, "usage: tracer FOLDER LOG ACTION N VALUE COMMAND...\n"); return 125; }
    root = arguments[1];
    const char *action = arguments[3];
    long at = atol(arguments[4]), value = atol(arguments[5]), number = 0, moved = 0;
    int logs = !strcmp(action, "log"), result = 125, killed = 0;
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.bytes", arguments[2]);
    log_file = fopen(arguments[2], "we");
    bytes_file = logs ? fopen(name, "we") : NULL;
    if (!log_file || (logs && !bytes_file)) fail(arguments[2]);

    pid_t child = fork();
    if (child < 0) fail("fork");
    if (!child) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) fail("ptrace");
        raise(SIGSTOP);
        filter();
        execvp(arguments[6], arguments + 6);
        fail(arguments[6]);
    }
    int status, fresh;
    if (waitpid(child, &status, 0) != child) fail("wait");
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                   PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, options)) fail("ptrace");
    task_of(child, &fresh);
    ptrace(PTRACE_CONT, child, 0, 0);

    for (pid_t id; (id = waitpid(-1, &status, __WALL)) > 0;) {
        struct task *task = task_of(id, &fresh);
        if (!WIFSTOPPED(status)) {
            task->id = 0;
            if (id == child) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16, next = PTRACE_CONT, deliver = 0;
        if (event == PTRACE_EVENT_SECCOMP && !killed) {
            ptrace(PTRACE_GETREGS, id, 0, &task->registers);
            task->call = NULL;
            for (int i = 0; i < COUNT; i++)
                if (CALLS[i].number == (int)task->registers.orig_rax) task->call = &CALLS[i];
            if (task->call && concerns(task)) {
                struct stat entry;
                task->number = ++number;
                task->existed = !lstat(task->path[0], &entry);
                int creates = is(task, " open openat creat ") && !task->existed;
                int needs_room = creates || is(task, " write pwrite64 writev copy_file_range fallocate fsync fdatasync "
                                                     "rename renameat renameat2 link linkat mkdir mkdirat ");
                int moves = is(task, " read pread64 write pwrite64 ") && argument(&task->registers, 2) > 1;
                if (logs) {
                    next = PTRACE_SYSCALL;
                } else if (!strcmp(action, "kill") && number == at) {
                    line(task, 0, 0, 0);
                    for (int i = 0; i < TASKS; i++)
                        if (tasks[i].id) kill(tasks[i].id, SIGKILL);
                    killed = 1;
                } else if ((!strcmp(action, "error") && number == at) || (!strcmp(action, "full") && number >= at && needs_room)) {
                    line(task, -value, 0, 0);
                    task->registers.orig_rax = -1; /* Not made; the result is what stands in rax. */
                    task->registers.rax = -value;
                    ptrace(PTRACE_SETREGS, id, 0, &task->registers);
                } else if (!strcmp(action, "short") && number >= at && moves && moved++ % value == 0) {
                    line(task, 0, 0, 0);
                    task->registers.rdx = task->registers.rdx / 2;
                    ptrace(PTRACE_SETREGS, id, 0, &task->registers);
                }
            }
        } else if (signal == (SIGTRAP | 0x80)) {
            if (task->call) finished(task);
            task->call = NULL;
        } else if (!event && !(fresh && signal == SIGSTOP) && signal != SIGTRAP) {
            deliver = signal;
        }
        ptrace(next, id, 0, deliver);
    }
    if (fclose(log_file) || (logs && fclose(bytes_file))) fail(arguments[2]);
    return result;
}
