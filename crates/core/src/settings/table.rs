//! The table of settings: the one place that names them.

use super::Settings;
use super::value::{Given, Kind, Value};

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// At once, when the configuration is reloaded.
    Live,
    /// At the node's next start.
    NodeRestart,
    /// At the supervisor's next start.
    SupervisorRestart,
}

impl Applies {
    /// As the documentation says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::NodeRestart => "node restart",
            Self::SupervisorRestart => "supervisor restart",
        }
    }
}

/// One setting.
pub struct Setting {
    /// Its path in `config.toml`, such as `node.shutdown_grace`; also its path in [`Settings`].
    pub key: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// When a changed value takes effect.
    pub applies: Applies,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
    kind: fn(&Settings) -> Kind,
    show: fn(&Settings) -> String,
    set: fn(&mut Settings, &Given) -> Result<(), String>,
    differs: fn(&Settings, &Settings) -> bool,
}

impl Setting {
    /// The kind of its value.
    pub fn kind(&self) -> Kind {
        (self.kind)(&Settings::default())
    }

    /// Its default, as text; `auto` where the program finds the value by itself.
    pub fn default_text(&self) -> String {
        (self.show)(&Settings::default())
    }

    /// Its value in `settings`, as text, without secrets.
    pub fn show(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }

    /// Sets it; the error says what was expected instead, and nothing has changed then.
    pub(super) fn set(&self, settings: &mut Settings, given: &Given) -> Result<(), String> {
        (self.set)(settings, given)
    }

    /// Whether its value is not the same in both.
    pub fn differs(&self, one: &Settings, other: &Settings) -> bool {
        (self.differs)(one, other)
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Setting").field(&self.key).finish()
    }
}

/// The setting with this key.
pub fn setting(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == key)
}

fn kind_of<T: Value>(_: &T) -> Kind {
    T::kind()
}

macro_rules! table {
    ($($first:ident $(. $rest:ident)*, $env:literal, $applies:ident, $doc:literal;)+) => {
        &[$(Setting {
            key: concat!(stringify!($first) $(, ".", stringify!($rest))*),
            env: $env,
            applies: Applies::$applies,
            doc: $doc,
            kind: |settings| kind_of(&settings.$first $(.$rest)*),
            show: |settings| Value::show(&settings.$first $(.$rest)*),
            set: |settings, given| {
                settings.$first $(.$rest)* = Value::read(given)?;
                Ok(())
            },
            differs: |one, other| one.$first $(.$rest)* != other.$first $(.$rest)*,
        }),+]
    };
}

