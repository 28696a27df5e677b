//! Forwards signals to the program.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};

/// The signals that a user or a CI sends to end a program, or to talk to it.
const SIGNALS: [i32; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// The program: zero before it runs, −1 when it has ended and its id may be another's.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// Signals that came before it ran, a bit each.
static EARLY: AtomicU64 = AtomicU64::new(0);

extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let child = CHILD.load(SeqCst);
    if child == 0 {
        EARLY.fetch_or(1 << signal, SeqCst);
    }
    // What the terminal sends (a positive code) goes to the whole group: the program has it already.
    // SAFETY: the kernel gives a valid `info`; `kill` may be called in a handler.
    unsafe {
        if child > 0 && !info.is_null() && (*info).si_code <= 0 {
            libc::kill(child, signal);
        }
    }
}

/// From now on signals are forwarded and do not end this process. Call it before the program starts:
/// the program may receive signals before [`forward_to`] is called.
pub fn hold() {
    for signal in SIGNALS {
        // SAFETY: the structure may be all zero before it is filled; the handler does only what
        // a handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = pass_on as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// The program runs: signals go to it, those that were held as well.
pub fn forward_to(child: u32) {
    CHILD.store(child as i32, SeqCst);
    let early = EARLY.swap(0, SeqCst);
    for signal in SIGNALS.into_iter().filter(|signal| early >> signal & 1 != 0) {
        // SAFETY: the child has not been waited for, so that the id is still its own.
        unsafe { libc::kill(child as i32, signal) };
    }
}

/// The program has ended: its id may be another's now.
pub fn stop() {
    CHILD.store(-1, SeqCst);
}
