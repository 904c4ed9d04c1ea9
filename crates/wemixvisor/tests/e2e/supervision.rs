//! E. Supervision: the node outlives its supervisor, crashes are answered with measure, nobody else is touched.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testkit::{Program, Signal, TestHome, processes};

use crate::{empty_home, home, home_by_order};

#[test]
fn e31_a_killed_supervisor_finds_its_node_again() {
    let home = home_by_order();
    let supervisor = home.start_with(&["--peers", "5"]);
    let node = home.node();
    node.mine(3);
    home.sees_head(3);
    supervisor.kill();
    assert!(node.runs());
    node.mine(3);
    let supervisor = home.start_with(&["--peers", "5"]);
    let status = home.sees_head(6);
    assert_eq!((&status["node"]["pid"], &status["node"]["adopted"]), (&json!(node.pid), &json!(true)));
    assert_eq!(status["node"]["version"], "genesis");
    assert_eq!(home.started(), ["1.0.0"]);
    // How it ends later is known, although its first supervisor is long gone.
    node.exit(json!({"code": 7}));
    let status = home.sees("its end is known", |status| !status["node"]["last_exit"].is_null());
    let said = status["node"]["last_exit"]["text"].as_str().unwrap().to_owned();
    assert!(said.contains('7'), "{said}");
    home.wait("it is started again", || (home.started().len() == 2).then_some(()));
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
}

#[test]
fn e31_a_node_that_ends_while_nobody_supervises_is_started_again() {
    let home = home_by_order();
    let supervisor = home.start();
    let node = home.node();
    supervisor.kill();
    node.exit(json!({"code": 3}));
    home.wait("it has ended", || (!node.runs()).then_some(()));
    let _supervisor = home.start();
    let next = home.node();
    assert_ne!(next.pid, node.pid);
    assert_eq!(home.nodes(), [next.pid]);
}

/// The words "wemixvisor start" alone: typed to take a node over, or to have it again.
#[test]
fn e31_a_start_without_arguments_is_one_with_those_of_the_last_time() {
    let home = home_by_order();
    home.start_with(&["--peers", "5"]).kill();
    let node = home.node();
    let supervisor = home.spawn(&[], Stdio::null());
    let status = home.sees("the node is taken over", |status| status["node"]["adopted"] == true);
    assert_eq!(status["node"]["pid"], node.pid);
    assert!(status["node"]["args"].to_string().contains("--peers"), "{status:#}");
    let since: jiff::Timestamp = status["node"]["since"].as_str().unwrap().parse().unwrap();
    let started = home.facts("start")[0]["at_ms"].as_i64().unwrap();
    assert!(since.as_millisecond().abs_diff(started) < 2_000, "it did not start anew: {since}");
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.wait("the next node", || (home.started().len() == 2).then_some(()));
    assert_eq!(supervisor.stop(), 0);
    let _supervisor = home.spawn(&[], Stdio::null());
    home.wait("the node after that", || (home.started().len() == 3).then_some(()));
    let words = |start: &Value| start["argv"].as_array().unwrap()[1..].to_vec();
    let starts = home.facts("start");
    assert!(starts.iter().all(|start| words(start) == words(&starts[0])), "{starts:#?}");
}

#[test]
fn e31_other_arguments_than_those_of_the_node_that_runs_are_said() {
    let home = home_by_order();
    home.start_with(&["--peers", "5"]).kill();
    let _supervisor = home.start_with(&["--peers", "6"]);
    let status = home.sees("the alert", |status| !status["alerts"].as_array().unwrap().is_empty());
    assert_eq!(status["alerts"][0]["kind"], "arguments", "{:#}", status["alerts"]);
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.sees("it is over", |status| status["alerts"].as_array().unwrap().is_empty());
    home.wait("the next node", || (home.started().len() == 2).then_some(()));
    assert!(home.facts("start")[1]["argv"].to_string().contains("\"6\""));
}

