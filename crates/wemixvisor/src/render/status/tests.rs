use serde_json::{Value, json};

use super::*;

fn mark(step: &str, text: &str, ended: Option<&str>) -> Value {
    json!({ "step": step, "text": text, "started": "2026-01-31T11:59:58Z", "ended": ended, "failed": null, "note": null })
}

/// A validator that is fine, one upgrade ahead.
pub(crate) fn fine() -> Value {
    json!({
        "verdict": "ok", "headline": "the node runs and follows the chain", "at": "2026-01-31T12:00:00.000Z",
        "supervisor": { "version": "0.1.0", "pid": 41, "started_at": "2026-01-31T08:48:00Z" },
        "installed": "genesis",
        "node": {
            "state": "running", "pid": 42, "version": "genesis", "client_version": "Gwemix/v0.10.9-stable/linux-amd64/go1.19",
            "since": "2026-01-31T08:48:00Z", "answering": true, "adopted": false, "args": [], "restarts": 0, "max_restarts": 5,
            "starts_at": null, "last_exit": null
        },
        "chain": {
            "head": 1234567, "hash": null, "seen_at": "2026-01-31T11:59:59.200Z", "highest": 1234567, "still_ms": 800,
            "lag_ms": 400, "block_time_ms": 1000, "chain_id": 1111,
            "sources": [
                { "address": "ws://127.0.0.1:8598", "followed": true, "failure": null },
                { "address": "http://127.0.0.1:8588", "followed": false, "failure": "http://127.0.0.1:8588 cannot be reached: connection refused" }
            ]
        },
        "upgrades": [upgrade("v2.0.0", 1500000)],
        "plan_problem": null, "upgrade": null, "last_upgrade": null, "pinned": [], "alerts": [], "stuck": null,
        "upgrades_enabled": true, "shutting_down": false
    })
}

/// A finished upgrade that was rolled back.
pub(crate) fn finished(id: u64, fired_at: &str) -> Value {
    json!({
        "id": id, "name": "v2.0.0", "height": 1500000, "from": "genesis", "to": "v2.0.0", "sha256": "ab", "head": 1500000,
        "fired_at": fired_at, "finished_at": "2026-01-30T12:00:05Z", "downtime_ms": 1234,
        "outcome": "rolled_back", "reason": "prove the new program: it died", "trouble": null, "steps": []
    })
}

pub(crate) fn upgrade(name: &str, height: u64) -> Value {
    json!({
        "name": name, "height": height, "switch": "at", "description": null, "binaries": {}, "checksums": {},
        "args": null, "env": {}, "expect_version": null, "fires_at": height, "blocks_left": 265433,
        "expected_at": "2026-02-03T13:43:53Z", "ready": true, "findings": [], "program_version": "2.0.0", "sha256": null,
        "blocked": null, "refused": false, "pinned": false
    })
}

fn shown(status: Value) -> String {
    let status: Status = serde_json::from_value(status).unwrap();
    let zone = TimeZone::UTC;
    let setting = Setting { home: "/srv/wemix", network: "mainnet", paint: Paint::Plain, zone: &zone };
    let text = screen(&status, &setting);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

#[test]
fn a_node_that_is_fine() {
    let expected = "\
OK  the node runs and follows the chain

  home        /srv/wemix (mainnet, chain id 1111)
  supervisor  wemixvisor 0.1.0, pid 41, up 3 h 12 min
  node        genesis, running, pid 42, up 3 h 12 min
              Gwemix/v0.10.9-stable/linux-amd64/go1.19
  head        1,234,567, 800 ms ago; a block every 1.0 s; 400 ms behind
  source      ws://127.0.0.1:8598
              silent: http://127.0.0.1:8588 cannot be reached: connection
              refused

NEXT UPGRADE v2.0.0 at 1,500,000 (when the head is there)
  265,433 blocks left, expected Tue 2026-02-03 13:43:53 UTC, in 3 d 1 h
  ready: version 2.0.0
";
    assert_eq!(shown(fine()), expected);
}

#[test]
fn a_plan_that_is_not_ready_says_what_to_do_once() {
    let mut status = fine();
    status["upgrades"][0]["ready"] = json!(false);
    status["upgrades"][0]["findings"] =
        json!([{ "what": "binary", "state": "failed", "detail": "there is no program: put it there" }]);
    status["alerts"] = json!([{ "kind": "not_ready", "text": "there is no program: put it there" }]);
    let text = shown(status.clone());
    assert!(text.contains("  NOT READY\n  ! there is no program: put it there\n"), "{text}");
    assert_eq!(text.matches("put it there").count(), 1, "{text}");
    status["upgrades"].as_array_mut().unwrap().push(upgrade("v3", 1600000));
    let text = shown(status);
    assert!(text.contains("  then: v3 at 1,600,000\n") && text.contains("ALERTS\n"), "{text}");
}

#[test]
fn an_upgrade_under_way_is_a_checklist() {
    let mut status = fine();
    status["upgrade"] = json!({
        "name": "v2.0.0", "height": 1500000, "from": "genesis", "to": "v2.0.0", "fired_at": "2026-01-31T11:59:58Z",
        "step": "probation", "step_text": "prove the new program",
        "steps": [
            mark("stop", "stop the old program", Some("2026-01-31T11:59:58.400Z")),
            mark("probation", "prove the new program", None)
        ],
        "going_back": false, "failure": null, "waiting_for": ["2 more blocks"], "held": false, "can_cancel": false
    });
    let text = shown(status);
    let expected = "\
UPGRADE UNDER WAY v2.0.0: genesis -> v2.0.0, for 2.0 s
  [✓] stop the old program     11:59:58  400 ms
  […] prove the new program    11:59:58  2.0 s
      still to prove: 2 more blocks
";
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("NEXT UPGRADE"), "{text}");
}