/// Every setting, in the order of the documentation; those of a group stand together.
pub static TABLE: &[Setting] = table! {
    home, "DAEMON_HOME", SupervisorRestart,
        "The home directory.";
    name, "DAEMON_NAME", SupervisorRestart,
        "The file name of the node's program, below `genesis/bin` and `upgrades/<name>/bin`.";
    data_dir, "DAEMON_DATA_DIR", SupervisorRestart,
        "The data directory, which also holds `upgrade-info.json`. `auto`: the node's own `--datadir`, or `data` in the home. A relative path is read from the home.";
    wemixvisor_dir, "DAEMON_WEMIXVISOR_DIR", SupervisorRestart,
        "The supervisor's own directory. `auto`: `wemixvisor` in the home. A relative path is read from the home.";
    network, "DAEMON_NETWORK", SupervisorRestart,
        "The network's profile. `mainnet`: chain id 1111; `testnet`: 1112; both: RPC port 8588, WebSocket port 8598. `devnet` and `none`: no chain id expected, ports 8545 and 8546.";
    debug, "DAEMON_DEBUG", SupervisorRestart,
        "A detailed log of the supervisor itself.";
    validator, "VALIDATOR_MODE", Live,
        "This node signs blocks: there is a floor under the time between its end and its next start, so that one consensus round cannot be signed twice.";

    node.shutdown_grace, "DAEMON_SHUTDOWN_GRACE", Live,
        "Time from SIGTERM after which a node that shows no work (processor time or written bytes) is killed. One that works is waited for.";
    node.stop_hard_limit, "DAEMON_STOP_HARD_LIMIT", Live,
        "Time from SIGTERM after which the node is killed even if it still works.";
    node.stop_moment_limit, "DAEMON_STOP_MOMENT_LIMIT", Live,
        "The longest wait for a good moment to stop, such as right after a block. `0` stops at once.";
    node.kill, "DAEMON_KILL", Live,
        "Whether SIGKILL may be sent at all. With `never` a node that does not end is waited for without a limit, and reported.";
    node.restart_on_failure, "DAEMON_RESTART_ON_FAILURE", Live,
        "Start the node again when it ended by itself.";
    node.max_restarts, "DAEMON_MAX_RESTARTS", Live,
        "Restarts allowed within `node.restart_period`; after that the node stays down, as failed, and the supervisor stays up.";
    node.restart_period, "DAEMON_RESTART_PERIOD", Live,
        "The period within which `node.max_restarts` counts.";
    node.healthy_uptime, "DAEMON_HEALTHY_UPTIME", Live,
        "Uptime after which a node counts as healthy: the budget of restarts is full again, and the next crash is answered at once.";
    node.restart_floor, "DAEMON_RESTART_FLOOR", Live,
        "The least time between the node's end and its next start. `auto`: 3s for validators, 0 for others.";
    node.health_check_interval, "DAEMON_HEALTH_CHECK_INTERVAL", Live,
        "Time between two looks at the node's health.";

    upgrade.enabled, "DAEMON_UPGRADE_ENABLED", Live,
        "Carry out upgrades. If not, they are watched and reported only.";
    upgrade.late, "DAEMON_UPGRADE_LATE", Live,
        "What becomes of a plan whose height had passed when this supervisor first saw it, also where an earlier one had seen it in time: it fires at once, or is refused and reported.";
    upgrade.poll_interval, "DAEMON_POLL_INTERVAL", Live,
        "Time between two looks at `upgrade-info.json`. A change is normally seen at once, without the poll.";
    upgrade.stall_time, "DAEMON_STALL_TIME", Live,
        "How long the head has to stand still, one block before the height, for a plan with `switch` = `halted` to fire.";
    upgrade.prepare_interval, "DAEMON_PREPARE_INTERVAL", Live,
        "Time between two checks of the readiness of a waiting plan.";
    upgrade.version_limit, "DAEMON_VERSION_LIMIT", Live,
        "The longest a program may take to tell its version.";
    upgrade.restart_after_upgrade, "DAEMON_RESTART_AFTER_UPGRADE", Live,
        "Start the new program after the switch. If not, the operator is waited for.";
    upgrade.restart_delay, "DAEMON_RESTART_DELAY", Live,
        "Pause between the end of the old program and the start of the new one.";

    probation.must_answer_within, "DAEMON_PROBATION_MUST_ANSWER_WITHIN", Live,
        "Time from the start of the new program to its first good answer over RPC. Time in which the supervisor itself stood still does not count, here and below.";
    probation.must_be_steady_for, "DAEMON_PROBATION_MUST_BE_STEADY_FOR", Live,
        "How long every check has to be good without a break.";
    probation.must_advance_within, "DAEMON_PROBATION_MUST_ADVANCE_WITHIN", Live,
        "Time from the first answer to the head having gone far enough and being in step.";
    probation.blocks, "DAEMON_PROBATION_BLOCKS", Live,
        "How many blocks the head has to go beyond the head known before the stop. At least 1; 1 can be a block that the old program sealed while it stopped.";
    probation.in_step_blocks, "DAEMON_PROBATION_IN_STEP_BLOCKS", Live,
        "How many blocks behind the head that the clock and the block time lead to still count as in step.";
    probation.min_peers, "DAEMON_PROBATION_MIN_PEERS", Live,
        "The least number of peers, where the node can tell it. 0 does not ask.";

    hooks.pre_upgrade, "COSMOVISOR_CUSTOM_PREUPGRADE", Live,
        "A program that runs before every switch, besides the `pre-upgrade` of the upgrade itself. `auto`: none. A relative path is read from the supervisor's own directory.";
    hooks.time_limit, "DAEMON_HOOK_TIME_LIMIT", Live,
        "The longest a hook may run; then it is ended and has failed.";
    hooks.pre_upgrade_retries, "DAEMON_PREUPGRADE_MAX_RETRIES", Live,
        "How often a failed pre-upgrade hook is tried again.";

    heights.rpc_addresses, "DAEMON_RPC_ADDRESS", SupervisorRestart,
        "The node's addresses, tried in this order: `http://…`, `https://…`, `ws://…`, `wss://…`, or the path of an IPC socket. Empty: the socket in the node's data directory, and WebSocket and HTTP where the node's arguments ask for them.";
    heights.poll_interval, "DAEMON_HEIGHT_POLL_INTERVAL", Live,
        "Time between two polls of the height, far from an upgrade. It gets shorter by itself as the height comes near.";
    heights.answer_limit, "DAEMON_ANSWER_LIMIT", Live,
        "The longest wait for one answer of the node.";
    heights.source_silent_after, "DAEMON_SOURCE_SILENT_AFTER", Live,
        "A source that has given no height for so long is reported.";
    heights.chain_id, "DAEMON_CHAIN_ID", SupervisorRestart,
        "The chain id that the node must have. `auto`: by the network.";

    logs.file, "DAEMON_LOG_FILE", NodeRestart,
        "The file that takes the node's output. `auto`: `logs/node.log` in the supervisor's own directory. A relative path is read from the home. In the supervisor's own directory it can only be below `logs/`.";
    logs.max_bytes, "DAEMON_LOG_MAX_BYTES", NodeRestart,
        "The size in bytes at which the node's log is rotated; at least 65536.";
    logs.keep, "DAEMON_LOG_KEEP", NodeRestart,
        "How many rotated logs are kept besides the current one.";
    logs.disabled, "COSMOVISOR_DISABLE_LOGS", SupervisorRestart,
        "Silence the supervisor's own log. The node's log is not touched.";
    logs.color, "COSMOVISOR_COLOR_LOGS", SupervisorRestart,
        "Colours in the supervisor's own log, on a terminal.";
    logs.time_format, "COSMOVISOR_TIMEFORMAT_LOGS", SupervisorRestart,
        "How moments are written in the supervisor's own log.";

    api.enabled, "DAEMON_API_ENABLED", Live,
        "Serve the HTTP API and the page over TCP. The control socket is always there.";
    api.listen, "DAEMON_API_LISTEN", Live,
        "The IP address and port of the API. On any other than a loopback address every request needs a token, and there has to be TLS or a proxy that speaks it.";
    api.hosts, "DAEMON_API_HOSTS", Live,
        "Host names under which the API may be asked, besides `localhost` and IP addresses: any other name is refused, because a page from elsewhere could be behind it.";
    api.require_token, "DAEMON_API_REQUIRE_TOKEN", Live,
        "Ask for a token on a loopback address as well: where other users of this machine must not operate the node.";
    api.tls_cert, "DAEMON_API_TLS_CERT", Live,
        "The certificates for TLS, a PEM file. `auto`: no TLS. A relative path is read from the supervisor's own directory.";
    api.tls_key, "DAEMON_API_TLS_KEY", Live,
        "The private key for TLS, a PEM file. `auto`: no TLS. A relative path is read from the supervisor's own directory.";
    api.behind_proxy, "DAEMON_API_BEHIND_PROXY", Live,
        "A proxy that speaks TLS stands before the API, and is its only client: every request needs a token, and the last address of its `X-Forwarded-For` is taken for the client's.";
    api.rate_limit, "DAEMON_API_RATE_LIMIT", Live,
        "Requests that one client may make in a second; twice as many at once. `0` is no limit.";
};
