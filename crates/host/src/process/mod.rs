//! Looking at processes from outside, through `/proc`: who lives, who holds a file open, how much work is done.
//!
//! A process id alone says nothing: ids are used again. Everything here therefore names a process by its id
//! *and* its start time (in clock ticks since boot), which together are unique until the next boot, or finds it
//! by what it holds open.

mod holders;
mod work;

use std::path::{Path, PathBuf};
use std::{fs, io};

pub(crate) use holders::holders_of_removed;
pub use holders::{holders_of, root_of};
pub use work::Work;

/// Clock ticks per second in everything `/proc` shows (USER_HZ, 100 on every Linux architecture in use).
const TICKS_PER_SECOND: u64 = 100;

/// What `/proc/<pid>/stat` says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// The state letter: `R`, `S`, `D`, `T`, `Z` (dead, not yet collected by its parent) …
    pub state: u8,
    /// The process id of the parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// Processor time in clock ticks: its own and that of its children that have ended.
    pub cpu_ticks: u64,
    /// Resident memory in pages.
    pub rss_pages: u64,
}

impl ProcessStat {
    /// Reads the facts of process `pid`; fails with `NotFound` when there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat cannot be read"))
        })
    }

    /// The second field is the program's name in parentheses and may hold anything, so the fields are counted
    /// from the last `)`: the first behind it is field 3 of proc_pid_stat(5).
    fn parse(text: &[u8]) -> Option<Self> {
        let end_of_name = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok().map(|n| n.max(0) as u64);
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            parent: number(4)? as u32,
            group: number(5)? as u32,
            start_time: number(22)?,
            cpu_ticks: number(14)? + number(15)? + number(16)? + number(17)?,
            rss_pages: number(24)?,
        })
    }

    /// Whether it has ended (a zombie still has an entry).
    pub fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Whether the very process that started at `start_time` (clock ticks since boot) under the id `pid` still runs.
pub fn alive(pid: u32, start_time: u64) -> bool {
    ProcessStat::of(pid).is_ok_and(|stat| stat.start_time == start_time && !stat.ended())
}

/// The resident memory of process `pid` in bytes; `None` when it cannot be read.
pub fn rss(pid: u32) -> Option<u64> {
    Some(ProcessStat::of(pid).ok()?.rss_pages * rustix::param::page_size() as u64)
}

/// This boot's identity: process ids and start times mean nothing beyond it. Empty when the kernel does not say.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// When the process started, in milliseconds since 1970, worked out from its start time; good to a few ticks.
pub(crate) fn started_at_ms(start_time: u64, now_ms: u64) -> Option<u64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split(' ').next()?.parse().ok()?;
    let age_ms = ((seconds * 1000.0) as u64).saturating_sub(start_time * (1000 / TICKS_PER_SECOND));
    Some(now_ms.saturating_sub(age_ms))
}

/// The file that process `pid` executes; `None` when it has ended or is not ours to look at.
pub(crate) fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The direct children of this process (all threads), living or not yet collected.
pub(crate) fn own_children() -> Vec<u32> {
    let own = std::process::id();
    if !Path::new("/proc/self/task").join(own.to_string()).join("children").exists() {
        // A kernel without CONFIG_PROC_CHILDREN: the long way.
        return every_process()
            .filter(|&pid| ProcessStat::of(pid).is_ok_and(|stat| stat.parent == own))
            .collect();
    }
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let of_each =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    of_each
        .flat_map(|text| {
            text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// All living processes below `roots`, the roots included.
pub(crate) fn trees(roots: &[u32]) -> Vec<u32> {
    if roots.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<u32> = roots.to_vec();
    let all: Vec<(u32, ProcessStat)> = every_process()
        .filter_map(|pid| Some((pid, ProcessStat::of(pid).ok()?)))
        .filter(|(_, stat)| !stat.ended())
        .collect();
    loop {
        let before = found.len();
        for (pid, stat) in &all {
            if found.contains(&stat.parent) && !found.contains(pid) {
                found.push(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.retain(|pid| all.iter().any(|(living, _)| living == pid));
    found
}

/// The living processes, this one left out, that started at `since` (clock ticks since boot) or later and whose
/// environment began with a variable for which `is_it` holds; it is given the whole of it, `NAME=value`. Processes of
/// other users are seen only by root. Older ones are not looked at: the kernel may keep whoever asks a process that
/// hangs for its environment waiting.
pub(crate) fn with_variable(since: u64, is_it: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let own = std::process::id();
    let has_it = |pid: u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(&is_it)
    };
    let is_young =
        |pid: u32| ProcessStat::of(pid).is_ok_and(|stat| stat.start_time >= since && !stat.ended());
    every_process().filter(|&pid| pid != own && is_young(pid) && has_it(pid)).collect()
}

/// The living processes of a process group.
pub(crate) fn group(id: u32) -> Vec<u32> {
    let is_member = |pid: u32| ProcessStat::of(pid).is_ok_and(|stat| stat.group == id && !stat.ended());
    every_process().filter(|&pid| is_member(pid)).collect()
}

fn every_process() -> impl Iterator<Item = u32> {
    fs::read_dir(Path::new("/proc"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let text =
            b"42 (a) S (b) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 987654 1000000 250 184";
        let stat = ProcessStat::parse(text).unwrap();
        assert_eq!(
            stat,
            ProcessStat {
                state: b'S',
                parent: 7,
                group: 42,
                start_time: 987_654,
                cpu_ticks: 110,
                rss_pages: 250
            }
        );
        assert!(ProcessStat::parse(b"42 (cut off) S 7").is_none());
    }

    #[test]
    fn this_process_lives_and_its_namesake_of_another_time_does_not() {
        let own = std::process::id();
        let stat = ProcessStat::of(own).unwrap();
        assert!(alive(own, stat.start_time));
        assert!(!alive(own, stat.start_time + 1));
        assert!(rss(own).unwrap() > 100_000);
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn what_is_not_there_is_no_process_of_anybody() {
        let error = ProcessStat::of(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!((rss(u32::MAX), executable(u32::MAX)), (None, None));
        assert!(trees(&[]).is_empty() && trees(&[u32::MAX]).is_empty() && group(u32::MAX).is_empty());
        assert_eq!(root_of(&[u32::MAX]), None);
    }

    /// A process that another test is just forking holds a copy of what we hold, until its exec: waited out.
    #[allow(clippy::disallowed_methods)]
    fn settles(look: impl Fn() -> Vec<u32>, expected: &[u32]) {
        let begun = std::time::Instant::now();
        while look() != expected {
            assert!(begun.elapsed().as_secs() < 10, "{:?} instead of {expected:?}", look());
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A process that holds a file.
    fn who_holds_a_removed_file_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a lock");
        let removed = || holders_of_removed(&path);
        assert!(removed().is_empty());
        let file = fs::File::create(&path).unwrap();
        let mut holder = std::process::Command::new("sleep").arg("1000").stdin(file).spawn().unwrap();
        let held = fs::File::open(&path).unwrap();
        settles(|| holders_of(&held, Path::new("a lock")), &[holder.id()]);
        assert!(removed().is_empty(), "it is still there");
        fs::remove_file(&path).unwrap();
        settles(removed, &[holder.id()]);
        fs::File::create(&path).unwrap();
        settles(removed, &[holder.id()]);
        holder.kill().unwrap();
        holder.wait().unwrap();
        settles(removed, &[]);
        assert!(holders_of_removed(&dir.path().join("gone/lock")).is_empty());
    }
}
