//! What keeper and supervisor tell each other about the node: the launch order, the running process, its end.
//!
//! These are the protocol's and the record files' own types, frozen by the tests below: a keeper lives on through
//! an upgrade of wemixvisor, so both sides must read what another version writes. New fields get
//! `#[serde(default)]`; unknown ones are ignored.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

/// Which file it is and in which state: the kernel changes `ctime` with every change of content, owner, mode or
/// name, and nobody can set it. Equal identities before and after mean: the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device of the file system.
    pub dev: u64,
    /// The file's number on it.
    pub ino: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Last change of content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of anything, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl FileIdentity {
    /// The identity of the file that `path` leads to, links followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    /// The identity in already read facts.
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Where the node's output goes and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// The live log file. Older parts are beside it: `<path>.1` is the newest of them.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// A file is closed before it grows beyond this many bytes.
    pub max_bytes: u64,
    /// How many files there are, the live one included; together at most `max_bytes * keep` bytes. At least 1.
    pub keep: u32,
}

/// An order to start the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The caller's number for this launch; comes back in everything that is told about it.
    pub launch_id: u64,
    /// The program, an absolute path.
    #[serde(with = "path_text")]
    pub program: PathBuf,
    /// The identity of the program's file at the moment it was verified.
    pub identity: FileIdentity,
    /// The arguments, without the program's name.
    #[serde(with = "os_list")]
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    #[serde(with = "os_pairs")]
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    #[serde(with = "path_text")]
    pub cwd: PathBuf,
    /// Lock files that must be free and that the node then holds for as long as it or its descendants live. The
    /// keeper adds `node.lock` of its own directory; usually this is `wemixvisor-node.lock` of the data directory.
    #[serde(with = "path_list")]
    pub locks: Vec<PathBuf>,
    /// Where the output goes.
    pub log: LogPolicy,
}

/// What a new keeper needs to know to take over a node whose keeper was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptHint {
    /// Whether the supervisor knows that a SIGTERM was sent. The keeper's own record is believed as well.
    pub term_sent: bool,
    /// Where the output goes from now on.
    pub log: LogPolicy,
}

/// The running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProcess {
    /// The launch it comes from; 0 for an adopted node without a record.
    pub launch_id: u64,
    /// Its process id; 0 in the note of a launch that is about to happen.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with `pid` and `boot_id` this names the process for ever.
    pub start_time: u64,
    /// The boot in which it runs.
    pub boot_id: String,
    /// Its program as it was ordered.
    #[serde(with = "path_text")]
    pub program: PathBuf,
    /// When it started, milliseconds since 1970.
    pub started_at_ms: u64,
    /// Whether its one SIGTERM has been sent.
    #[serde(default)]
    pub term_sent: bool,
    /// Whether a SIGKILL has been sent.
    #[serde(default)]
    pub kill_sent: bool,
    /// Whether it was taken over from a keeper that was killed: its exit status may then stay unknown.
    #[serde(default)]
    pub adopted: bool,
}

impl NodeProcess {
    /// What there is to say of a launch when it begins: no process yet, nothing sent.
    pub(super) fn of(launch: &Launch) -> Self {
        Self {
            launch_id: launch.launch_id,
            pid: 0,
            start_time: 0,
            boot_id: crate::process::boot_id(),
            program: launch.program.clone(),
            started_at_ms: super::now_ms(),
            term_sent: false,
            kill_sent: false,
            adopted: false,
        }
    }

    /// Whether this very process still runs.
    pub fn alive(&self) -> bool {
        self.boot_id == crate::process::boot_id() && crate::process::alive(self.pid, self.start_time)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitStatus {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal.
    Signaled {
        /// Its number.
        signal: i32,
        /// Whether a core was written.
        core: bool,
    },
    /// Nobody saw it: the node was adopted and the kernel (before Linux 6.15) does not tell.
    Unknown,
}

impl WaitStatus {
    /// Takes the status word of wait(2) apart.
    pub(crate) fn from_raw(raw: i32) -> Self {
        match raw & 0x7f {
            0 => Self::Exited((raw >> 8) & 0xff),
            signal => Self::Signaled { signal, core: raw & 0x80 != 0 },
        }
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled { signal, core } => {
                write!(f, "signal {signal}{}", if *core { " (core dumped)" } else { "" })
            }
            Self::Unknown => f.write_str("unknown exit status"),
        }
    }
}

/// The end of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeExit {
    /// The launch it came from.
    pub launch_id: u64,
    /// The process id it had.
    pub pid: u32,
    /// How it ended.
    pub status: WaitStatus,
    /// When the keeper saw it, milliseconds since 1970.
    pub exited_at_ms: u64,
    /// How long it ran, in milliseconds of the machine's forward-only clock.
    pub ran_ms: u64,
    /// Whether its one SIGTERM had been sent.
    pub term_sent: bool,
    /// Whether a SIGKILL had been sent by order.
    pub kill_sent: bool,
    /// Whether the kernel killed a process for memory during the run and this one died by a SIGKILL that we did
    /// not send. Best effort: counted for the control group where there is one, else for the machine.
    pub oom_killed: bool,
    /// The last lines that it wrote (at most 20 lines, 4 KiB), bytes that are not UTF-8 replaced.
    pub last_output: Vec<String>,
    /// Processes that it started and that outlived it. They still hold its locks.
    pub leftovers: Vec<u32>,
}

