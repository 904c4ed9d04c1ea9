//! The processes of a drill: everything that has the drill's home in its environment or in its arguments. The home
//! has a random name, so nobody else has; and whatever the supervisor, the keeper, the node or a hook starts
//! inherits it.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

/// How often it is looked whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A process of the drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its arguments, for people.
    pub line: String,
}

/// All that run now, besides this process.
pub fn running(home: &Path) -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id()).filter_map(|pid| of_drill(pid, home)).collect()
}

/// A process that has ended but was not collected yet has neither environment nor arguments, and does not count.
fn of_drill(pid: u32, home: &Path) -> Option<Process> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = read("cmdline");
    let home = home.as_os_str().as_bytes();
    let names = |bytes: &[u8]| bytes.windows(home.len()).any(|part| part == home);
    (names(&line) || names(&read("environ"))).then(|| {
        let line = String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned();
        Process { pid, line }
    })
}

/// Waits until none runs; those that still do when `limit` has passed are the answer.
pub async fn gone_within(home: &Path, limit: Duration) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    loop {
        let left = running(home);
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Sends a signal to every one of them, and to nobody else: a process id may have been used again meanwhile.
pub fn signal_all(home: &Path, signal: Signal) {
    for process in running(home) {
        let raw = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
        let Some(handle) = raw.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
        // The handle is of whoever has the id now; if that is one of ours, it stays so.
        if of_drill(process.pid, home).is_some() {
            let _ = pidfd_send_signal(&handle, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    #[allow(clippy::disallowed_methods)] // The processes that are looked for have to be started.
    async fn processes_are_found_by_environment_and_ended() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(running(home.path()), []);
        let sleeper = || {
            let mut command = std::process::Command::new("sleep");
            command.arg("60").stdin(Stdio::null());
            command
        };
        let mut ours = sleeper().env("DAEMON_HOME", home.path()).spawn().unwrap();
        let mut other = sleeper().spawn().unwrap();
        let found = running(home.path());
        signal_all(home.path(), Signal::KILL);
        assert_eq!(gone_within(home.path(), Duration::from_secs(10)).await, []);
        let other_lived = other.try_wait().unwrap().is_none();
        other.kill().unwrap();
        other.wait().unwrap();
        ours.wait().unwrap();
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [ours.id()]);
        assert!(other_lived);
    }
}
