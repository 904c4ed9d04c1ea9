//! Processes, found by what they have to do with a directory, and signalled by id with a proof of who they are.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The processes that have to do with the directory `root`: by working directory, program, open files, arguments or
/// environment. Not this one, nor its children that have not yet become another program.
pub fn of(root: &Path) -> Vec<u32> {
    let own_program = fs::read_link("/proc/self/exe").ok();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read_link(proc(*pid).join("exe")).ok() != own_program)
        .filter(|pid| runs(*pid) && belongs(*pid, root))
        .collect()
}

/// Whether the process exists and is no zombie.
pub fn runs(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The command line, its words separated by spaces; empty for a process that is gone.
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(proc(pid).join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// Sends a signal to the process if it (still) has to do with `root`; the answer is whether it did.
pub fn signal(pid: u32, root: &Path, signal: Signal) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // The descriptor first: from here on the id cannot become another process's.
    let Ok(pidfd) = pidfd_open(id, PidfdFlags::empty()) else { return false };
    belongs(pid, root) && pidfd_send_signal(&pidfd, signal).is_ok()
}

fn proc(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(proc(pid).join("stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn belongs(pid: u32, root: &Path) -> bool {
    let leads_there = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(root));
    let proc = proc(pid);
    let names_it = |file: &str| {
        let root = root.as_os_str().as_bytes();
        fs::read(proc.join(file)).is_ok_and(|bytes| bytes.windows(root.len()).any(|part| part == root))
    };
    leads_there(proc.join("cwd"))
        || names_it("cmdline")
        || names_it("environ")
        || fs::read_dir(proc.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| leads_there(fd.path())))
}
