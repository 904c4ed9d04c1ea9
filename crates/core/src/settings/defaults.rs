//! The defaults, each with its reason.

use std::time::Duration;

use super::{Api, Heights, Hooks, Kill, Late, Logs, Network, Node, Probation, Settings, TimeFormat, Upgrade};

/// The home below the user's own directory: PRODUCT.md section 2.
pub const HOME: &str = "~/.wemixd";

/// The program's file name: PRODUCT.md section 2.
pub const NAME: &str = "wemixd";

/// A flush can take minutes; users of these nodes in containers allow five (NODES.md section 2).
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5 * 60);

/// A node that still writes after three times the grace is taken to write for ever.
pub const STOP_HARD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Five blocks of the chains that have such a moment: they make one a second (NODES.md section 1).
pub const STOP_MOMENT_LIMIT: Duration = Duration::from_secs(5);

/// Enough for a passing cause, too few to wear out a database: as peers have it (PRODUCT.md section 7).
pub const MAX_RESTARTS: u32 = 5;

/// With a back-off of at most 60 s, five quick crashes always fall into ten minutes.
pub const RESTART_PERIOD: Duration = Duration::from_secs(10 * 60);

/// After a start the head may stand for 10–30 s (NODES.md section 2): twice that is no start-up crash.
pub const HEALTHY_UPTIME: Duration = Duration::from_secs(60);

/// One consensus round lasts 2·2^r s from 2 s on (NODES.md section 5): no round is signed twice.
pub const VALIDATOR_RESTART_FLOOR: Duration = Duration::from_secs(3);

/// PRODUCT.md section 7.
pub const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// PRODUCT.md section 7; a change is also seen at once by inotify.
pub const PLAN_POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Fifteen blocks of these chains, and longer than the 10 s that a lost mining token holds up a governed
/// chain (NODES.md section 6).
pub const STALL_TIME: Duration = Duration::from_secs(15);

/// PRODUCT.md section 4: again every hour.
pub const PREPARE_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// `version` opens no database and answers in milliseconds; a cold disk and a loaded machine need room.
pub const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A slow client opens its database for half a minute before its RPC answers; twice that.
pub const MUST_ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Longer than a program needs to fail after its first answer, and hidden behind the wait for blocks, so
/// that the whole upgrade of a light node stays within 5 s.
pub const MUST_BE_STEADY_FOR: Duration = Duration::from_secs(1);

/// A good program may stand for 60 s after a rewind (NODES.md section 6); twice that.
pub const MUST_ADVANCE_WITHIN: Duration = Duration::from_secs(120);

/// One block proves nothing: the old program often seals one more after SIGTERM (NODES.md section 6). The
/// second one is the new program's.
pub const PROBATION_BLOCKS: u64 = 2;

/// A block under way and a second of clock difference; one block further back a validator would already
/// be signing nothing (NODES.md section 5).
pub const IN_STEP_BLOCKS: u64 = 2;

/// A pre-start step takes a second, a migration minutes; the node is down all the while.
pub const HOOK_TIME_LIMIT: Duration = Duration::from_secs(5 * 60);

/// PRODUCT.md section 6; it tightens by itself near an upgrade.
pub const HEIGHT_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A healthy node answers in milliseconds; a busy one within a second.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Six polls without an answer.
pub const SOURCE_SILENT_AFTER: Duration = Duration::from_secs(30);

/// Seven hours to weeks of output (NODES.md section 5: 2.4 kB/s), and still quick to open.
pub const LOG_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// With the current one, 384 MiB at most.
pub const LOG_KEEP: u32 = 5;

/// The API: only from this machine (PRODUCT.md section 9).
pub const API_LISTEN: &str = "127.0.0.1:8080";

/// A page with all its panels asks about ten times at once, and then seldom.
pub const API_RATE_LIMIT: u32 = 100;

impl Default for Settings {
    fn default() -> Self {
        Self {
            home: HOME.into(),
            name: NAME.into(),
            data_dir: None,
            wemixvisor_dir: None,
            network: Network::None,
            debug: false,
            validator: false,
            node: Node {
                shutdown_grace: SHUTDOWN_GRACE,
                stop_hard_limit: STOP_HARD_LIMIT,
                stop_moment_limit: STOP_MOMENT_LIMIT,
                kill: Kill::Allowed,
                restart_on_failure: true,
                max_restarts: MAX_RESTARTS,
                restart_period: RESTART_PERIOD,
                healthy_uptime: HEALTHY_UPTIME,
                restart_floor: None,
                health_check_interval: HEALTH_CHECK_INTERVAL,
            },
            upgrade: Upgrade {
                enabled: true,
                late: Late::Apply,
                poll_interval: PLAN_POLL_INTERVAL,
                stall_time: STALL_TIME,
                prepare_interval: PREPARE_INTERVAL,
                version_limit: VERSION_LIMIT,
                restart_after_upgrade: true,
                restart_delay: Duration::ZERO,
            },
            probation: Probation {
                must_answer_within: MUST_ANSWER_WITHIN,
                must_be_steady_for: MUST_BE_STEADY_FOR,
                must_advance_within: MUST_ADVANCE_WITHIN,
                blocks: PROBATION_BLOCKS,
                in_step_blocks: IN_STEP_BLOCKS,
                min_peers: 0,
            },
            hooks: Hooks { pre_upgrade: None, time_limit: HOOK_TIME_LIMIT, pre_upgrade_retries: 0 },
            heights: Heights {
                rpc_addresses: Vec::new(),
                poll_interval: HEIGHT_POLL_INTERVAL,
                answer_limit: ANSWER_LIMIT,
                source_silent_after: SOURCE_SILENT_AFTER,
                chain_id: None,
            },
            logs: Logs {
                file: None,
                max_bytes: LOG_MAX_BYTES,
                keep: LOG_KEEP,
                disabled: false,
                color: true,
                time_format: TimeFormat::Rfc3339,
            },
            api: Api {
                enabled: false,
                listen: API_LISTEN.into(),
                hosts: Vec::new(),
                require_token: false,
                tls_cert: None,
                tls_key: None,
                behind_proxy: false,
                rate_limit: API_RATE_LIMIT,
            },
        }
    }
}
