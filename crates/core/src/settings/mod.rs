//! What can be set: one table for the reader, `config show`, the documentation and the checks.
//!
//! [`Settings`] is what the program works with. [`TABLE`] lists every setting with its key, which is also
//! its path in `config.toml` and in [`Settings`], its environment variable and its meaning. [`resolve`] lays
//! the layers over each other (defaults < `config.toml` < environment < flags) and keeps for each value
//! where it comes from. Nothing here reads a file or the environment: the layers come in as text.

mod defaults;
mod file;
mod layers;
mod rules;
mod show;
mod table;
mod value;

pub use layers::{Layers, Origin, Resolved, SettingError, Warning, resolve};
pub use show::{Row, docs_table};
pub use table::{Applies, Setting, TABLE, setting};
pub use value::{Kind, redacted};

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every setting, in groups. The defaults and their reasons stand in `defaults.rs`, the meanings in
/// `table.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The home directory, absolute once the program has resolved it.
    pub home: PathBuf,
    /// The file name of the node's program below `genesis/bin` and `upgrades/<name>/bin`.
    pub name: String,
    /// The node's data directory where it is set apart; see [`Settings::data_dir_for`].
    pub data_dir: Option<PathBuf>,
    /// The supervisor's own directory where it is set apart; see [`Settings::own_dir`].
    pub wemixvisor_dir: Option<PathBuf>,
    /// The network whose profile is used.
    pub network: Network,
    /// Whether the supervisor's own log is detailed.
    pub debug: bool,
    /// Whether the node signs blocks.
    pub validator: bool,
    /// How the node's process is stopped, restarted and watched.
    pub node: Node,
    /// How plans are found, prepared and fired.
    pub upgrade: Upgrade,
    /// How a new program has to prove itself.
    pub probation: Probation,
    /// The operator's own programs that run around an upgrade.
    pub hooks: Hooks,
    /// Where heights come from.
    pub heights: Heights,
    /// The logs of the node and of the supervisor.
    pub logs: Logs,
    /// The API over TCP.
    pub api: Api,
}

/// How the node's process is stopped, restarted and watched (PRODUCT.md sections 4 and 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Time from SIGTERM after which a node that shows no work is killed.
    pub shutdown_grace: Duration,
    /// Time from SIGTERM after which a node is killed even if it works.
    pub stop_hard_limit: Duration,
    /// The longest wait for a good moment to stop.
    pub stop_moment_limit: Duration,
    /// Whether SIGKILL may be sent at all.
    pub kill: Kill,
    /// Whether a node that ended by itself is started again.
    pub restart_on_failure: bool,
    /// Restarts allowed within [`Node::restart_period`].
    pub max_restarts: u32,
    /// The period of the restart budget.
    pub restart_period: Duration,
    /// Uptime after which a node counts as healthy again and the budget is full.
    pub healthy_uptime: Duration,
    /// The least time between the node's end and its next start, where set; see
    /// [`Settings::restart_floor`].
    pub restart_floor: Option<Duration>,
    /// Time between two looks at the node's health.
    pub health_check_interval: Duration,
}

/// How plans are found, prepared and fired (PRODUCT.md sections 3 and 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Whether upgrades are carried out, or only watched and reported.
    pub enabled: bool,
    /// What becomes of a plan whose height had passed when it was first seen.
    pub late: Late,
    /// Time between two looks at the plan file.
    pub poll_interval: Duration,
    /// How long the head has to stand still for a plan with `switch` = `halted`.
    pub stall_time: Duration,
    /// Time between two preparations of a waiting plan.
    pub prepare_interval: Duration,
    /// The longest a program may take to tell its version.
    pub version_limit: Duration,
    /// Whether the new program is started after the switch, or the operator is waited for.
    pub restart_after_upgrade: bool,
    /// Pause between the old program's end and the new one's start.
    pub restart_delay: Duration,
}

/// The three clocks of the probation, and what has to be true (PRODUCT.md section 4, step 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probation {
    /// From the start to the first good RPC answer.
    pub must_answer_within: Duration,
    /// How long every check has to be good without a break.
    pub must_be_steady_for: Duration,
    /// From the first answer to enough new blocks and being in step.
    pub must_advance_within: Duration,
    /// How many blocks the head has to go beyond the head before the stop.
    pub blocks: u64,
    /// How many blocks behind the expected head still count as in step.
    pub in_step_blocks: u64,
    /// The least number of peers; 0 does not ask.
    pub min_peers: u64,
}

