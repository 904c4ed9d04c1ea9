//! Changing files so that a crash at any moment leaves either the old or the new one, never half of one.
//!
//! Every change is: a temporary file beside the target, its content forced to the disk, `rename(2)` over the
//! target, the directory forced to the disk. A reader sees the old or the new file, never none. Temporary
//! files of a writer that was killed are recognised by their name and swept by [`remove_stale`].

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::digest::{Digest, copy_and_digest};
use crate::trial::{self, crash_point, fault};

/// The end of a temporary file's name. Its beginning is a dot and the name of the file it is to become.
pub(crate) const TEMPORARY: &str = ".wv-tmp";

/// A temporary file as old as this belongs to a writer that is gone: writing one takes seconds.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// A change that did not come about, or did not come about for good.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The change was not made.
    #[error("cannot {doing} {}; what was there before is unchanged", path.display())]
    NotChanged {
        /// What was tried, as the object of "cannot".
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The change is made and seen by every process, but a power failure may still take it back.
    #[error("{} is changed, but cannot be forced to the disk", path.display())]
    NotForced {
        /// The file that was changed.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file to copy from cannot be read; nothing was changed.
    #[error("cannot read {} to copy it; nothing was changed", path.display())]
    Unreadable {
        /// The file to copy from.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What arrived on the disk is not what was read; nothing was changed.
    #[error("the copy of {} has the sum {found} instead of {expected}; it was thrown away", path.display())]
    CopyDiffers {
        /// The file to copy from.
        path: PathBuf,
        /// The sum of what was read.
        expected: Digest,
        /// The sum of what was written.
        found: Digest,
    },
}

impl DurableError {
    /// Whether the disk (or the user's share of it) is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::NotChanged { source, .. } | Self::NotForced { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Unreadable { .. } | Self::CopyDiffers { .. } => false,
        }
    }
}

/// Makes `path` a file with this content and these permission bits, replacing what was there.
///
/// # Errors
/// [`DurableError::NotChanged`] when nothing was replaced, [`DurableError::NotForced`] when only the directory
/// could not be forced to the disk.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    write_atomic_if(path, bytes, mode, None, || true).map(drop)
}

/// The same, if `still` says so when all but the replacing is done: forcing to the disk takes its time, and what is
/// there may have changed meanwhile. The answer is whether it was replaced.
///
/// The file belongs to `owner`, a user and a group, from the start, as far as this process may give it away: only root
/// gives a file to another user, and anybody else only to a group of their own. A group that is not the wanted one gets
/// no more than everybody.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_if(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    still: impl FnOnce() -> bool,
) -> Result<bool, DurableError> {
    let not_changed = |source| DurableError::NotChanged { doing: "write", path: path.into(), source };
    crash_point("file.begun");
    let mut file = temporary_beside(path, mode, owner).map_err(not_changed)?;
    fault("file.write").and_then(|()| file.write_all(bytes)).map_err(not_changed)?;
    crash_point("file.written");
    fault("file.force").and_then(|()| file.as_file().sync_all()).map_err(not_changed)?;
    crash_point("file.forced");
    if !still() {
        return Ok(false);
    }
    fault("file.replace").map_err(not_changed)?;
    trial::about_to_replace(path);
    file.persist(path).map_err(|error| not_changed(error.error))?;
    crash_point("file.replaced");
    sync_dir_of(path)?;
    crash_point("file.done");
    Ok(true)
}