/// What a keeper knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperState {
    /// The running node.
    pub node: Option<NodeProcess>,
    /// The last end of a node that this keeper, or the record of an earlier one, knows.
    pub last_exit: Option<NodeExit>,
    /// Processes that outlived the last node; empty while a node runs.
    #[serde(default)]
    pub leftovers: Vec<u32>,
    /// The keeper's own process id.
    pub keeper_pid: u32,
    /// The version of the program that the keeper is from.
    pub version: String,
}

/// Text for bytes that need not be UTF-8: valid parts as they are, `%` and all other bytes as `%XX`.
fn to_text(raw: &OsStr) -> String {
    let mut text = String::new();
    for chunk in raw.as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The way back from [`to_text`]; `None` for text that it never makes.
fn from_text(text: &str) -> Option<OsString> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(OsString::from_vec(bytes))
}

/// One argument, path or variable on the wire.
struct Os(OsString);

impl Serialize for Os {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_text(&self.0))
    }
}

impl<'de> Deserialize<'de> for Os {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        from_text(&text).map(Os).ok_or_else(|| serde::de::Error::custom("a % without two hex digits"))
    }
}

/// Serde for a field of a type that is made of [`Os`] strings, through two conversions.
macro_rules! by_os {
    ($name:ident, $borrowed:ty, $owned:ty, $wire:ty, |$value:ident| $out:expr, |$read:ident| $back:expr) => {
        mod $name {
            use super::*;

            pub(super) fn serialize<S: serde::Serializer>(
                $value: &$borrowed,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                let wire: $wire = $out;
                wire.serialize(to)
            }

            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<$owned, D::Error> {
                <$wire>::deserialize(from).map(|$read| $back)
            }
        }
    };
}

by_os!(path_text, Path, PathBuf, Os, |path| Os(path.as_os_str().to_owned()), |os| PathBuf::from(os.0));
by_os!(
    path_list,
    [PathBuf],
    Vec<PathBuf>,
    Vec<Os>,
    |paths| paths.iter().map(|path| Os(path.clone().into_os_string())).collect(),
    |list| { list.into_iter().map(|os| PathBuf::from(os.0)).collect() }
);
by_os!(os_list, [OsString], Vec<OsString>, Vec<Os>, |list| list.iter().cloned().map(Os).collect(), |list| {
    list.into_iter().map(|os| os.0).collect()
});
by_os!(
    os_pairs,
    [(OsString, OsString)],
    Vec<(OsString, OsString)>,
    Vec<(Os, Os)>,
    |pairs| pairs.iter().map(|(name, value)| (Os(name.clone()), Os(value.clone()))).collect(),
    |pairs| pairs.into_iter().map(|(name, value)| (name.0, value.0)).collect()
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_come_back_from_the_wire(bytes: Vec<u8>) {
            let raw = OsString::from_vec(bytes);
            prop_assert_eq!(from_text(&to_text(&raw)), Some(raw));
        }
    }

    #[test]
    fn text_stays_readable_on_the_wire() {
        assert_eq!(to_text(OsStr::new("--data dir=\"é\" 100%")), "--data dir=\"é\" 100%25");
        assert_eq!(to_text(OsStr::from_bytes(b"a\xffb")), "a%FFb");
        for bad in ["%", "%a", "x%zz", "%é"] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_record_of_version_1_is_read_for_ever() {
        let node = r#"{"launch_id":7,"pid":42,"start_time":9,"boot_id":"b","program":"/a/b%FF","started_at_ms":5,"later":1}"#;
        let node: NodeProcess = serde_json::from_str(node).unwrap();
        assert_eq!(node.program.as_os_str().as_bytes(), b"/a/b\xff");
        assert!(!node.term_sent && !node.adopted);
        for (text, status) in [
            (r#"{"exited":3}"#, WaitStatus::Exited(3)),
            (r#"{"signaled":{"signal":9,"core":false}}"#, WaitStatus::Signaled { signal: 9, core: false }),
            (r#""unknown""#, WaitStatus::Unknown),
        ] {
            assert_eq!(serde_json::from_str::<WaitStatus>(text).unwrap(), status);
            assert_eq!(serde_json::to_string(&status).unwrap(), text);
        }
    }

    #[test]
    fn the_status_word_is_taken_apart() {
        assert_eq!(WaitStatus::from_raw(0x0300), WaitStatus::Exited(3));
        assert_eq!(WaitStatus::from_raw(0x0009), WaitStatus::Signaled { signal: 9, core: false });
        assert_eq!(WaitStatus::from_raw(0x008b), WaitStatus::Signaled { signal: 11, core: true });
    }
}