/// The operator's own programs that run around an upgrade (PRODUCT.md section 4, step 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// A pre-upgrade hook for all upgrades, where set; see [`Settings::pre_upgrade_hook`].
    pub pre_upgrade: Option<PathBuf>,
    /// The longest a hook may run.
    pub time_limit: Duration,
    /// How often a failed pre-upgrade hook is tried again.
    pub pre_upgrade_retries: u32,
}

/// Where heights come from (PRODUCT.md section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heights {
    /// The node's addresses in the order in which they are tried; empty finds them by itself.
    pub rpc_addresses: Vec<String>,
    /// Time between two polls, far from an upgrade.
    pub poll_interval: Duration,
    /// The longest wait for one answer.
    pub answer_limit: Duration,
    /// A source that has said nothing for so long is reported.
    pub source_silent_after: Duration,
    /// The chain id the node must have, where set; see [`Settings::expected_chain_id`].
    pub chain_id: Option<u64>,
}

/// The logs of the node and of the supervisor (PRODUCT.md sections 5 and 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// The file that takes the node's output, where set; see [`Settings::node_log`].
    pub file: Option<PathBuf>,
    /// The size in bytes at which the node's log is rotated.
    pub max_bytes: u64,
    /// How many rotated logs are kept.
    pub keep: u32,
    /// Whether the supervisor's own log is silent.
    pub disabled: bool,
    /// Whether the supervisor's own log is coloured on a terminal.
    pub color: bool,
    /// How moments are written in the supervisor's own log.
    pub time_format: TimeFormat,
}

/// The API over TCP (PRODUCT.md section 9). The control socket has none of this: it is for the same user only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Whether it is served.
    pub enabled: bool,
    /// The IP address and port on which it listens.
    pub listen: String,
    /// Host names under which it may be asked, besides `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Whether a token is needed on a loopback address as well.
    pub require_token: bool,
    /// The certificates for TLS, as PEM, where set.
    pub tls_cert: Option<PathBuf>,
    /// The private key for TLS, as PEM, where set.
    pub tls_key: Option<PathBuf>,
    /// Whether a proxy stands before it that speaks TLS with the clients.
    pub behind_proxy: bool,
    /// Requests that one client may make in a second; 0 is no limit.
    pub rate_limit: u32,
}

impl Api {
    /// The address on which it listens; `None` where the text is none, which the rules refuse.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// Whether every request needs a token: always, but on a loopback address only where that is set, or where a
    /// proxy hands on what comes from elsewhere.
    pub fn needs_token(&self) -> bool {
        self.require_token
            || self.behind_proxy
            || self.address().is_none_or(|address| !address.ip().is_loopback())
    }
}

value::choices! {
    /// The network whose profile is used (PRODUCT.md section 7).
    pub enum Network {
        /// Chain id 1111, RPC 8588, WebSocket 8598.
        Mainnet = "mainnet",
        /// Chain id 1112, ports as on mainnet.
        Testnet = "testnet",
        /// A network of one's own: geth's ports, no chain id expected.
        Devnet = "devnet",
        /// No profile: geth's ports, no chain id expected.
        None = "none",
    }
}

value::choices! {
    /// Whether a node that does not end may be killed.
    pub enum Kill {
        /// After the grace without work, or after the hard limit.
        Allowed = "allowed",
        /// Never: the stop waits on, and says so.
        Never = "never",
    }
}

value::choices! {
    /// What becomes of a plan whose height had passed when it was first seen.
    pub enum Late {
        /// It fires at once.
        Apply = "apply",
        /// It does not fire, and that is reported.
        Refuse = "refuse",
    }
}

value::choices! {
    /// How moments are written in the supervisor's own log.
    pub enum TimeFormat {
        /// `2026-01-31T12:00:00Z`.
        Rfc3339 = "rfc3339",
        /// The same with parts of a second.
        Rfc3339Nano = "rfc3339nano",
        /// `12:00PM`.
        Kitchen = "kitchen",
    }
}

/// What is known of a network beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The chain id its nodes answer, if it has a fixed one.
    pub chain_id: Option<u64>,
    /// The port on which its client offers HTTP by default.
    pub rpc_port: u16,
    /// The port on which its client offers WebSocket by default.
    pub ws_port: u16,
}

