//! The command line, and the flags that lie beside the program.
//!
//! A file `<name of the executable>.json` next to the executable holds flags as an object; the command line comes
//! after it and wins. So a copy of the program with another file beside it is another version of the program.
//! Words and flags may come in any order, so that a shell script can put its own flags first.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueHint};
use serde_json::{Map, Value};

use crate::chain::Fork;
use crate::faults::{Faults, Span};

/// Block time of the chains that this node stands for: 1 s (NODES.md section 1).
const BLOCK_TIME: &str = "1s";

/// A node that behaves like a geth-fork validator or RPC node, and shows its faults on order.
///
/// `testnode` runs the node; `testnode version` prints the version and opens no database; `testnode init GENESIS`
/// writes the fork heights of a genesis file (config.*Block) into the data directory, and is refused once the head
/// is at or past a height that changes. SIGTERM and SIGINT stop it in order; the tenth further one panics.
///
/// Flags are also read from the file `<this executable>.json` ({"flag-name": value or true, ...}); the command line
/// wins. A switch is turned off again by `--switch=false`. D/testnode/ports.json tells the ports,
/// D/testnode/journal.log what happened. Lengths of time: 250ms, 1.5s, 5m, 1h.
///
/// The control port (--control) speaks JSON over HTTP: GET /state; POST /set {"<fault>": value}, /mine {"blocks": n},
/// /set-head {"height": n}, /reorg {"depth": n}, /exit {"code": n} or {"signal": n}.
#[derive(Debug, Clone, Parser)]
#[command(name = "testnode", args_override_self = true, disable_version_flag = true)]
pub(crate) struct Flags {
    /// Nothing, `version`, or `init GENESIS`
    #[arg(value_name = "COMMAND", value_hint = ValueHint::Other)]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) program: Program,
    #[command(flatten)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) endpoints: Endpoints,
    #[command(flatten)]
    pub(crate) record: Record,
    #[command(flatten)]
    pub(crate) faults: Faults,
    /// Show the faults only on the K-th start of this version on this data directory (counted from 1)
    #[arg(long, value_name = "K", help_heading = "Faults that are flags only")]
    pub(crate) only_on_start: Option<u64>,
    /// Catch SIGTERM and SIGINT only this long after the start; before, they kill
    #[arg(long, value_name = "TIME", help_heading = "Faults that are flags only")]
    pub(crate) sigterm_after: Option<Span>,
    /// Open the RPC only this long after the start (ports.json tells its ports then)
    #[arg(long, value_name = "TIME", help_heading = "Faults that are flags only")]
    pub(crate) rpc_after: Option<Span>,
    /// `version` prints nothing and never ends
    #[arg(long, help_heading = "Faults that are flags only")]
    pub(crate) version_hangs: bool,
    /// The exit code of `version`
    #[arg(long, value_name = "CODE", help_heading = "Faults that are flags only")]
    pub(crate) version_exit_code: Option<u8>,
}

/// Who the program says it is, and what it knows.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Program")]
pub(crate) struct Program {
    /// The version, without `v` and `-stable`
    #[arg(long, value_name = "VERSION", default_value = "1.0.0")]
    pub(crate) as_version: String,
    /// The commit, in hex
    #[arg(long, value_name = "HEX", default_value = "53273fcb7d7ac6bb7e0d3a8b3b3e8b9f6b1c2d3e")]
    pub(crate) commit: String,
    /// Answer istanbul_* (a WBFT validator)
    #[arg(long)]
    pub(crate) validator: bool,
    /// How many validators the chain has
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) validators: u64,
    /// Which of them this node is, from 0
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) validator_index: u64,
    /// Answer admin_wemixInfo, debug_etcdGet and admin_etcdMoveLeader (a go-wemix member)
    #[arg(long)]
    pub(crate) wemix: bool,
    /// The program has the rules of this fork, as the genesis file names it (`croissantBlock`); its height comes
    /// from the data directory, or is built in with `=HEIGHT`: then a head at or past a new height is rewound at
    /// the start (repeatable; default: every fork of the data directory; `none`: no fork)
    #[arg(long, value_name = "NAME[=HEIGHT]")]
    pub(crate) fork: Vec<String>,
    /// At the start drop the fork heights of the data directory that this program has no rules for
    #[arg(long)]
    pub(crate) forgets_forks: bool,
    /// The version of the database that this program writes; it refuses a newer one
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    pub(crate) database_version: u32,
}

