//! Did the kernel kill for memory? Best effort: a counter of the control group, else of the machine.

use std::fs;
use std::path::PathBuf;

/// How many processes the kernel has killed for memory so far, where it can be read.
pub(super) fn kills() -> Option<u64> {
    let events = cgroup_events().and_then(|path| fs::read_to_string(path).ok());
    let text = events.or_else(|| fs::read_to_string("/proc/vmstat").ok())?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// `memory.events` of our control group (version 2); the node is in the same one.
fn cgroup_events() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from("/sys/fs/cgroup").join(group).join("memory.events"))
}
