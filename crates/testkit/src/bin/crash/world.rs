//! One run's world: a home, its supervisor under orders, and everything that is done to it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Program, Signal, TestHome, processes};

use crate::cycle::Cycle;
use crate::{clock, power, watch};

/// The height of the upgrade: about a second after the first start.
const HEIGHT: u64 = 16;

/// How often facts are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// An answer is waited for so long: a supervisor that an order has stopped gives none, and the blow must not come
/// late.
const ANSWER: Duration = Duration::from_millis(100);

/// From the start after the last kill to a node that runs, on the right program, with the head going on: issue 4.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A supervisor that ends by itself is started again so often, as a service manager does.
const MOST_STARTS: u32 = 30;

/// A service manager's pause before it starts a supervisor again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Victims {
    pub supervisor: bool,
    pub keeper: bool,
    pub node: bool,
}

impl std::fmt::Display for Victims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letters = [(self.supervisor, 'S'), (self.keeper, 'K'), (self.node, 'N')];
        letters.iter().filter(|(is, _)| *is).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

/// A process that was killed from outside.
#[derive(Debug, Clone, Copy)]
pub struct Kill {
    pub pid: u32,
    pub at_ns: u64,
}

pub struct World {
    pub home: TestHome,
    pub cycle: Cycle,
    pub orders: PathBuf,
    supervisor: Option<Child>,
    /// When the supervisor ended by itself, until it is started again.
    ended: Option<Instant>,
    starts: u32,
    /// Whether a schedule was answered with 200: from then on the plan must not be lost.
    pub accepted: bool,
    /// What was answered otherwise.
    pub refusals: String,
    /// Whether it need not be asked for again.
    scheduled: bool,
    /// What was killed from outside, in order.
    pub kills: Vec<Kill>,
    pub node_killed: bool,
    /// A keeper died between sending a SIGTERM and writing that down: the next one sends a second.
    pub term_in_doubt: bool,
    pub watch: watch::Watch,
    /// The head at an earlier look, while everything else is settled.
    seen_head: Option<u64>,
}

impl World {
    pub fn new(program: &Path, cycle: Cycle) -> Self {
        let home = TestHome::new(&program.to_string_lossy());
        for (key, value) in [
            ("node.max_restarts", "100"),
            // A stop that hangs is to show within a run.
            ("node.shutdown_grace", "5s"),
            ("node.stop_hard_limit", "8s"),
            ("probation.must_advance_within", "20s"),
            ("probation.must_be_steady_for", "100ms"),
        ] {
            home.set(key, value);
        }
        let practice = |version| Program::practice(version).with("--block-time=50ms").with("--flush-every=1");
        cycle.lay_out(&home, practice("1.0.0"), practice("2.0.0"));
        let orders = home.root().join("orders");
        fs::create_dir(&orders).expect("a directory");
        let watch = watch::Watch::over(&home);
        Self {
            home,
            cycle,
            orders,
            supervisor: None,
            ended: None,
            starts: 0,
            accepted: false,
            refusals: String::new(),
            scheduled: false,
            kills: Vec::new(),
            node_killed: false,
            term_in_doubt: false,
            watch,
            seen_head: None,
        }
    }