/// The chain and the network.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Chain")]
pub(crate) struct Network {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub(crate) datadir: PathBuf,
    /// The chain id (default: as the data directory says, 1112 in an empty one)
    #[arg(long, value_name = "ID")]
    pub(crate) chain_id: Option<u64>,
    /// Makes another genesis block (default: as the data directory says, nothing in an empty one)
    #[arg(long, value_name = "TEXT")]
    pub(crate) genesis_salt: Option<String>,
    /// When a new chain's genesis block was made, in milliseconds since the epoch (default: now)
    #[arg(long, value_name = "MS")]
    pub(crate) genesis_time: Option<u64>,
    /// The time between two blocks
    #[arg(long, value_name = "TIME", default_value = BLOCK_TIME)]
    pub(crate) block_time: Span,
    /// This node makes the blocks itself; the head goes on from where it was (default)
    #[arg(long)]
    pub(crate) solo: bool,
    /// A network makes the blocks, by the wall clock, also while this node is away
    #[arg(long)]
    pub(crate) network_follows: bool,
    /// The network has this fork: a program without its rules, or with no or another height for it, cannot import
    /// that block (as --cannot-import-from)
    #[arg(long, value_name = "NAME=HEIGHT")]
    pub(crate) network_fork: Option<String>,
    /// Write the state to the disk every N blocks; what is later is lost when the node is killed
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) flush_every: u64,
    /// After an unclean stop make another chain (other hashes) instead of the same blocks again
    #[arg(long)]
    pub(crate) unclean_forks: bool,
}

/// Where it listens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Endpoints")]
pub(crate) struct Endpoints {
    /// Serve HTTP, on port 8545 if --http.port says no other
    #[arg(long)]
    pub(crate) http: bool,
    /// The address of HTTP
    #[arg(long = "http.addr", value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) http_addr: String,
    /// Serve HTTP on this port (0: any free one)
    #[arg(long = "http.port", value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
    /// The namespaces that HTTP serves
    #[arg(long = "http.api", value_name = "LIST", default_value = "eth,net,web3")]
    pub(crate) http_api: String,
    /// Serve WebSocket, on port 8546 if --ws.port says no other
    #[arg(long)]
    pub(crate) ws: bool,
    /// The address of WebSocket
    #[arg(long = "ws.addr", value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) ws_addr: String,
    /// Serve WebSocket on this port (0: any free one)
    #[arg(long = "ws.port", value_name = "PORT")]
    pub(crate) ws_port: Option<u16>,
    /// The namespaces that WebSocket serves
    #[arg(long = "ws.api", value_name = "LIST", default_value = "eth,net,web3")]
    pub(crate) ws_api: String,
    /// The IPC socket, relative to the data directory (at most 107 bytes in all)
    #[arg(long, value_name = "PATH", default_value = "gwemix.ipc")]
    pub(crate) ipcpath: PathBuf,
    /// No IPC socket
    #[arg(long)]
    pub(crate) ipcdisable: bool,
    /// Serve the control port on a free port of 127.0.0.1
    #[arg(long)]
    pub(crate) control: bool,
}

/// What it writes down for the judge.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Record")]
pub(crate) struct Record {
    /// Append the facts to this file (default: D/testnode/journal.log; `version` and `init` only write when asked)
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Record every block
    #[arg(long)]
    pub(crate) journal_blocks: bool,
    /// Record the whole environment (otherwise DAEMON_*, UPGRADE_*, WEMIXVISOR_*, GETH_*, TESTNODE_*)
    #[arg(long)]
    pub(crate) journal_env: bool,
    /// Read stdin to its end and record its length and SHA-256
    #[arg(long)]
    pub(crate) read_stdin: bool,
}

