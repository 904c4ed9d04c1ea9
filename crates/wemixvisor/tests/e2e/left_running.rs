//! What a hook starts ends with it, whatever it does to hide, and no hook runs beside itself.

use std::fs;

use serde_json::json;
use testkit::{TestHome, processes};

use crate::{home, home_by_order};

/// Starts a process with a session of its own that has lost its parent, has nothing of the hook open, does not obey
/// SIGTERM, and has written its id down.
const ESCAPE: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ > $DAEMON_HOME/escaped.new; mv $DAEMON_HOME/escaped.new \
    $DAEMON_HOME/escaped; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &)\n\
    while ! [ -e $DAEMON_HOME/escaped ]; do sleep 0.01; done\n";

fn pid_in(home: &TestHome, name: &str) -> u32 {
    let file = home.root().join(name);
    home.wait(&format!("{name} is written"), || fs::read_to_string(&file).ok()?.trim().parse().ok())
}

#[test]
fn the_time_limit_of_a_hook_holds_for_all_that_it_started() {
    let home = home();
    home.set("hooks.time_limit", "1s");
    home.set("hooks.pre_upgrade_retries", "0");
    home.hook("v2", "pre-upgrade", &format!("#!/bin/sh\n{ESCAPE}sleep 1000\n"));
    home.plan("v2", 5);
    let _supervisor = home.start();
    let entry = home.finished("v2");
    assert_eq!(entry["outcome"], "rolled_back", "{entry:#}");
    assert!(!processes::runs(pid_in(&home, "escaped")));
}

#[test]
fn a_hook_that_leaves_a_session_of_its_own_behind_has_failed() {
    let home = home();
    home.set("hooks.pre_upgrade_retries", "0");
    home.hook("v2", "pre-upgrade", &format!("#!/bin/sh\n{ESCAPE}exit 0\n"));
    home.plan("v2", 5);
    let _supervisor = home.start();
    let entry = home.finished("v2");
    assert_eq!(entry["outcome"], "rolled_back", "{entry:#}");
    assert!(entry.to_string().contains("left processes running"), "{entry:#}");
    assert!(!processes::runs(pid_in(&home, "escaped")));
}

#[test]
fn a_hook_whose_supervisor_was_killed_is_ended_before_it_is_begun_again() {
    let home = home_by_order();
    // The first run waits for ever, with a hidden child. The second one says whether any of that still runs.
    let script = format!(
        "#!/bin/sh\nif [ -e $DAEMON_HOME/first ]; then\n\
         for pid in $(cat $DAEMON_HOME/first $DAEMON_HOME/escaped); do\n\
         kill -0 $pid 2>/dev/null && grep -qv '^State:.Z' /proc/$pid/status && grep '^State' /proc/$pid/status | \
         grep -qv Z && echo $pid >> $DAEMON_HOME/beside\n\
         done\nexit 0\nfi\n{ESCAPE}echo $$ > $DAEMON_HOME/first.new; mv $DAEMON_HOME/first.new $DAEMON_HOME/first\n\
         while :; do sleep 1; done\n"
    );
    home.hook("v2", "pre-upgrade", &script);
    home.plan("v2", 5);
    let supervisor = home.start();
    home.node().set_head(5);
    let (first, escaped) = (pid_in(&home, "first"), pid_in(&home, "escaped"));
    supervisor.kill();
    assert!(processes::runs(first) && processes::runs(escaped), "they live on for now");
    let _supervisor = home.start();
    let entry = home.committed("v2");
    assert_eq!(entry["head"], json!(5));
    let beside = fs::read_to_string(home.root().join("beside")).unwrap_or_default();
    assert_eq!(beside, "", "these ran beside the second one");
    assert!(!processes::runs(first) && !processes::runs(escaped));
    assert!(home.supervisor_said().contains("it was ended first"));
}

#[test]
fn a_drain_that_is_called_off_is_ended_and_its_end_is_not_that_of_the_next_one() {
    let home = home_by_order();
    // Each run waits to be let go by its own process id, and tells when it goes.
    let script = "#!/bin/sh\ntrap 'exit 1' TERM\necho \"begin $$\" >>\"$DAEMON_HOME/runs\"\n\
        until [ -e \"$DAEMON_HOME/go-$$\" ] || [ ! -d \"$DAEMON_HOME\" ]; do sleep 0.05; done\n\
        echo \"end $$ $(date +%s%3N)\" >>\"$DAEMON_HOME/runs\"\n";
    home.hook("v2", "pre-stop", script);
    let said = || fs::read_to_string(home.root().join("runs")).unwrap_or_default();
    let begun = |which: usize| {
        home.wait("a drain begins", || {
            let said = said();
            let mut runs = said.lines().filter_map(|line| line.strip_prefix("begin "));
            runs.nth(which)?.parse::<u32>().ok()
        })
    };
    let let_go = |pid: u32| fs::write(home.root().join(format!("go-{pid}")), "").unwrap();
    home.plan("v2", 5);
    let _supervisor = home.start();
    let old = home.node();
    old.set_head(5);
    let first = begun(0);
    fs::remove_file(home.plan_file()).unwrap();
    home.sees("it is called off", |status| status["upgrade"].is_null());
    home.plan("v2", 5);
    let second = begun(1);
    assert!(!processes::runs(first), "two drains at once");
    let_go(first);
    home.sees("the second one is waited for", |status| status["upgrade"]["step"] == "pre_stop");
    assert_eq!(home.signals(old.pid, "SIGTERM"), 0);
    let_go(second);
    home.committed("v2");
    let said = said();
    let ends: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("end ")?.split_once(' ')).collect();
    let [(pid, at)] = ends[..] else { panic!("{said}") };
    assert_eq!((pid, home.history().len()), (second.to_string().as_str(), 2), "{said}");
    let told = home.facts("signal").iter().find_map(|signal| signal["at_ms"].as_u64()).unwrap();
    assert!(told >= at.parse().unwrap(), "the node was told to stop in the middle of its drain: {said}");
}
