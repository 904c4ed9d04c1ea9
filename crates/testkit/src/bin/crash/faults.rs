//! Calls that fail: which errors each can give, how long, and what must be true afterwards.

use std::time::{Duration, Instant};

use crate::trial::{Deed, Report, Run};
use crate::world::World;

/// So long a lasting fault lasts after it was first met.
const LASTS: Duration = Duration::from_millis(1500);

/// The longest wait for a call that may never come.
const MET_WITHIN: Duration = Duration::from_secs(60);

/// So many calls fail when the fault lasts.
pub const LASTING: u64 = 1_000_000;

/// The errors that a call can give.
pub fn errors(call: &str) -> &'static [&'static str] {
    match call.rsplit('.').next().unwrap_or_default() {
        "write" | "commit" | "begin" => &["ENOSPC", "EIO", "EROFS"],
        "force" => &["ENOSPC", "EIO"],
        "replace" => &["ENOSPC", "EIO", "EROFS"],
        "make" => &["ENOSPC", "EMFILE", "EROFS"],
        "read" => &["EIO", "EMFILE"],
        _ => &["EIO", "EMFILE"],
    }
}

/// Waits for the fault to be met and lets it last, then takes it away.
pub fn lift(world: &mut World) -> Result<(), String> {
    let mut met: Option<Instant> = None;
    world.go_on(MET_WITHIN, |world| {
        if met.is_none()
            && world.passages().iter().any(|(_, place)| place.starts_with("call:") && place.contains(' '))
        {
            met = Some(Instant::now());
        }
        met.is_some_and(|met| met.elapsed() >= LASTS)
    })?;
    let _ = std::fs::remove_file(world.orders.join("fault"));
    Ok(())
}

/// Adds to the verdict what a fault must not leave: silence, and halves of files.
pub fn judge(run: &Run, world: &World, report: &mut Report) {
    let Deed::Fault { error, .. } = &run.deed else { return };
    let words: &[&str] = match *error {
        "ENOSPC" => &["No space left", "os error 28", "disk is full"],
        "EIO" => &["Input/output error", "os error 5", "disk I/O error"],
        "EMFILE" => &["Too many open files", "os error 24", "unable to open"],
        _ => &["Read-only file system", "os error 30", "readonly database"],
    };
    let keeper = std::fs::read_to_string(world.home.wemixvisor().join("logs/keeper.log")).unwrap_or_default();
    let history = format!("{:?}", world.history());
    let told = [world.home.supervisor_said(), world.home.node_log(), keeper, history, world.refusals.clone()];
    report.told = told.iter().any(|text| words.iter().any(|word| text.contains(word)));
    let left: Vec<String> = [world.home.wemixvisor(), world.home.data()]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".wv-tmp"))
        .collect();
    if !left.is_empty() {
        report.verdict = Err(vec![format!("left behind: {left:?}")]);
    }
}
