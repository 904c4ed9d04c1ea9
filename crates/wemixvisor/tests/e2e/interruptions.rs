//! C. The supervisor is killed in the middle, a home is not as it must be, somebody else is there already.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{fs, io};

use serde_json::json;
use testkit::{Program, Signal, TestHome, processes};

use crate::{empty_home, home, home_by_order};

/// Looks at `current` all the time; a moment without it is a failure.
pub struct LinkWatch {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    watcher: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl LinkWatch {
    pub fn over(home: &TestHome) -> Self {
        let link = home.wemixvisor().join("current");
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (stop.clone(), looks.clone());
        let watcher = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                fs::read_link(&link)?;
                fs::metadata(link.join("bin/gwemix"))?;
                count.fetch_add(1, Ordering::Relaxed);
                // Often, but the machine is not this one's alone.
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            Ok(())
        });
        Self { stop, looks, watcher: Some(watcher) }
    }

    pub fn never_absent(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.watcher.take().unwrap().join().unwrap();
        seen.expect("current leads to a program at every moment");
        assert!(self.looks.load(Ordering::Relaxed) > 0);
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Where an upgrade is when the supervisor is killed: the step that the status shows, and what holds it there.
const MOMENTS: [(&str, Hold); 6] = [
    ("pre_stop", Hold::Hook("pre-stop")),
    ("stop", Hold::OldFlag("--stop-takes=1500ms")),
    ("pre_upgrade", Hold::Hook("pre-upgrade")),
    ("start", Hold::Setting("upgrade.restart_delay", "1s")),
    ("probation", Hold::NewFlag("--head-still=2s")),
    ("post_upgrade", Hold::Hook("post-upgrade")),
];

#[derive(Clone, Copy)]
pub enum Hold {
    Hook(&'static str),
    OldFlag(&'static str),
    NewFlag(&'static str),
    Setting(&'static str, &'static str),
}

/// A home in which the upgrade `v2` at height 50 takes its time in one step.
pub fn slow_in(hold: Hold) -> TestHome {
    let home = empty_home();
    let mut old =
        Program::practice("1.0.0").with("--no-blocks").with("--block-time=100ms").with("--flush-every=1");
    let mut new = Program::practice("2.0.0").with("--block-time=100ms").with("--flush-every=1");
    match hold {
        Hold::Hook(hook) => {
            // The first run of it waits; later ones do not.
            let script = "#!/bin/sh\n[ -e \"$DAEMON_HOME/once\" ] && exit 0\ntouch \"$DAEMON_HOME/once\"\nexec sleep 30\n";
            home.hook("v2", hook, script);
        }
        Hold::OldFlag(flag) => old = old.with(flag),
        Hold::NewFlag(flag) => new = new.with(flag),
        Hold::Setting(key, value) => home.set(key, value),
    }
    home.init(&old);
    home.install("v2", &new);
    home.plan("v2", 50);
    home
}

/// The end state, whichever way was taken: committed or rolled back, one node, and it serves.
pub fn judged(home: &TestHome) {
    let entry = home.finished("v2");
    let program = match entry["outcome"].as_str() {
        Some("committed") => ("v2", "2.0.0"),
        // The old program was killed while it was checked, and is started again by the policy.
        Some("rolled_back" | "rollback_failed") => ("genesis", "1.0.0"),
        other => panic!("{other:?}: {entry:#}"),
    };
    let status = home.sees("the node serves", |status| {
        status["node"]["state"] == "running" && status["chain"]["head"].is_u64()
    });
    assert_eq!((home.current().as_deref(), &status["node"]["version"]), (Some(program.0), &json!(program.0)));
    let started = home.node().state()["version"].as_str().unwrap().to_owned();
    assert!(started.contains(program.1), "{started}");
    assert_eq!(home.nodes().len(), 1, "one node");
    home.nothing_is_planned();
    assert_eq!(home.history().len(), 1, "carried out once");
    home.judge();
}

fn killed_in(step: &str, hold: Hold, with_the_node: bool) {
    let home = slow_in(hold);
    let watch = LinkWatch::over(&home);
    let supervisor = home.start();
    home.node().set_head(50);
    home.sees(&format!("the upgrade is at {step}"), |status| status["upgrade"]["step"] == step);
    if with_the_node {
        // Keeper, node, hooks: everything of the home goes, as in a power cut.
        supervisor.kill();
        for pid in processes::of(home.root()) {
            processes::signal(pid, home.root(), Signal::KILL);
        }
        home.is_deserted();
    } else {
        supervisor.kill();
    }
    let _supervisor = home.start();
    judged(&home);
    watch.never_absent();
}

#[test]
fn c17_the_supervisor_is_killed_at_each_step() {
    for (step, hold) in MOMENTS {
        killed_in(step, hold, false);
    }
}

#[test]
fn c17_everything_is_killed_at_each_step() {
    for (step, hold) in MOMENTS {
        killed_in(step, hold, true);
    }
}

#[test]
fn c17_the_supervisor_is_killed_on_the_way_back() {
    let home = empty_home();
    home.init(
        &Program::practice("1.0.0")
            .with("--block-time=100ms")
            .with("--flush-every=1")
            .with("--head-still=1s"),
    );
    home.install("v2", &Program::practice("2.0.0").with("--fail-start=bad flag"));
    home.plan("v2", 3);
    let watch = LinkWatch::over(&home);
    let supervisor = home.start();
    home.sees("it goes back", |status| status["upgrade"]["step"] == "back_probation");
    supervisor.kill();
    let _supervisor = home.start();
    judged(&home);
    watch.never_absent();
    assert_eq!(home.status().unwrap()["last_upgrade"]["outcome"], "rolled_back");
}

#[test]
fn c19_killed_again_and_again_during_recovery() {
    let home = slow_in(Hold::NewFlag("--head-still=2s"));
    let watch = LinkWatch::over(&home);
    let supervisor = home.start();
    home.node().set_head(50);
    home.sees("the upgrade is under way", |status| !status["upgrade"].is_null());
    supervisor.kill();
    for _ in 0..4 {
        home.start().kill();
    }
    let _supervisor = home.start();
    judged(&home);
    watch.never_absent();
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

#[test]
fn c22_a_link_that_is_not_as_it_must_be_is_refused() {
    type Spoil = fn(&Path) -> io::Result<()>;
    let spoilt: [(&str, Spoil); 6] = [
        ("missing", |_| Ok(())),
        ("dangling", |link| symlink("upgrades/gone", link)),
        ("directory", |link| fs::create_dir(link)),
        ("file", |link| fs::write(link, "genesis")),
        ("outside", |link| symlink("/bin", link)),
        ("without its program", |link| symlink("upgrades", link)),
    ];
    for (what, spoil) in spoilt {
        let home = home();
        let supervisor = home.start();
        home.sees_head(1);
        assert_eq!(supervisor.stop(), 0);
        home.is_deserted();
        let link = home.wemixvisor().join("current");
        fs::remove_file(&link).unwrap();
        spoil(&link).unwrap();
        let before = fs::symlink_metadata(&link).map(|data| data.file_type()).ok();

        let mut supervisor = home.spawn(&home.node_args(&[]), Stdio::null());
        let code = supervisor.ends();
        assert_ne!(code, 0, "{what}");
        let said = home.supervisor_said();
        assert!(said.contains("current"), "{what}: {said}");
        assert_eq!(home.started(), ["1.0.0"], "{what}: nothing is started by accident");
        assert_eq!(fs::symlink_metadata(&link).map(|data| data.file_type()).ok(), before, "{what}");
        assert!(home.program("v2").exists() && home.wemixvisor().join("genesis/bin/gwemix").exists());
        drop(supervisor);
        home.is_deserted();
    }
}

#[test]
fn c23_a_second_supervisor_on_one_home_is_refused_and_names_the_first() {
    let home = home();
    let first = home.start();
    let head = home.sees_head(1)["chain"]["head"].as_u64().unwrap();
    let node = home.node();
    let mut second = home.spawn(&home.node_args(&[]), Stdio::null());
    assert_ne!(second.ends(), 0);
    let said = home.supervisor_said();
    assert!(said.contains(&first.pid().to_string()), "it names pid {}: {said}", first.pid());
    assert!(node.runs() && home.started() == ["1.0.0"]);
    assert_eq!(home.status().unwrap()["supervisor"]["pid"], first.pid());
    home.sees_head(head + 3);
}

/// `WEMIXVISOR_RACES` makes it more than 6. Each race begins with what the last one's winner, killed or told to end,
/// has left: a node that runs, or none.
#[test]
fn c23_races_of_two_supervisors_have_one_winner_and_one_node() {
    let races = std::env::var("WEMIXVISOR_RACES").map_or(6, |text| text.parse().unwrap());
    let home = home_by_order();
    for race in 0..races {
        let args = home.node_args(&[]);
        let mut racers = [(); 2].map(|()| home.spawn(&args, Stdio::null()));
        let loser = home
            .wait("one of them gives up", || racers.iter_mut().position(|racer| racer.has_ended().is_some()));
        assert_eq!(racers[loser].ends(), 4, "race {race}: refused, because of the other");
        let [first, second] = racers;
        let mut winner = if loser == 0 { second } else { first };
        winner.answers();
        let node = home.node();
        assert_eq!(home.nodes(), [node.pid], "race {race}");
        assert_eq!(home.status().unwrap()["supervisor"]["pid"], winner.pid(), "race {race}");
        match race % 2 {
            0 => winner.kill(),
            _ => assert_eq!(winner.stop(), 0, "race {race}"),
        }
    }
    home.judge();
}

#[test]
fn c23_two_homes_on_one_data_directory_run_one_node() {
    let (one, other) = (home(), home_by_order());
    let _first = one.start();
    let node = one.node();
    let datadir = ["--datadir".to_owned(), one.data().display().to_string()];
    assert_ne!(other.spawn(&datadir, Stdio::null()).ends(), 0);
    let said = other.supervisor_said();
    assert!(
        said.contains("belongs to another home") && said.contains(one.root().to_str().unwrap()),
        "{said}"
    );
    let head = one.status().unwrap()["chain"]["head"].as_u64().unwrap_or(0);
    one.sees_head(head + 3);
    assert!(node.runs() && one.started() == ["1.0.0"]);
    assert!(one.facts("datadir-locked").is_empty());
}

#[test]
fn c23_another_home_takes_no_plan_off_a_data_directory_that_is_not_its_own() {
    let (one, other) = (home(), home_by_order());
    let first = one.start();
    let node = one.node();
    // Due, and its program is not there yet.
    one.plan("v7", 5);
    one.sees_head(8);
    other.install("v7", &Program::practice("7.0.0"));
    let datadir = ["--datadir".to_owned(), one.data().display().to_string()];
    let plans = || fs::read_to_string(one.data().join("upgrade-info.json")).unwrap();
    let planned = plans();
    assert_ne!(other.spawn(&datadir, Stdio::null()).ends(), 0);
    // Nor while nobody supervises the node.
    first.kill();
    assert_ne!(other.spawn(&datadir, Stdio::null()).ends(), 0);
    let said = other.supervisor_said();
    assert!(said.contains("whose node still runs without a supervisor"), "{said}");
    assert_eq!(plans(), planned);
    let first = one.start();
    one.sees("it is still to come", |status| status["upgrades"][0]["name"] == "v7");
    assert_eq!((one.node().pid, one.started().len()), (node.pid, 1));
    assert_eq!(first.stop(), 0);
}

#[test]
fn c23_a_home_whose_first_start_was_cut_short_starts_later() {
    let home = home_by_order();
    for _ in 0..5 {
        // Killed before, while or after it starts keeper and node: at whatever moment the machine makes it.
        let supervisor = home.spawn(&home.node_args(&[]), Stdio::null());
        let had_lock = home.wemixvisor().join("wemixvisor.lock");
        home.wait("it has begun", || had_lock.exists().then_some(()));
        supervisor.kill();
    }
    let _supervisor = home.start();
    let node = home.node();
    assert_eq!(home.nodes(), [node.pid]);
    node.mine(1);
    home.sees_head(1);
}
