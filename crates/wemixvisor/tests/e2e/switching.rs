//! C. The switch: the whole way, once, and nothing beside it.

use serde_json::{Value, json};
use testkit::Program;

use crate::{empty_home, held_in, home, home_by_order, let_go};

/// The steps of a finished upgrade by name, in order.
fn steps(entry: &Value) -> Vec<&str> {
    entry["steps"].as_array().expect("a list").iter().filter_map(|step| step["step"].as_str()).collect()
}

fn environment(start: &Value) -> Value {
    start["env"].clone()
}

#[test]
fn c16_nothing_before_the_height_and_the_whole_way_at_it() {
    let home = empty_home();
    let flags = |program: Program| program.with("--journal-env").with("--block-time=100ms");
    home.init(&flags(Program::practice("1.0.0")).with("--no-blocks"));
    home.install("v2", &flags(Program::practice("2.0.0")));
    for hook in ["pre-stop", "pre-upgrade", "post-upgrade"] {
        let script = format!(
            "#!/bin/sh\necho \"{hook} $UPGRADE_NAME $UPGRADE_HEIGHT $DAEMON_NAME $UPGRADE_INFO\" >>\"$DAEMON_HOME/hooks.log\"\n"
        );
        home.hook("v2", hook, &script);
    }
    home.write_plans(r#"{"name": "v2", "height": 50, "info": "two words"}"#);
    let _supervisor = home.start_with(&["--http.api", "eth,net,web3,a b"]);
    let old = home.node();
    home.sees("the upgrade is ready", |status| status["upgrades"][0]["ready"] == true);
    old.set_head(49);
    let status = home.sees_head(49);
    assert_eq!((&status["upgrade"], &status["installed"]), (&Value::Null, &json!("genesis")));
    assert!(old.runs() && home.facts("signal").is_empty() && !home.root().join("hooks.log").exists());

    old.mine(1);
    let entry = home.committed("v2");
    assert_eq!(
        steps(&entry),
        ["pre_stop", "stop", "pre_upgrade", "switch", "start", "probation", "post_upgrade"]
    );
    assert_eq!((&entry["from"], &entry["to"], &entry["head"]), (&json!("genesis"), &json!("v2"), &json!(50)));
    assert!(entry["downtime_ms"].is_number(), "{entry:#}");
    let hooks = std::fs::read_to_string(home.root().join("hooks.log")).unwrap();
    let lines: Vec<_> = hooks.lines().collect();
    let line = |hook| format!("{hook} v2 50 gwemix two words");
    assert_eq!(lines, [line("pre-stop"), line("pre-upgrade"), line("post-upgrade")]);

    // Nothing is pending, the history has it, the node runs with the very same arguments and environment.
    home.nothing_is_planned();
    let status = home.status().unwrap();
    assert_eq!((&status["upgrades"], &status["upgrade"]), (&json!([]), &Value::Null));
    assert_eq!(home.history()[0]["name"], "v2");
    let starts = home.facts("start");
    assert_eq!(starts.len(), 2);
    let args = |start: &Value| {
        let all = start["argv"].as_array().unwrap().clone();
        let own = all.iter().position(|arg| *arg == "--datadir").unwrap();
        all[own..].to_vec()
    };
    assert_eq!(args(&starts[0]), args(&starts[1]));
    assert_eq!(args(&starts[0]).last(), Some(&json!("eth,net,web3,a b")));
    assert_eq!(environment(&starts[0]), environment(&starts[1]));
    assert_eq!((&starts[0]["cwd"], &starts[0]["files"]["0"]), (&starts[1]["cwd"], &starts[1]["files"]["0"]));
    assert_eq!((home.signals(old.pid, "SIGTERM"), home.nodes().len()), (1, 1));
}

#[test]
fn c16_a_plan_can_bring_arguments_and_environment_of_its_own() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    let args = home.node_args(&["--peers", "7"]);
    let plan = json!({"name": "v2", "height": 5, "args": args, "env": {"TESTNODE_NEW": "yes it is"}});
    home.write_plans(&plan.to_string());
    let supervisor = home.start();
    home.committed("v2");
    let starts = home.facts("start");
    assert_eq!(starts[1]["env"]["TESTNODE_NEW"], "yes it is");
    assert!(starts[0]["env"]["TESTNODE_NEW"].is_null());
    assert_eq!(home.node().state()["peers"], 7);
    // They stay with the program when the supervisor is started again as before.
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
    let _supervisor = home.start();
    assert_eq!(home.node().state()["peers"], 7);
    assert_eq!(home.facts("start")[2]["env"]["TESTNODE_NEW"], "yes it is");
}

