//! What a power failure leaves on the disk, by the record that the program keeps of it (feature `testing`).

use std::fs;
use std::path::{Path, PathBuf};

use testkit::TestHome;

/// Puts the disk's state in place of what the processes saw: the store as it was last forced, and for everything
/// that was replaced but whose directory was not yet forced, what was there before. The keeper's notes are never
/// forced: they may be there or not.
pub fn take_back(home: &TestHome, orders: &Path, keep_notes: bool) {
    let forced = orders.join("forced");
    // A kill in the middle of the exchange leaves the one before.
    let forced = if forced.exists() { forced } else { orders.join("forced.old") };
    if forced.exists() {
        for name in ["state.db", "state.db-wal", "state.db-shm"] {
            let (kept, place) = (forced.join(name), home.wemixvisor().join(name));
            let _ = fs::remove_file(&place);
            if kept.exists() {
                fs::copy(kept, place).expect("the store can be put back");
            }
        }
    }
    let unforced = fs::read_dir(orders.join("unforced"));
    for entry in unforced.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().replace("%2F", "/").replace("%25", "%");
        match name.strip_suffix(".absent") {
            Some(place) => drop(fs::remove_file(place)),
            None => fs::rename(entry.path(), PathBuf::from(&name)).expect("the old one can be put back"),
        }
        let _ = fs::remove_file(entry.path());
    }
    if !keep_notes {
        for note in ["node.json", "node-exit.json"] {
            let _ = fs::remove_file(home.wemixvisor().join(note));
        }
    }
}
