//! Orders, passages, and obedience.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use rustix::process::{Signal, getpid, kill_process};

use super::VARIABLE;

/// How often the place of an order was passed since it came, by the order's text.
static PASSED: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// The directory of the orders, if this is a trial.
#[allow(clippy::disallowed_methods)] // Not a setting: it comes before all settings and is never in what is shipped.
pub(super) fn dir() -> Option<&'static PathBuf> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_ref()
}

pub(super) fn pass(place: &str) {
    let Some(dir) = dir() else { return };
    let (file, done) = (dir.join("crash"), dir.join("crashed"));
    record(place);
    let Ok(order) = fs::read_to_string(&file) else { return };
    let Some((name, nth, how)) = crash(&order) else { return };
    // Whoever renames the order first obeys it; nobody else does.
    if name == place && count(&order) == nth && fs::rename(&file, &done).is_ok() {
        record(&format!("{place} {how}"));
        let _ = kill_process(getpid(), if how == "stop" { Signal::STOP } else { Signal::KILL });
    }
}

pub(super) fn call(place: &str) -> io::Result<()> {
    let Some(dir) = dir() else { return Ok(()) };
    record(&format!("call:{place}"));
    let Ok(order) = fs::read_to_string(dir.join("fault")) else { return Ok(()) };
    let Some((name, from, times, error)) = fault(&order) else { return Ok(()) };
    if name != place || !(from..from.saturating_add(times)).contains(&count(&order)) {
        return Ok(());
    }
    record(&format!("call:{place} {error}"));
    Err(io::Error::from_raw_os_error(error))
}

/// `<point>#<n> kill|stop`
fn crash(order: &str) -> Option<(&str, u64, &str)> {
    let (place, how) = order.trim().split_once(' ')?;
    let (name, nth) = place.split_once('#')?;
    Some((name, nth.parse().ok()?, how))
}

/// `<call>#<n>*<times> <error>`
fn fault(order: &str) -> Option<(&str, u64, u64, i32)> {
    let (place, error) = order.trim().split_once(' ')?;
    let (name, span) = place.split_once('#')?;
    let (from, times) = span.split_once('*')?;
    let error = match error {
        "ENOSPC" => libc::ENOSPC,
        "EIO" => libc::EIO,
        "EMFILE" => libc::EMFILE,
        "EROFS" => libc::EROFS,
        _ => return None,
    };
    Some((name, from.parse().ok()?, times.parse().ok()?, error))
}

fn count(order: &str) -> u64 {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passed.get_or_insert_default().entry(order.to_owned()).or_default();
    *count += 1;
    *count
}

/// One write, so that lines of several processes stay whole.
#[allow(clippy::disallowed_methods)] // The wall clock, for whoever reads the record.
fn record(what: &str) {
    let Some(dir) = dir() else { return };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let line = format!("{now} {} {what}\n", getpid().as_raw_nonzero());
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(dir.join("passages")) {
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        assert_eq!(crash("link.made#2 stop\n"), Some(("link.made", 2, "stop")));
        assert_eq!(crash("link.made"), None);
        assert_eq!(fault("store.commit#3*2 EIO"), Some(("store.commit", 3, 2, libc::EIO)));
        assert_eq!(fault("store.commit#3 EIO"), None);
    }
}
