//! The faults that the node can show: each a flag, and each that still makes sense while the node runs an order on
//! the control port (`POST /set {"<flag name>": value}`; `null` takes it back).

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

/// A length of time as the operator writes it: `250ms`, `1.5s`, `5m`, `1h`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

/// A text that is not a length of time.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a length of time (250ms, 1.5s, 5m, 1h)")]
pub(crate) struct NotASpan(String);

impl Span {
    /// In whole milliseconds.
    pub(crate) fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        if text == "0" {
            return Ok(Self::default());
        }
        let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(NotASpan(text.to_owned())),
        };
        let number: f64 = number.parse().map_err(|_| NotASpan(text.to_owned()))?;
        Duration::try_from_secs_f64(number * seconds).map(Self).map_err(|_| NotASpan(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = NotASpan;

    fn try_from(text: String) -> Result<Self, NotASpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        format!("{}ms", span.0.as_millis())
    }
}

/// What comes instead of every answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum WrongAnswer {
    /// A web page, with status 200.
    Html,
    /// A JSON-RPC error object.
    Error,
    /// A result of 10 MB.
    Huge,
    /// A result that is no number, hash, object or list.
    Nonsense,
    /// Nothing: an empty body.
    Empty,
    /// The right answer, late.
    Slow(Span),
}

/// A text that names no wrong answer.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is none of html, error, huge, nonsense, empty, slow:<time>")]
pub(crate) struct NotAWrongAnswer(String);

impl FromStr for WrongAnswer {
    type Err = NotAWrongAnswer;

    fn from_str(text: &str) -> Result<Self, NotAWrongAnswer> {
        let refused = || NotAWrongAnswer(text.to_owned());
        Ok(match text {
            "html" => Self::Html,
            "error" => Self::Error,
            "huge" => Self::Huge,
            "nonsense" => Self::Nonsense,
            "empty" => Self::Empty,
            _ => Self::Slow(text.strip_prefix("slow:").ok_or_else(refused)?.parse().map_err(|_| refused())?),
        })
    }
}

impl TryFrom<String> for WrongAnswer {
    type Error = NotAWrongAnswer;

    fn try_from(text: String) -> Result<Self, NotAWrongAnswer> {
        text.parse()
    }
}

impl From<WrongAnswer> for String {
    fn from(answer: WrongAnswer) -> Self {
        match answer {
            WrongAnswer::Html => "html".to_owned(),
            WrongAnswer::Error => "error".to_owned(),
            WrongAnswer::Huge => "huge".to_owned(),
            WrongAnswer::Nonsense => "nonsense".to_owned(),
            WrongAnswer::Empty => "empty".to_owned(),
            WrongAnswer::Slow(span) => format!("slow:{}", String::from(span)),
        }
    }
}