/// Makes `to` a copy of `from` with these permission bits, replacing what was there, after reading the copy
/// again and comparing the sums. The answer is the sum.
///
/// # Errors
/// As [`write_atomic`], and when `from` cannot be read or the copy differs.
pub fn copy_atomic(from: &Path, to: &Path, mode: u32) -> Result<Digest, DurableError> {
    let unreadable = |source| DurableError::Unreadable { path: from.into(), source };
    let not_changed = |source| DurableError::NotChanged { doing: "copy to", path: to.into(), source };
    let mut source = File::open(from).map_err(unreadable)?;
    let mut file = temporary_beside(to, mode, None).map_err(not_changed)?;
    let (expected, _) = copy_and_digest(&mut source, file.as_file_mut()).map_err(not_changed)?;
    crash_point("file.written");
    fault("file.force").and_then(|()| file.as_file().sync_all()).map_err(not_changed)?;
    crash_point("file.forced");
    let found = Digest::of_file(file.path()).map_err(not_changed)?;
    if found != expected {
        return Err(DurableError::CopyDiffers { path: from.into(), expected, found });
    }
    fault("file.replace").map_err(not_changed)?;
    trial::about_to_replace(to);
    file.persist(to).map_err(|error| not_changed(error.error))?;
    crash_point("file.replaced");
    sync_dir_of(to)?;
    crash_point("file.done");
    Ok(found)
}

/// Makes `link` a symbolic link to `target`, replacing a link (or file) that was there. A directory in the
/// place of the link is never replaced. Until [`force`], a power failure may bring back what was there.
///
/// # Errors
/// [`DurableError::NotChanged`].
pub fn replace_link(link: &Path, target: &Path) -> Result<(), DurableError> {
    let not_changed =
        |source| DurableError::NotChanged { doing: "replace the link", path: link.into(), source };
    crash_point("link.begun");
    fault("link.make").map_err(not_changed)?;
    let temporary = tempfile::Builder::new()
        .prefix(&prefix(link))
        .suffix(TEMPORARY)
        .make_in(parent(link), |path| std::os::unix::fs::symlink(target, path))
        .map_err(not_changed)?;
    crash_point("link.made");
    fault("link.replace").map_err(not_changed)?;
    trial::about_to_replace(link);
    temporary.persist(link).map_err(|error| not_changed(error.error))?;
    crash_point("link.replaced");
    Ok(())
}

/// Forces to the disk what was replaced at `path` before.
///
/// # Errors
/// [`DurableError::NotForced`].
pub fn force(path: &Path) -> Result<(), DurableError> {
    sync_dir_of(path)?;
    crash_point("link.done");
    Ok(())
}

/// Makes a directory and the missing ones above it, each durably. The answer is the ones that were made,
/// outermost first.
///
/// # Errors
/// [`DurableError::NotChanged`] or [`DurableError::NotForced`], naming the directory that failed.
pub fn create_dirs(path: &Path) -> Result<Vec<PathBuf>, DurableError> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    let mut made = Vec::new();
    for dir in missing.into_iter().rev() {
        match fault("dir.make").and_then(|()| fs::create_dir(dir)) {
            Ok(()) => {}
            // Somebody else was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => continue,
            Err(source) => {
                return Err(DurableError::NotChanged {
                    doing: "make the directory",
                    path: dir.into(),
                    source,
                });
            }
        }
        sync_dir_of(dir)?;
        made.push(dir.into());
    }
    Ok(made)
}

/// Removes the temporary files that killed writers left in a directory; the answer is how many. Those younger
/// than an hour may belong to a writer at work and stay. A directory that is missing has none.
///
/// # Errors
/// When the directory cannot be read or a stale file cannot be removed.
pub fn remove_stale(dir: &Path) -> Result<usize, DurableError> {
    remove_older_than(dir, STALE_AFTER)
}

