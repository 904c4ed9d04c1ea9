//! Where this program lies, by the name that it was called by: a link on the way may be turned to a newer version,
//! and then it is that one which takes this one's place (`restart --supervisor-only`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The absolute path by which this program was called (`called`, the first word of its command line); when that leads
/// to another file than the one that runs, the path of the latter.
///
/// # Errors
/// The system cannot tell which file runs.
pub fn path(called: &OsStr, cwd: &Path, environment: &[(OsString, OsString)]) -> io::Result<PathBuf> {
    let running = fs::metadata("/proc/self/exe")?;
    let same = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino()))
    };
    let candidates: Vec<PathBuf> = if called.as_bytes().contains(&b'/') {
        vec![cwd.join(called)]
    } else {
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
        path.into_iter().flat_map(std::env::split_paths).map(|dir| cwd.join(dir).join(called)).collect()
    };
    match candidates.into_iter().find(same) {
        Some(path) => Ok(path),
        None => std::env::current_exe(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_stays_a_link_and_a_stranger_is_not_taken() {
        let own = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(&own, dir.path().join("wv")).unwrap();
        symlink("/bin/true", dir.path().join("other")).unwrap();
        let found = |called: &str, path: &Path| {
            super::path(called.as_ref(), dir.path(), &[("PATH".into(), path.into())]).unwrap()
        };
        assert_eq!(found("./wv", Path::new("/")), dir.path().join("./wv"));
        assert_eq!(found("wv", dir.path()), dir.path().join("wv"));
        assert_eq!(found("other", dir.path()), own);
        assert_eq!(found("wv", Path::new("/nowhere")), own);
    }
}
