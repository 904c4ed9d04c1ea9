//! The keeper's two notes in the wemixvisor directory: `node.json` (what was started) and `node-exit.json` (how it
//! ended), for a supervisor that was not there.
//!
//! They are replaced by rename, so a reader never sees half of one, but not forced to the disk: processes do not
//! survive a power loss, and the boot id in the note tells that there was one.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::facts::{Launch, NodeExit, NodeProcess};
use crate::trial::{crash_point, fault};

const NODE: &str = "node.json";
const EXIT: &str = "node-exit.json";

/// The node that was started last, as its keeper wrote it down. It need not run any more; one whose launch was cut
/// short by the keeper's death has the process id 0.
pub fn last_node(dir: &Path) -> Option<NodeProcess> {
    read(dir, NODE)
}

/// The last end of a node that a keeper saw.
pub fn last_exit(dir: &Path) -> Option<NodeExit> {
    read(dir, EXIT)
}

pub(super) fn note_node(dir: &Path, node: &NodeProcess) -> io::Result<()> {
    write(dir, NODE, node)
}

/// Notes that a launch is about to happen, in place of the last node: if the keeper is killed before it can write
/// down what it started, this says whose launch it was and of which program. Where there is no room for it, at least
/// the old note goes, which must not speak for a new node.
pub(super) fn announce_node(dir: &Path, launch: &Launch) -> io::Result<()> {
    note_node(dir, &NodeProcess::of(launch)).or_else(|_| forget_node(dir))
}

fn forget_node(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(NODE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn note_exit(dir: &Path, exit: &NodeExit) -> io::Result<()> {
    write(dir, EXIT, exit)
}

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(dir.join(name)).ok()?).ok()
}

/// Deliberately not the durable write of the rest of the crate: that waits for the disk.
#[allow(clippy::disallowed_methods)]
fn write<T: Serialize>(dir: &Path, name: &str, record: &T) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    fault("keeper.note.write")?;
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    crash_point("keeper.note.written");
    fault("keeper.note.replace")?;
    fs::rename(&temporary, dir.join(name))
}
