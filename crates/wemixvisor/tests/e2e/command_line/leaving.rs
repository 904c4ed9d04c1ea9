//! The work is the supervisor's: who watches can leave, and is told when the supervisor goes.

use testkit::Program;

use super::{Following, fails, has};
use crate::{empty_home, held_in, let_go};

#[test]
fn ctrl_c_leaves_an_upgrade_that_goes_on_to_its_end() {
    let home = held_in("pre-upgrade");
    let _supervisor = home.start();
    home.node().set_head(5);
    home.sees_head(5);
    home.write_plans(
        r#"[{"name": "v2", "height": 1000000, "switch": "manual"}, {"name": "v3", "height": 2000000}]"#,
    );
    home.sees("both are ready", |status| status["upgrades"][1]["ready"] == true);
    let apply = Following::begin(&home, &["upgrade", "apply", "v2"]);
    home.sees("it is under way", |status| status["upgrade"]["step"] == "pre_upgrade");
    for args in [
        &["upgrade", "apply", "v3"][..],
        &["upgrade", "rollback"],
        &["upgrade", "retry", "v2"],
        &["upgrade", "cancel", "v2"],
        &["upgrade", "schedule", "v2", "3000000"],
        &["start"],
        &["restart"],
    ] {
        fails(&home, args, 4, "conflict", &["v2"]);
    }
    apply.says("...");
    apply.leave();
    let said = apply.ends().expect(130);
    has(&said.err, &["the supervisor goes on without this command"]);

    let follow = Following::begin(&home, &["upgrade", "status", "--follow", "--json"]);
    follow.says(" done (");
    let_go(&home);
    let said = follow.ends().expect(0);
    assert_eq!(said.json()["outcome"], "committed");
    home.committed("v2");
}

#[test]
fn who_follows_is_told_when_the_supervisor_is_killed_and_the_next_one_ends_the_upgrade() {
    let home = held_in("pre-upgrade");
    let supervisor = home.start();
    home.node().set_head(5);
    home.sees_head(5);
    home.schedule("v2", 50);
    let follow = Following::begin(&home, &["upgrade", "status", "--follow"]);
    follow.says("waiting for upgrade v2 at 50");
    home.node().set_head(50);
    home.sees("it is under way", |status| status["upgrade"]["step"] == "pre_upgrade");
    supervisor.kill();
    let said = follow.ends().expect(3);
    has(&said.err, &["the supervisor has ended meanwhile", "wemixvisor start"]);
    has(&home.cli(&["status"]).expect(3).out, &["v2"]);
    fails(&home, &["upgrade", "cancel", "v2"], 3, "not_running", &["only a supervisor can end it"]);
    let_go(&home);
    let _supervisor = home.start();
    home.committed("v2");
}

#[test]
fn a_next_upgrade_is_followed_to_a_good_and_to_a_bad_end() {
    for (program, code, outcome) in [
        (Program::practice("2.0.0").with("--block-time=100ms"), 0, "committed"),
        (Program::practice("2.0.0").with("--exit-after=50ms").with("--exit-code=1"), 1, "rolled_back"),
    ] {
        let home = empty_home();
        home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
        home.install("v2", &program);
        let _supervisor = home.start();
        let head = home.sees_head(2)["chain"]["head"].as_u64().unwrap();
        home.schedule("v2", head + 30);
        let said = home.cli(&["upgrade", "status", "--follow", "--json"]).expect(code);
        assert_eq!(said.json()["outcome"], outcome);
    }
}

#[test]
fn a_stop_a_restart_and_a_start_that_are_left_go_on() {
    let home = empty_home();
    home.set("node.shutdown_grace", "1h");
    home.set("node.stop_hard_limit", "2h");
    // It works in its stop for longer than any test.
    home.init(&Program::practice("1.0.0").with("--stop-works=10m").with("--block-time=100ms"));
    let _supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    let restart = Following::begin(&home, &["restart"]);
    restart.says("the node is being stopped");
    restart.leave();
    has(&restart.ends().expect(130).err, &["the restart goes on without this command"]);

    let start = Following::begin(&home, &["start"]);
    start.says("started again when it is down");
    start.leave();
    has(&start.ends().expect(130).err, &["the start goes on without this command"]);

    let stop = Following::begin(&home, &["stop"]);
    home.sees("it is told to end", |status| status["shutting_down"] == true);
    fails(&home, &["upgrade", "apply", "v2"], 4, "conflict", &["about to end"]);
    stop.leave();
    has(&stop.ends().expect(130).err, &["the stop goes on without this command"]);
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
    assert!(node.runs());
}