/// Why the command line is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlagsError {
    /// clap's refusal, or its help text.
    #[error("{}", first_line(.0))]
    Usage(#[from] clap::Error),
    /// The file beside the program cannot be read or is no object of flags.
    #[error("flags file {0}: {1}")]
    Beside(PathBuf, String),
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Reads the flags beside the executable and then `args`, whose first is the program's name.
pub(crate) fn read(args: impl Iterator<Item = OsString>) -> Result<Flags, FlagsError> {
    let mut args = args;
    let name = args.next().unwrap_or_else(|| "testnode".into());
    let mut line = vec![name];
    if let Ok(executable) = std::env::current_exe() {
        line.extend(beside(&executable)?);
    }
    line.extend(args);
    Ok(parse(line)?)
}

fn parse(line: Vec<OsString>) -> Result<Flags, clap::Error> {
    // A switch takes `=false` too, so that the command line can undo what the file set.
    let switches = Flags::command().mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL"),
        _ => arg,
    });
    Flags::from_arg_matches(&switches.try_get_matches_from(line)?)
}

fn beside(executable: &Path) -> Result<Vec<OsString>, FlagsError> {
    let mut file = executable.as_os_str().to_owned();
    file.push(".json");
    let file = PathBuf::from(file);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FlagsError::Beside(file, error.to_string())),
    };
    let map: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| FlagsError::Beside(file, error.to_string()))?;
    Ok(map.iter().flat_map(|(name, value)| as_flags(name, value)).collect())
}

fn as_flags(name: &str, value: &Value) -> Vec<OsString> {
    match value {
        Value::Array(all) => all.iter().flat_map(|one| as_flags(name, one)).collect(),
        Value::Null => Vec::new(),
        Value::String(text) => vec![format!("--{name}={text}").into()],
        other => vec![format!("--{name}={other}").into()],
    }
}

impl Flags {
    /// The directory of the node's own files in the data directory.
    pub(crate) fn instance_dir(&self) -> PathBuf {
        self.network.datadir.join("testnode")
    }

    /// What the program says it is, as `web3_clientVersion` answers.
    pub(crate) fn client_version(&self) -> String {
        let commit: String = self.program.commit.chars().take(8).collect();
        format!("testnode/v{}-stable-{commit}/linux-{}/rust", self.program.as_version, architecture())
    }
}

/// The architecture, by Go's name.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Program {
    /// The forks whose rules the program has, with the height that is built in, if any.
    pub(crate) fn forks(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.fork.iter().map(|text| match text.split_once('=') {
            Some((name, height)) => (name, height.parse().ok()),
            None => (text.as_str(), None),
        })
    }
}

impl Network {
    /// The network's fork that divides those who have it from those who do not.
    pub(crate) fn fork(&self) -> Option<Fork> {
        let (name, height) = self.network_fork.as_deref()?.split_once('=')?;
        Some(Fork { name: name.to_owned(), height: height.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Flags, clap::Error> {
        parse(std::iter::once("testnode").chain(line.iter().copied()).map(OsString::from).collect())
    }

    #[test]
    fn the_command_is_well_formed() {
        Flags::command().debug_assert();
    }

    #[test]
    fn later_flags_win_and_switches_can_be_turned_off() {
        let flags =
            parsed(&["--as-version=1.0.0", "--no-blocks", "--as-version", "2.0.0", "--no-blocks=false"])
                .unwrap();
        assert_eq!(flags.program.as_version, "2.0.0");
        assert!(!flags.faults.no_blocks);
        assert!(parsed(&["--no-blocks"]).unwrap().faults.no_blocks);
    }

    #[test]
    fn words_and_flags_mix() {
        let flags = parsed(&["--validator", "init", "genesis.json", "--datadir", "d"]).unwrap();
        assert_eq!(flags.words, ["init", "genesis.json"]);
        assert!(flags.program.validator);
        assert!(parsed(&["--no-such-flag"]).is_err());
    }

    #[test]
    fn a_file_beside_the_program_becomes_flags() {
        let dir = tempfile::tempdir().unwrap();
        let executable = dir.path().join("gwemix");
        assert!(beside(&executable).unwrap().is_empty());
        let text = r#"{"as-version": "2.0.0", "validator": true, "peers": 5, "no-method": ["a_b", "c_d"], "wemix": false}"#;
        std::fs::File::create(dir.path().join("gwemix.json"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap();
        let line: Vec<String> =
            beside(&executable).unwrap().into_iter().map(|arg| arg.into_string().unwrap()).collect();
        let expected = [
            "--as-version=2.0.0",
            "--validator=true",
            "--peers=5",
            "--no-method=a_b",
            "--no-method=c_d",
            "--wemix=false",
        ];
        assert_eq!(line, expected);
    }
}
