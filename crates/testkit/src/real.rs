//! Real nodes, as `scripts/install-nodes` puts them on this machine.

use std::env;
use std::io::Write;
use std::path::PathBuf;

/// The program of a real node, such as `anvil-1.4.4` or `geth-1.16.7`; looked for in `$WEMIXVISOR_NODES`, else in
/// `~/.cache/wemixvisor/nodes`. `None`: it is not on this machine, which is said in one line on standard error.
///
/// # Panics
/// When it is missing and `WEMIXVISOR_REQUIRE_NODES` is `1`.
pub fn real_node(name: &str) -> Option<PathBuf> {
    let client = name.split('-').next().unwrap_or(name);
    let found = directory().map(|nodes| nodes.join(name).join(client)).filter(|program| program.is_file());
    if found.is_none() {
        assert!(
            env::var_os("WEMIXVISOR_REQUIRE_NODES").is_none_or(|value| value != "1"),
            "{name} is required but not on this machine: scripts/install-nodes"
        );
        // Not by `eprintln!`: the test runner keeps that to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: {client} is not on this machine");
    }
    found
}

fn directory() -> Option<PathBuf> {
    let cache = || {
        let own = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        own.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
    };
    env::var_os("WEMIXVISOR_NODES").map(PathBuf::from).or_else(|| Some(cache()?.join("wemixvisor/nodes")))
}
