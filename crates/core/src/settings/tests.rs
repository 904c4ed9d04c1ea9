use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

mod rules;
mod values;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Layers with HOME set.
fn layers(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Layers {
    let mut env = pairs(env);
    env.push(("HOME".into(), "/home/op".into()));
    let file = (!file.is_empty()).then(|| ("config.toml".into(), file.into()));
    Layers { file, env, flags: pairs(flags) }
}

fn good(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Resolved {
    resolve(&layers(file, env, flags)).unwrap()
}

fn errors(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Vec<String> {
    resolve(&layers(file, env, flags)).unwrap_err().iter().map(ToString::to_string).collect()
}

fn warnings(env: &[(&str, &str)]) -> Vec<String> {
    good("", env, &[]).warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn without_any_layer_the_defaults_hold() {
    let resolved = good("", &[], &[]);
    assert_eq!(resolved.settings, Settings { home: "/home/op/.wemixd".into(), ..Settings::default() });
    assert!(resolved.origins.is_empty() && resolved.warnings.is_empty());
    assert!(resolved.rows().iter().all(|row| row.origin == Origin::Default));
}

#[test]
fn a_later_layer_goes_before_an_earlier_one() {
    let file = "[node]\nmax_restarts = 1\nrestart_period = '1m'\nhealthy_uptime = '1s'\n";
    let env = [("DAEMON_MAX_RESTARTS", "2"), ("DAEMON_RESTART_PERIOD", "2m")];
    let resolved = good(file, &env, &[("node.max_restarts", "3"), ("node.max_restarts", "4")]);
    let node = &resolved.settings.node;
    assert_eq!(
        (node.max_restarts, node.restart_period.as_secs(), node.healthy_uptime.as_secs()),
        (4, 120, 1)
    );
    assert_eq!(resolved.origin("node.max_restarts"), Origin::Flag);
    assert_eq!(resolved.origin("node.restart_period"), Origin::Environment("DAEMON_RESTART_PERIOD"));
    assert_eq!(resolved.origin("node.healthy_uptime"), Origin::File { name: "config.toml".into(), line: 4 });
    assert_eq!(resolved.origin("node.kill"), Origin::Default);
    let said: Vec<String> = ["node.max_restarts", "node.restart_period", "node.healthy_uptime", "node.kill"]
        .map(|key| resolved.origin(key).to_string())
        .into();
    assert_eq!(said, ["flag", "environment DAEMON_RESTART_PERIOD", "config.toml line 4", "default"]);
}

#[test]
fn every_form_of_toml_is_understood() {
    let file = "
        validator = 'YES'
        upgrade = { restart_delay = 0, late = 'refuse' }
        node.max_restarts = 0x10
        logs.max_bytes = 1_000_000
        node.restart_on_failure = 0
        [heights]
        rpc_addresses = ['/a.ipc', 'ws://h:1']
        poll_interval = '1s'
    ";
    let settings = good(file, &[], &[]).settings;
    assert!(settings.validator && !settings.node.restart_on_failure);
    assert_eq!((settings.upgrade.restart_delay, settings.upgrade.late), (Duration::ZERO, Late::Refuse));
    assert_eq!((settings.node.max_restarts, settings.logs.max_bytes), (16, 1_000_000));
    assert_eq!(settings.heights.rpc_addresses, ["/a.ipc", "ws://h:1"]);
}

#[test]
fn a_variable_that_is_set_but_empty_is_not_set() {
    let resolved = good("", &[("DAEMON_DEBUG", ""), ("DAEMON_HOME", ""), ("UNSAFE_SKIP_BACKUP", "")], &[]);
    assert!(resolved.origins.is_empty() && resolved.warnings.is_empty());
}

#[test]
fn every_bad_value_is_reported_at_once() {
    let said = errors(
        "nme = 'x'\ndebug = 5\n[node]\nkill = 'maybe'\n[nodes]\na = 1\nb = 2\n",
        &[("DAEMON_MAX_RESTARTS", "-1"), ("DAEMON_SHUTDOWN_GRACE", "30")],
        &[("probation.min_peers", "many"), ("late", "apply")],
    );
    assert_eq!(
        said,
        [
            "config.toml line 1: there is no setting \"nme\" (did you mean name?)",
            "config.toml line 2: debug = 5: not a boolean: true, false, yes, no, 1 or 0",
            "config.toml line 4: node.kill = \"maybe\": not one of allowed, never",
            "config.toml line 5: there is no setting \"nodes\" (did you mean node?)",
            "environment DAEMON_SHUTDOWN_GRACE: node.shutdown_grace = \"30\": a duration needs a unit: 30ms, 30s, 30m or 30h",
            "environment DAEMON_MAX_RESTARTS: node.max_restarts = \"-1\": not a whole number from 0 to 4294967295",
            "flag: probation.min_peers = \"many\": not a whole number from 0 to 18446744073709551615",
            "flag: there is no setting \"late\" (did you mean upgrade.late?)",
        ]
    );
}

#[test]
fn a_bad_value_is_an_error_even_under_a_good_one() {
    let said = errors("debug = 'perhaps'", &[("DAEMON_DEBUG", "1")], &[]);
    assert_eq!(said.len(), 1);
}

#[test]
fn an_unknown_key_comes_with_what_may_have_been_meant() {
    let meant = |key: &str| {
        let said = errors("", &[], &[(key, "x")]).remove(0);
        said.split_once(" (did you mean ").map(|(_, near)| near.trim_end_matches("?)").to_owned())
    };
    assert_eq!(meant("shutdown_grace").as_deref(), Some("node.shutdown_grace"));
    assert_eq!(meant("shutdwn_grace").as_deref(), Some("node.shutdown_grace"));
    assert_eq!(meant("upgrade_enabled").as_deref(), Some("upgrade.enabled"));
    assert_eq!(meant("poll_interval").as_deref(), Some("upgrade.poll_interval or heights.poll_interval"));
    assert_eq!(meant("height_poll_interval").as_deref(), Some("heights.poll_interval"));
    assert_eq!(meant("probation.block").as_deref(), Some("probation.blocks"));
    assert_eq!(meant("zzz"), None);
}

#[test]
fn a_text_that_is_no_toml_is_refused_with_its_places() {
    let said = errors("debug = true\nname = \n", &[("DAEMON_DEBUG", "x")], &[]);
    assert!(said[0].starts_with("config.toml line 2, column 8: "), "{said:?}");
    assert!(said.last().unwrap().starts_with("environment DAEMON_DEBUG"), "{said:?}");
    assert_eq!(errors("debug = true\ndebug = true", &[], &[]).len(), 1);
    for half in ["[nod", "name = \"we", "[heights]\nrpc_addresses = [\"/a\","] {
        assert!(!errors(half, &[], &[]).is_empty(), "{half}");
    }
}

#[test]
fn what_is_not_of_the_kind_is_named() {
    let said = errors(
        "debug = 1.5\nname = 5\nhome = ['a']\n[logs]\nfile = 1979-05-27\nkeep = -1\nmax_bytes = { a = 1 }\n\
         [heights]\nrpc_addresses = [1, 'a']\nchain_id = 99999999999999999999\n[[node]]\nkill = 'never'\n",
        &[],
        &[],
    );
    let expected = [
        "debug = 1.5:",
        "name = 5:",
        "home = [\"a\"]:",
        "logs.file = 1979-05-27:",
        "logs.keep = -1:",
        "logs.max_bytes = a table:",
        "heights.rpc_addresses = an array that holds other than texts:",
        "heights.chain_id = 99999999999999999999:",
        "there is no setting \"node\"",
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_users_own_directory_is_put_in_for_a_tilde() {
    let settings =
        good("home = '~'\ndata_dir = '~/d'\nlogs.file = '/l'\nwemixvisor_dir = '~x'", &[], &[]).settings;
    assert_eq!(
        (settings.home.to_str(), settings.data_dir_for::<&str>(&[])),
        (Some("/home/op"), "/home/op/d".into())
    );
    assert_eq!((settings.node_log(), settings.own_dir()), ("/l".into(), "/home/op/~x".into()));

    let nobody = Layers { env: pairs(&[("HOME", "")]), ..Layers::default() };
    let said: Vec<String> = resolve(&nobody).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(said, ["home: \"~/.wemixd\" begins in the user's own directory, but HOME is not set"]);
    let elsewhere = Layers { env: pairs(&[("DAEMON_HOME", "/h")]), ..Layers::default() };
    assert_eq!(resolve(&elsewhere).unwrap().settings.home, PathBuf::from("/h"));
}

#[test]
fn unknown_variables_and_features_to_come_are_warnings() {
    assert_eq!(
        warnings(&[
            ("DAEMON_HOEM", "/x"),
            ("DAEMON_ZZZ", "1"),
            ("DAEMON_YYY", ""),
            ("COSMOVISOR_COLOUR_LOGS", "1"),
            ("OTHER", "x")
        ]),
        [
            "the environment variable DAEMON_HOEM means nothing to wemixvisor (did you mean DAEMON_HOME?)",
            "the environment variable DAEMON_ZZZ means nothing to wemixvisor",
            "the environment variable COSMOVISOR_COLOUR_LOGS means nothing to wemixvisor (did you mean COSMOVISOR_COLOR_LOGS?)",
        ]
    );
    assert_eq!(
        warnings(&[
            ("DAEMON_DATA_BACKUP_DIR", "/b"),
            ("UNSAFE_SKIP_BACKUP", "No"),
            ("DAEMON_ALLOW_DOWNLOAD_BINARIES", "true"),
            ("UNSAFE_SKIP_CHECKSUM", "1"),
        ]),
        [
            "DAEMON_DATA_BACKUP_DIR=/b: backups before an upgrade are not supported by this version",
            "UNSAFE_SKIP_BACKUP=No: backups before an upgrade are not supported by this version",
            "DAEMON_ALLOW_DOWNLOAD_BINARIES=true: downloading programs is not supported by this version",
            "UNSAFE_SKIP_CHECKSUM=1: skipping a checksum is not supported by this version",
        ]
    );
    let content = [
        ("UNSAFE_SKIP_BACKUP", "TRUE"),
        ("DAEMON_ALLOW_DOWNLOAD_BINARIES", "no"),
        ("DAEMON_DOWNLOAD_MUST_HAVE_CHECKSUM", "1"),
        ("UNSAFE_SKIP_CHECKSUM", "false"),
    ];
    assert_eq!(warnings(&content), Vec::<String>::new());
}

#[test]
fn the_names_to_keep_are_kept() {
    let env = [
        ("DAEMON_HOME", "/h"),
        ("DAEMON_NAME", "gwemix"),
        ("DAEMON_NETWORK", "testnet"),
        ("DAEMON_DEBUG", "yes"),
        ("DAEMON_UPGRADE_ENABLED", "False"),
        ("DAEMON_HEIGHT_POLL_INTERVAL", "1s"),
        ("DAEMON_POLL_INTERVAL", "1ms"),
        ("DAEMON_RPC_ADDRESS", "/x.ipc, http://a:1"),
        ("DAEMON_SHUTDOWN_GRACE", "1m"),
        ("DAEMON_RESTART_AFTER_UPGRADE", "no"),
        ("DAEMON_RESTART_DELAY", "2s"),
        ("DAEMON_RESTART_ON_FAILURE", "0"),
        ("DAEMON_MAX_RESTARTS", "7"),
        ("DAEMON_HEALTH_CHECK_INTERVAL", "9s"),
        ("DAEMON_LOG_FILE", "node.log"),
        ("DAEMON_PREUPGRADE_MAX_RETRIES", "3"),
        ("COSMOVISOR_CUSTOM_PREUPGRADE", "hook.sh"),
        ("COSMOVISOR_DISABLE_LOGS", "1"),
        ("COSMOVISOR_COLOR_LOGS", "0"),
        ("COSMOVISOR_TIMEFORMAT_LOGS", "kitchen"),
        ("VALIDATOR_MODE", "true"),
    ];
    let resolved = good("", &env, &[]);
    assert_eq!((resolved.origins.len(), resolved.warnings.len()), (env.len(), 0));
    let s = resolved.settings;
    assert_eq!(
        (s.home.to_str(), s.name.as_str(), s.network, s.debug),
        (Some("/h"), "gwemix", Network::Testnet, true)
    );
    assert_eq!(
        (s.upgrade.enabled, s.upgrade.restart_after_upgrade, s.node.restart_on_failure),
        (false, false, false)
    );
    assert_eq!((s.heights.poll_interval.as_secs(), s.upgrade.poll_interval.as_millis()), (1, 1));
    assert_eq!(s.heights.rpc_addresses, ["/x.ipc", "http://a:1"]);
    assert_eq!((s.node.shutdown_grace.as_secs(), s.upgrade.restart_delay.as_secs()), (60, 2));
    assert_eq!((s.node.max_restarts, s.hooks.pre_upgrade_retries), (7, 3));
    assert_eq!(s.node.health_check_interval.as_secs(), 9);
    assert_eq!(
        (s.node_log(), s.pre_upgrade_hook()),
        ("/h/node.log".into(), Some("/h/wemixvisor/hook.sh".into()))
    );
    assert_eq!((s.logs.disabled, s.logs.color, s.logs.time_format), (true, false, TimeFormat::Kitchen));
    assert_eq!((s.validator, s.restart_floor().as_secs(), s.expected_chain_id()), (true, 3, Some(1112)));
}

#[test]
fn the_table_is_sound() {
    let keys: BTreeSet<&str> = TABLE.iter().map(|setting| setting.key).collect();
    let variables: BTreeSet<&str> = TABLE.iter().map(|setting| setting.env).collect();
    assert_eq!((keys.len(), variables.len()), (TABLE.len(), TABLE.len()), "no key and no variable twice");
    let mut groups: Vec<&str> = TABLE.iter().filter_map(|s| Some(s.key.split_once('.')?.0)).collect();
    groups.dedup();
    assert_eq!(groups.len(), groups.iter().collect::<BTreeSet<_>>().len(), "groups stand together");
    for setting in TABLE {
        assert!(setting.doc.ends_with('.') && !setting.doc.contains(['|', '\n']), "{setting:?}");
        assert_eq!(setting.key.parse::<toml::Value>().ok(), None, "a key is no value");
    }
    assert_eq!(format!("{:?}", setting("name").unwrap()), "Setting(\"name\")");
    assert!(setting("nothing").is_none());
}

#[test]
fn a_change_is_told_by_its_key() {
    let old = good("", &[], &[]).settings;
    let new = good("name = 'x'\nnode.kill = 'never'\nlogs.keep = 1", &[], &[]).settings;
    let changes: Vec<_> = old.changes(&new).iter().map(|s| (s.key, s.applies.as_str())).collect();
    assert_eq!(
        changes,
        [("name", "supervisor restart"), ("node.kill", "at once"), ("logs.keep", "node restart")]
    );
    assert!(old.changes(&old).is_empty());
}

#[test]
fn the_rows_show_values_without_secrets() {
    let env = [("DAEMON_RPC_ADDRESS", "http://me:secret@h:1/x?y=a@b,ws://h:2/@,/p@q.ipc")];
    let rows = good("", &env, &[]).rows();
    let row = rows.iter().find(|row| row.key == "heights.rpc_addresses").unwrap();
    assert_eq!(row.value, "http://***@h:1/x?y=a@b,ws://h:2/@,/p@q.ipc");
    assert_eq!((row.env, row.applies), ("DAEMON_RPC_ADDRESS", Applies::SupervisorRestart));
    assert!(row.doc.contains("IPC"));
    let said =
        errors("", &[("DAEMON_RPC_ADDRESS", "ftp://me:secret@h:1")], &[("debug", "http://me:secret@h")]);
    assert!(said.iter().all(|said| said.contains("***@h") && !said.contains("secret")), "{said:?}");
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(at in any::<prop::sample::Index>(), text in "[a-z0-9/.]{1,12}") {
        let setting = &TABLE[at.index(TABLE.len())];
        let given = value::Given::Text(text);
        let mut settings = Settings::default();
        if setting.set(&mut settings, &given).is_ok() {
            let shown = setting.show(&settings);
            let mut again = Settings::default();
            prop_assert_eq!(setting.set(&mut again, &value::Given::Text(shown)), Ok(()));
            prop_assert_eq!(again, settings);
        } else {
            prop_assert_eq!(settings, Settings::default());
        }
    }

    #[test]
    fn no_layer_is_too_strange(file in ".{0,80}", env in ".{0,20}", at in any::<prop::sample::Index>(), flag in ".{0,20}") {
        let setting = &TABLE[at.index(TABLE.len())];
        let _ = resolve(&layers(&file, &[(setting.env, &env)], &[(setting.key, &flag)]));
    }

    #[test]
    fn no_toml_is_too_strange(file in r#"([a-z_.]{1,8}|home|node|node\.kill|[\[\]{}="',#\n0-9 ]){0,30}"#) {
        let _ = resolve(&layers(&file, &[], &[]));
    }
}
