//! What a command of the program said.

use std::process::Output;

use serde_json::Value;

/// The outcome of one command.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; 128 + n after signal n.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().or_else(|| Some(128 + output.status.signal()?));
        Self { code: code.unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The same, if the exit code is the expected one.
    ///
    /// # Panics
    /// When it is another one.
    #[must_use = "the output says what was done"]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}; stdout:\n{}\nstderr:\n{}", self.out, self.err))
    }
}