#[test]
fn a_node_that_is_down_says_why_and_when_it_starts() {
    let mut status = fine();
    status["verdict"] = json!("down");
    status["node"]["state"] = json!("waiting");
    for gone in ["pid", "since", "client_version", "version"] {
        status["node"][gone] = Value::Null;
    }
    status["node"]["restarts"] = json!(2);
    status["node"]["starts_at"] = json!("2026-01-31T12:00:04Z");
    status["headline"] = json!("it refused to run (exit code 1): Fatal: \u{1b}[31mno");
    status["node"]["last_exit"] = json!({ "class": "fatal_config", "text": "refused to run (exit code 1): Fatal: \u{1b}[31mno", "tail": "" });
    let text = shown(status.clone());
    assert!(text.starts_with("DOWN  "), "{text}");
    assert!(text.contains("  node        genesis, down, will be started again\n"), "{text}");
    assert!(text.contains("              starts in 4.0 s (restart 2 of 5)\n"), "{text}");
    assert_eq!(text.matches("refused to run (exit code 1): Fatal: [31mno\n").count(), 1, "{text}");
    status["node"]["state"] = json!("stopped");
    let text = shown(status);
    assert!(text.contains("last: it refused to run"), "{text}");
}

#[test]
fn without_a_supervisor_only_what_files_tell_is_said() {
    let mut status = fine();
    status["supervisor"] = Value::Null;
    for unknown in ["blocks_left", "expected_at", "ready", "program_version"] {
        status["upgrades"][0][unknown] = Value::Null;
    }
    let text = shown(status);
    assert!(text.contains("not running; to start it: wemixvisor start [node arguments]"), "{text}");
    assert!(text.contains("it is not known when") && text.contains("not checked yet"), "{text}");
    assert!(!text.contains("\n  head ") && !text.contains("\n  source "), "{text}");
}

#[test]
fn the_last_upgrade_and_a_damaged_plan_file_are_shown() {
    let mut status = fine();
    status["upgrades"] = json!([]);
    status["plan_problem"] = json!("line 1: nonsense");
    status["alerts"] = json!([{ "kind": "plan_file", "text": "the plan file cannot be used" }]);
    status["last_upgrade"] = finished(7, "2026-01-30T12:00:00Z");
    let text = shown(status);
    assert!(text.contains("PLAN FILE: line 1: nonsense\n"), "{text}");
    assert!(!text.contains("ALERTS") && !text.contains("no upgrade is scheduled"), "{text}");
    let expected = "\
LAST UPGRADE Fri 2026-01-30 12:00:05 UTC
  v2.0.0 was rolled back: prove the new program: it died. genesis runs again; no
  node ran for 1.2 s
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn colours_do_not_change_the_words() {
    let status: Status = serde_json::from_value(fine()).unwrap();
    let zone = TimeZone::UTC;
    let draw = |paint| screen(&status, &Setting { home: "/h", network: "none", paint, zone: &zone });
    let coloured = draw(Paint::Colour);
    assert!(coloured.starts_with("\u{1b}[1;32mOK\u{1b}[0m  the node runs"), "{coloured}");
    let mut plain = coloured;
    for code in ["\u{1b}[1;32m", "\u{1b}[1m", "\u{1b}[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, draw(Paint::Plain));
}
