//! What has to hold for the values, alone and together, beyond being of their kind.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::Settings;
use crate::duration::show;

/// The least size of a log before it is rotated, in bytes: below that a burst would rotate without end.
const LEAST_LOG_BYTES: u64 = 64 * 1024;

/// Files of wemixvisor in a data directory, wherever that is: the node's arguments may name it.
const OWN_FILES: [&str; 4] =
    ["upgrade-info.json", "upgrade-info.json.lock", "wemixvisor-node.lock", "wemixvisor-supervisor.lock"];

/// The supervisor's and the keeper's logs, beside the node's; rotated ones have a number behind.
const OWN_LOGS: [&str; 2] = ["supervisor.log", "keeper.log"];

/// A rule that is broken: the keys it is about, and what is wrong.
pub struct Broken {
    /// The settings that the rule compares.
    pub keys: &'static [&'static str],
    /// What is wrong with them, for a person.
    pub what: String,
}

/// The rules that `settings` break.
pub fn broken(settings: &Settings) -> Vec<Broken> {
    let mut found = Vec::new();
    let mut rule = |keys: &'static [&'static str], holds: bool, what: &dyn Fn() -> String| {
        if !holds {
            found.push(Broken { keys, what: what() });
        }
    };
    let Settings { node, upgrade, probation, hooks, heights, logs, api, .. } = settings;

    let positive: [(&'static [&'static str], Duration); 12] = [
        (&["node.shutdown_grace"], node.shutdown_grace),
        (&["node.restart_period"], node.restart_period),
        (&["node.health_check_interval"], node.health_check_interval),
        (&["upgrade.poll_interval"], upgrade.poll_interval),
        (&["upgrade.stall_time"], upgrade.stall_time),
        (&["upgrade.prepare_interval"], upgrade.prepare_interval),
        (&["upgrade.version_limit"], upgrade.version_limit),
        (&["probation.must_answer_within"], probation.must_answer_within),
        (&["probation.must_advance_within"], probation.must_advance_within),
        (&["hooks.time_limit"], hooks.time_limit),
        (&["heights.poll_interval"], heights.poll_interval),
        (&["heights.answer_limit"], heights.answer_limit),
    ];
    for (keys, length) in positive {
        rule(keys, !length.is_zero(), &|| "0 is not possible here".into());
    }

    rule(&["name"], is_file_name(&settings.name), &|| {
        format!("{:?} is not a file name: it stands below `bin/`", settings.name)
    });
    rule(&["probation.blocks"], probation.blocks > 0, &|| {
        "0 would take a head that stands still for an advance".into()
    });
    rule(&["logs.max_bytes"], logs.max_bytes >= LEAST_LOG_BYTES, &|| {
        format!("{} bytes are less than the least, {LEAST_LOG_BYTES}", logs.max_bytes)
    });
    for address in &heights.rpc_addresses {
        rule(&["heights.rpc_addresses"], is_address(address), &|| bad_address(address));
    }

    rule(&["api.listen"], api.address().is_some(), &|| {
        format!("{:?} is no IP address with a port, such as 127.0.0.1:8080 or [::1]:8080", api.listen)
    });
    for host in &api.hosts {
        rule(&["api.hosts"], is_host_name(host), &|| {
            format!("{host:?} is no host name: without scheme, port and path, such as node1.example.org")
        });
    }
    rule(&["api.tls_cert", "api.tls_key"], api.tls_cert.is_some() == api.tls_key.is_some(), &|| {
        "TLS needs both, the certificates and the private key".into()
    });
    let is_loopback = api.address().is_none_or(|address| address.ip().is_loopback());
    rule(
        &["api.listen", "api.tls_cert", "api.behind_proxy"],
        !api.enabled || is_loopback || api.tls_cert.is_some() || api.behind_proxy,
        &|| {
            format!(
                "{} can be reached from other machines, and a token must not go over the network in the clear: set \
                 api.tls_cert and api.tls_key, or api.behind_proxy where a proxy speaks TLS",
                api.listen
            )
        },
    );

    let (grace, hard) = (node.shutdown_grace, node.stop_hard_limit);
    rule(&["node.shutdown_grace", "node.stop_hard_limit"], grace <= hard, &|| {
        format!("the grace of {} is longer than the hard limit of {}", show(grace), show(hard))
    });
    let (poll, silent) = (heights.poll_interval, heights.source_silent_after);
    rule(&["heights.poll_interval", "heights.source_silent_after"], poll <= silent, &|| {
        format!("polled every {}, a source is always silent for {}", show(poll), show(silent))
    });
    let (steady, advance) = (probation.must_be_steady_for, probation.must_advance_within);
    rule(&["probation.must_be_steady_for", "probation.must_advance_within"], steady <= advance, &|| {
        format!("no program can be steady for {} within {}", show(steady), show(advance))
    });
    let expected = settings.network.profile().chain_id;
    rule(
        &["network", "heights.chain_id"],
        expected.is_none() || settings.expected_chain_id() == expected,
        &|| {
            let (network, id) = (settings.network.as_str(), settings.expected_chain_id().unwrap_or_default());
            format!("{network} has the chain id {}, not {id}", expected.unwrap_or_default())
        },
    );

    let (own, data) = (settings.own_dir(), settings.data_dir_for::<&str>(&[]));
    rule(&["home", "wemixvisor_dir"], own != settings.home, &|| {
        format!("the supervisor's own directory must not be the home itself: {}", own.display())
    });
    rule(&["home", "wemixvisor_dir", "data_dir"], !own.starts_with(&data), &|| {
        let (own, data) = (own.display(), data.display());
        format!("the supervisor's own directory {own} lies in the node's data directory {data}")
    });
    if settings.logs.file.is_some() {
        let in_the_way = not_for_a_log(&settings.node_log(), &own, &data);
        rule(&["logs.file"], in_the_way.is_none(), &|| in_the_way.clone().unwrap_or_default());
    }
    found
}

