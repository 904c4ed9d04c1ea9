//! Somebody removes, moves or replaces the files of a home while everything runs: nobody comes in beside those who are
//! there, nobody is lost, and what is gone is made anew.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::{Program, Signal, TestHome};

use crate::{empty_home, home, home_by_order};

fn remove(home: &TestHome, names: &[&str]) {
    for name in names {
        fs::remove_file(home.wemixvisor().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_removed_moved_or_copied_lock_lets_no_second_supervisor_in() {
    type Spoil = fn(&Path) -> io::Result<()>;
    let spoilt: [(&str, Spoil); 3] = [
        ("removed", |lock| fs::remove_file(lock)),
        ("moved", |lock| fs::rename(lock, lock.with_extension("bak"))),
        ("replaced by a copy", |lock| {
            let copy = lock.with_extension("copy");
            fs::copy(lock, &copy)?;
            fs::rename(copy, lock)
        }),
    ];
    for (what, spoil) in spoilt {
        let home = home();
        let first = home.start();
        let node = home.node();
        // It does not get to mend anything.
        first.signal(Signal::STOP);
        spoil(&home.wemixvisor().join("wemixvisor.lock")).unwrap();
        let mut second = home.spawn(&home.node_args(&[]), Stdio::null());
        assert_ne!(second.ends(), 0, "{what}");
        let said = home.supervisor_said();
        assert!(said.contains(&format!("(pid {})", first.pid())), "{what}: {said}");
        first.signal(Signal::CONT);
        home.wait("it is made anew", || (home.pid_in("wemixvisor.lock") == Some(first.pid())).then_some(()));
        home.wait("that is said", || {
            home.supervisor_said().contains("wemixvisor.lock was removed").then_some(())
        });
        assert!(node.runs() && home.started() == ["1.0.0"], "{what}");
        assert_eq!(home.sees("it answers", |_| true)["supervisor"]["pid"], first.pid());
        let mut third = home.spawn(&home.node_args(&[]), Stdio::null());
        assert_ne!(third.ends(), 0, "{what}");
        assert_eq!(first.stop(), 0);
    }
}

#[test]
fn a_removed_control_socket_is_made_anew_and_commands_wait_for_it() {
    let home = home();
    let supervisor = home.start();
    remove(&home, &["wemixvisor.sock", "wemixvisor.pid"]);
    let status = home.cli(&["status", "--json"]).expect(0).json();
    assert_eq!(status["supervisor"]["pid"], supervisor.pid());
    assert!(home.supervisor_said().contains("wemixvisor.sock was removed"));
    home.wait("so is the pid file", || {
        (home.pid_in("wemixvisor.pid") == Some(supervisor.pid())).then_some(())
    });
    let mode = fs::metadata(home.wemixvisor().join("wemixvisor.sock")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    let _ = home.cli(&["stop"]).expect(0);
    home.is_deserted();
    assert!(!home.wemixvisor().join("wemixvisor.sock").exists());
}

#[test]
fn a_supervisor_without_a_socket_is_not_taken_for_none() {
    let home = home_by_order();
    let supervisor = home.start();
    home.schedule("v2", 1000);
    supervisor.signal(Signal::STOP);
    for lost in [&["wemixvisor.sock"][..], &["wemixvisor.lock"][..]] {
        remove(&home, lost);
        let commands: [&[&str]; 6] = [
            &["status"],
            &["stop"],
            &["start"],
            &["upgrade", "list"],
            &["upgrade", "cancel", "v2"],
            &["upgrade", "schedule", "v2", "2000", "--force"],
        ];
        std::thread::scope(|scope| {
            for command in commands {
                let home = &home;
                scope.spawn(move || {
                    let said = home.cli(command).expect(1);
                    let holder = format!(
                        "a supervisor with pid {} runs, but its socket is gone",
                        supervisor_pid(home)
                    );
                    assert!(said.err.contains(&holder), "{command:?}: {}", said.err);
                });
            }
        });
        assert_eq!(home.plans()[0]["height"], 1000, "nothing was changed");
    }
    supervisor.signal(Signal::CONT);
    assert_eq!(home.cli(&["status", "--json"]).expect(0).json()["supervisor"]["pid"], supervisor.pid());
}

/// As the pid file has it.
fn supervisor_pid(home: &TestHome) -> u32 {
    home.pid_in("wemixvisor.pid").unwrap()
}

#[test]
fn a_keeper_without_lock_and_socket_is_found_by_the_next_supervisor() {
    let home = home();
    let supervisor = home.start();
    let (node, before) = (home.node(), home.keeper());
    supervisor.kill();
    remove(&home, &["keeper.lock", "keeper.sock"]);
    let supervisor = home.start();
    let status = home.sees("the node is taken over", |status| status["node"]["pid"] == node.pid);
    assert_eq!(status["node"]["adopted"], json!(true));
    home.wait("its lock is there again", || (home.pid_in("keeper.lock") == Some(before)).then_some(()));
    assert_eq!(home.started(), ["1.0.0"]);
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
}

#[test]
fn all_locks_sockets_and_records_are_removed_at_once_and_nothing_is_lost() {
    let home = home();
    let first = home.start();
    let node = home.node();
    let keeper_pid = home.keeper();
    let all = [
        "wemixvisor.lock",
        "wemixvisor.sock",
        "wemixvisor.pid",
        "keeper.lock",
        "keeper.sock",
        "node.lock",
        "node.json",
    ];
    let data_lock = home.data().join("wemixvisor-node.lock");
    remove(&home, &all);
    fs::remove_file(&data_lock).unwrap();
    let mut second = home.spawn(&home.node_args(&[]), Stdio::null());
    assert_ne!(second.ends(), 0);
    home.sees("the first answers again", |status| status["supervisor"]["pid"] == first.pid());
    let socket = home.wemixvisor().join("keeper.sock");
    home.wait("the keeper has its files again", || {
        (socket.exists() && home.keeper() == keeper_pid).then_some(())
    });
    first.kill();
    remove(&home, &["keeper.sock", "wemixvisor.lock"]);
    let _third = home.start();
    home.sees("the node is taken over", |status| status["node"]["pid"] == node.pid);
    assert_eq!(home.keeper(), keeper_pid);
    assert_eq!((home.started(), home.nodes()), (vec!["1.0.0".to_owned()], vec![node.pid]));
}

#[test]
fn two_homes_on_one_data_directory_run_one_node_though_its_lock_is_removed() {
    let (one, other) = (home(), home_by_order());
    let _first = one.start();
    let node = one.node();
    fs::remove_file(one.data().join("wemixvisor-node.lock")).unwrap();
    // Without this one the second would be refused at its start.
    fs::remove_file(one.data().join("wemixvisor-supervisor.lock")).unwrap();
    let datadir = ["--datadir".to_owned(), one.data().display().to_string()];
    let _second = other.spawn(&datadir, Stdio::null());
    let status = other.sees("the second says why it has no node", |status| {
        status["node"]["pid"].is_null()
            && status["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty())
    });
    assert!(status["alerts"].to_string().contains("still runs"), "{:#}", status["alerts"]);
    let head = one.status().unwrap()["chain"]["head"].as_u64().unwrap_or(0);
    one.sees_head(head + 3);
    assert!(node.runs() && one.started() == ["1.0.0"]);
    assert!(one.facts("datadir-locked").is_empty());
}

#[test]
fn what_a_node_left_behind_is_ended_though_its_lock_file_is_removed() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--leave-child").with("--block-time=100ms"));
    let _supervisor = home.start();
    home.sees_head(1);
    let node = home.node();
    remove(&home, &["node.lock"]);
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    // The child holds the data directory.
    let next = home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    home.sees("it runs", |status| status["node"]["pid"] == next.pid);
    assert!(home.supervisor_said().contains("processes of the last node still run"));
    assert_eq!(home.nodes(), [next.pid]);
}

#[test]
fn removed_logs_are_made_anew_and_hold_up_nobody() {
    let home = home_by_order();
    let args = home.node_args(&[]);
    let mut start = vec!["start", "--"];
    start.extend(args.iter().map(String::as_str));
    let status = home.cli(&start).expect(0);
    let node = home.node();
    let logs = home.wemixvisor().join("logs");
    assert!(logs.join("supervisor.log").exists(), "{status:?}");
    fs::remove_dir_all(&logs).unwrap();
    node.set(json!({"log-burst": 2_000_000}));
    node.mine(5);
    home.sees_head(5);
    home.wait("the directory is there again", || logs.is_dir().then_some(()));
    // Nothing is lost from the moment on at which the file is there again.
    home.wait("the node's log is there again", || {
        node.mine(1);
        logs.join("node.log").exists().then_some(())
    });
    let so_far = home.node_log().len();
    node.set(json!({"log-burst": 500_000}));
    home.wait("all of it is in the log", || (home.node_log().len() >= so_far + 500_000).then_some(()));
    home.schedule("v2", 1000);
    home.wait("the supervisor's log goes on", || {
        let text = fs::read_to_string(logs.join("supervisor.log")).ok()?;
        text.contains("v2").then_some(())
    });
    assert!(node.runs() && home.started() == ["1.0.0"]);
    let _ = home.cli(&["stop"]).expect(0);
    home.is_deserted();
}

#[test]
fn a_pid_file_that_cannot_be_written_keeps_nobody_from_starting() {
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    fs::create_dir(home.wemixvisor().join("wemixvisor.pid")).unwrap();
    let supervisor = home.start();
    home.sees_head(1);
    assert!(home.supervisor_said().contains("wemixvisor.pid"), "it is said");
    let alerts = &home.status().unwrap()["alerts"];
    assert!(alerts.as_array().is_none_or(Vec::is_empty) || *alerts == Value::Null, "{alerts}");
    assert_eq!(supervisor.stop(), 0);
}