    /// Gives an order (`crash`, `fault`), whole at once.
    pub fn order(&self, kind: &str, text: &str) {
        let beside = self.orders.join(format!("{kind}.new"));
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, self.orders.join(kind)))
            .expect("an order");
    }

    /// Whether the order to crash was obeyed.
    pub fn crashed(&self) -> bool {
        self.orders.join("crashed").exists()
    }

    /// Makes room for the next order to crash.
    pub fn forget_crash(&self) {
        let _ = fs::remove_file(self.orders.join("crashed"));
    }

    /// The lines of the record: process and place.
    pub fn passages(&self) -> Vec<(u32, String)> {
        let text = fs::read_to_string(self.orders.join("passages")).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ').skip(1);
            Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
        };
        text.lines().filter_map(line).collect()
    }

    pub fn start(&mut self) -> Result<(), String> {
        self.starts += 1;
        if self.starts > MOST_STARTS {
            return Err(format!("the supervisor ended by itself again and again: {}", self.last_words()));
        }
        let file =
            |path| OpenOptions::new().append(true).create(true).open(path).expect("a log can be opened");
        let child = self
            .home
            .command()
            .env("WEMIXVISOR_TRIAL", &self.orders)
            .arg("run")
            .args(self.home.node_args(&[]))
            .stdin(Stdio::null())
            .stdout(file(self.home.root().join("supervisor.out")))
            .stderr(file(self.home.supervisor_log()))
            .process_group(0)
            .spawn()
            .expect("the program starts");
        self.supervisor = Some(child);
        self.ended = None;
        Ok(())
    }

    /// The last lines of the supervisor's log.
    pub fn last_words(&self) -> String {
        let said = self.home.supervisor_said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }

    /// Lets it go on: a supervisor that has ended is started again, the upgrade is scheduled once. The answer is
    /// whether everything is settled.
    pub fn look(&mut self) -> Result<bool, String> {
        std::thread::sleep(LOOK);
        if self.supervisor_ended().is_some() {
            let ended = *self.ended.get_or_insert_with(Instant::now);
            if ended.elapsed() >= RESTART_PAUSE {
                self.start()?;
            }
            return Ok(false);
        }
        if !self.scheduled {
            self.schedule();
            return Ok(false);
        }
        Ok(self.settled())
    }

    /// Goes on until `until` says so or everything is settled; the answer is whether it is settled.
    pub fn go_on(&mut self, limit: Duration, mut until: impl FnMut(&Self) -> bool) -> Result<bool, String> {
        let begun = Instant::now();
        loop {
            let settled = self.look()?;
            if settled || until(self) {
                return Ok(settled);
            }
            if begun.elapsed() > limit {
                return Err(format!("not settled within {} s: {}", limit.as_secs(), self.standing()));
            }
        }
    }

    fn status(&self) -> Option<Value> {
        let answer = self.home.ask_within(ANSWER, "GET", "/api/v1/status", None);
        answer.filter(|(code, _)| *code == 200).map(|(_, status)| status)
    }

    fn schedule(&mut self) {
        // First the file, then the status: a plan leaves the file after its upgrade is in the history.
        let in_file = self.home.plans().iter().any(|plan| plan["name"] == "v2");
        let Some(status) = self.status() else { return };
        if in_file || status["last_upgrade"]["name"] == "v2" || !status["upgrade"].is_null() {
            self.scheduled = true;
            return;
        }
        let plan = json!({"name": "v2", "height": HEIGHT, "force": true});
        match self.home.ask_within(ANSWER * 3, "POST", "/api/v1/upgrades", Some(&plan)) {
            Some((200, _)) => {
                self.accepted = true;
                self.scheduled = true;
            }
            Some((_, refusal)) => self.refusals.push_str(&refusal.to_string()),
            None => {}
        }
    }

    /// After a power failure: only what was promised counts.
    pub fn unschedule(&mut self) {
        self.scheduled = self.accepted;
    }

    fn settled(&mut self) -> bool {
        let head = self.status().filter(|status| self.is_over(status));
        let head = head.and_then(|status| status["chain"]["head"].as_u64());
        let (Some(head), true) = (head, self.home.plans().is_empty()) else {
            self.seen_head = None;
            return false;
        };
        let before = *self.seen_head.get_or_insert(head);
        head >= before + 2
    }

    fn is_over(&self, status: &Value) -> bool {
        let version = if status["last_upgrade"]["outcome"] == "committed" { "2.0.0" } else { "1.0.0" };
        status["last_upgrade"]["name"] == "v2"
            && status["upgrade"].is_null()
            && status["node"]["state"] == "running"
            && status["node"]["client_version"].as_str().is_some_and(|found| found.contains(version))
    }

    /// How it stands, in one line.
    pub fn standing(&self) -> String {
        let status = self.status().unwrap_or_default();
        format!(
            "node {} {} head {} upgrade {} last {} alerts {} plans {:?} current {:?} log {}",
            status["node"]["state"],
            status["node"]["client_version"],
            status["chain"]["head"],
            status["upgrade"]["step"],
            status["last_upgrade"]["outcome"],
            status["alerts"],
            self.home.plans(),
            self.home.current(),
            self.last_words()
        )
    }

    fn supervisor_ended(&mut self) -> Option<ExitStatus> {
        match &mut self.supervisor {
            Some(child) => child.try_wait().expect("a child can be waited for"),
            None => Some(ExitStatus::default()),
        }
    }

    pub fn supervisor_pid(&mut self) -> Option<u32> {
        if self.supervisor_ended().is_some() {
            return None;
        }
        self.supervisor.as_ref().map(Child::id)
    }

    fn keeper_pid(&self) -> Option<u32> {
        let pid = self.home.pid_in("keeper.lock")?;
        processes::command_line(pid).contains(" keeper ").then_some(pid)
    }

    /// Kills at once whoever is meant, and waits until they are gone.
    pub fn kill(&mut self, victims: Victims) {
        let supervisor = self.supervisor_pid().filter(|_| victims.supervisor);
        let keeper = self.keeper_pid().filter(|_| victims.keeper);
        let nodes = if victims.node { watch::nodes(self.home.root()) } else { Vec::new() };
        self.node_killed |= victims.node;
        let all: Vec<u32> = supervisor.into_iter().chain(keeper).chain(nodes).collect();
        for &pid in &all {
            self.kills.push(Kill { pid, at_ns: clock::now_ns() });
            processes::signal(pid, self.home.root(), Signal::KILL);
        }
        if supervisor.is_some() {
            self.collect();
        }
        let gone = || all.iter().all(|&pid| !processes::runs(pid));
        let begun = Instant::now();
        while !gone() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// At a crash point somebody has died, or stands still and dies now with the others.
    pub fn struck(&mut self, victims: Victims, alone: bool) {
        if !alone {
            return self.kill_struck(victims);
        }
        // The end of whoever killed itself is on its way.
        let Some(struck) = self.struck_pid() else { return };
        let begun = Instant::now();
        while processes::runs(struck) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.node_killed |= victims.node;
        self.kills.push(Kill { pid: struck, at_ns: clock::now_ns() });
    }

    /// The process that obeyed the order, by the record. Between fork and exec it is a node that is none yet.
    fn struck_pid(&self) -> Option<u32> {
        let obeyed = |place: &str| place.ends_with(" stop") || place.ends_with(" kill");
        self.passages().into_iter().rev().find(|(_, place)| obeyed(place)).map(|(pid, _)| pid)
    }

    fn kill_struck(&mut self, victims: Victims) {
        let struck = self.struck_pid();
        self.kill(victims);
        if let Some(pid) = struck.filter(|&pid| processes::runs(pid)) {
            self.kills.push(Kill { pid, at_ns: clock::now_ns() });
            processes::signal(pid, self.home.root(), Signal::KILL);
        }
    }

    /// A moment of its own is the one thing for which a clock is waited for.
    pub fn wait_until(&self, moment: Instant) {
        while let Some(left) = moment.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
    }

    /// Sends the supervisor another signal.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(pid) = self.supervisor_pid() {
            processes::signal(pid, self.home.root(), signal);
        }
    }

    fn collect(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            child.wait().expect("a child can be waited for");
        }
    }

    /// Everything goes at once, with all that was not yet for good.
    pub fn power_failure(&mut self, keep_notes: bool) {
        self.watch.pause(true);
        // Whoever is stopped by an order is killed like all others.
        for pid in processes::of(self.home.root()) {
            self.kills.push(Kill { pid, at_ns: clock::now_ns() });
            processes::signal(pid, self.home.root(), Signal::KILL);
        }
        self.collect();
        self.home.is_deserted();
        self.node_killed = true;
        power::take_back(&self.home, &self.orders, keep_notes);
        self.unschedule();
        self.watch.pause(false);
    }

    /// Ends it as a service manager does: SIGTERM, and then nothing of it runs any more, unless `until` comes first.
    pub fn told_to_end(&mut self, until: impl Fn(&Self) -> bool) -> Result<(), String> {
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while !until(self)
            && (self.supervisor_ended().is_none() || !processes::of(self.home.root()).is_empty())
        {
            if begun.elapsed() > SETTLED_WITHIN {
                let left = processes::of(self.home.root()).into_iter().map(processes::command_line);
                return Err(format!("told to end, it does not: {:?}", left.collect::<Vec<_>>()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The end of the run.
    pub fn stop(&mut self) -> Result<(), String> {
        // An order that nobody has obeyed by now would stop the end.
        let _ = fs::remove_file(self.orders.join("crash"));
        self.told_to_end(|_| false)?;
        self.watch.stop();
        Ok(())
    }

    /// What the store says of finished upgrades.
    pub fn history(&self) -> Result<Vec<Value>, String> {
        let said = self.home.cli(&["upgrade", "history", "--json"]);
        match said.code {
            0 => Ok(said.json()["history"].as_array().cloned().unwrap_or_default()),
            code => Err(format!("the history cannot be had ({code}): {}", said.err)),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
