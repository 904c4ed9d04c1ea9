//! The plan file as bytes: reading it, and changing it so that no other editor's change is lost.
//!
//! `upgrade-info.json` is edited by the CLI, the API, announcement sources, the supervisor and people. What it
//! means is [`wemixvisor_core::plan_file`]'s matter. Here it is only moved: whole, of bounded size, and, when
//! it is changed, under a lock beside it. People who edit by hand take no lock; their file is taken as it is
//! found.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use crate::digest::Digest;
use crate::durable::{self, DurableError};
use crate::home::Home;
use crate::trial::{crash_point, fault};
use crate::watch::COMPARED;

/// The longest plan file, in bytes (PRODUCT.md section 3).
pub const MAX_SIZE: u64 = 1024 * 1024;

/// An edit is begun anew so often when somebody else changes the file meanwhile. A person does it once.
const TRIES: u32 = 10;

/// How long an edit waits for another one. Edits take milliseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// How often the lock is tried.
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// The permission bits of a new plan file: there are no secrets in it.
const NEW_MODE: u32 = 0o644;

/// What the file held at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFileContent {
    /// The sum of its bytes: the same sum, the same content.
    pub digest: Digest,
    /// Its text.
    pub text: String,
}

/// A plan file that cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileIoError {
    /// A directory, a pipe, a device.
    #[error("the plan file {} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// More than [`MAX_SIZE`].
    #[error("the plan file {} has more than {MAX_SIZE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The sum of its bytes; `None` where even the watch reads no further, or that much was to be written.
        digest: Option<Digest>,
    },
    /// Not text.
    #[error("the plan file {} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The sum of its bytes.
        digest: Digest,
    },
    /// It cannot be read.
    #[error("cannot read the plan file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another edit takes too long.
    #[error("cannot change the plan file: {} has been locked for {LOCK_LIMIT:?}", .0.display())]
    Locked(PathBuf),
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}", path.display())]
    NoLock {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody who does not ask for the lock writes it again and again.
    #[error("cannot change the plan file: something else keeps writing {}", .0.display())]
    Busy(PathBuf),
    /// It cannot be written.
    #[error("cannot change the plan file")]
    NotWritten(#[from] DurableError),
}

impl PlanFileIoError {
    /// The sum of what the file holds, where it was read and cannot be used.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::TooLarge { digest, .. } => *digest,
            Self::NotText { digest, .. } => Some(*digest),
            _ => None,
        }
    }
}

/// An edit that was not made: refused by whoever edits, or impossible.
#[derive(Debug, thiserror::Error)]
pub enum EditError<E> {
    /// The edit itself said no.
    #[error("the plan file is unchanged")]
    Refused(#[source] E),
    /// The file could not be read or changed.
    #[error(transparent)]
    Io(#[from] PlanFileIoError),
}

/// Reads the plan file; `None` when there is none. A link to a file is followed.
///
/// # Errors
/// [`PlanFileIoError`]. Never waits, also not on a pipe.
pub fn read(home: &Home) -> Result<Option<PlanFileContent>, PlanFileIoError> {
    read_at(&home.plan_file())
}

/// Changes the plan file: `change` gets its text (`None` when there is no file) and answers with the new one.
/// Other edits wait meanwhile, up to 5 s. Who edits by hand does not ask for the lock: when the file has changed
/// by the time that the new text is on the disk, `change` is asked once more, with what is there now. A file that
/// is a link stays one: what it points to is replaced.
/// The answer is what the file now holds; the same text again writes nothing.
///
/// Blocks; not for an async task.
///
/// # Errors
/// [`EditError`]; the file is as it was.
pub fn edit<E>(
    home: &Home,
    change: impl Fn(Option<String>) -> Result<String, E>,
) -> Result<PlanFileContent, EditError<E>> {
    let path = home.plan_file();
    durable::create_dirs(durable::parent(&path)).map_err(PlanFileIoError::from)?;
    let _lock = lock(&path)?;
    crash_point("plans.locked");
    for _ in 0..TRIES {
        let found = read_at(&path)?;
        crash_point("plans.read");
        let before = found.as_ref().map(|content| content.digest);
        let text = change(found.map(|content| content.text)).map_err(EditError::Refused)?;
        let digest = Digest::of_bytes(text.as_bytes());
        if text.len() as u64 > MAX_SIZE {
            return Err(PlanFileIoError::TooLarge { path, digest: None }.into());
        }
        if before == Some(digest) || replace(&path, &text, before)? {
            crash_point("plans.done");
            return Ok(PlanFileContent { digest, text });
        }
    }
    Err(PlanFileIoError::Busy(path).into())
}

fn read_at(path: &Path) -> Result<Option<PlanFileContent>, PlanFileIoError> {
    let unreadable = |source| PlanFileIoError::Unreadable { path: path.into(), source };
    fault("plans.read").map_err(unreadable)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) if !path.is_symlink() => return Ok(None),
        // A socket.
        Err(rustix::io::Errno::NXIO) => return Err(PlanFileIoError::NotRegular(path.into())),
        Err(error) => return Err(unreadable(error.into())),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(PlanFileIoError::NotRegular(path.into()));
    }
    let mut bytes = Vec::new();
    // As far as the watch reads it.
    file.take(COMPARED + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let length = bytes.len() as u64;
    if length > MAX_SIZE {
        let digest = (length <= COMPARED).then(|| Digest::of_bytes(&bytes));
        return Err(PlanFileIoError::TooLarge { path: path.into(), digest });
    }
    let digest = Digest::of_bytes(&bytes);
    let text =
        String::from_utf8(bytes).map_err(|_| PlanFileIoError::NotText { path: path.into(), digest })?;
    Ok(Some(PlanFileContent { digest, text }))
}

/// Whether it was replaced: it is not when it no longer holds what it held `before`.
fn replace(path: &Path, text: &str, before: Option<Digest>) -> Result<bool, PlanFileIoError> {
    let unreadable = |source| PlanFileIoError::Unreadable { path: path.into(), source };
    let (real, mode, owner) = match fs::metadata(path) {
        Ok(data) => {
            let real = fs::canonicalize(path).map_err(unreadable)?;
            (real, data.permissions().mode() & 0o7777, data)
        }
        // A new file belongs to whoever owns the directory: root may schedule for the node's user.
        Err(_) => (path.into(), NEW_MODE, fs::metadata(durable::parent(path)).map_err(unreadable)?),
    };
    let unchanged = || {
        // What cannot be read now is somebody's half of a change: the next try will say so.
        read_at(path).is_ok_and(|now| now.map(|content| content.digest) == before)
    };
    let owner = Some((owner.uid(), owner.gid()));
    Ok(durable::write_atomic_if(&real, text.as_bytes(), mode, owner, unchanged)?)
}

/// The lock is held until the file is dropped, or its process ends in whatever way.
#[allow(clippy::disallowed_methods)] // A limit on waiting, measured where one waits.
fn lock(plan_file: &Path) -> Result<File, PlanFileIoError> {
    let mut path = plan_file.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let no_lock = |source| PlanFileIoError::NoLock { path: path.clone(), source };
    fault("plans.lock").map_err(no_lock)?;
    // Opened for reading: whoever may read the lock file can lock it, also when root made it.
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(NEW_MODE))
        .map(File::from)
        .map_err(|error| no_lock(error.into()))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_LIMIT => std::thread::sleep(LOCK_EVERY),
            Err(TryLockError::WouldBlock) => return Err(PlanFileIoError::Locked(path)),
            Err(TryLockError::Error(source)) => return Err(no_lock(source)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files will do for what a test lays out.
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::os::unix::fs::symlink;

    fn home(dir: &tempfile::TempDir) -> Home {
        Home::new(dir.path(), None, None, "node").unwrap()
    }

    fn set(home: &Home, text: &str) -> PlanFileContent {
        edit(home, |_| Ok::<_, Infallible>(text.into())).unwrap()
    }

    #[test]
    fn an_edit_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        assert_eq!(read(&home).unwrap(), None);
        let first = edit(&home, |text| {
            assert_eq!(text, None);
            Ok::<_, Infallible>("[1]".into())
        })
        .unwrap();
        assert_eq!(read(&home).unwrap(), Some(first));
        assert_eq!(set(&home, "[2]").text, "[2]");
        assert_eq!(read(&home).unwrap().unwrap().text, "[2]");
    }

