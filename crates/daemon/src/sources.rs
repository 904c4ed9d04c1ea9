//! Where the node answers: as set, or as found from its arguments and its data directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wemixvisor_chain::Endpoint;
use wemixvisor_core::command_line::CommandLine;
use wemixvisor_core::engine::port::Source;
use wemixvisor_core::settings::{Settings, value_of_flag};

use crate::keeping::words;

/// What geth and its forks call their socket when nothing is said (NODES.md section 1).
const SOCKET_NAMES: [&str; 2] = ["gwemix.ipc", "geth.ipc"];

/// The endpoints in the order in which they are tried. Those of the settings; without any: the socket, then
/// WebSocket and HTTP where the node's arguments ask for them.
pub(crate) fn endpoints(settings: &Settings, home: &Path, line: &CommandLine) -> Vec<Endpoint> {
    let set: Vec<Endpoint> =
        settings.heights.rpc_addresses.iter().filter_map(|text| text.parse().ok()).collect();
    if !set.is_empty() {
        return set;
    }
    let args = words(line);
    let datadir = home.join(settings.data_dir_for(&args));
    let profile = settings.network.profile();
    let port = |flag: &str, usual: u16| {
        value_of_flag(&args, flag).and_then(|text| text.to_str()?.parse().ok()).unwrap_or(usual)
    };
    let texts = || args.iter().filter_map(|arg| arg.to_str());
    let has = |flag: &str| texts().any(|arg| arg.trim_start_matches('-').split('=').next() == Some(flag));
    let mut found = vec![Endpoint::Ipc(socket(&args, &datadir, &settings.name))];
    if has("ws") || has("ws.port") {
        found.extend(format!("ws://127.0.0.1:{}", port("ws.port", profile.ws_port)).parse().ok());
    }
    if has("http") || has("http.port") {
        found.extend(format!("http://127.0.0.1:{}", port("http.port", profile.rpc_port)).parse().ok());
    }
    found
}

/// The same for the engine: with the node's own told from others.
pub(crate) fn described(endpoints: &[Endpoint]) -> Vec<Source> {
    endpoints
        .iter()
        .map(|endpoint| Source { address: endpoint.to_string(), own: endpoint.is_local() })
        .collect()
}

/// The environment of the node: the supervisor's own, with what every node is told, and the plan's additions.
pub(crate) fn environment(
    base: &[(OsString, OsString)],
    home: &Path,
    settings: &Settings,
    line: &CommandLine,
) -> Vec<(OsString, OsString)> {
    let mut added: Vec<(OsString, OsString)> = vec![
        ("WEMIX_HOME".into(), home.as_os_str().to_owned()),
        ("WEMIX_NETWORK".into(), settings.network.as_str().into()),
    ];
    added.extend(line.env.iter().map(|(name, value)| (name.into(), value.into())));
    let kept = base.iter().filter(|(name, _)| !added.iter().any(|(other, _)| other == name)).cloned();
    kept.chain(added.clone()).collect()
}

/// The node's socket: as its arguments say, else the one that is there, else the one it will most likely make.
fn socket(args: &[OsString], datadir: &Path, name: &str) -> PathBuf {
    if let Some(path) = value_of_flag(args, "ipcpath") {
        // geth takes a bare name as one in its data directory, anything else from its working directory.
        let bare = !path.as_encoded_bytes().contains(&b'/');
        return if bare { datadir.join(path) } else { PathBuf::from(path) };
    }
    let own = format!("{name}.ipc");
    let likely = || [own.as_str()].into_iter().chain(SOCKET_NAMES).map(|name| datadir.join(name));
    let there = likely().find(|path| path.exists()).or_else(|| any_socket(datadir));
    there.unwrap_or_else(|| datadir.join(if name == "geth" { "geth.ipc" } else { "gwemix.ipc" }))
}

/// The socket of a fork that calls it by a name of its own.
fn any_socket(datadir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(datadir).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "ipc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let flags = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let layers = wemixvisor_core::settings::Layers { flags, ..Default::default() };
        wemixvisor_core::settings::resolve(&layers).unwrap().settings
    }

    fn line(args: &[&str]) -> CommandLine {
        CommandLine::of(args.iter().map(OsString::from))
    }

    fn found(settings: &Settings, args: &[&str]) -> Vec<String> {
        endpoints(settings, Path::new("/h"), &line(args)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_set_is_used() {
        let set =
            settings(&[("home", "/h"), ("heights.rpc_addresses", "http://127.0.0.1:1,ws://127.0.0.1:2")]);
        assert_eq!(found(&set, &["--http.port", "9"]).len(), 2);
    }

    #[test]
    fn without_settings_the_arguments_and_the_profile_say_where() {
        let set = settings(&[("home", "/h"), ("network", "mainnet")]);
        let plain = found(&set, &[]);
        assert!(plain[0].ends_with("/h/data/gwemix.ipc"), "{plain:?}");
        assert_eq!(plain.len(), 1, "nothing else is on unless it is asked for");
        assert!(found(&set, &["--http"])[1].contains("127.0.0.1:8588"));
        let given = found(&set, &["--datadir", "/d", "--ws", "--ws.port=7", "--http.port", "9"]);
        assert!(given[0].ends_with("/d/gwemix.ipc"), "{given:?}");
        assert!(given[1].contains("127.0.0.1:7") && given[2].contains("127.0.0.1:9"), "{given:?}");
        assert!(found(&set, &["--ipcpath", "/run/x.ipc"])[0].ends_with("/run/x.ipc"));
        assert!(found(&set, &["--datadir", "/d", "--ipcpath", "x.ipc"])[0].ends_with("/d/x.ipc"));
    }

    #[test]
    fn the_plans_variables_win_over_inherited_ones() {
        let base = vec![("A".into(), "1".into()), ("WEMIX_HOME".into(), "wrong".into())];
        let mut with = line(&[]);
        with.env.insert("A".into(), "2".into());
        let environment = environment(&base, Path::new("/h"), &settings(&[("home", "/h")]), &with);
        let get = |name: &str| {
            environment
                .iter()
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(get("A"), ["2"]);
        assert_eq!(get("WEMIX_HOME"), ["/h"]);
        assert_eq!(environment.len(), 3);
    }
}
