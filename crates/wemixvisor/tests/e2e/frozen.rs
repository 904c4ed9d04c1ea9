//! Homes as earlier versions left them: this one must read them and go on from there.
//!
//! Under `tests/fixtures/<version>/<state>` lies what a home of that version held when everything of it was killed:
//! database, keeper's records, plan file, link, programs, chain. They are added, never changed: [`freeze`] writes
//! those of the present version. In the records `@HOME@` stands for the home's path; the programs are scripts that
//! run `./practice`, the practice node of the program under test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::{Program, Signal, Supervisor, TestHome, processes};

use crate::empty_home;

/// What is kept of a home.
const KEPT: [&str; 9] = [
    "wemixvisor/state.db",
    "wemixvisor/node.json",
    "wemixvisor/node-exit.json",
    "wemixvisor/current",
    "wemixvisor/genesis",
    "wemixvisor/upgrades",
    "data/upgrade-info.json",
    "data/testnode/chain.json",
    "data/testnode/starts.json",
];

/// The records that name the home.
const RECORDS: [&str; 2] = ["wemixvisor/node.json", "wemixvisor/node-exit.json"];

/// Brings an empty home into a state.
type BringAbout = fn(&TestHome);

/// The states, and how each comes about.
const STATES: [(&str, BringAbout); 6] = [
    ("idle", idle),
    ("stopped-for-upgrade", stopped_for_upgrade),
    ("starting-new", starting_new),
    ("on-probation", on_probation),
    ("going-back", going_back),
    ("pinned", pinned),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn practice(version: &str, flags: &str) -> Program {
    let line =
        format!("exec ./practice practice-node --as-version {version} --block-time=100ms --flush-every=1");
    Program::bytes(format!("#!/bin/sh\n{line} {flags} \"$@\"\n"))
}

fn prepared() -> TestHome {
    let home = empty_home();
    symlink(home.own_program(), home.root().join("practice")).unwrap();
    home
}

/// With a relative path: no record of it names the home.
fn start(home: &TestHome) -> Supervisor<'_> {
    let args = ["--datadir", "data", "--control"].map(str::to_owned);
    let mut supervisor = home.spawn(&args, Stdio::null());
    supervisor.answers();
    supervisor
}

fn kill_all(home: &TestHome, supervisor: Supervisor<'_>) {
    supervisor.kill();
    for pid in processes::of(home.root()) {
        processes::signal(pid, home.root(), Signal::KILL);
    }
    home.is_deserted();
}

fn killed_at(home: &TestHome, step: &str) {
    let supervisor = start(home);
    home.sees(step, |status| status["upgrade"]["step"] == step);
    kill_all(home, supervisor);
}

/// One upgrade is behind it, which brought other arguments; another one waits.
fn idle(home: &TestHome) {
    home.init(&practice("1.0.0", ""));
    home.install("v2", &practice("2.0.0", ""));
    let args = ["--datadir", "data", "--control", "--peers=7"];
    home.write_plans(
        &json!({"name": "v2", "height": 5, "info": {"description": "a good one"}, "args": args}).to_string(),
    );
    let supervisor = start(home);
    home.committed("v2");
    home.nothing_is_planned();
    home.plan("v3", 1_000_000);
    home.sees("v3 waits", |status| status["upgrades"][0]["name"] == "v3");
    kill_all(home, supervisor);
}

fn stopped_for_upgrade(home: &TestHome) {
    let hook = "#!/bin/sh\n[ -e \"$DAEMON_HOME/practice-over\" ] && exit 0\nexec sleep 30\n";
    home.hook("v2", "pre-upgrade", hook);
    home.init(&practice("1.0.0", ""));
    home.install("v2", &practice("2.0.0", ""));
    home.plan("v2", 5);
    killed_at(home, "pre_upgrade");
}

fn starting_new(home: &TestHome) {
    home.set("upgrade.restart_delay", "20s");
    home.init(&practice("1.0.0", ""));
    home.install("v2", &practice("2.0.0", ""));
    home.plan("v2", 5);
    killed_at(home, "start");
}

fn on_probation(home: &TestHome) {
    home.init(&practice("1.0.0", ""));
    home.install("v2", &practice("2.0.0", "--head-still=2s"));
    home.plan("v2", 5);
    let supervisor = start(home);
    home.has_answered_on_probation();
    kill_all(home, supervisor);
}

fn going_back(home: &TestHome) {
    home.init(&practice("1.0.0", "--head-still=2s"));
    home.install("v2", &practice("2.0.0", "--fail-start=bad"));
    home.plan("v2", 5);
    killed_at(home, "back_probation");
}

/// It went back; the version is pinned, and somebody has put the plan into the file again.
fn pinned(home: &TestHome) {
    home.init(&practice("1.0.0", ""));
    home.install("v2", &practice("2.0.0", "--fail-start=bad"));
    home.plan("v2", 5);
    let supervisor = start(home);
    assert_eq!(home.finished("v2")["outcome"], "rolled_back");
    home.nothing_is_planned();
    kill_all(home, supervisor);
    home.plan("v2", 10);
}