#[test]
fn c16_an_upgrade_by_order_needs_no_height() {
    let home = home();
    let _supervisor = home.start();
    home.sees_head(3);
    home.write_plans(&json!({"name": "v2", "height": 1_000_000, "switch": "manual"}).to_string());
    home.sees("the plan waits", |status| status["upgrades"][0]["ready"] == true);
    let said = home.cli(&["upgrade", "apply", "v2", "--json"]).expect(0);
    assert!(!said.out.is_empty());
    home.committed("v2");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

#[test]
fn c16_a_finished_upgrade_can_be_taken_back_by_order() {
    let home = home();
    let _supervisor = home.start();
    home.plan("v2", 3);
    home.committed("v2");
    let _ = home.cli(&["upgrade", "rollback"]).expect(0);
    home.sees("the first program is back", |status| {
        status["installed"] == "genesis"
            && status["upgrade"].is_null()
            && status["node"]["state"] == "running"
    });
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
    // The plan is not carried out anew when it is found again.
    home.plan("v2", 3);
    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.sees_head(head + 5);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
}

#[test]
fn c16_switched_off_upgrades_are_watched_and_reported_only() {
    let home = home_by_order();
    home.set("upgrade.enabled", "false");
    home.plan("v2", 50);
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(60);
    home.sees("it is reported", |status| {
        status["chain"]["head"] == 60
            && status["alerts"].as_array().unwrap().iter().any(|alert| alert["kind"] == "disabled")
    });
    assert!(node.runs() && home.started() == ["1.0.0"]);
}

#[test]
fn c16_without_restart_the_new_program_waits_for_the_operator() {
    let home = home();
    home.set("upgrade.restart_after_upgrade", "false");
    home.plan("v2", 3);
    let _supervisor = home.start();
    home.sees("the switch is done", |status| status["upgrade"]["held"] == true);
    assert_eq!((home.current().as_deref(), home.nodes().len()), (Some("v2"), 0));
    let (code, _) = home.ask("POST", "/api/v1/node/start", None).unwrap();
    assert_eq!(code, 202);
    home.committed("v2");
}

#[test]
fn c24_a_second_upgrade_is_refused_while_one_runs_and_is_still_there_afterwards() {
    let home = held_in("pre-upgrade");
    let _supervisor = home.start();
    let node = home.node();
    home.write_plans(r#"[{"name": "v2", "height": 50}, {"name": "v3", "height": 1000000}]"#);
    home.sees("both wait", |status| status["upgrades"][1]["name"] == "v3");
    node.set_head(50);
    home.sees("the first is under way", |status| status["upgrade"]["step"] == "pre_upgrade");

    for path in ["/api/v1/upgrades/v3/apply", "/api/v1/upgrades/rollback", "/api/v1/node/restart"] {
        let (code, answer) = home.ask("POST", path, None).unwrap();
        assert_eq!((code, &answer["code"]), (409, &json!("conflict")), "{path}: {answer}");
    }
    let said = home.cli(&["upgrade", "apply", "v3"]);
    assert_eq!(said.code, 4, "{said:?}");
    // The one under way can neither be changed nor called off any more.
    let (code, _) = home.ask("DELETE", "/api/v1/upgrades/v2", None).unwrap();
    assert_eq!(code, 409);
    let said = home.cli(&["upgrade", "schedule", "v2", "70"]);
    assert_eq!(said.code, 4, "{said:?}");

    let_go(&home);
    home.committed("v2");
    let status = home.status().unwrap();
    assert_eq!(status["upgrades"][0]["name"], "v3");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    let _ = home.cli(&["upgrade", "apply", "v3"]).expect(0);
    home.committed("v3");
}

#[test]
fn c24_an_upgrade_can_be_called_off_before_the_stop() {
    let home = held_in("pre-stop");
    home.plan("v2", 50);
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(50);
    home.sees("it drains", |status| status["upgrade"]["step"] == "pre_stop");
    let _ = home.cli(&["upgrade", "cancel", "v2"]).expect(0);
    let entry = home.finished("v2");
    assert_eq!(entry["outcome"], "cancelled", "{entry:#}");
    let_go(&home);
    node.mine(5);
    home.sees_head(55);
    assert!(node.runs() && home.started() == ["1.0.0"]);
    home.nothing_is_planned();
    assert_eq!(home.signals(node.pid, "SIGTERM"), 0);
}

#[test]
fn seed_the_new_node_is_killed_while_it_starts_and_the_old_one_comes_back() {
    let home = home_by_order();
    home.install("v2", &Program::practice("2.0.0").with("--no-blocks"));
    home.plan("v2", 50);
    let _supervisor = home.start();
    let old = home.node();
    old.set_head(50);
    home.sees("the new one is on probation", |status| status["upgrade"]["step"] == "probation");
    let new = home.wait("the new node", || home.node_now().filter(|node| node.pid != old.pid));
    new.exit(json!({"signal": 9}));
    let back = home.wait("the old program again", || {
        home.node_now().filter(|node| ![old.pid, new.pid].contains(&node.pid))
    });
    home.has_answered_on_probation();
    back.mine(3);
    let entry = home.finished("v2");
    assert_eq!((&entry["outcome"], home.current().as_deref()), (&json!("rolled_back"), Some("genesis")));
    assert!(entry["reason"].as_str().unwrap().contains("SIGKILL"), "{entry:#}");
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
    let pinned = home.status().unwrap()["pinned"].clone();
    assert_eq!(pinned[0]["name"], "v2", "{pinned}");
    home.nothing_is_planned();
    // It is not tried again by itself, though the height is past and the plan is put back.
    home.plan("v2", 60);
    back.set_head(70);
    home.sees_head(70);
    assert_eq!(home.started().len(), 3);
    let said = home.cli(&["upgrade", "apply", "v2"]);
    assert_eq!(said.code, 4, "{said:?}");
}
