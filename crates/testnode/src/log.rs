//! The node's own output on stderr, in geth's form.
//!
//! It is written by the thread that does the work, as one write: a full pipe freezes the node and a broken one kills
//! it by SIGPIPE, as it does the real ones (NODES.md section 2).

use std::io::{ErrorKind, Write};

use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

/// Writes `text` to stderr as it is.
pub(crate) fn raw(text: &[u8]) {
    if let Err(error) = std::io::stderr().write_all(text)
        && error.kind() == ErrorKind::BrokenPipe
    {
        let _ = emulate_default_handler(SIGPIPE);
    }
}

fn line(level: &str, text: &str) {
    let now = jiff::Timestamp::now().strftime("%m-%d|%H:%M:%S%.3f");
    raw(format!("{level:<5}[{now}] {text}\n").as_bytes());
}

/// An ordinary line.
pub(crate) fn info(text: &str) {
    line("INFO", text);
}

/// A warning.
pub(crate) fn warn(text: &str) {
    line("WARN", text);
}

/// The last line of a node that refuses to go on.
pub(crate) fn fatal(text: &str) {
    raw(format!("Fatal: {}\n", text.trim_start_matches("Fatal: ")).as_bytes());
}
