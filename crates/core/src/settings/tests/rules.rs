use super::*;

fn broken(env: &[(&str, &str)]) -> Vec<String> {
    errors("", env, &[])
}

#[test]
fn a_time_that_must_pass_is_not_zero() {
    for setting in TABLE.iter().filter(|setting| setting.kind() == Kind::Duration) {
        let resolved = resolve(&layers("", &[(setting.env, "0")], &[]));
        let may_be_zero = [
            "node.stop_moment_limit",
            "node.healthy_uptime",
            "node.restart_floor",
            "upgrade.restart_delay",
            "probation.must_be_steady_for",
        ];
        assert_eq!(resolved.is_ok(), may_be_zero.contains(&setting.key), "{setting:?}: {resolved:?}");
    }
    assert_eq!(broken(&[("DAEMON_POLL_INTERVAL", "0s")]), ["upgrade.poll_interval: 0 is not possible here"]);
}

#[test]
fn a_name_is_a_file_name() {
    for name in ["a/b", "/a", "..", ".", "a/", "./a"] {
        let said = broken(&[("DAEMON_NAME", name)]);
        assert_eq!(said, [format!("name: {name:?} is not a file name: it stands below `bin/`")]);
    }
    good("", &[("DAEMON_NAME", "g wemix.exe")], &[]);
}

#[test]
fn numbers_have_their_least() {
    assert_eq!(
        broken(&[("DAEMON_PROBATION_BLOCKS", "0"), ("DAEMON_LOG_MAX_BYTES", "65535")]),
        [
            "probation.blocks: 0 would take a head that stands still for an advance",
            "logs.max_bytes: 65535 bytes are less than the least, 65536",
        ]
    );
    good("", &[("DAEMON_LOG_MAX_BYTES", "65536"), ("DAEMON_PROBATION_BLOCKS", "1")], &[]);
}

#[test]
fn addresses_are_of_a_known_form() {
    for address in [
        "http://h",
        "https://me:pw@h:1/x",
        "ws://[::1]:8546",
        "wss://h/?k=v",
        "/n/geth.ipc",
        "/n",
        "ipc:/n",
        "x.ipc",
    ] {
        good("", &[("DAEMON_RPC_ADDRESS", address)], &[]);
    }
    for address in
        ["http://", "http://:8545", "http:///x", "tcp://h:1", "ftp://h", "h", "http://a b", "ipc:x"]
    {
        let said = broken(&[("DAEMON_RPC_ADDRESS", address)]).remove(0);
        assert!(said.starts_with("heights.rpc_addresses: ") && said.contains("is no http://"), "{said}");
    }
    assert!(
        broken(&[("DAEMON_RPC_ADDRESS", "localhost:8545")])[0]
            .ends_with("(did you mean http://localhost:8545?)")
    );
    assert!(
        broken(&[("DAEMON_RPC_ADDRESS", "tcp://h:26657")])[0].ends_with("(did you mean http://h:26657?)")
    );
    assert_eq!(broken(&[("DAEMON_RPC_ADDRESS", "a,b,/c")]).len(), 2);
}

#[test]
fn times_fit_together() {
    assert_eq!(
        broken(&[("DAEMON_SHUTDOWN_GRACE", "1h")]),
        ["node.shutdown_grace, node.stop_hard_limit: the grace of 1h is longer than the hard limit of 15m"]
    );
    assert_eq!(
        broken(&[("DAEMON_HEIGHT_POLL_INTERVAL", "1m")]),
        [
            "heights.poll_interval, heights.source_silent_after: polled every 1m, a source is always silent for 30s"
        ]
    );
    assert_eq!(
        broken(&[("DAEMON_PROBATION_MUST_BE_STEADY_FOR", "3m")]),
        [
            "probation.must_be_steady_for, probation.must_advance_within: no program can be steady for 3m within 2m"
        ]
    );
}

#[test]
fn a_chain_id_does_not_contradict_the_network() {
    assert_eq!(
        broken(&[("DAEMON_NETWORK", "mainnet"), ("DAEMON_CHAIN_ID", "1112")]),
        ["network, heights.chain_id: mainnet has the chain id 1111, not 1112"]
    );
    let same = good("", &[("DAEMON_NETWORK", "mainnet"), ("DAEMON_CHAIN_ID", "1111")], &[]).settings;
    assert_eq!((same.expected_chain_id(), same.network.profile().rpc_port), (Some(1111), 8588));
    let own = good("", &[("DAEMON_NETWORK", "devnet"), ("DAEMON_CHAIN_ID", "7")], &[]).settings;
    assert_eq!((own.expected_chain_id(), own.network.profile().ws_port), (Some(7), 8546));
    assert_eq!(good("", &[], &[]).settings.expected_chain_id(), None);
}