    #[test]
    fn a_change_by_hand_during_an_edit_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        set(&home, "[1]");
        let asked = std::cell::Cell::new(0);
        let edited = edit(&home, |text| {
            if asked.replace(asked.get() + 1) == 0 {
                fs::write(home.plan_file(), "[by hand]").unwrap();
            }
            Ok::<_, Infallible>(text.unwrap() + "+")
        });
        assert_eq!((edited.unwrap().text.as_str(), asked.get()), ("[by hand]+", 2));
        let busy = edit(&home, |text| {
            let text = text.unwrap() + "+";
            fs::write(home.plan_file(), &text).unwrap();
            Ok::<_, Infallible>(text + "+")
        });
        assert!(matches!(busy, Err(EditError::Io(PlanFileIoError::Busy(_)))));
    }

    #[test]
    fn a_refused_or_empty_edit_does_not_touch_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        set(&home, "[1]");
        let inode = fs::metadata(home.plan_file()).unwrap().ino();
        assert!(matches!(edit(&home, |_| Err(7)), Err(EditError::Refused(7))));
        set(&home, "[1]");
        let large = "x".repeat(MAX_SIZE as usize + 1);
        let result = edit(&home, |_| Ok::<_, Infallible>(large.clone()));
        assert!(matches!(result, Err(EditError::Io(PlanFileIoError::TooLarge { .. }))));
        assert_eq!(fs::metadata(home.plan_file()).unwrap().ino(), inode);
    }

    #[test]
    fn no_edit_is_lost_among_many_editors() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        edit(&home, |text| Ok::<_, Infallible>(text.unwrap_or_default() + "x")).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&home).unwrap().unwrap().text.len(), 200);
    }

    #[test]
    fn what_is_no_plan_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        fs::create_dir_all(home.plan_file()).unwrap();
        assert!(matches!(read(&home), Err(PlanFileIoError::NotRegular(_))));
        fs::remove_dir(home.plan_file()).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, home.plan_file(), Mode::from_raw_mode(0o600)).unwrap();
        assert!(matches!(read(&home), Err(PlanFileIoError::NotRegular(_))));
        fs::remove_file(home.plan_file()).unwrap();
        symlink("gone", home.plan_file()).unwrap();
        assert!(matches!(read(&home), Err(PlanFileIoError::Unreadable { .. })));
        fs::remove_file(home.plan_file()).unwrap();
        fs::write(home.plan_file(), [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&home), Err(PlanFileIoError::NotText { .. })));
        fs::write(home.plan_file(), vec![b' '; 2 * MAX_SIZE as usize]).unwrap();
        assert!(matches!(read(&home), Err(PlanFileIoError::TooLarge { .. })));
    }

    #[test]
    fn a_link_to_the_file_stays_a_link_and_the_mode_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        fs::create_dir_all(home.data()).unwrap();
        let real = dir.path().join("real.json");
        fs::write(&real, "[]").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, home.plan_file()).unwrap();
        set(&home, "[1]");
        assert!(home.plan_file().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"[1]");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    }
}
