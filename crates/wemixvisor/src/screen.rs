//! Where the words go: results to standard output, everything else to standard error. A reader that has gone away
//! is no error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// What is put out, and how.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Results as JSON.
    pub json: bool,
    /// No progress and no hints.
    pub quiet: bool,
    /// How results are coloured.
    pub paint: Paint,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// With escape codes.
    Colour,
    /// Without.
    Plain,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Look at it.
    Warn,
    /// Something is wrong.
    Bad,
    /// A heading.
    Strong,
    /// Beside the point.
    Dim,
}

impl Paint {
    /// Colours for a terminal, unless they are not wished for: `NO_COLOR` with any value, `--no-color`.
    pub fn choose(terminal: bool, no_color: bool) -> Self {
        if terminal && !no_color { Self::Colour } else { Self::Plain }
    }

    /// `text` in a tone.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "1;32",
            Tone::Warn => "1;33",
            Tone::Bad => "1;31",
            Tone::Strong => "1",
            Tone::Dim => "2",
        };
        match self {
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.into(),
        }
    }
}

impl Screen {
    /// A screen on this process's standard output.
    pub fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        Self { json, quiet, paint: Paint::choose(io::stdout().is_terminal() && !json, no_color) }
    }

    /// Puts out a result: `text`, or `value` as one line of JSON.
    ///
    /// # Errors
    /// When it cannot be written, except to a reader that has gone away.
    pub fn result(&self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            let json = serde_json::to_string(value)
                .map_err(|error| Failure::failed(format!("cannot write the result as JSON: {error}")))?;
            return self.bytes(format!("{json}\n").as_bytes()).map(|_| ());
        }
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self.bytes(format!("{text}{end}").as_bytes()).map(|_| ())
    }

    /// Puts out bytes as they are. Says whether there is still somebody who reads.
    ///
    /// # Errors
    /// When they cannot be written, except to a reader that has gone away.
    pub fn bytes(&self, bytes: &[u8]) -> Result<bool, Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        }
    }

    /// Says something beside the result.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Says why it failed: on standard error in words, with `--json` on standard output too.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            let _ = self.result("", &failure.json());
        }
        let _ = writeln!(io::stderr(), "wemixvisor: {}", failure.message);
    }
}