impl Network {
    /// The profile of the network (NODES.md section 1).
    pub fn profile(self) -> Profile {
        match self {
            Self::Mainnet => Profile { chain_id: Some(1111), rpc_port: 8588, ws_port: 8598 },
            Self::Testnet => Profile { chain_id: Some(1112), rpc_port: 8588, ws_port: 8598 },
            Self::Devnet | Self::None => Profile { chain_id: None, rpc_port: 8545, ws_port: 8546 },
        }
    }
}

impl Settings {
    /// Takes over from `running` what cannot change while a supervisor runs: where everything lies, and which
    /// chain it is.
    pub fn keep_fixed(&mut self, running: &Settings) {
        self.home.clone_from(&running.home);
        self.name.clone_from(&running.name);
        self.data_dir.clone_from(&running.data_dir);
        self.wemixvisor_dir.clone_from(&running.wemixvisor_dir);
        self.network = running.network;
        self.heights.rpc_addresses.clone_from(&running.heights.rpc_addresses);
        self.heights.chain_id = running.heights.chain_id;
    }

    /// The supervisor's own directory: `wemixvisor_dir`, or `wemixvisor` in the home.
    pub fn own_dir(&self) -> PathBuf {
        self.home.join(self.wemixvisor_dir.as_deref().unwrap_or(Path::new("wemixvisor")))
    }

    /// The data directory of a node that runs with `node_args`: `data_dir`, or the node's own `--datadir`
    /// (read from the home, where the node runs), or `data` in the home.
    pub fn data_dir_for<S: AsRef<OsStr>>(&self, node_args: &[S]) -> PathBuf {
        let from_args = || value_of_flag(node_args, "datadir").map(PathBuf::from);
        self.home.join(self.data_dir.clone().or_else(from_args).unwrap_or_else(|| "data".into()))
    }

    /// A word of warning where the node's own arguments name another data directory than [`Settings::data_dir`]: the
    /// node follows its arguments, everything else the setting.
    pub fn other_data_dir<S: AsRef<OsStr>>(&self, node_args: &[S]) -> Option<String> {
        let set = self.home.join(self.data_dir.as_ref()?);
        let given = self.home.join(value_of_flag(node_args, "datadir")?);
        // By their parts: `d/` and `d` are the same.
        let differ = !set.components().eq(given.components());
        differ.then(|| {
            format!(
                "the node's arguments say --datadir {}, the setting data_dir says {}: the node uses the first, the \
                 plan file and the node's socket are looked for in the second. Make them the same, or leave data_dir \
                 unset",
                given.display(),
                set.display()
            )
        })
    }

    /// The file that takes the node's output: `logs.file` (read from the home), or `logs/node.log` in the
    /// supervisor's own directory.
    pub fn node_log(&self) -> PathBuf {
        match &self.logs.file {
            Some(file) => self.home.join(file),
            None => self.own_dir().join("logs/node.log"),
        }
    }

    /// The pre-upgrade hook for all upgrades, if one is set (read from the supervisor's own directory).
    pub fn pre_upgrade_hook(&self) -> Option<PathBuf> {
        Some(self.own_dir().join(self.hooks.pre_upgrade.as_deref()?))
    }

    /// The least time between the node's end and its next start: as set, or by the node's role.
    pub fn restart_floor(&self) -> Duration {
        let by_role = if self.validator { defaults::VALIDATOR_RESTART_FLOOR } else { Duration::ZERO };
        self.node.restart_floor.unwrap_or(by_role)
    }

    /// The chain id the node must have: as set, or by the network; `None` expects no certain one.
    pub fn expected_chain_id(&self) -> Option<u64> {
        self.heights.chain_id.or(self.network.profile().chain_id)
    }
}

/// The value of the flag `name` in a geth-like command line: `--name value`, `--name=value`, also with one
/// dash; the last one counts. Words after `--` are no flags.
pub fn value_of_flag<'a, S: AsRef<OsStr>>(args: &'a [S], name: &str) -> Option<&'a OsStr> {
    let mut words = args.iter().map(AsRef::as_ref).take_while(|word| *word != "--");
    let mut found = None;
    while let Some(word) = words.next() {
        let word = word.as_bytes();
        let Some(flag) = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-")) else { continue };
        match flag.strip_prefix(name.as_bytes()) {
            Some([]) => found = words.next().or(found),
            Some([b'=', value @ ..]) => found = Some(OsStr::from_bytes(value)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests;
