//! Taking over a node whose keeper was killed.
//!
//! The node is found by what it holds: `node.lock` is open in it and in what it started. A record that names one of
//! the holders (by id, start time and boot) says which is the node; without it, it is the one that the others come
//! from; the note of a launch that was about to happen then tells which launch. When the record names a process that has ended, all holders are leftovers and there is no node.
//!
//! Nobody but a parent is told the exit status, except by the kernel from Linux 6.15 on ([`exit_status`]).

use std::fs::{File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::facts::{AdoptHint, NodeProcess, WaitStatus};
use super::launch::NODE_LOCK;
use super::running::Running;
use super::{now_ms, oom, records};
use crate::process::{
    ProcessStat, boot_id, executable, holders_of, holders_of_removed, root_of, started_at_ms,
};

/// How long the exit status of an adopted node is asked for: it is told once the node's new parent has collected it.
pub(super) const STATUS_WAIT: Duration = Duration::from_millis(200);

/// A node that was taken over, and its output if it still goes into a pipe.
#[derive(Debug)]
pub(super) struct Adopted {
    pub running: Running,
    pub output: Option<OwnedFd>,
}

/// Takes over the node of the wemixvisor directory `dir`. `Ok(None)`: none runs.
pub(super) fn adopt(dir: &Path, hint: &AdoptHint, now: Instant) -> io::Result<Option<Adopted>> {
    let Some(mut process) = find(dir)? else { return Ok(None) };
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // The id could have passed to another process before the pidfd was there; the start time would tell.
    if !process.alive() {
        return Ok(None);
    }
    process.adopted = true;
    process.term_sent |= hint.term_sent;
    let output = output_of(process.pid);
    let running = Running { process, pidfd, since: now, memory_kills: oom::kills(), end_seen: None };
    Ok(Some(Adopted { running, output }))
}

/// Which process is the node.
fn find(dir: &Path) -> io::Result<Option<NodeProcess>> {
    let record = records::last_node(dir);
    if let Some(node) = record.as_ref().filter(|node| node.alive()) {
        return Ok(Some(node.clone()));
    }
    let this_boot = boot_id();
    let record = record.filter(|node| node.boot_id == this_boot);
    if record.as_ref().is_some_and(|node| node.pid != 0) {
        return Ok(None);
    }
    // The keeper died between starting the node and writing it down, or somebody has removed the record.
    let Some(pid) = root_of(&all_holders(dir)) else { return Ok(None) };
    let start_time = ProcessStat::of(pid)?.start_time;
    if let Some(announced) = record {
        return Ok(Some(NodeProcess { pid, start_time, ..announced }));
    }
    Ok(Some(NodeProcess {
        launch_id: 0,
        pid,
        start_time,
        boot_id: this_boot,
        program: executable(pid).unwrap_or_default(),
        started_at_ms: started_at_ms(start_time, now_ms()).unwrap_or_default(),
        term_sent: false,
        kill_sent: false,
        adopted: true,
    }))
}

/// The same, with those who hold a `node.lock` that was removed since. All processes are looked at.
pub(super) fn all_holders(dir: &Path) -> Vec<u32> {
    let mut all = holders(dir);
    all.extend(holders_of_removed(&dir.join(NODE_LOCK)));
    all
}

/// The processes that hold `node.lock` of the wemixvisor directory `dir` open. Where the lock is free, and that is
/// seen at once, nobody is looked for.
pub(super) fn holders(dir: &Path) -> Vec<u32> {
    let Ok(file) = File::open(dir.join(NODE_LOCK)) else { return Vec::new() };
    match file.try_lock_shared() {
        Ok(()) => Vec::new(),
        Err(_) => holders_of(&file, Path::new(NODE_LOCK)),
    }
}

/// A new reading end of the pipe that the node writes its output to.
fn output_of(pid: u32) -> Option<OwnedFd> {
    [1, 2].into_iter().find_map(|descriptor| {
        let path = format!("/proc/{pid}/fd/{descriptor}");
        if !fs::metadata(&path).ok()?.file_type().is_fifo() {
            return None;
        }
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        Some(OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?.into())
    })
}

/// How the process behind a pidfd ended, if the kernel tells those who are not its parent, and already does.
pub(super) fn exit_status(pidfd: &impl AsFd) -> Option<WaitStatus> {
    let mut info = MaybeUninit::<libc::pidfd_info>::zeroed();
    // SAFETY: all bytes zero is a valid pidfd_info; PIDFD_GET_INFO reads and writes at most its size, which is part
    // of the request's number.
    #[allow(unsafe_code)]
    let info = unsafe {
        (*info.as_mut_ptr()).mask = u64::from(libc::PIDFD_INFO_EXIT);
        if libc::ioctl(pidfd.as_fd().as_raw_fd(), libc::PIDFD_GET_INFO, info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    (info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then(|| WaitStatus::from_raw(info.exit_code))
}