#[test]
fn the_roots_stand_apart() {
    assert_eq!(
        broken(&[("DAEMON_HOME", "/h"), ("DAEMON_DATA_DIR", ".")]),
        [
            "home, wemixvisor_dir, data_dir: the supervisor's own directory /h/wemixvisor lies in the node's data directory /h/."
        ]
    );
    assert_eq!(
        broken(&[("DAEMON_HOME", "/h"), ("DAEMON_WEMIXVISOR_DIR", "/h")]),
        ["home, wemixvisor_dir: the supervisor's own directory must not be the home itself: /h"]
    );
    let apart = good("", &[("DAEMON_DATA_DIR", "/d"), ("DAEMON_WEMIXVISOR_DIR", "/v")], &[]).settings;
    assert_eq!((apart.own_dir(), apart.data_dir_for(&["--datadir", "/e"])), ("/v".into(), "/d".into()));
}

#[test]
fn no_rule_is_applied_to_what_could_not_be_read() {
    let said = broken(&[("DAEMON_SHUTDOWN_GRACE", "1h"), ("DAEMON_STOP_HARD_LIMIT", "long")]);
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn the_data_directory_is_found_in_the_nodes_arguments() {
    let settings = good("", &[("DAEMON_HOME", "/h")], &[]).settings;
    let found = |args: &[&str]| settings.data_dir_for(args).display().to_string();
    assert_eq!(found(&[]), "/h/data");
    assert_eq!(found(&["--datadir", "/d"]), "/d");
    assert_eq!(found(&["x", "-datadir=d", "--port", "1"]), "/h/d");
    assert_eq!(found(&["--datadir=/a", "--datadir=/b"]), "/b");
    assert_eq!(found(&["--datadir.ancient", "/a"]), "/h/data");
    assert_eq!(found(&["--datadir"]), "/h/data");
    assert_eq!(found(&["--", "--datadir", "/d"]), "/h/data");
    let raw = std::ffi::OsString::from("--datadir=/raw");
    assert_eq!(settings.data_dir_for(&[raw]), PathBuf::from("/raw"));
}

#[test]
fn a_data_directory_that_is_named_twice_and_differently_is_warned_of() {
    let unset = good("", &[("DAEMON_HOME", "/h")], &[]).settings;
    assert_eq!(unset.other_data_dir(&["--datadir", "/d"]), None);
    let set = good("", &[("DAEMON_HOME", "/h"), ("DAEMON_DATA_DIR", "node")], &[]).settings;
    for same in [&["--datadir", "/h/node/"][..], &["--datadir=node"], &["--port", "1"], &[]] {
        assert_eq!(set.other_data_dir(same), None, "{same:?}");
    }
    let said = set.other_data_dir(&["--datadir", "/d"]).unwrap();
    assert!(said.contains("--datadir /d, the setting data_dir says /h/node:"), "{said}");
}

#[test]
fn the_floor_follows_the_role_unless_set() {
    let floor = |env: &[(&str, &str)]| good("", env, &[]).settings.restart_floor();
    assert_eq!(floor(&[]), Duration::ZERO);
    assert_eq!(floor(&[("VALIDATOR_MODE", "1")]), Duration::from_secs(3));
    assert_eq!(floor(&[("VALIDATOR_MODE", "1"), ("DAEMON_RESTART_FLOOR", "0")]), Duration::ZERO);
}

#[test]
fn the_nodes_log_is_no_file_that_something_else_lives_by() {
    let with = |file: &'static str| [("DAEMON_HOME", "/h"), ("DAEMON_LOG_FILE", file)];
    for (file, says) in [
        ("wemixvisor/state.db", "among the supervisor's own files: in /h/wemixvisor only below logs/"),
        ("wemixvisor/config.toml", "own files"),
        ("wemixvisor/node.log", "own files"),
        ("wemixvisor/genesis/bin/wemixd", "own files"),
        ("wemixvisor/logs/../state.db", "/h/wemixvisor/state.db lies among"),
        ("data/../wemixvisor/./wemixvisor.sock", "own files"),
        ("wemixvisor/logs/supervisor.log", "a log of the supervisor itself"),
        ("wemixvisor/logs/supervisor.log.2", "a log of the supervisor itself"),
        ("wemixvisor/logs/keeper.log", "a log of the supervisor itself"),
        ("data/upgrade-info.json", "upgrade-info.json is a file of wemixvisor"),
        ("/elsewhere/upgrade-info.json", "upgrade-info.json is a file of wemixvisor"),
        ("/elsewhere/wemixvisor-node.lock", "is a file of wemixvisor"),
        ("wemixvisor", "is a directory"),
        ("wemixvisor/logs", "is a directory"),
        ("data", "is a directory"),
        ("/h", "is a directory"),
        ("/", "is a directory"),
    ] {
        let said = broken(&with(file));
        assert!(
            said.len() == 1 && said[0].starts_with("logs.file: ") && said[0].contains(says),
            "{file}: {said:?}"
        );
    }
    for file in [
        "node.log",
        "logs/node.log",
        "data/geth.log",
        "wemixvisor/logs/node.log",
        "wemixvisor/logs/geth.log",
        "wemixvisor/logs/supervisor.logs",
        "wemixvisor/logs/deep/supervisor.log",
        "wemixvisor-node.log",
        "/var/log/gwemix.log",
        "/dev/null",
    ] {
        good("", &with(file), &[]);
    }
    // The default lies there, wherever the directory is.
    good("", &[("DAEMON_HOME", "/h"), ("DAEMON_WEMIXVISOR_DIR", "/own")], &[]);
}
