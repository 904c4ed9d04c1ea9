use serde_json::{Value, json};

use super::*;
use crate::render::status::tests::{finished, upgrade};

fn planned(change: impl FnOnce(&mut Value)) -> Upgrade {
    let mut value = upgrade("v2.0.0", 1_500_000);
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn ended(change: impl FnOnce(&mut Value)) -> Finished {
    let mut value = finished(7, "2026-01-30T12:00:00Z");
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// 2026-01-31T12:00:00Z.
const NOW: Moment = Moment(1_769_860_800_000);

fn one(change: impl FnOnce(&mut Value)) -> String {
    let text = next(&planned(change), NOW, Paint::Plain, &TimeZone::UTC);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

#[test]
fn the_list_is_a_table_that_fits_a_terminal() {
    assert_eq!(list(&[], &TimeZone::UTC), "no upgrade is scheduled\n");
    let plans = [
        planned(|plan| plan["name"] = json!("v2.0.0-rc.1+build.5")),
        planned(|plan| {
            plan["name"] = json!("v3");
            plan["height"] = json!(12_345_678);
            plan["switch"] = json!("window:100");
            for unknown in ["blocks_left", "expected_at", "ready"] {
                plan[unknown] = Value::Null;
            }
        }),
    ];
    let expected = "\
NAME                 HEIGHT      SWITCH      LEFT     EXPECTED          READY
v2.0.0-rc.1+build.5  1,500,000   at          265,433  2026-02-03 13:43  yes
v3                   12,345,678  window:100  -        -                 ?
";
    assert_eq!(list(&plans, &TimeZone::UTC), expected);
}

#[test]
fn readiness_is_one_word_and_the_worst_one_wins() {
    for (field, value, word) in [
        ("ready", json!(true), "yes"),
        ("ready", json!(false), "NO"),
        ("ready", Value::Null, "?"),
        ("blocked", json!("no program"), "blocked"),
        ("pinned", json!(true), "pinned"),
        ("refused", json!(true), "too late"),
    ] {
        assert_eq!(readiness_word(&planned(|plan| plan[field] = value.clone())), word, "{field}: {value}");
    }
    let all = planned(|plan| {
        plan["blocked"] = json!("no program");
        plan["pinned"] = json!(true);
        plan["refused"] = json!(true);
    });
    assert_eq!(readiness_word(&all), "too late");
}

#[test]
fn the_next_upgrade_says_when_it_comes() {
    for (switch, words) in [
        ("at", "when the head is there"),
        ("before", "one block before, for a fork"),
        ("window:50", "within the 50 blocks before"),
        ("halted", "when the chain halts before it"),
        ("manual", "only by hand"),
        ("something new", "something new"),
    ] {
        let text = one(|plan| plan["switch"] = json!(switch));
        assert!(text.starts_with(&format!("NEXT UPGRADE v2.0.0 at 1,500,000 ({words})\n")), "{text}");
    }
    let timed = one(|_| {});
    assert!(
        timed.contains("  265,433 blocks left, expected Tue 2026-02-03 13:43:53 UTC, in 3 d 1 h\n"),
        "{timed}"
    );
    let no_pace = one(|plan| {
        plan["blocks_left"] = json!(1);
        plan["expected_at"] = Value::Null;
    });
    assert!(no_pace.contains("\n  1 block left\n"), "{no_pace}");
    let unknown = |switch: &str| {
        one(|plan| {
            plan["blocks_left"] = Value::Null;
            plan["switch"] = json!(switch);
        })
    };
    assert!(unknown("at").contains("\n  it is not known when: no height is known\n"));
    assert!(unknown("manual").contains("\n  to carry it out: wemixvisor upgrade apply v2.0.0\n"));
}

#[test]
fn what_stands_in_the_way_is_said_line_by_line() {
    let text = one(|plan| {
        plan["description"] =
            json!("words \u{1b}[2J of somebody else, many of them, so that they do not fit on one line");
        plan["ready"] = json!(false);
        plan["findings"] = json!([
            { "what": "binary", "state": "ok", "detail": "all is well" },
            { "what": "disk", "state": "warning", "detail": "only 3 MiB are free" },
            { "what": "hooks", "state": "failed", "detail": "the hook is not executable" }
        ]);
        plan["pinned"] = json!(true);
        plan["refused"] = json!(true);
        plan["blocked"] = json!("there is no program");
    });
    let expected = "\
NEXT UPGRADE v2.0.0 at 1,500,000 (when the head is there)
  words [2J of somebody else, many of them, so that they do not fit on one line
  265,433 blocks left, expected Tue 2026-02-03 13:43:53 UTC, in 3 d 1 h
  NOT READY
  ! only 3 MiB are free
  ! the hook is not executable
  ! it came too late and is refused (upgrade.late = refuse)
  ! its version failed before and is pinned as bad; to try it again: wemixvisor
    upgrade retry
  ! blocked: there is no program
";
    assert_eq!(text, expected);
}

#[test]
fn the_status_of_upgrades_is_what_is_stuck_under_way_next_and_last() {
    let mut value = json!({
        "pending_upgrade": null, "upgrading": false, "current_height": 7, "node_state": "running", "ready": null,
        "expected_at": null, "step": null, "upgrade": null, "last_upgrade": null, "stuck": null
    });
    let shown = |value: &Value| {
        status(&serde_json::from_value(value.clone()).unwrap(), NOW, Paint::Plain, &TimeZone::UTC)
    };
    assert_eq!(shown(&value), "no upgrade is scheduled\n");
    value["stuck"] = json!("record 3 cannot be understood");
    value["last_upgrade"] = finished(7, "2026-01-30T12:00:00Z");
    value["upgrade"] = json!({
        "name": "v3", "height": 9, "from": "v2.0.0", "to": "v3", "fired_at": "2026-01-31T11:59:00Z",
        "step": "back_start", "step_text": "start the old program", "steps": [], "going_back": true,
        "failure": "prove the new program: it died", "waiting_for": [], "held": true, "can_cancel": true
    });
    let expected = "\
STUCK: record 3 cannot be understood

UPGRADE GOES BACK v3: v2.0.0 -> v3, for 1 min
  because: prove the new program: it died
  it waits for you; to start the new program: wemixvisor start
  to call it off: wemixvisor upgrade cancel v3

no upgrade is scheduled

LAST UPGRADE Fri 2026-01-30 12:00:05 UTC
  v2.0.0 was rolled back: prove the new program: it died. genesis runs again; no
  node ran for 1.2 s
";
    assert_eq!(shown(&value), expected);
}

#[test]
fn the_history_is_a_table_and_a_bad_end_is_explained() {
    assert_eq!(history(&[], &TimeZone::UTC), "no upgrade has been carried out yet\n");
    let good = ended(|entry| {
        entry["name"] = json!("rollback to genesis");
        entry["outcome"] = json!("committed");
        entry["height"] = Value::Null;
        entry["downtime_ms"] = Value::Null;
    });
    let bad = ended(|entry| {
        entry["steps"] = json!([{
            "step": "probation", "text": "prove the new program", "started": "2026-01-30T12:00:01Z",
            "ended": "2026-01-30T12:00:03Z", "failed": "it died", "note": null
        }]);
    });
    let expected = "\
FINISHED             NAME                 HEIGHT     FROM     TO      OUTCOME      DOWN
2026-01-30 12:00:05  v2.0.0               1,500,000  genesis  v2.0.0  rolled back  1.2 s
2026-01-30 12:00:05  rollback to genesis  -          genesis  v2.0.0  committed    -

v2.0.0 was rolled back: prove the new program: it died. genesis runs again; no
node ran for 1.2 s
  [x] prove the new program    12:00:01  2.0 s
      it died
";
    assert_eq!(history(&[bad, good.clone()], &TimeZone::UTC), expected);
    assert!(!history(&[good], &TimeZone::UTC).contains("was rolled back"));
}