/// Every fault, off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[command(next_help_heading = "Faults (also by the control port: POST /set {\"<name>\": value})")]
pub(crate) struct Faults {
    /// Refuse to start: print this text (as `Fatal: …` if it does not begin so) and exit with --exit-code
    #[arg(long, value_name = "TEXT")]
    pub(crate) fail_start: Option<String>,
    /// Exit this long after the start with --exit-code
    #[arg(long, value_name = "TIME")]
    pub(crate) exit_after: Option<Span>,
    /// Exit with --exit-code when the head has reached this height
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) exit_at_height: Option<u64>,
    /// The exit code of --fail-start, --exit-after and --exit-at-height (default 1): 0 flushes and stops in order
    /// (as on low disk space), 2 prints a panic, others lose what is not flushed
    #[arg(long, value_name = "CODE")]
    pub(crate) exit_code: Option<u8>,
    /// Die by --signal this long after the start
    #[arg(long, value_name = "TIME")]
    pub(crate) signal_after: Option<Span>,
    /// Die by --signal when the head has reached this height
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) signal_at_height: Option<u64>,
    /// The number of the signal of --signal-after and --signal-at-height (default 9)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) signal: Option<i32>,

    /// Count SIGTERM and SIGINT but do nothing about them
    #[arg(long)]
    pub(crate) ignore_sigterm: bool,
    /// Wait this long, idle, before the clean exit
    #[arg(long, value_name = "TIME")]
    pub(crate) stop_takes: Option<Span>,
    /// Work this long (CPU time and written bytes) before the clean exit
    #[arg(long, value_name = "TIME")]
    pub(crate) stop_works: Option<Span>,
    /// After SIGTERM close the RPC and then do nothing for ever: no CPU, no writes, no exit
    #[arg(long)]
    pub(crate) stop_hangs: bool,
    /// Make one more block after SIGTERM, when the RPC is closed
    #[arg(long)]
    pub(crate) seal_after_term: bool,
    /// Leave a sleeping child behind at every exit (it ends by itself after 10 minutes)
    #[arg(long)]
    pub(crate) leave_child: bool,

    /// Accept requests and connections but never answer
    #[arg(long)]
    pub(crate) rpc_hang: bool,
    /// Answer every request wrongly: html, error, huge, nonsense, empty or slow:<time>
    #[arg(long, value_name = "KIND")]
    pub(crate) rpc_fault: Option<WrongAnswer>,
    /// Close the HTTP port (connections are refused)
    #[arg(long)]
    pub(crate) http_refuse: bool,
    /// Close the WebSocket port and its connections
    #[arg(long)]
    pub(crate) ws_refuse: bool,
    /// Accept subscriptions (WebSocket and IPC) but never send a head
    #[arg(long)]
    pub(crate) ws_silent: bool,
    /// Send every head twice
    #[arg(long)]
    pub(crate) ws_repeat: bool,
    /// Drop the connection of a subscription (WebSocket and IPC) after this many heads
    #[arg(long, value_name = "COUNT")]
    pub(crate) ws_drop_every: Option<u64>,
    /// Answer −32601 to this method, as a node that does not have it (repeatable)
    #[arg(long, value_name = "METHOD")]
    pub(crate) no_method: Vec<String>,
    /// What web3_clientVersion answers instead of the truth
    #[arg(long, value_name = "TEXT")]
    pub(crate) client_version: Option<String>,
    /// Answer with this chain id
    #[arg(long, value_name = "ID")]
    pub(crate) answer_chain_id: Option<u64>,
    /// Answer with the blocks of a chain of this genesis salt
    #[arg(long, value_name = "TEXT")]
    pub(crate) answer_genesis: Option<String>,
    /// The number of peers (default 3)
    #[arg(long, value_name = "COUNT")]
    pub(crate) peers: Option<u64>,
    /// What the peers call themselves (default: as this program)
    #[arg(long, value_name = "TEXT")]
    pub(crate) peer_version: Option<String>,
    /// eth_syncing answers an object
    #[arg(long)]
    pub(crate) syncing: bool,
    /// debug_getBadBlocks lists a block
    #[arg(long)]
    pub(crate) bad_block: bool,

    /// No new blocks; heads come only by order of the control port
    #[arg(long)]
    pub(crate) no_blocks: bool,
    /// No new blocks for this long after the start
    #[arg(long, value_name = "TIME")]
    pub(crate) head_still: Option<Span>,
    /// Stay at this height, alive and answering, like a chain at its last block before a switch
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) halt_at: Option<u64>,
    /// With --network-follows: a node that missed a block stands at its old head for this long, every answer
    /// healthy, then jumps to the network's head
    #[arg(long, value_name = "TIME")]
    pub(crate) catch_up_after: Option<Span>,
    /// Seal but never import the block of this height: the head stands one below, the peers go to 0
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) cannot_import_from: Option<u64>,
    /// Follow the chain but put no seal into its blocks
    #[arg(long)]
    pub(crate) no_seal: bool,

    /// Write this many lines a second to stderr
    #[arg(long, value_name = "COUNT")]
    pub(crate) log_lines_per_s: Option<u64>,
    /// Write this many bytes of lines to stderr, as fast as it takes them
    #[arg(long, value_name = "BYTES")]
    pub(crate) log_burst: Option<u64>,
    /// Write this many bytes without a newline to stderr
    #[arg(long, value_name = "BYTES")]
    pub(crate) log_long_line: Option<u64>,
}

/// Why an order to change the faults was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    /// The order is not an object.
    #[error("not an object of fault names and values")]
    NotAnObject,
    /// A name is unknown or a value has the wrong type.
    #[error(transparent)]
    Value(#[from] serde_json::Error),
}

impl Faults {
    /// These faults with `change` on top: `null` takes a fault back.
    pub(crate) fn with(&self, change: &serde_json::Value) -> Result<Self, SetError> {
        let change = change.as_object().ok_or(SetError::NotAnObject)?;
        let mut all = serde_json::to_value(self)?;
        let map = all.as_object_mut().ok_or(SetError::NotAnObject)?;
        for (name, value) in change {
            if value.is_null() {
                map.remove(name);
            } else {
                map.insert(name.clone(), value.clone());
            }
        }
        Ok(serde_json::from_value(all)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_are_read_strictly() {
        for (text, ms) in [("250ms", 250), ("1.5s", 1500), ("5m", 300_000), ("1h", 3_600_000), ("0", 0)] {
            assert_eq!(text.parse::<Span>().unwrap().ms(), ms, "{text}");
        }
        for text in ["", "5", "s", "-1s", "1d", "1 s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn faults_are_set_and_taken_back_by_name() {
        let set = Faults::default()
            .with(&json!({"rpc-fault": "slow:2s", "peers": 0, "no-blocks": true, "head-still": "30s"}))
            .unwrap();
        assert_eq!(set.rpc_fault, Some(WrongAnswer::Slow(Span(Duration::from_secs(2)))));
        assert_eq!((set.peers, set.no_blocks), (Some(0), true));
        let back = json!({"rpc-fault": null, "peers": null, "no-blocks": false, "head-still": null});
        assert_eq!(set.with(&back).unwrap(), Faults::default());
        assert!(set.with(&json!({"no-such-fault": 1})).is_err());
        assert!(set.with(&json!({"peers": "many"})).is_err());
        assert!(set.with(&json!([1])).is_err());
    }
}
