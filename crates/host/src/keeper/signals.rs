//! The keeper's signals: all are blocked and none is acted upon, except that SIGCHLD wakes the loop.
//!
//! Blocked signals stay pending for ever in the keeper; a child starts with none pending, and [`default_all`] gives
//! it an empty mask and default dispositions.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

/// The highest signal number on Linux.
const LAST_SIGNAL: libc::c_int = 64;

/// Blocks every signal (but those that the kernel raises for a fault of our own, which must kill) and returns a
/// descriptor that becomes readable when a child ends.
pub(super) fn block_all() -> io::Result<OwnedFd> {
    let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
    let mut children = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset and sigemptyset initialise the sets that they are given, before anything reads them; the
    // other calls only read them. signalfd returns a new descriptor that nobody else owns, or -1.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigfillset(blocked.as_mut_ptr());
        for fault in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGABRT,
            libc::SIGTRAP,
            libc::SIGSYS,
        ] {
            libc::sigdelset(blocked.as_mut_ptr(), fault);
        }
        libc::sigprocmask(libc::SIG_SETMASK, blocked.as_ptr(), std::ptr::null_mut());
        // An ignored SIGCHLD, inherited from whoever started us, would make the kernel throw exit statuses away.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigemptyset(children.as_mut_ptr());
        libc::sigaddset(children.as_mut_ptr(), libc::SIGCHLD);
        match libc::signalfd(-1, children.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Gives every signal its default meaning and blocks none. For the child between fork and exec: an ignored or
/// blocked signal would stay so in the node.
pub(super) fn default_all() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
    // The kernel's sigaction with all bytes zero: SIG_DFL, no flags, no mask. It has 32 bytes at most.
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the kernel reads its own structure from `default`, which is as long, and writes nothing back. The
        // call itself, because the C library's refuses the two signals that it keeps for itself. SIGKILL and SIGSTOP
        // are refused, which is as good.
        #[allow(unsafe_code)]
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}
