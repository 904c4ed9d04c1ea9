//! How a node ended, and what that means (NODES.md sections 2, 5 and 6).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the kernel reported the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStatus {
    /// It ended by itself with this code.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// It ended while nobody who could know was looking.
    Unknown,
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// The end of one node process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeExit {
    /// How it ended.
    pub status: WaitStatus,
    /// SIGTERM had been sent to it by us.
    pub term_sent: bool,
    /// SIGKILL had been sent to it by us.
    pub kill_sent: bool,
    /// The kernel killed a process for want of memory while it ran.
    pub out_of_memory: bool,
    /// The last lines of its output.
    pub tail: String,
}

/// What an end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitClass {
    /// We stopped it, and it went in order.
    Asked,
    /// We had to kill it: state that was not flushed is lost, the head may go down.
    Killed,
    /// It shut itself down for want of disk space: starting it blindly makes that worse.
    LowDisk,
    /// It ended with code 0 although nobody asked.
    CleanByItself,
    /// `Fatal: …`: a flag, a port, a lock, a database that it does not accept.
    FatalConfig,
    /// A panic of the node's runtime.
    Panic,
    /// The system could not load or run the program on this machine.
    Loader,
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// A signal that was not ours.
    Signal,
    /// Another exit code.
    OtherCode,
    /// Nobody was there to see how.
    Unknown,
}

/// SIGINT, SIGQUIT, SIGKILL and SIGTERM by number, the same on every Linux.
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What geth and its forks log when they stop for want of disk space.
const LOW_DISK_MARK: &str = "Low disk space";

/// What a dynamic loader prints before it ends with code 127.
const LOADER_MARK: &str = "error while loading shared libraries";

/// Tells the classes of ends apart.
pub fn classify(exit: &NodeExit) -> ExitClass {
    match exit.status {
        _ if exit.kill_sent && !matches!(exit.status, WaitStatus::Exited(0)) => ExitClass::Killed,
        // Until its handler is installed a node dies of the SIGTERM itself (143): still the stop we asked for.
        WaitStatus::Exited(0 | 143) | WaitStatus::Signaled(SIGTERM) if exit.term_sent => ExitClass::Asked,
        WaitStatus::Unknown if exit.term_sent => ExitClass::Asked,
        WaitStatus::Signaled(SIGKILL) | WaitStatus::Exited(137) if exit.out_of_memory => {
            ExitClass::OutOfMemory
        }
        WaitStatus::Signaled(_) => ExitClass::Signal,
        WaitStatus::Exited(0) if exit.tail.contains(LOW_DISK_MARK) => ExitClass::LowDisk,
        WaitStatus::Exited(0) => ExitClass::CleanByItself,
        WaitStatus::Exited(1) => ExitClass::FatalConfig,
        WaitStatus::Exited(2) => ExitClass::Panic,
        WaitStatus::Exited(126 | 127) => ExitClass::Loader,
        WaitStatus::Exited(_) if exit.tail.contains(LOADER_MARK) => ExitClass::Loader,
        WaitStatus::Exited(129..=192) => ExitClass::Signal,
        WaitStatus::Exited(_) => ExitClass::OtherCode,
        WaitStatus::Unknown => ExitClass::Unknown,
    }
}

impl fmt::Display for ExitClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "stopped as asked",
            Self::Killed => "was killed by us after the grace",
            Self::LowDisk => "shut itself down for want of disk space",
            Self::CleanByItself => "ended by itself without an error",
            Self::FatalConfig => "refused to run",
            Self::Panic => "panicked",
            Self::Loader => "could not be loaded on this machine",
            Self::OutOfMemory => "was killed by the kernel for want of memory",
            Self::Signal => "was killed by a signal that was not ours",
            Self::OtherCode => "ended with an error",
            Self::Unknown => "ended while nobody was looking",
        })
    }
}

/// So much of a node's last line is told, in characters; its log has the whole.
const LAST_WORDS: usize = 200;

impl NodeExit {
    /// The class, the status, and the node's last words where they explain it.
    pub fn describe(&self) -> String {
        let class = classify(self);
        let mut text = format!("{class} ({})", self.status);
        if !matches!(class, ExitClass::Asked | ExitClass::Killed)
            && let Some(line) = last_words(&self.tail)
        {
            text.push_str(": ");
            text.extend(line.chars().take(LAST_WORDS));
            text.extend((line.chars().count() > LAST_WORDS).then_some('…'));
        }
        text
    }
}