fn remove_older_than(dir: &Path, age: Duration) -> Result<usize, DurableError> {
    let failed = |doing, path: &Path, source| DurableError::NotChanged { doing, path: path.into(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(failed("read the directory", dir, source)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(|source| failed("read the directory", dir, source))?;
        if is_temporary(&entry.file_name()) && is_older(&entry, age) {
            let path = entry.path();
            fs::remove_file(&path)
                .map_err(|source| failed("remove the stale temporary file", &path, source))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Forces a directory's entries to the disk.
///
/// # Errors
/// [`DurableError::NotForced`], naming the directory.
pub fn sync_dir(dir: &Path) -> Result<(), DurableError> {
    fault("dir.force")
        .and_then(|()| File::open(dir))
        .and_then(|dir| dir.sync_all())
        .map_err(|source| DurableError::NotForced { path: dir.into(), source })?;
    trial::forced(dir);
    Ok(())
}

fn sync_dir_of(path: &Path) -> Result<(), DurableError> {
    sync_dir(parent(path)).map_err(|error| match error {
        DurableError::NotForced { source, .. } => DurableError::NotForced { path: path.into(), source },
        other => other,
    })
}

/// An open temporary file beside `path`, on the same file system, removed again unless it is persisted.
fn temporary_beside(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<NamedTempFile> {
    fault("file.make")?;
    let file = tempfile::Builder::new().prefix(&prefix(path)).suffix(TEMPORARY).tempfile_in(parent(path))?;
    let mode = match owner {
        // Before the mode: until then nobody else can open it.
        Some(owner) if !give(file.as_file(), owner)? => mode & !0o070 | mode & (mode & 0o007) << 3,
        _ => mode,
    };
    // Not by the open call: the process's umask must not decide.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Gives a file away as far as that is allowed; the answer is whether the group has it.
fn give(file: &File, (user, group): (u32, u32)) -> io::Result<bool> {
    if fchown(file, Some(user), Some(group)).is_err() {
        let _ = fchown(file, None, Some(group));
    }
    Ok(file.metadata()?.gid() == group)
}

/// How temporary files are called: `.<name>.<random><TEMPORARY>`.
fn prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

/// Also what SQLite put beside a temporary database, under its name and a suffix.
fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') && name.contains(TEMPORARY)
}

#[allow(clippy::disallowed_methods)] // The age of a file is told by the wall clock and nothing else.
fn is_older(entry: &fs::DirEntry, age: Duration) -> bool {
    let modified = entry.path().symlink_metadata().and_then(|data| data.modified());
    // A file from the future has no age: it stays.
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|past| past >= age))
}

/// The directory a path is in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        write_atomic(&path, b"old", 0o600).unwrap();
        write_atomic(&path, b"new", 0o754).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o754);
        assert_eq!(names(dir.path()), ["plan.json"]);
    }

    #[test]
    fn a_link_replaces_a_link_but_never_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        replace_link(&link, Path::new("genesis")).unwrap();
        replace_link(&link, Path::new("upgrades/v2")).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("upgrades/v2"));

        let plain = dir.path().join("plain");
        fs::create_dir(&plain).unwrap();
        let error = replace_link(&plain, Path::new("genesis")).unwrap_err();
        assert!(matches!(error, DurableError::NotChanged { .. }), "{error}");
        assert!(plain.is_dir());
        assert_eq!(names(dir.path()), ["current", "plain"]);
    }

    #[test]
    fn a_failed_change_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_atomic(&dir.path().join("gone/plan.json"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("gone/plan.json"), "{error}");
        let occupied = dir.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        assert!(write_atomic(&occupied, b"x", 0o600).is_err());
        let error = copy_atomic(&dir.path().join("no such"), &dir.path().join("to"), 0o755).unwrap_err();
        assert!(matches!(error, DurableError::Unreadable { .. }), "{error}");
        assert_eq!(names(dir.path()), ["occupied"]);
    }

    #[test]
    fn each_way_to_fail_says_what_is_true_now() {
        let dir = tempfile::tempdir().unwrap();
        let (file, gone) = (dir.path().join("file"), dir.path().join("gone"));
        write_atomic(&file, b"x", 0o600).unwrap();
        let not_changed = [
            copy_atomic(&file, &gone.join("to"), 0o755).map(drop),
            copy_atomic(dir.path(), &gone, 0o755).map(drop),
            replace_link(&gone.join("link"), Path::new("genesis")),
            create_dirs(&file.join("below")).map(drop),
            remove_stale(&file).map(drop),
        ];
        for error in not_changed.map(Result::unwrap_err) {
            assert!(matches!(error, DurableError::NotChanged { .. }), "{error}");
            assert!(!error.is_no_space(), "{error}");
        }
        let error = sync_dir(&gone).unwrap_err();
        assert!(matches!(&error, DurableError::NotForced { path, .. } if *path == gone), "{error}");
        let error = sync_dir_of(&gone.join("file")).unwrap_err();
        assert!(error.to_string().contains("gone/file is changed"), "{error}");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn what_changed_before_it_was_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        write_atomic(&path, b"theirs", 0o600).unwrap();
        assert!(!write_atomic_if(&path, b"ours", 0o600, None, || false).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(dir.path()), ["plan.json"]);
    }

    #[test]
    fn a_file_has_its_owner_before_it_takes_its_place_and_no_other_group_gets_more_than_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let own = fs::metadata(dir.path()).unwrap();
        let look = |path: &Path| {
            let data = fs::metadata(path).unwrap();
            (data.uid(), data.gid(), data.permissions().mode() & 0o7777)
        };
        let temporary = || {
            fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.file_name().is_some_and(is_temporary))
        };
        // A group that root can give it to, and perhaps nobody else.
        let other = own.gid() + 1;
        for (group, mode, without_group) in
            [(own.gid(), 0o640, 0o640), (other, 0o660, 0o600), (other, 0o664, 0o644), (other, 0o640, 0o600)]
        {
            let mut before = None;
            let still = || {
                before = temporary().map(|path| look(&path));
                true
            };
            assert!(write_atomic_if(&path, b"x", mode, Some((own.uid(), group)), still).unwrap());
            let is_kept = look(&path).1 == group;
            assert!(is_kept || group == other);
            assert_eq!(look(&path).2, if is_kept { mode } else { without_group }, "{group} {mode:o}");
            assert_eq!(before, Some(look(&path)), "as it was before it took the place");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_faults() {
        let with = |kind: io::ErrorKind| DurableError::NotForced { path: "x".into(), source: kind.into() };
        assert!(with(io::ErrorKind::StorageFull).is_no_space());
        assert!(with(io::ErrorKind::QuotaExceeded).is_no_space());
        assert!(!with(io::ErrorKind::ReadOnlyFilesystem).is_no_space());
        let sum = Digest::of_bytes(b"x");
        assert!(!DurableError::CopyDiffers { path: "x".into(), expected: sum, found: sum }.is_no_space());
    }

    #[test]
    fn a_stale_name_that_is_a_directory_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".plan.json.x.wv-tmp")).unwrap();
        let error = remove_older_than(dir.path(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains(".plan.json.x.wv-tmp"), "{error}");
        assert_eq!(parent(Path::new("bare")), Path::new("."));
    }

    #[test]
    fn a_copy_carries_the_sum_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..1_000_003u32).map(|n| n as u8).collect();
        write_atomic(&from, &bytes, 0o600).unwrap();
        assert_eq!(copy_atomic(&from, &to, 0o755).unwrap(), Digest::of_bytes(&bytes));
        assert_eq!(fs::read(&to).unwrap(), bytes);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o755);
    }

    #[test]
    fn directories_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        assert_eq!(create_dirs(&deep).unwrap().len(), 3);
        assert!(create_dirs(&deep).unwrap().is_empty());
    }

    #[test]
    fn only_stale_temporary_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".plan.json.a1B2c3.wv-tmp", ".state.db.x.wv-tmp-journal", "mine.wv-tmp", ".hidden"] {
            File::create(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join(".current.x.wv-tmp")).unwrap();
        assert_eq!(remove_stale(dir.path()).unwrap(), 0);
        assert_eq!(remove_older_than(dir.path(), Duration::ZERO).unwrap(), 3);
        assert_eq!(names(dir.path()), [".hidden", "mine.wv-tmp"]);
        assert_eq!(remove_stale(&dir.path().join("missing")).unwrap(), 0);
    }
}
