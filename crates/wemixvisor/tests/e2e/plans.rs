//! B. Plans: one file is the truth about what is scheduled.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use testkit::{Program, TestHome};

use crate::{home, home_by_order};

/// The scheduled upgrades as the status shows them, without what changes from moment to moment.
fn shown(home: &TestHome) -> Vec<(Value, Value)> {
    let status = home.status().expect("the supervisor answers");
    let upgrades = status["upgrades"].as_array().expect("a list");
    upgrades.iter().map(|upgrade| (upgrade["name"].clone(), upgrade["height"].clone())).collect()
}

fn shows(home: &TestHome, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, height)| (json!(name), json!(height))).collect();
    home.wait(&format!("{expected:?} is scheduled"), || (shown(home) == expected).then_some(()));
}

fn problem(home: &TestHome) -> Option<String> {
    home.status()?["plan_problem"].as_str().map(str::to_owned)
}

/// How many events of this kind there were.
fn events(home: &TestHome, kind: &str) -> usize {
    let (_, answer) = home.ask("GET", "/api/v1/events?limit=1000", None).expect("the supervisor answers");
    answer["events"].as_array().expect("a list").iter().filter(|event| event["type"] == kind).count()
}

#[test]
fn b8_command_line_api_and_hand_have_the_same_effect() {
    let home = home_by_order();
    let _supervisor = home.start();
    let mut seen = Vec::new();
    let schedules: [&dyn Fn(); 3] = [
        &|| drop(home.cli(&["upgrade", "schedule", "v2", "1000", "--info", "words"]).expect(0)),
        &|| {
            let body = json!({"name": "v2", "height": 1000, "info": "words"});
            let (code, answer) = home.ask("POST", "/api/v1/upgrades", Some(&body)).unwrap();
            assert_eq!((code, &answer["upgrade"]["name"]), (200, &json!("v2")), "{answer}");
        },
        &|| home.write_plans(r#"{"name": "v2", "height": 1000, "info": "words"}"#),
    ];
    for schedule in schedules {
        schedule();
        let status = home.sees("it is scheduled and ready", |status| status["upgrades"][0]["ready"] == true);
        let mut upgrade = status["upgrades"][0].clone();
        upgrade
            .as_object_mut()
            .unwrap()
            .retain(|name, _| !matches!(name.as_str(), "expected_at" | "findings"));
        seen.push(upgrade);
        assert_eq!(home.plans()[0]["name"], "v2");
        let _ = home.cli(&["upgrade", "cancel", "v2"]).expect(0);
        shows(&home, &[]);
        assert!(home.plans().is_empty());
    }
    assert_eq!((&seen[0], &seen[1]), (&seen[1], &seen[2]));
}

#[test]
fn b8_a_file_that_is_written_slowly_is_one_schedule_without_an_error_left() {
    let home = home_by_order();
    home.plan("old", 500);
    let _supervisor = home.start();
    shows(&home, &[("old", 500)]);
    let text = r#"[{"name": "v2", "height": 1000}, {"name": "v3", "height": 2000}]"#;
    let mut file = OpenOptions::new().write(true).truncate(true).open(home.plan_file()).unwrap();
    file.write_all(&text.as_bytes()[..40]).unwrap();
    home.wait("the half is a problem", || problem(&home));
    assert_eq!(shown(&home), [(json!("old"), json!(500))], "the last good plans stay armed");
    file.write_all(&text.as_bytes()[40..]).unwrap();
    shows(&home, &[("v2", 1000), ("v3", 2000)]);
    assert_eq!(problem(&home), None);
    assert_eq!(
        home.status().unwrap()["alerts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|a| a["kind"] == "plan_file")
            .count(),
        0
    );
    assert_eq!(events(&home, "upgrade_scheduled"), 3);
}

#[test]
fn b8_changes_are_seen_by_content() {
    let home = home_by_order();
    let _supervisor = home.start();
    home.plan("v2", 1000);
    shows(&home, &[("v2", 1000)]);

    // The same content again, by rename and in place: nothing.
    home.plan("v2", 1000);
    let text = fs::read(home.plan_file()).unwrap();
    fs::write(home.plan_file(), text).unwrap();
    // New content that pretends to be older.
    home.plan("v2", 2000);
    let old = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(home.plan_file()).unwrap().set_modified(old).unwrap();
    shows(&home, &[("v2", 2000)]);
    fs::write(home.plan_file(), r#"{"name": "v2", "height": 3000}"#).unwrap();
    let older = old - Duration::from_secs(3600);
    File::options().write(true).open(home.plan_file()).unwrap().set_modified(older).unwrap();
    shows(&home, &[("v2", 3000)]);
    assert_eq!((events(&home, "upgrade_scheduled"), events(&home, "upgrade_updated")), (1, 2));

    fs::remove_file(home.plan_file()).unwrap();
    shows(&home, &[]);
}

#[test]
fn b9_a_file_that_makes_no_sense_leaves_the_last_good_plans_armed() {
    let home = home_by_order();
    home.plan("v2", 1000);
    let _supervisor = home.start();
    shows(&home, &[("v2", 1000)]);
    let node = home.node();
    let huge = format!(r#"{{"name": "v3", "height": 5, "info": "{}"}}"#, "x".repeat(2 << 20));
    for text in [
        "",
        "{}",
        r#"{"name": "v3"}"#,
        r#"{"height": 2000}"#,
        r#"{"name": 3, "height": 2000}"#,
        r#"{"name": "v3", "height": "soon"}"#,
        r#"{"name": "v3", "height": 0}"#,
        r#"{"name": "v3", "height": -1}"#,
        r#"{"name": "v3", "height": 9223372036854775808}"#,
        r#"{"name": "v3", "height": 2000"#,
        "null",
        "\u{0}\u{1}\u{2}",
        huge.as_str(),
    ] {
        let what: String = text.chars().take(60).collect();
        home.write_plans(text);
        let said = home.wait(&format!("{what:?} is a problem"), || problem(&home));
        assert!(!said.is_empty());
        assert_eq!(shown(&home), [(json!("v2"), json!(1000))], "{what:?}");
        home.plan("v2", 1000);
        home.wait("the problem is over", || problem(&home).is_none().then_some(()));
    }
    fs::remove_file(home.plan_file()).unwrap();
    shows(&home, &[]);
    home.plan("v2", 1000);
    shows(&home, &[("v2", 1000)]);
    // What cannot be read: a directory (the tests may run as root, to whom every file opens).
    fs::remove_file(home.plan_file()).unwrap();
    fs::create_dir(home.plan_file()).unwrap();
    home.wait("the directory is a problem", || problem(&home));
    assert_eq!(home.started(), ["1.0.0"]);
    assert!(node.runs() && home.node().pid == node.pid);
    fs::remove_dir(home.plan_file()).unwrap();
    // A height as text is fine.
    home.write_plans(r#"{"name": "v2", "height": "1500"}"#);
    shows(&home, &[("v2", 1500)]);
}

#[test]
fn b10_bad_names_are_refused_by_command_line_api_and_file_alike() {
    let home = home_by_order();
    let _supervisor = home.start();
    let long = "x".repeat(300);
    for name in ["../../x", "a/b", "", ".x", "..", long.as_str(), "a\nb", "a\u{7}b", "a b", "é"] {
        let said = home.cli(&["upgrade", "schedule", "--", name, "1000"]);
        assert_eq!(said.code, 2, "{name:?}: {said:?}");
        let body = json!({"name": name, "height": 1000});
        let (code, answer) = home.ask("POST", "/api/v1/upgrades", Some(&body)).unwrap();
        assert_eq!((code, &answer["code"]), (400, &json!("invalid")), "{name:?}: {answer}");
        assert!(home.plans().is_empty(), "{name:?}");
        home.write_plans(&body.to_string());
        home.wait(&format!("{name:?} in the file is a problem"), || problem(&home));
        assert!(shown(&home).is_empty(), "{name:?}");
        fs::remove_file(home.plan_file()).unwrap();
        home.wait("the problem is over", || problem(&home).is_none().then_some(()));
    }
    assert_eq!(events(&home, "upgrade_scheduled"), 0);
}

#[test]
fn b11_a_plan_for_the_future_is_kept_and_the_old_program_runs() {
    let home = home();
    home.plan("v2", 1_000_000);
    for round in 1..=3 {
        let supervisor = home.start();
        home.sees("the plan waits", |status| {
            status["upgrades"][0]["name"] == "v2" && status["node"]["version"] == "genesis"
        });
        home.wait("the node runs", || (home.started().len() == round).then_some(()));
        assert_eq!(supervisor.stop(), 0);
        home.is_deserted();
    }
    assert_eq!(home.started(), ["1.0.0"; 3]);
    assert_eq!(home.plans()[0]["height"], 1_000_000);
}

#[test]
fn b12_a_plan_whose_height_passed_while_the_supervisor_was_down() {
    let home = home();
    let supervisor = home.start();
    home.sees_head(5);
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
    home.plan("v2", 3);
    let _supervisor = home.start();
    home.committed("v2");
    assert_eq!(home.started(), ["1.0.0", "2.0.0"], "the old program was not started again");
    home.nothing_is_planned();
}

#[test]
fn b12_a_height_that_passes_while_only_the_node_runs() {
    let home = home_by_order();
    home.plan("v2", 50);
    let supervisor = home.start();
    let node = home.node();
    node.set_head(10);
    home.sees_head(10);
    supervisor.kill();
    node.set_head(60);
    let _supervisor = home.start();
    let entry = home.committed("v2");
    assert_eq!((&entry["head"], home.signals(node.pid, "SIGTERM")), (&json!(60), 1));
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

#[test]
fn b12_late_plans_can_be_refused() {
    let home = home_by_order();
    home.set("upgrade.late", "refuse");
    let _supervisor = home.start();
    let node = home.node();
    node.set_head(60);
    home.sees_head(60);
    home.plan("v2", 50);
    home.sees("it is refused and said", |status| {
        status["upgrades"][0]["refused"] == true
            && status["alerts"].as_array().unwrap().iter().any(|alert| alert["kind"] == "refused_late")
    });
    node.mine(1);
    home.sees_head(61);
    assert_eq!(home.started(), ["1.0.0"]);
    let _ = home.cli(&["upgrade", "apply", "v2"]).expect(0);
    home.committed("v2");
}

#[test]
fn b13_clashing_plans_are_refused_or_replaced_with_nothing_half_written() {
    let home = home_by_order();
    let _supervisor = home.start();
    home.node().set_head(100);
    home.sees_head(100);
    home.schedule("v2", 1000);
    let before = fs::read(home.plan_file()).unwrap();

    // Two plans at one height.
    let said = home.cli(&["upgrade", "schedule", "v3", "1000"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.err.contains("v2"), "{said:?}");
    let (code, _) =
        home.ask("POST", "/api/v1/upgrades", Some(&json!({"name": "v3", "height": 1000}))).unwrap();
    assert_eq!(code, 409);
    // A height that has passed.
    let said = home.cli(&["upgrade", "schedule", "v3", "50"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert_eq!(fs::read(home.plan_file()).unwrap(), before);
    // The same name with another height replaces.
    let _ = home.cli(&["upgrade", "schedule", "v2", "2000"]).expect(0);
    shows(&home, &[("v2", 2000)]);
    // In the file neither is accepted.
    for text in [
        r#"[{"name": "v2", "height": 1000}, {"name": "v3", "height": 1000}]"#,
        r#"[{"name": "v2", "height": 1000}, {"name": "v2", "height": 2000}]"#,
    ] {
        home.write_plans(text);
        home.wait("it is a problem", || problem(&home));
        assert_eq!(shown(&home), [(json!("v2"), json!(2000))]);
        home.plan("v2", 2000);
        home.wait("the problem is over", || problem(&home).is_none().then_some(()));
    }
    assert_eq!(home.started(), ["1.0.0"]);
}

#[test]
fn b14_a_cancelled_upgrade_does_not_happen() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    home.schedule("v2", 100);
    let list = home.cli(&["upgrade", "list", "--json"]).expect(0).json();
    assert_eq!(list["upgrades"][0]["name"], "v2", "{list}");
    // One block before.
    node.set_head(99);
    home.sees_head(99);
    let _ = home.cli(&["upgrade", "cancel", "v2"]).expect(0);
    node.set_head(120);
    home.sees_head(120);
    let list = home.cli(&["upgrade", "list", "--json"]).expect(0).json();
    assert_eq!(list["count"], 0, "{list}");
    assert_eq!((home.started(), home.current()), (vec!["1.0.0".to_owned()], Some("genesis".to_owned())));
    let said = home.cli(&["upgrade", "cancel", "v2"]);
    assert_ne!(said.code, 0, "there is nothing to cancel: {said:?}");
}

#[test]
fn b14_a_plan_that_is_put_off_one_block_before_fires_at_its_new_height() {
    let home = home_by_order();
    let _supervisor = home.start();
    let node = home.node();
    home.schedule("v2", 100);
    node.set_head(99);
    home.sees_head(99);
    home.schedule("v2", 110);
    node.set_head(109);
    home.sees_head(109);
    assert_eq!(home.started(), ["1.0.0"]);
    node.mine(1);
    assert_eq!(home.committed("v2")["head"], 110);
}

#[test]
fn b15_two_plans_in_a_row_are_carried_out_in_order_each_once() {
    let home = home_by_order();
    home.install("v2", &Program::practice("2.0.0").with("--no-blocks"));
    home.install("v3", &Program::practice("3.0.0").with("--block-time=100ms"));
    home.write_plans(r#"[{"name": "v3", "height": 60}, {"name": "v2", "height": 50}]"#);
    let _supervisor = home.start();
    let first = home.node();
    first.set_head(50);
    home.sees("the second program is on probation", |status| {
        status["upgrade"]["name"] == "v2" && status["upgrade"]["step"] == "probation"
    });
    let second = home.wait("the second node", || home.node_now().filter(|node| node.pid != first.pid));
    home.has_answered_on_probation();
    second.mine(3);
    home.committed("v2");
    second.set_head(60);
    let entry = home.committed("v3");
    assert_eq!((&entry["from"], &entry["to"]), (&json!("v2"), &json!("v3")));
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "3.0.0"]);
    let names: Vec<_> = home.history().iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, ["v3", "v2"]);
    home.nothing_is_planned();
}

#[test]
fn b15_a_new_plan_under_the_name_of_one_that_is_rolled_back_is_not_lost() {
    let home = home();
    home.install("v2", &Program::practice("2.0.0").with("--fail-start=bad flag"));
    let _supervisor = home.start();
    home.sees_head(2);
    home.plan("v2", 3);
    home.sees("it goes back", |status| status["upgrade"]["going_back"] == true);
    home.plan("v2", 1_000_000);
    assert_eq!(home.finished("v2")["outcome"], "rolled_back");
    shows(&home, &[("v2", 1_000_000)]);
    // Once more at the very end, when the finished plan is just being taken off.
    home.install("v3", &Program::practice("3.0.0").with("--fail-start=bad flag"));
    home.plan("v3", 4);
    assert_eq!(home.finished("v3")["outcome"], "rolled_back");
    home.plan("v3", 2_000_000);
    shows(&home, &[("v3", 2_000_000)]);
    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.sees_head(head + 5);
    assert_eq!(home.plans()[0]["height"], 2_000_000);
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0", "3.0.0", "1.0.0"]);
}

#[test]
fn b8_a_data_directory_that_is_not_there_takes_no_plan_back_and_no_new_one() {
    let home = home_by_order();
    let supervisor = home.start();
    home.schedule("v2", 1_000_000);
    shows(&home, &[("v2", 1_000_000)]);
    let (data, aside) = (home.data(), home.root().join("aside"));
    fs::rename(&data, &aside).unwrap();
    // A practice node makes a directory that is gone.
    std::os::unix::fs::symlink("nowhere", &data).unwrap();
    let refused = |why: &str| {
        home.wait("it is noticed", || problem(&home).filter(|problem| problem.contains("is not there")));
        let said = home.cli(&["upgrade", "schedule", "v3", "2000000", "--force"]).expect(1);
        assert!(said.err.contains(why), "{}", said.err);
        let body = json!({"name": "v3", "height": 2_000_000, "force": true});
        let (code, answer) = home.ask("POST", "/api/v1/upgrades", Some(&body)).unwrap();
        assert!(code >= 400 && answer["error"].as_str().unwrap().contains(why), "{code} {answer}");
        assert!(!home.plan_file().exists());
        shows(&home, &[("v2", 1_000_000)]);
    };
    refused("is not there");
    // No node begins anew in an empty one.
    let started = home.started().len();
    let said = home.cli(&["restart"]).expect(1);
    assert!(said.err.contains("is not there any more"), "{}", said.err);
    assert!(!data.exists() && home.started().len() == started);
    // As when its disk is not mounted.
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    refused("is a disk not mounted?");
    fs::remove_dir(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    home.wait("the file can be read", || problem(&home).is_none().then_some(()));
    let _ = home.cli(&["start"]).expect(0);
    home.schedule("v3", 2_000_000);
    shows(&home, &[("v2", 1_000_000), ("v3", 2_000_000)]);
    assert_eq!(events(&home, "upgrade_cancelled"), 0);
    assert_eq!(supervisor.stop(), 0);
}
