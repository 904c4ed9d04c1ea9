//! E. The supervisor gives its place to its program as it is on the disk; the node does not notice.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{NODE_NAME, Program, Signal, TestHome, processes};

use crate::interruptions::{Hold, judged, slow_in};
use crate::{WEMIXVISOR, empty_home, home};

/// What a shell script says to be taken for a supervisor's program.
const SETTINGS_ARE_GOOD: &str = r#"echo '{"valid": true, "file": null, "errors": [], "warnings": []}'"#;

/// A newer build: the same program in another file, which is also another one by its content.
fn newer_build(home: &TestHome) {
    let mut bytes = fs::read(WEMIXVISOR).unwrap();
    bytes.extend(b"newer");
    home.replace_own_program(&Program::bytes(bytes));
}

fn file(path: &Path) -> (u64, u64) {
    let found = fs::metadata(path).unwrap();
    (found.dev(), found.ino())
}

/// The file that a process executes.
fn executes(pid: u64) -> (u64, u64) {
    file(Path::new(&format!("/proc/{pid}/exe")))
}

/// The heights of the blocks that the node has written of, in order.
fn written(home: &TestHome) -> Vec<u64> {
    let number = |line: &str| line.split(" number=").nth(1)?.split_whitespace().next()?.parse().ok();
    home.node_log().lines().filter_map(number).collect()
}

fn replaced(home: &TestHome) -> Value {
    let before = home.status().unwrap();
    let said = home.cli(&["restart", "--supervisor-only", "--json"]).expect(0).json();
    assert_ne!(said["supervisor"]["started_at"], before["supervisor"]["started_at"]);
    // The process stays, and with it whoever looks after it.
    assert_eq!(said["supervisor"]["pid"], before["supervisor"]["pid"]);
    let pid = said["supervisor"]["pid"].as_u64().unwrap();
    assert_eq!(executes(pid), file(home.own_program()), "it is the file that is on the disk");
    said
}

#[test]
fn e32_a_newer_build_takes_the_place_of_a_supervisor_in_the_background() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=5ms"));
    let home = home.with_own_program();
    let args = home.node_args(&[]);
    let words: Vec<&str> = ["start"].into_iter().chain(args.iter().map(String::as_str)).collect();
    let _ = home.cli(&words).expect(0);
    let node = home.node();
    for _ in 0..3 {
        newer_build(&home);
        let status = replaced(&home);
        assert_eq!((&status["node"]["pid"], &status["node"]["adopted"]), (&json!(node.pid), &json!(true)));
        let head = node.head();
        home.sees_head(head + 20);
    }
    assert_eq!(home.started(), ["1.0.0"]);
    let written = written(&home);
    assert!(written.len() > 60 && written.windows(2).all(|pair| pair[1] == pair[0] + 1), "{written:?}");
    // How it ends later is known.
    node.exit(json!({"code": 7}));
    let status = home.sees("its end is known", |status| !status["node"]["last_exit"].is_null());
    assert!(status["node"]["last_exit"]["text"].as_str().unwrap().contains('7'), "{status:#}");
    home.wait("it is started again", || (home.started().len() == 2).then_some(()));
    let _ = home.node();
    let _ = home.cli(&["stop"]).expect(0);
    home.is_deserted();
}

#[test]
fn e32_a_newer_build_takes_the_place_of_a_supervisor_in_the_foreground() {
    let home = home().with_own_program();
    let supervisor = home.start();
    let head = home.sees_head(1)["chain"]["head"].as_u64().unwrap();
    let node = home.node();
    newer_build(&home);
    let status = replaced(&home);
    assert_eq!(status["supervisor"]["pid"], supervisor.pid());
    home.sees_head(head + 3);
    assert!(node.runs());
    assert_eq!(supervisor.stop(), 0);
    assert_eq!((home.signals(node.pid, "SIGTERM"), home.started()), (1, vec!["1.0.0".to_owned()]));
    home.is_deserted();
}

#[test]
fn e32_a_newer_build_goes_on_in_the_middle_of_an_upgrade() {
    for (step, hold) in [
        ("stop", Hold::OldFlag("--stop-takes=1500ms")),
        ("start", Hold::Setting("upgrade.restart_delay", "1s")),
        ("probation", Hold::NewFlag("--head-still=2s")),
    ] {
        let home = slow_in(hold).with_own_program();
        let _supervisor = home.start();
        home.node().set_head(50);
        home.sees(&format!("the upgrade is at {step}"), |status| status["upgrade"]["step"] == step);
        newer_build(&home);
        replaced(&home);
        judged(&home);
        assert_eq!(home.status().unwrap()["last_upgrade"]["outcome"], "committed", "{step}");
        assert_eq!(home.started(), ["1.0.0", "2.0.0"], "{step}");
    }
}