/// The line of the output that most likely names the reason: the last one with `Fatal`, `panic` or `rror`,
/// else the last one.
fn last_words(tail: &str) -> Option<&str> {
    let lines = || tail.lines().map(str::trim).filter(|line| !line.is_empty());
    lines()
        .rfind(|line| line.contains("Fatal:") || line.contains("panic") || line.contains("rror"))
        .or_else(|| lines().next_back())
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        SIGINT => "SIGINT",
        SIGQUIT => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        SIGKILL => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        SIGTERM => "SIGTERM",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: WaitStatus) -> NodeExit {
        NodeExit { status, term_sent: false, kill_sent: false, out_of_memory: false, tail: String::new() }
    }

    fn asked(status: WaitStatus) -> NodeExit {
        NodeExit { term_sent: true, ..exit(status) }
    }

    #[test]
    fn ends_are_told_apart() {
        use ExitClass as C;
        use WaitStatus::{Exited, Signaled, Unknown};
        for (end, class) in [
            (asked(Exited(0)), C::Asked),
            (asked(Signaled(15)), C::Asked),
            (asked(Exited(143)), C::Asked),
            (asked(Unknown), C::Asked),
            (asked(Exited(2)), C::Panic),
            (NodeExit { kill_sent: true, ..asked(Signaled(9)) }, C::Killed),
            (NodeExit { kill_sent: true, ..asked(Exited(0)) }, C::Asked),
            (exit(Exited(0)), C::CleanByItself),
            (
                NodeExit { tail: "Low disk space. Gracefully shutting down".into(), ..exit(Exited(0)) },
                C::LowDisk,
            ),
            (exit(Exited(1)), C::FatalConfig),
            (exit(Exited(2)), C::Panic),
            (exit(Exited(127)), C::Loader),
            (exit(Exited(126)), C::Loader),
            (
                NodeExit { tail: "x: error while loading shared libraries: y".into(), ..exit(Exited(3)) },
                C::Loader,
            ),
            (exit(Signaled(9)), C::Signal),
            (exit(Signaled(15)), C::Signal),
            (NodeExit { out_of_memory: true, ..exit(Signaled(9)) }, C::OutOfMemory),
            (NodeExit { out_of_memory: true, ..exit(Exited(137)) }, C::OutOfMemory),
            (exit(Exited(139)), C::Signal),
            (exit(Exited(42)), C::OtherCode),
            (exit(Unknown), C::Unknown),
        ] {
            assert_eq!(classify(&end), class, "{end:?}");
        }
    }

    #[test]
    fn the_description_names_the_reason() {
        let tail = "INFO starting\nFatal: Failed to create the protocol stack: datadir already used\n\n";
        let end = NodeExit { tail: tail.into(), ..exit(WaitStatus::Exited(1)) };
        assert_eq!(
            end.describe(),
            "refused to run (exit code 1): Fatal: Failed to create the protocol stack: datadir already used"
        );
        let end = NodeExit { tail: format!("Fatal: {}", "é".repeat(5000)), ..exit(WaitStatus::Exited(1)) };
        let said = end.describe();
        assert!(said.ends_with("é…") && said.chars().count() < 240, "{said}");
        let end = NodeExit { tail: "only this\n".into(), ..exit(WaitStatus::Signaled(11)) };
        assert_eq!(end.describe(), "was killed by a signal that was not ours (killed by SIGSEGV): only this");
        assert_eq!(asked(WaitStatus::Exited(0)).describe(), "stopped as asked (exit code 0)");
        assert_eq!(exit(WaitStatus::Signaled(35)).status.to_string(), "killed by signal 35");
    }

    #[test]
    fn every_class_and_named_signal_has_its_own_words() {
        use ExitClass as C;
        let all = [
            C::Asked,
            C::Killed,
            C::LowDisk,
            C::CleanByItself,
            C::FatalConfig,
            C::Panic,
            C::Loader,
            C::OutOfMemory,
            C::Signal,
            C::OtherCode,
            C::Unknown,
        ];
        let words: std::collections::BTreeSet<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), all.len());
        let named = (1..=64).filter_map(signal_name).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(named.len(), 11);
    }
}