/// Why the node's log cannot be this file, if so: it would be written into a file that something else lives by, and
/// renamed with it when it is full.
fn not_for_a_log(log: &Path, own: &Path, data: &Path) -> Option<String> {
    let (log, own, data) = (resolved(log), resolved(own), resolved(data));
    let shown = log.display();
    let name = log.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let logs = own.join("logs");
    if own.starts_with(&log) || data.starts_with(&log) || log == logs {
        return Some(format!("{shown} is a directory, not a file"));
    }
    if OWN_FILES.contains(&name) {
        return Some(format!("{shown}: {name} is a file of wemixvisor, and never the node's log"));
    }
    if log.starts_with(&own) && !log.starts_with(&logs) {
        let own = own.display();
        return Some(format!("{shown} lies among the supervisor's own files: in {own} only below logs/"));
    }
    let is_own_log =
        |own: &&str| name.strip_prefix(*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if log.parent() == Some(&logs) && OWN_LOGS.iter().any(is_own_log) {
        return Some(format!("{shown} is a log of the supervisor itself"));
    }
    None
}

/// The path without `.` and `..`, by its text: links are not followed.
fn resolved(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(found.pop()),
            part => found.push(part),
        }
    }
    found
}

fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

fn is_host_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    name.len() <= 253 && name.split('.').all(part)
}

const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

fn is_address(address: &str) -> bool {
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = host.rsplit('@').next().unwrap_or_default();
            let plain = !address.contains(|c: char| c.is_whitespace() || c.is_control());
            SCHEMES.contains(&scheme) && !host.is_empty() && !host.starts_with(':') && plain
        }
        None => {
            let path = address.strip_prefix("ipc:").unwrap_or(address);
            path.starts_with('/') || path.ends_with(".ipc")
        }
    }
}

fn bad_address(address: &str) -> String {
    let shown = super::value::redacted(address);
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let http = format!("http://{rest}");
    let hint = if is_address(&http) && !rest.contains('/') && rest.contains(':') {
        format!(" (did you mean {}?)", super::value::redacted(&http))
    } else {
        String::new()
    };
    format!(
        "{shown:?} is no http://, https://, ws:// or wss:// address and no absolute path of a socket{hint}"
    )
}
