//! Does a process still work? The sign that tells a hang from a long flush (NODES.md section 6).

use std::{fs, io};

use super::ProcessStat;

/// How much a process has done so far, its ended children included. Two samples that are equal mean that nothing
/// was done between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Processor time, in clock ticks of 10 ms.
    pub cpu_ticks: u64,
    /// Bytes sent to storage; 0 where the kernel does not let us see it (another user's process).
    pub written_bytes: u64,
}

impl Work {
    /// Samples process `pid`; fails with `NotFound` when there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        let cpu_ticks = ProcessStat::of(pid)?.cpu_ticks;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        Ok(Self { cpu_ticks, written_bytes: field(&io, "write_bytes:") })
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_shows_work() {
        let own = std::process::id();
        let before = Work::of(own).unwrap();
        let mut sum = 0u64;
        while Work::of(own).unwrap() == before {
            sum = (0..1_000_000u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert_ne!(std::hint::black_box(sum), 1);
    }

    #[test]
    fn the_field_is_found_by_its_whole_name() {
        assert_eq!(field("wchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n", "write_bytes:"), 4096);
        assert_eq!(field("", "write_bytes:"), 0);
    }
}
