//! The supervisor's own log, on standard error.
//!
//! Lines are written by a thread of their own: a standard error that nobody reads (a stopped terminal, a full
//! pipe) must not hold up the supervisor. What does not fit into the queue is dropped and counted.
//!
//! A supervisor in the background has its log file as standard output and standard error, so that whatever a
//! library or a panic writes is in it as well. The thread turns both to a new file when it is full, or was removed.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use wemixvisor_core::settings::{Settings, TimeFormat};
use wemixvisor_host::home::Home;
use wemixvisor_host::keeper::LogPolicy;
use wemixvisor_host::output;

use crate::arguments::Global;

/// So many lines wait for a standard error that is slow.
const QUEUE: usize = 1024;

/// The last lines are waited for so long.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The log's writing thread; when this is dropped, the last lines are written.
#[derive(Debug)]
pub struct Log {
    ended: Receiver<()>,
    queue: Queue,
}

/// The way of a line to the thread.
#[derive(Debug, Clone)]
struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    End,
}

/// The log file of a supervisor in the background.
pub fn file(home: &Home) -> PathBuf {
    home.logs().join("supervisor.log")
}

/// How much of it is kept: as much as of the node's log.
pub fn policy(home: &Home, settings: &Settings) -> LogPolicy {
    LogPolicy {
        path: file(home),
        max_bytes: settings.logs.max_bytes,
        keep: settings.logs.keep.saturating_add(1),
    }
}

/// Sets up the log as the settings have it; `None` when there is to be none.
pub fn start(settings: &Settings, home: &Home, global: &Global, no_color: bool) -> Option<Log> {
    let (logs, debug) = (&settings.logs, settings.debug);
    if logs.disabled {
        return None;
    }
    let policy = global.background.then(|| policy(home, settings));
    let (lines, waiting) = sync_channel(QUEUE);
    let (end, ended) = mpsc::channel();
    let queue = Queue { lines, dropped: Arc::default() };
    let dropped = queue.dropped.clone();
    let writing = move || {
        write(&waiting, &dropped, policy.as_ref());
        drop(end);
    };
    thread::Builder::new().name("log".into()).stack_size(128 * 1024).spawn(writing).ok()?;
    let level = match (debug, global.quiet) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::WARN,
        (false, false) => LevelFilter::INFO,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(debug)
        .with_ansi(logs.color && !no_color && !global.json && io::stderr().is_terminal())
        .with_timer(Clock(logs.time_format))
        .with_writer(queue.clone());
    if global.json {
        subscriber.json().flatten_event(true).init();
    } else {
        subscriber.init();
    }
    Some(Log { ended, queue })
}

fn write(waiting: &Receiver<Line>, dropped: &AtomicU64, file: Option<&LogPolicy>) {
    let mut out = io::stderr();
    while let Ok(Line::Text(line)) = waiting.recv() {
        if let Some(policy) = file {
            // A file that cannot be turned over is written on.
            let _ = turn_over(policy);
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "({lost} lines of the log were dropped: standard error was not read)");
        }
        let _ = out.write_all(&line);
    }
}

/// Has standard output and standard error go to a new file, if the present one is full or no longer in its place.
fn turn_over(policy: &LogPolicy) -> io::Result<()> {
    let ours = File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata()?;
    let in_place =
        fs::metadata(&policy.path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    if in_place && ours.len() < policy.max_bytes {
        return Ok(());
    }
    let new = output::open(policy)?;
    rustix::stdio::dup2_stdout(&new)?;
    rustix::stdio::dup2_stderr(&new)?;
    Ok(())
}

impl Drop for Log {
    fn drop(&mut self) {
        // A thread that cannot write is not waited for.
        if self.queue.lines.try_send(Line::End).is_ok() {
            let _ = self.ended.recv_timeout(LAST_LINES);
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter { queue: self.clone(), line: Vec::new() }
    }
}

/// Collects one line.
struct LineWriter {
    queue: Queue,
    line: Vec<u8>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.queue.lines.try_send(Line::Text(line)).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The time of a line.
struct Clock(TimeFormat);

impl FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        match self.0 {
            TimeFormat::Rfc3339 => write!(out, "{:.0}", Timestamp::now()),
            TimeFormat::Rfc3339Nano => write!(out, "{:.9}", Timestamp::now()),
            TimeFormat::Kitchen => write!(out, "{}", Zoned::now().strftime("%-I:%M%p")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_error_that_is_not_read_holds_nobody_up() {
        let (lines, waiting) = sync_channel(2);
        let queue = Queue { lines, dropped: Arc::default() };
        for line in ["a", "b", "c", "d"] {
            queue.make_writer().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 2);
        let kept: Vec<_> = waiting.try_iter().map(|line| format!("{line:?}")).collect();
        assert_eq!(kept, ["Text([97])", "Text([98])"]);
        let (_, ended) = mpsc::channel();
        // The end of a log whose thread is gone is not waited for.
        drop(waiting);
        drop(Log { ended, queue });
    }
}