fn run(program: &str, args: &[&Path]) {
    let ran = Command::new(program).args(args).stdin(Stdio::null()).status();
    assert!(ran.is_ok_and(|status| status.success()), "{program} {args:?}");
}

/// Writes the present version's homes: `cargo test -p wemixvisor --test e2e freeze -- --ignored`. Needs `sqlite3`.
#[test]
#[ignore = "writes fixtures: to be run once for every released version"]
fn freeze() {
    let version = fixtures().join(env!("CARGO_PKG_VERSION"));
    assert!(!version.exists(), "{} is frozen already: fixtures are never changed", version.display());
    for (state, brings_about) in STATES {
        let home = prepared();
        brings_about(&home);
        run("sqlite3", &[&home.wemixvisor().join("state.db"), Path::new("PRAGMA wal_checkpoint(TRUNCATE)")]);
        for kept in KEPT.iter().filter(|kept| home.root().join(kept).symlink_metadata().is_ok()) {
            let place = version.join(state).join(kept);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            run("cp", &[Path::new("-a"), &home.root().join(kept), &place]);
        }
        for record in RECORDS.map(|record| version.join(state).join(record)) {
            let text = fs::read_to_string(&record).unwrap_or_default();
            if !text.is_empty() {
                fs::write(&record, text.replace(home.root().to_str().unwrap(), "@HOME@")).unwrap();
            }
        }
    }
}

/// A home laid out from a fixture.
fn thawed(fixture: &Path) -> TestHome {
    let home = prepared();
    for place in ["wemixvisor", "data"] {
        run("cp", &[Path::new("-a"), &fixture.join(place), home.root()]);
    }
    for record in RECORDS.map(|record| home.root().join(record)) {
        if let Ok(text) = fs::read_to_string(&record) {
            fs::write(&record, text.replace("@HOME@", home.root().to_str().unwrap())).unwrap();
        }
    }
    home
}

/// What must come of a state, whichever version left it.
fn judge(home: &TestHome, state: &str) {
    let outcome = |name: &str, outcome: &str, version: &str| {
        let entry = home.finished(name);
        assert_eq!(entry["outcome"], outcome, "{state}: {entry:#}");
        home.sees("its program runs", |status| {
            status["node"]["state"] == "running" && status["node"]["version"] == version
        });
        assert_eq!(home.current().as_deref(), Some(version), "{state}");
        assert_eq!(home.history().len(), 1, "{state}: carried out once");
    };
    match state {
        "idle" => {
            outcome("v2", "committed", "v2");
            let status = home.sees("v3 waits", |status| status["upgrades"][0]["name"] == "v3");
            assert!(status["node"]["args"].to_string().contains("--peers=7"), "the plan's: {status:#}");
            assert_eq!(home.started(), ["2.0.0"]);
        }
        "stopped-for-upgrade" | "starting-new" | "on-probation" => {
            outcome("v2", "committed", "v2");
            home.nothing_is_planned();
            assert_eq!(home.started(), ["2.0.0"], "{state}: the old program does not run again");
        }
        "going-back" => {
            outcome("v2", "rolled_back", "genesis");
            home.nothing_is_planned();
            assert_eq!(home.started(), ["1.0.0"]);
        }
        "pinned" => {
            outcome("v2", "rolled_back", "genesis");
            home.sees_head(15);
            let status = home.status().unwrap();
            assert_eq!(status["pinned"][0]["name"], "v2", "{status:#}");
            assert_eq!(
                (home.history().len(), home.started()),
                (1, vec!["1.0.0".to_owned()]),
                "not tried again"
            );
            // Its numbers go on, and what is mended may be tried.
            let seqs = events(home);
            assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
            home.install("v2", &practice("2.0.0", ""));
            let (code, answer) = home.ask("POST", "/api/v1/upgrades/v2/retry", None).unwrap();
            assert_eq!(code, 202, "{answer}");
            home.committed("v2");
        }
        other => panic!("nobody has said what must come of {other}"),
    }
}

fn events(home: &TestHome) -> Vec<u64> {
    let (_, answer) = home.ask("GET", "/api/v1/events?since=0", None).unwrap();
    let events = answer["events"].as_array().unwrap_or_else(|| panic!("{answer:#}"));
    events.iter().filter_map(|event| event["seq"].as_u64()).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn homes_of_every_earlier_version_go_on_where_they_were() {
    let mut seen = 0;
    for fixture in entries(&fixtures()).iter().flat_map(|version| entries(version)) {
        let state = fixture.file_name().unwrap().to_str().unwrap();
        let home = thawed(&fixture);
        fs::write(home.root().join("practice-over"), "").unwrap();
        // Before a supervisor has changed anything: what the command line reads from the files.
        let files: Value = home.cli(&["status", "--json"]).expect(3).json();
        assert!(files["stuck"].is_null(), "{}: {files:#}", fixture.display());
        let supervisor = start(&home);
        judge(&home, state);
        assert_eq!(supervisor.stop(), 0, "{}", fixture.display());
        seen += 1;
    }
    assert!(seen >= STATES.len(), "only {seen} fixtures");
}
