//! The arguments and extra environment that a program is started with, kept byte for byte.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Serialize};

/// What follows the program's name, and what is set in its environment beyond the supervisor's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandLine {
    /// The arguments, in order.
    pub args: Vec<Word>,
    /// Variables set in addition.
    pub env: BTreeMap<String, String>,
}

impl CommandLine {
    /// A command line with these arguments and nothing added to the environment.
    pub fn of(args: impl IntoIterator<Item = OsString>) -> Self {
        Self { args: args.into_iter().map(Word).collect(), env: BTreeMap::new() }
    }
}

/// One argument. Text is stored as text; bytes that are not UTF-8 as a list of numbers, so that nothing is
/// lost on the way through the journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Word(pub OsString);

impl Word {
    /// The argument as the system takes it.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Stored> for Word {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Text(text) => Self(text.into()),
            Stored::Bytes(bytes) => Self(OsString::from_vec(bytes)),
        }
    }
}

impl From<Word> for Stored {
    fn from(word: Word) -> Self {
        match word.0.into_string() {
            Ok(text) => Self::Text(text),
            Err(raw) => Self::Bytes(raw.as_bytes().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_survives_the_journal() {
        let words = ["--a b", "", "'\"$x\n", "ü"].map(OsString::from).into_iter();
        let line = CommandLine::of(words.chain([OsString::from_vec(vec![0xff, b'a', 0x80])]));
        let json = serde_json::to_string(&line).unwrap();
        assert_eq!(json, r#"{"args":["--a b","","'\"$x\n","ü",[255,97,128]],"env":{}}"#);
        assert_eq!(serde_json::from_str::<CommandLine>(&json).unwrap(), line);
        assert_eq!(Word::from("x").as_os_str(), "x");
    }
}
