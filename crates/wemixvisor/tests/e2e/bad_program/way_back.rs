//! The way back fails as well: it is said, the supervisor stays, and it is tried again with measure.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use testkit::{NODE_NAME, TestHome};

use super::{alerts, home_with, is_known, practice, replace_first, rolled_back, schedule_ahead};

fn state(status: &Value) -> &str {
    status["node"]["state"].as_str().unwrap_or_default()
}

/// Commands work and say what is wrong, with the node down.
fn says_that_it_is_down(home: &TestHome) {
    let said = home.cli(&["status", "--json"]).json();
    assert_eq!(said["verdict"], "down", "{said:#}");
    assert!(home.nodes().is_empty());
}

fn old_program(home: &TestHome) -> PathBuf {
    home.wemixvisor().join("genesis/bin").join(NODE_NAME)
}

/// Until it is there again nothing can be switched back: it is said and tried on, and no node runs.
#[test]
fn d28_the_old_program_has_gone_and_comes_back() {
    let home = home_with(&practice("2.0.0").with("--fail-start=unknown flag"));
    let (old, away) = (old_program(&home), home.root().join("away"));
    home.hook("v2", "pre-upgrade", &format!("#!/bin/sh\nmv '{}' '{}'\n", old.display(), away.display()));
    let supervisor = home.start();
    schedule_ahead(&home);
    let status = home.sees("the way back is barred", |status| {
        status["alerts"].as_array().expect("a list").iter().any(|alert| alert["kind"] == "rollback_barred")
    });
    assert!(status["alerts"].to_string().contains("unknown flag"), "{status:#}");
    assert!(home.nodes().is_empty() && home.current().as_deref() == Some("v2"));
    supervisor.kill();
    let _supervisor = home.start();
    home.sees("the next one goes on with it", |status| status["upgrade"]["going_back"] == true);

    fs::rename(&away, &old).unwrap();
    let reason = rolled_back(&home, &["1.0.0", "2.0.0", "1.0.0"], Duration::from_secs(60));
    assert!(reason.contains("unknown flag"), "{reason}");
    home.sees("only the failure is left to tell", |status| {
        status["alerts"].as_array().map(Vec::len) == Some(1)
    });
}

/// The old program cannot be started any more: tried again by the restart policy, also by the next supervisor.
#[test]
fn d28_the_old_program_cannot_be_started() {
    let home = home_with(&practice("2.0.0").with("--fail-start=unknown flag"));
    home.set("node.max_restarts", "30");
    let old = old_program(&home);
    let spoil = format!("#!/bin/sh\nprintf '#!/no/such/shell\\n' >'{}'\n", old.display());
    home.hook("v2", "pre-upgrade", &spoil);
    let supervisor = home.start();
    schedule_ahead(&home);
    let entry = home.finished("v2");
    assert_eq!(entry["outcome"], "rollback_failed", "{entry:#}");
    assert!(entry["reason"].as_str().unwrap().contains("unknown flag"), "{entry:#}");
    assert!(entry["trouble"].as_str().unwrap().contains("could not be started"), "{entry:#}");
    assert_eq!((alerts(&home, "upgrade_failed").len(), home.current().as_deref()), (1, Some("genesis")));
    home.sees("it is tried again", |status| {
        state(status) == "waiting" && status["node"]["restarts"].as_u64() >= Some(2)
    });
    says_that_it_is_down(&home);
    supervisor.kill();
    let _supervisor = home.start();
    home.sees("the next one tries as well", |status| status["node"]["restarts"].as_u64() >= Some(1));
    says_that_it_is_down(&home);

    replace_first(&home, &practice("1.0.0"));
    let node = home.node();
    assert_eq!(home.started(), ["1.0.0", "2.0.0", "1.0.0"]);
    let status = home.sees("it runs again", |status| status["node"]["pid"] == node.pid);
    assert_eq!(status["pinned"][0]["name"], "v2");
    home.sees_head(node.head() + 3);
    assert_eq!(home.nodes(), [node.pid]);
    assert_eq!(home.history()[0]["outcome"], "rollback_failed");
}

/// The new program has brought the database to a version that the old one refuses: the way is forward.
#[test]
fn d28_the_old_program_refuses_the_new_ones_database() {
    let newer = |version: &str| practice(version).with("--database-version=9");
    let home = home_with(&newer("2.0.0").with("--head-still=10m"));
    home.set("node.max_restarts", "2");
    let supervisor = home.start();
    schedule_ahead(&home);
    let entry = home.finished("v2");
    assert_ne!(entry["outcome"], "committed", "{entry:#}");
    assert!(
        entry["trouble"].as_str().is_some_and(|trouble| trouble.contains("database version")),
        "{entry:#}"
    );
    let status = home.sees("it is given up", |status| state(status) == "failed");
    assert!(status["node"]["last_exit"]["text"].as_str().unwrap().contains("database version"), "{status:#}");
    assert_eq!(alerts(&home, "upgrade_failed").len(), 1);
    says_that_it_is_down(&home);
    assert_eq!(home.facts("stop").iter().filter(|stop| stop["exit"] == 1).count(), 3, "one start, two more");

    home.install("v2", &newer("2.0.1"));
    let _ = home.cli(&["upgrade", "retry", "v2"]).expect(0);
    home.committed("v2");
    assert_eq!(home.nodes().len(), 1);
    is_known(&home);
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
}
