//! What a power failure would leave: the model of the disk that the crash driver plays back.
//!
//! A file's content counts as being on the disk once the file was forced, a new name for it once the directory was.
//! So whatever is replaced is kept aside until its directory is forced; and the whole store, database and
//! write-ahead log, is copied after every batch that is forced. A power failure puts back the one and the other.
//! What the disk's own cache does, and parts of blocks, are not modelled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::orders::dir;

/// The path as one file name.
fn flat(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('/', "%2F")
}

/// Keeps what is at `path`: a file as a second name of it, a link as a link; for nothing, the mark `.absent`.
pub(super) fn about_to_replace(path: &Path) {
    let Some(aside) = dir().map(|dir| dir.join("unforced")) else { return };
    let kept = aside.join(flat(path));
    let absent = PathBuf::from(format!("{}.absent", kept.display()));
    if fs::create_dir_all(&aside).is_err() || kept.symlink_metadata().is_ok() || absent.exists() {
        // What was put aside first is what the disk has.
        return;
    }
    let _ = match fs::read_link(path) {
        Ok(target) => symlink(target, &kept),
        Err(_) => fs::hard_link(path, &kept).or_else(|_| fs::File::create(&absent).map(drop)),
    };
}

pub(super) fn forced(directory: &Path) {
    let Some(aside) = dir().map(|dir| dir.join("unforced")) else { return };
    let prefix = format!("{}%2F", flat(directory));
    for entry in fs::read_dir(aside).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains("%2F")) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Copies database and log. No checkpoint comes between the two: this process is the only one that writes.
pub(super) fn store_forced(path: &Path) {
    let Some(dir) = dir() else { return };
    let (new, kept, old) = (dir.join("forced.new"), dir.join("forced"), dir.join("forced.old"));
    let _ = fs::remove_dir_all(&new);
    let copied = fs::create_dir_all(&new).is_ok()
        && ["", "-wal"].into_iter().all(|end| {
            let from = PathBuf::from(format!("{}{end}", path.display()));
            let Some(name) = from.file_name() else { return false };
            !from.exists() || fs::copy(&from, new.join(name)).is_ok()
        });
    if copied {
        let _ = fs::remove_dir_all(&old);
        let _ = fs::rename(&kept, &old);
        let _ = fs::rename(&new, &kept);
    }
}
