//! Passing signals on to the program that runs.

use std::sync::atomic::{AtomicI32, Ordering};

/// The signals that a user or a CI sends to end a program, or to talk to it.
const SIGNALS: [i32; 6] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let child = CHILD.load(Ordering::Relaxed);
    // What the terminal sends (a positive code) goes to the whole group: the program has it already.
    // SAFETY: the kernel gives a valid `info`; `kill` may be called in a handler.
    unsafe {
        if child > 0 && !info.is_null() && (*info).si_code <= 0 {
            libc::kill(child, signal);
        }
    }
}

/// From now on signals go to the program, and this one lives until it has ended.
pub fn forward_to(child: u32) {
    CHILD.store(child as i32, Ordering::Relaxed);
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

/// The program has ended: its id may be another's now.
pub fn stop() {
    CHILD.store(0, Ordering::Relaxed);
}