#[test]
fn e32_a_hook_is_not_cut_off() {
    let home = slow_in(Hold::OldFlag("--stop-takes=1ms")).with_own_program();
    home.hook("v2", "pre-upgrade", "#!/bin/sh\necho run >>\"$DAEMON_HOME/runs\"\nexec sleep 2\n");
    let _supervisor = home.start();
    home.node().set_head(50);
    home.sees("the hook runs", |status| status["upgrade"]["step"] == "pre_upgrade");
    let said = home.cli(&["restart", "--supervisor-only"]).expect(4);
    assert!(said.err.contains("hook"), "{said:?}");
    judged(&home);
    assert_eq!(fs::read_to_string(home.root().join("runs")).unwrap(), "run\n");
    replaced(&home);
}

#[test]
fn e32_a_program_that_could_not_begin_does_not_get_the_place() {
    let home = home().with_own_program();
    let _supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    let before = home.status().unwrap()["supervisor"].clone();
    let broken = "#!/bin/sh\necho 'this build is broken' >&2\nexit 3\n";
    let wordy = "#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' 'x'\necho\necho the reason\nexit 3\n";
    let other = "#!/bin/sh\nexec true\n";
    for (program, says) in [
        (broken, "this build is broken"),
        ("no program at all", "cannot be run"),
        (wordy, "the reason (exit code 3)"),
        (other, "is no program to supervise with"),
        ("#!/bin/sh\necho '{\"valid\": true}'\n", "is no program to supervise with"),
    ] {
        home.replace_own_program(&Program::bytes(program));
        let (code, answer) = home.ask("POST", "/api/v1/supervisor/restart", None).unwrap();
        assert_eq!(code, 422, "{answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains(says) && said.contains("nothing was changed"), "{said}");
        assert!(said.chars().count() < 500 && said.lines().count() == 1, "{said}");
    }
    assert_eq!(home.status().unwrap()["supervisor"], before);
    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.sees_head(head + 3);
    assert!(node.runs());
}

#[test]
fn e32_a_supervisor_that_could_not_start_the_node_again_does_not_get_the_place() {
    let home = home().with_own_program();
    home.set("name", NODE_NAME);
    // The name is given by the settings file only.
    let mut start = std::process::Command::new(home.own_program());
    start.arg("--home").arg(home.root()).env_remove("DAEMON_NAME").args(["start", "--"]);
    assert!(start.args(home.node_args(&[])).output().unwrap().status.success());
    home.sees_head(1);
    let node = home.node();
    let program = home.wemixvisor().join("genesis/bin").join(NODE_NAME);
    let other = program.with_file_name("wemixd");
    let refused = |path: &Path| {
        let before = home.status().unwrap()["supervisor"].clone();
        let said = home.cli(&["restart", "--supervisor-only"]).expect(4);
        let path = format!("there is no program at {}", path.display());
        assert!(said.err.contains(&path) && said.err.contains("nothing was changed"), "{said:?}");
        assert_eq!(home.status().unwrap()["supervisor"], before);
    };
    home.set("name", "wemixd");
    refused(&other);
    fs::rename(&program, &other).unwrap();
    replaced(&home);
    home.set("name", NODE_NAME);
    refused(&program);
    fs::rename(&other, &program).unwrap();
    let status = replaced(&home);
    assert_eq!(status["node"]["pid"], node.pid);
    let head = node.head();
    home.sees_head(head + 3);
    assert_eq!(home.started(), ["1.0.0"]);
    let _ = home.cli(&["stop"]).expect(0);
    home.is_deserted();
}

#[test]
fn e32_a_keeper_that_stands_still_keeps_the_old_supervisor_in_its_place() {
    let home = home().with_own_program();
    let supervisor = home.start();
    home.sees_head(1);
    let (node, keeper) = (home.node(), home.keeper());
    let before = home.status().unwrap()["supervisor"].clone();
    assert!(processes::signal(keeper, home.root(), Signal::STOP));
    let said = home.cli(&["restart", "--supervisor-only"]).expect(4);
    assert!(
        said.err.contains(&format!("the keeper (pid {keeper}) does not answer: it is stopped")),
        "{said:?}"
    );
    assert!(said.err.contains("nothing was changed"), "{said:?}");
    assert_eq!(home.status().unwrap()["supervisor"], before);
    assert!(processes::signal(keeper, home.root(), Signal::CONT));
    replaced(&home);
    assert!(node.runs());
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn e32_what_is_said_of_the_node_is_true_without_one_too() {
    let home = home().with_own_program();
    let mut supervisor = home.start();
    home.sees_head(1);
    let stop_node = || {
        let (code, _) = home.ask("POST", "/api/v1/node/stop", None).unwrap();
        assert_eq!(code, 202);
        home.sees("the node is stopped", |status| status["node"]["state"] == "stopped");
    };
    stop_node();
    let said = home.cli(&["restart", "--supervisor-only"]).expect(0);
    assert!(said.err.contains("no node runs"), "{said:?}");
    assert!(!said.err.contains("runs on") && !said.out.contains("runs on"), "{said:?}");
    let place = format!("{} takes this supervisor's place", home.own_program().display());
    assert!(home.supervisor_said().contains(&place));
    // It starts the node.
    home.sees("the node runs", |status| status["node"]["state"] == "running");
    stop_node();
    // One that ends at once, as one does that was told to.
    let short_lived = format!(
        "#!/bin/sh\ncase \"$*\" in *'config validate --json') {SETTINGS_ARE_GOOD}; exit 0;; esac\nexit 0\n"
    );
    let good = fs::read(home.own_program()).unwrap();
    home.replace_own_program(&Program::bytes(short_lived));
    let said = std::process::Command::new(WEMIXVISOR)
        .args(["--home", home.root().to_str().unwrap(), "restart", "--supervisor-only"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("no node runs: it was told to end") && !said.contains("runs on"), "{said}");
    assert_eq!(supervisor.ends(), 0);
    home.replace_own_program(&Program::bytes(good));
}

#[test]
fn e32_a_program_that_ends_at_once_leaves_the_node_to_the_next() {
    let home = home().with_own_program();
    let mut supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    // Its settings it finds good; then it ends.
    let short_lived = format!(
        "#!/bin/sh\ncase \"$*\" in *'config validate --json') {SETTINGS_ARE_GOOD}; exit 0;; esac\nexit 9\n"
    );
    home.replace_own_program(&Program::bytes(short_lived));
    let (code, _) = home.ask("POST", "/api/v1/supervisor/restart", None).unwrap();
    assert_eq!(code, 202);
    assert_eq!(supervisor.ends(), 9);
    assert!(node.runs());
    newer_build(&home);
    let again = home.start();
    assert_eq!(home.status().unwrap()["node"]["pid"], node.pid);
    assert_eq!(again.stop(), 0);
}

#[test]
fn e32_a_program_that_is_gone_when_it_is_wanted_leaves_the_old_one_at_work() {
    let home = home().with_own_program();
    let supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    let before = home.status().unwrap();
    home.replace_own_program(&Program::bytes(format!("#!/bin/sh\nrm -f \"$0\"\n{SETTINGS_ARE_GOOD}\n")));
    let (code, _) = home.ask("POST", "/api/v1/supervisor/restart", None).unwrap();
    assert_eq!(code, 202);
    let status = home.sees("it has begun again", |status| {
        status["supervisor"]["started_at"] != before["supervisor"]["started_at"]
    });
    assert_eq!(status["supervisor"]["pid"], supervisor.pid());
    assert!(home.supervisor_said().contains("cannot take this supervisor's place"));
    let head = before["chain"]["head"].as_u64().unwrap();
    home.sees_head(head + 5);
    assert!(node.runs() && home.started() == ["1.0.0"]);
    assert_eq!(supervisor.stop(), 0);
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
}

#[test]
fn e32_a_stop_in_the_middle_of_it_is_a_stop() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    let mut rng = fastrand::Rng::with_seed(32);
    for round in 0..15 {
        let mut supervisor = home.start();
        let node = home.node();
        let (code, _) = home.ask("POST", "/api/v1/supervisor/restart", None).unwrap();
        assert_eq!(code, 202);
        std::thread::sleep(Duration::from_micros(rng.u64(0..40_000)));
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.ends(), 0, "round {round}");
        assert_eq!(home.signals(node.pid, "SIGTERM"), 1, "round {round}");
        home.is_deserted();
    }
}