#[test]
fn e31_a_restart_into_a_program_that_is_gone_is_refused() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    let program = home.wemixvisor().join("genesis/bin").join(testkit::NODE_NAME);
    fs::rename(&program, program.with_extension("away")).unwrap();
    let said = home.cli(&["restart"]).expect(4);
    assert!(said.err.contains("the node was not stopped: there is no program at"), "{}", said.err);
    assert!(node.runs() && home.facts("signal").is_empty());
}

#[test]
fn e31_a_killed_keeper_costs_the_node_nothing() {
    let home = home();
    let _supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    let keeper = home.keeper();
    assert!(processes::signal(keeper, home.root(), Signal::KILL));
    home.wait("there is another keeper", || {
        home.pid_in("keeper.lock").filter(|pid| *pid != keeper && processes::runs(*pid))
    });
    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.sees_head(head + 3);
    assert!(node.runs() && home.started() == ["1.0.0"]);
    // It can still be stopped and replaced in order.
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
}

#[test]
fn e31_a_frozen_supervisor_holds_up_nothing_and_goes_on() {
    let home = home_by_order();
    home.plan("v2", 50);
    let supervisor = home.start();
    let node = home.node();
    node.set(json!({"log-lines-per-s": 1000}));
    supervisor.signal(Signal::STOP);
    // More output than any pipe holds.
    node.set(json!({"log-burst": 4_000_000}));
    for _ in 0..20 {
        node.mine(5);
    }
    assert_eq!(node.head(), 100);
    home.wait("the output has gone to the log", || (home.node_log().len() > 4_000_000).then_some(()));
    supervisor.signal(Signal::CONT);
    assert_eq!(home.committed("v2")["head"], 100);
    assert_eq!(home.signals(node.pid, "SIGTERM"), 1);
}

/// The moments at which nodes started, in milliseconds.
fn starts(home: &TestHome) -> Vec<u64> {
    home.facts("start").iter().filter_map(|start| start["at_ms"].as_u64()).collect()
}

#[test]
fn e33_a_crash_loop_backs_off_and_ends_as_failed_with_the_supervisor_up() {
    let home = empty_home();
    home.set("node.max_restarts", "3");
    home.init(&Program::practice("1.0.0").with("--exit-after=50ms").with("--exit-code=2"));
    let supervisor = home.start();
    let status = home.sees("it is given up", |status| status["node"]["state"] == "failed");
    assert_eq!((&status["verdict"], &status["node"]["pid"]), (&json!("down"), &Value::Null));
    assert_eq!(status["node"]["last_exit"]["class"], "panic");
    assert!(
        status["alerts"].as_array().unwrap().iter().any(|alert| alert["kind"] == "node_down"),
        "{status:#}"
    );
    let at = starts(&home);
    assert_eq!(at.len(), 4, "the first start and three restarts: {at:?}");
    // At once, after about 1 s, after about 2 s; up to a tenth less for the jitter.
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[1] >= 900 && gaps[2] >= 1800, "{gaps:?}");
    // Commands and API still answer; a person can start it again.
    let said = home.cli(&["status", "--json"]);
    assert_eq!(said.json()["node"]["state"], "failed", "{said:?}");
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.wait("it was started anew", || (starts(&home).len() > 4).then_some(()));
    supervisor.stop();
    home.is_deserted();
}

#[test]
fn e33_healthy_uptime_fills_the_budget_again() {
    let home = home_by_order();
    home.set("node.max_restarts", "1");
    home.set("node.healthy_uptime", "500ms");
    let _supervisor = home.start();
    let mut node = home.node();
    for _ in 0..4 {
        let started = starts(&home).last().copied().unwrap();
        home.wait("it was up long enough", || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            (now.as_millis() as u64 > started + 800).then_some(())
        });
        node.exit(json!({"code": 2}));
        node = home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    }
    assert_eq!(home.sees("it runs", |status| status["node"]["state"] == "running")["node"]["pid"], node.pid);
    assert_eq!(home.started().len(), 5);
}

