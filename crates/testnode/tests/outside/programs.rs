//! Versions: the file beside the program, `version`, `init`, forks.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::rig::{Home, PROGRAM, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_touches_no_database() {
    let home = Home::new();
    let out = home.run(&["version", "--as-version=2.3.4", "--commit=abc"]);
    assert!(out.status.success());
    let shown = text(&out.stdout);
    assert!(shown.contains("\nVersion: 2.3.4-stable\nGit Commit: abc\n"), "{shown}");
    assert!(!home.0.path().join("data").exists());
    assert_eq!(home.run(&["--version-exit-code=3", "version"]).status.code(), Some(3));
}

#[test]
fn what_is_not_understood_is_fatal() {
    let home = Home::new();
    for line in [&["--no-such-flag"][..], &["stray"], &["--block-time=abc"], &["version", "twice"], &["init"]]
    {
        let out = home.run(line);
        assert_eq!(out.status.code(), Some(1), "{line:?}");
        assert!(text(&out.stderr).starts_with("Fatal: "), "{line:?}: {}", text(&out.stderr));
    }
    assert!(home.run(&["--help"]).status.success());
}

#[test]
fn a_copy_with_a_file_beside_it_is_another_version() {
    let home = Home::new();
    let program: PathBuf = home.0.path().join("gwemix");
    std::fs::copy(PROGRAM, &program).unwrap();
    let beside =
        json!({"as-version": "2.0.0", "no-blocks": true, "block-time": "50ms", "peers": 7, "http.port": 0});
    std::fs::write(home.0.path().join("gwemix.json"), beside.to_string()).unwrap();
    let node = home.started(home.command(&program, &["--peers=8"]).spawn().unwrap());
    let version = node.call("web3_clientVersion", json!([]));
    assert!(version.as_str().unwrap().starts_with("testnode/v2.0.0-stable-"), "{version}");
    assert_eq!(node.call("net_peerCount", json!([])), "0x8");
    std::fs::write(home.0.path().join("gwemix.json"), "{").unwrap();
    assert_eq!(home.command(&program, &["version"]).status().unwrap().code(), Some(1));
}

#[test]
fn a_script_can_put_its_flags_first() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let script = home.0.path().join("gwemix");
    std::fs::write(&script, format!("#!/bin/sh\nexec {PROGRAM} --as-version 3.0.0 --no-blocks \"$@\"\n"))
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let shown = home.command(&script, &["version"]).stdout(Stdio::piped()).output().unwrap().stdout;
    assert!(text(&shown).contains("Version: 3.0.0-stable"));
    let node = home.started(home.command(&script, &["--http.port=0"]).spawn().unwrap());
    let version = node.call("web3_clientVersion", json!([]));
    assert!(version.as_str().unwrap().contains("v3.0.0"), "{version}");
}

#[test]
fn version_can_hang() {
    let home = Home::new();
    let journal = home.0.path().join("asked.log");
    let flags = ["version", "--version-hangs", "--journal", journal.to_str().unwrap()];
    let mut child = home.command(Path::new(PROGRAM), &flags).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("it was asked", || {
        std::fs::read_to_string(&journal).ok().filter(|text| text.contains("version"))
    });
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    assert!(child.wait_with_output().unwrap().stdout.is_empty());
}

#[test]
fn init_sets_the_fork_while_the_head_is_below_it() {
    let home = Home::new();
    let genesis = home.0.path().join("genesis.json");
    let write = |height: u64| {
        std::fs::write(&genesis, json!({"config": {"chainId": 1112, "croissantBlock": height}}).to_string())
            .unwrap();
    };
    let init = ["init", genesis.to_str().unwrap()];
    write(40);
    assert!(home.run(&init).status.success());
    assert!(home.run(&init).status.success(), "again: harmless");
    let mut node = home.start(&["--no-blocks"]);
    assert_eq!(home.run(&init).status.code(), Some(1), "the data directory is in use");
    node.order("/mine", json!({"blocks": 30}));
    assert_eq!(
        node.ipc().call("admin_nodeInfo", json!([]))["protocols"]["eth"]["config"]["croissantBlock"],
        40
    );
    assert!(node.terminated().success());
    write(35);
    assert!(home.run(&init).status.success());
    write(30);
    let late = home.run(&init);
    assert_eq!(late.status.code(), Some(1));
    let shown = text(&late.stderr);
    assert!(
        shown.starts_with("Fatal: ") && shown.contains("mismatching croissantBlock fork block in database"),
        "{shown}"
    );
    // An older program forgets the fork; past it, a new init is refused.
    let mut node = home.start(&["--no-blocks", "--fork=none", "--forgets-forks"]);
    node.order("/mine", json!({"blocks": 30}));
    assert!(node.terminated().success());
    write(35);
    let shown = text(&home.run(&init).stderr);
    assert!(shown.contains("(have <nil>, want 35, rewindto 34)"), "{shown}");
}

#[test]
fn without_the_networks_fork_the_head_stands_below_it_and_the_peers_go() {
    let home = Home::new();
    let network = ["--network-follows", "--network-fork=croissantBlock=5"];
    let mut node = home.start(&[&network[..], &["--fork=none"]].concat());
    wait_for("no peers", || (node.call("net_peerCount", json!([])) == "0x0").then_some(()));
    assert_eq!(node.head(), 4);
    assert_eq!(node.call("eth_syncing", json!([])), false);
    assert_ne!(node.ipc().call("debug_getBadBlocks", json!([])), json!([]));
    assert!(node.terminated().success());
    let genesis = home.0.path().join("genesis.json");
    std::fs::write(&genesis, r#"{"config": {"croissantBlock": 5}}"#).unwrap();
    assert!(home.run(&["init", genesis.to_str().unwrap()]).status.success());
    let mut node = home.start(&network);
    wait_for("past the fork", || (node.head() > 5).then_some(()));
    assert_eq!(node.call("net_peerCount", json!([])), "0x3");
    assert!(node.terminated().success());
    let node = home.start(&[&network[..], &["--fork=none"]].concat());
    let frozen = node.head();
    wait_for("no peers", || (node.call("net_peerCount", json!([])) == "0x0").then_some(()));
    assert_eq!(node.head(), frozen, "the old program cannot follow the chain");
}

#[test]
fn a_built_in_fork_rewinds_and_other_chains_and_newer_databases_are_refused() {
    let home = Home::new();
    let mut node = home.start(&["--no-blocks"]);
    node.order("/mine", json!({"blocks": 60}));
    assert!(node.terminated().success());
    let mut node = home.start(&["--no-blocks", "--fork=montBlancBlock=30", "--database-version=9"]);
    assert_eq!(node.head(), 29);
    assert!(node.terminated().success());
    for (flag, said) in [
        ("--chain-id=5", "incompatible genesis"),
        ("--genesis-salt=x", "incompatible genesis"),
        ("--database-version=8", "database version is v9"),
    ] {
        let out = home.run(&["--database-version=9", flag]);
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(said), "{}", text(&out.stderr));
    }
    let starts: Vec<Value> = home.facts("start");
    assert_eq!(starts.len(), 2);
}
