//! Who holds a file open? A node keeps its lock files open for as long as it or anything it started lives, so
//! the holders of a lock file *are* the node, whatever a stale record says.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{ProcessStat, every_process};

/// The living processes that have `file` open, this one left out, in ascending order. `name` is the file's last
/// path component: only descriptors whose link ends in it are looked at, because asking about a descriptor on a
/// dead network disk would hang.
///
/// Processes of other users are seen only by root.
pub fn holders_of(file: &File, name: &Path) -> Vec<u32> {
    let Ok(wanted) = file.metadata() else { return Vec::new() };
    let own = std::process::id();
    let mut holders: Vec<u32> =
        every_process().filter(|&pid| pid != own && holds(pid, name, (wanted.dev(), wanted.ino()))).collect();
    holders.sort_unstable();
    holders
}

/// The living processes that have a file open which lay at `path` and was removed, or replaced, since: the kernel keeps
/// the name. This process is left out; the order is ascending. A file that was moved away has another name and is not
/// found.
pub(crate) fn holders_of_removed(path: &Path) -> Vec<u32> {
    let real = path.parent().and_then(|dir| fs::canonicalize(dir).ok());
    let Some((dir, name)) = real.zip(path.file_name()) else { return Vec::new() };
    let mut wanted = dir.join(name).into_os_string();
    wanted.push(" (deleted)");
    let own = std::process::id();
    let has_it = |pid: &u32| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted))
    };
    let mut holders: Vec<u32> = every_process().filter(|pid| *pid != own && has_it(pid)).collect();
    holders.sort_unstable();
    holders
}

/// Whether `pid` has the file `(device, inode)` with the last path component `name` open.
fn holds(pid: u32, name: &Path, wanted: (u64, u64)) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| {
        let path = entry.path();
        fs::read_link(&path).is_ok_and(|link| names(&link, name))
            && fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == wanted)
    })
}

/// Whether a descriptor's link is to a file of that name; the kernel marks a removed one.
fn names(link: &Path, name: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Some(last) = link.file_name() else { return false };
    let last = last.as_bytes();
    last.strip_suffix(b" (deleted)").unwrap_or(last) == name.as_os_str().as_bytes()
}

/// Of the holders of one lock, the one that all others come from: its parent is no holder. With several such,
/// the oldest.
pub fn root_of(holders: &[u32]) -> Option<u32> {
    holders
        .iter()
        .filter_map(|&pid| Some((pid, ProcessStat::of(pid).ok()?)))
        .filter(|(_, stat)| !stat.ended() && !holders.contains(&stat.parent))
        .min_by_key(|(pid, stat)| (stat.start_time, *pid))
        .map(|(pid, _)| pid)
}