#[test]
fn e33_without_restart_on_failure_the_supervisor_ends_with_the_nodes_code() {
    let home = home_by_order();
    home.set("node.restart_on_failure", "false");
    let mut supervisor = home.start();
    home.node().exit(json!({"code": 42}));
    assert_eq!(supervisor.ends(), 42);
    assert_eq!(home.started(), ["1.0.0"]);
    home.is_deserted();
}

#[test]
fn e36_stdin_arguments_and_environment_arrive_untouched() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--journal-env").with("--read-stdin"));
    let odd = [
        "--client-version",
        "a \"b\" 'c' $HOME *",
        "--peer-version",
        "tab\there\nline",
        "--genesis-salt",
        "é%ü",
    ];
    let mut supervisor = home.spawn(&home.node_args(&odd), Stdio::piped());
    let input: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut stdin = supervisor.stdin().unwrap();
    stdin.write_all(&input).unwrap();
    drop(stdin);
    supervisor.answers();
    let start = home.wait("the node has started", || home.facts("start").pop());
    let argv: Vec<_> = start["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(argv.ends_with(&odd), "{argv:?}");
    let env = &start["env"];
    assert_eq!(
        (env["PATH"].as_str(), env["HOME"].as_str()),
        (Some("/usr/local/bin:/usr/bin:/bin"), home.root().to_str())
    );
    assert_eq!(
        (env["WEMIX_HOME"].as_str(), env["WEMIX_NETWORK"].as_str()),
        (home.root().to_str(), Some("none"))
    );
    assert_eq!(start["cwd"].as_str(), home.root().to_str());
    // SIGPIPE (13) is ignored by the practice node itself, as by every Rust program.
    assert_eq!(
        (&start["blocked"], &start["ignored"]),
        (&json!("0000000000000000"), &json!("0000000000001000"))
    );
    let read = home.wait("all of stdin was read", || home.facts("stdin").pop());
    assert_eq!(read["bytes"], input.len());
    let files: Vec<_> = start["files"].as_object().unwrap().keys().cloned().collect();
    let path = |fd: &String| start["files"][fd].as_str().unwrap_or_default().to_owned();
    let strange: Vec<_> = files
        .iter()
        .map(path)
        .filter(|path| path.contains("state.db") || path.contains("wemixvisor.lock"))
        .collect();
    assert!(strange.is_empty(), "the supervisor's own files leak into the node: {strange:?}");
}

/// Another user's process, which nobody may touch.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn is_unharmed(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "the stranger was ended");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn e37_a_stale_record_with_a_reused_pid_harms_no_stranger() {
    for other_boot in [true, false] {
        let home = home_by_order();
        let mut stranger = Stranger::new();
        let supervisor = home.start();
        let node = home.node();
        supervisor.kill();
        for pid in processes::of(home.root()) {
            processes::signal(pid, home.root(), Signal::KILL);
        }
        home.is_deserted();
        // What a crash of the machine leaves behind, when the ids have been given to others since.
        let dir = home.wemixvisor();
        let record = dir.join("node.json");
        let mut found: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        assert_eq!(found["pid"], node.pid);
        found["pid"] = json!(stranger.pid());
        if other_boot {
            found["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
        }
        fs::write(&record, found.to_string()).unwrap();
        for lock in ["keeper.lock", "wemixvisor.lock", "wemixvisor.pid"] {
            fs::write(dir.join(lock), format!("{}\n", stranger.pid())).unwrap();
        }

        let supervisor = home.start();
        let next = home.node();
        assert_ne!(next.pid, stranger.pid());
        let status = home.sees("the new node runs", |status| status["node"]["pid"] == next.pid);
        assert_eq!(status["node"]["adopted"], false);
        let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
        assert_eq!(code, 202);
        home.wait("the next node", || home.node_now().filter(|node| node.pid != next.pid));
        stranger.is_unharmed();
        assert_eq!(supervisor.stop(), 0);
        home.is_deserted();
        stranger.is_unharmed();
    }
}
