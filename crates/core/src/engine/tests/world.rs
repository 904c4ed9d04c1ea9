//! The world around one engine: it keeps the time, makes blocks, runs and ends processes, kills and boots the
//! supervisor, and holds every step against the invariants of PRODUCT.md section 1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::chain::Chain;
use super::disk::Disk;
use super::program::Program;
use super::timeline::Due;
use crate::command_line::CommandLine;
use crate::engine::port::{Decision, Effect, ExitWith, Input, Refused, Source};
use crate::engine::snapshot::Snapshot;
use crate::engine::{Boot, Engine, LastExit, RunningNode};
use crate::exit::WaitStatus;
use crate::head::Height;
use crate::plan::{Plan, PlanInfo, PlanName, SwitchMode};
use crate::settings::{Heights, Settings};
use crate::target::Target;
use crate::time::{MonoMs, Now, WallMs};
use crate::upgrade::{Hooks, Step};

/// The wall clock at the beginning, in milliseconds since 1970.
pub const EPOCH: u64 = 1_700_000_000_000;

/// What the forward-only clock shows when a supervisor starts.
pub const AT_BOOT: u64 = 1_000_000_000;

/// How a supervisor is lost, and what is lost with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crash {
    /// The node dies with it.
    pub node_too: bool,
    /// The keeper saw how the node ended.
    pub exit_known: bool,
    /// Facts that were written without a need to be durable are gone.
    pub facts_lost: bool,
    /// It is a power failure: what was not forced to the disk is gone, and the node with it.
    pub power: bool,
    /// In a power failure: the link is as it was last forced to the disk.
    pub link_lost: bool,
    /// Milliseconds until the supervisor is started again.
    pub away: u64,
}

/// The one process there may be.
#[derive(Debug, Clone)]
pub struct Process {
    pub launch: u64,
    pub pid: u32,
    pub target: Target,
    pub line: CommandLine,
    pub since: u64,
    pub term_at: Option<u64>,
    pub killed: bool,
}

/// How a hook goes: its length in milliseconds, and its results in order; the last one stays.
pub type HookRun = (u64, VecDeque<Result<&'static str, &'static str>>);

#[derive(Debug)]
pub struct World {
    pub engine: Option<Engine>,
    pub now: u64,
    pub booted_at: u64,
    pub life: u64,
    pub wall_shift: i64,
    pub queue: BTreeMap<(u64, u64), Due>,
    pub seq: u64,
    pub settings: Settings,
    pub given: CommandLine,
    pub stagger: u64,
    pub disk: Disk,
    pub chain: Chain,
    /// The head of the node's database, and the highest it ever was.
    pub database: Height,
    pub highest: Height,
    pub node: Option<Process>,
    pub programs: BTreeMap<Target, Program>,
    pub starts: BTreeMap<Target, u32>,
    pub hooks: Hooks,
    pub hook_runs: BTreeMap<Step, HookRun>,
    pub we_seal: bool,
    pub sources_up: bool,
    pub rpc: bool,
    pub verify_ms: u64,
    pub edit_ms: u64,
    pub poll_ms: u64,
    pub link_fails: u32,
    pub store_fails: u32,
    /// The store was moved away by another hand.
    pub store_gone: bool,
    /// The keeper's process id while that is stopped.
    pub keeper_stopped: Option<u32>,
    pub edit_fails: u32,
    /// Where the supervisor is killed: the boundaries that it crosses are counted.
    pub crash_at: VecDeque<(u64, Crash)>,
    pub boundary: u64,
    /// The checksums that preparing has found.
    pub prepared: BTreeMap<PlanName, String>,
    /// The program that was looked at last, and its checksum then.
    pub verified: Option<(Target, String)>,
    pub signalled: BTreeSet<u64>,
    pub replies: BTreeMap<u64, Result<String, Refused>>,
    pub tickets: u64,
    pub exit: Option<ExitWith>,
    /// Everything that was started: when, and what.
    pub launches: Vec<(u64, Target)>,
    pub terminations: u32,
    pub kills: u32,
    pub hooks_run: Vec<Step>,
    /// The run of a hook that was neither ended nor has ended, and the life that began it.
    pub hook: Option<(u64, u64)>,
    pub poll_paces: Vec<u64>,
    pub next_pid: u32,
    pub poll_series: u64,
    /// Nothing could be written: the next try comes then.
    pub paused_until: u64,
    /// The supervisor is stopped (SIGSTOP): it neither does nor hears anything before then.
    pub frozen_until: u64,
    /// After an end in order the supervisor is started again.
    pub comes_back: bool,
}

pub fn name(text: &str) -> PlanName {
    text.parse().unwrap()
}

pub fn to(text: &str) -> Target {
    Target::Upgrade(name(text))
}

pub fn plan(text: &str, height: Height, switch: SwitchMode) -> Plan {
    Plan {
        name: name(text),
        height,
        info: PlanInfo::default(),
        switch,
        args: None,
        env: BTreeMap::new(),
        expect_version: None,
    }
}

impl World {
    /// A home with `genesis`, `v2` and `v3`, all good; the chain is at 100 and makes a block a second.
    pub fn new() -> Self {
        let programs = [
            (Target::Genesis, Program::good("1.0")),
            (to("v2"), Program::good("2.0")),
            (to("v3"), Program::good("3.0")),
        ];
        let mut world = Self {
            engine: None,
            now: 0,
            booted_at: 0,
            life: 0,
            wall_shift: 0,
            queue: BTreeMap::new(),
            seq: 0,
            settings: Settings {
                heights: Heights { chain_id: Some(1111), ..Settings::default().heights },
                ..Settings::default()
            },
            given: CommandLine::of(["--datadir".into(), "a b".into()]),
            stagger: 7,
            disk: Disk::new(Target::Genesis),
            chain: Chain::at(100, 1000, EPOCH),
            database: 100,
            highest: 100,
            node: None,
            programs: programs.into(),
            starts: BTreeMap::new(),
            hooks: Hooks::default(),
            hook_runs: BTreeMap::new(),
            we_seal: false,
            sources_up: false,
            rpc: true,
            verify_ms: 3,
            edit_ms: 2,
            poll_ms: 5000,
            link_fails: 0,
            store_fails: 0,
            store_gone: false,
            keeper_stopped: None,
            edit_fails: 0,
            crash_at: VecDeque::new(),
            boundary: 0,
            prepared: BTreeMap::new(),
            verified: None,
            signalled: BTreeSet::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            exit: None,
            launches: Vec::new(),
            terminations: 0,
            kills: 0,
            hooks_run: Vec::new(),
            hook: None,
            poll_paces: Vec::new(),
            next_pid: 1000,
            poll_series: 0,
            paused_until: 0,
            frozen_until: 0,
            comes_back: false,
        };
        world.soon(1000, Due::Block);
        world
    }

    /// The same with these plans in the file, and the supervisor started.
    pub fn with_plans(plans: Vec<Plan>) -> Self {
        let mut world = Self::new();
        world.disk.plans = Ok(plans);
        world.boot();
        world
    }

    pub fn program(&mut self, text: &str) -> &mut Program {
        self.programs.get_mut(&to(text)).unwrap()
    }

    pub fn wall(&self) -> WallMs {
        WallMs((EPOCH + self.now).saturating_add_signed(self.wall_shift))
    }

    pub fn moment(&self) -> Now {
        Now { mono: MonoMs(AT_BOOT + self.now - self.booted_at), wall: self.wall() }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.engine.as_ref().expect("the supervisor runs").snapshot(self.moment())
    }

    pub fn has_alert(&self, kind: &str) -> bool {
        self.snapshot().alerts.contains_key(kind)
    }

    pub fn boot(&mut self) {
        assert!(self.engine.is_none());
        (self.life, self.booted_at, self.exit, self.sources_up) = (self.life + 1, self.now, None, false);
        self.verified = None;
        self.frozen_until = 0;
        self.signalled.clear();
        self.boot_from(self.boot_image());
    }

    /// What a starting supervisor finds.
    pub fn boot_image(&self) -> Boot {
        let running = self.node.as_ref().map(|node| RunningNode {
            launch: node.launch,
            pid: node.pid,
            target: Some(node.target.clone()),
            uptime: std::time::Duration::from_millis(self.now - node.since),
            term_sent: node.term_at.is_some(),
        });
        let last_exit = self
            .disk
            .last_exit
            .clone()
            .map(|(last, at)| LastExit { ago: std::time::Duration::from_millis(self.now - at), ..last });
        Boot {
            settings: self.settings.clone(),
            sources: vec![Source { address: "http://127.0.0.1:8588".into(), own: true }],
            given_line: self.given.clone(),
            target: self.disk.link.clone(),
            running,
            last_exit,
            journal: Ok(self.disk.newest()),
            plans: self.disk.plans.clone(),
            pins: self.disk.pins.clone(),
            finished: self.disk.finished(),
            last_upgrade: self.disk.history.last().cloned(),
            last_committed: self
                .disk
                .history
                .iter()
                .rev()
                .find(|past| past.outcome == crate::upgrade::Outcome::Committed)
                .cloned(),
            facts: self.disk.facts.clone(),
            stagger: self.stagger,
        }
    }

    pub fn boot_from(&mut self, boot: Boot) {
        let (engine, decision) = Engine::boot(boot, self.moment());
        self.poll_series += 1;
        self.soon(50, Due::Poll(self.poll_series));
        self.carry_out(engine, decision);
    }

    pub fn crash(&mut self, crash: Crash) {
        if self.engine.take().is_none() {
            return;
        }
        self.life += 1;
        if crash.power {
            self.disk.journal.truncate(self.disk.forced);
            if crash.link_lost {
                self.disk.link = self.disk.link_for_sure.clone();
            }
        }
        if crash.facts_lost || crash.power {
            self.disk.facts = self.disk.facts_for_sure.clone();
        }
        if (crash.node_too || crash.power)
            && let Some(launch) = self.node.as_ref().map(|node| node.launch)
        {
            let status = if crash.exit_known { WaitStatus::Signaled(9) } else { WaitStatus::Unknown };
            self.dies(launch, status);
        }
        self.soon(crash.away.max(1), Due::Boot);
    }

    /// Lets the engine hear it; what it decides is written down, then done.
    pub fn tell(&mut self, input: Input) {
        let Some(engine) = &self.engine else { return };
        if let Input::HookEnded { run, .. } = &input {
            self.hook.take_if(|hook| *hook == (self.life, *run));
        }
        let mut next = engine.clone();
        let decision = next.handle(input.clone(), self.moment());
        if self.store_fails > 0 && decision.must_be_durable() {
            // What could not be written down has not been decided; the same is heard again.
            self.store_fails -= 1;
            self.paused_until = self.now + 100;
            self.hear(100, input);
            return;
        }
        self.carry_out(next, decision);
    }

    fn carry_out(&mut self, engine: Engine, decision: Decision) {
        let counts = decision.must_be_durable() || decision.effects.iter().any(is_weighty);
        if counts && self.crosses_a_boundary() {
            return;
        }
        let (durable, wall) = (decision.must_be_durable(), self.wall());
        self.engine = Some(engine);
        self.check_triggers(&decision);
        self.disk.write(decision.entries, durable, wall);
        if counts {
            self.snapshot();
        }
        if counts && self.crosses_a_boundary() {
            return;
        }
        for effect in decision.effects {
            let weighty = is_weighty(&effect);
            self.perform(effect);
            if weighty && self.crosses_a_boundary() {
                return;
            }
        }
        self.check_hook();
    }

    /// A hook runs only for the step that waits for it.
    fn check_hook(&self) {
        if self.engine.is_some() && self.hook.is_some_and(|(life, _)| life == self.life) {
            let waits = |step| matches!(step, Step::PreStop | Step::PreUpgrade | Step::PostUpgrade);
            assert!(self.disk.open().is_some_and(|open| waits(open.step)), "a hook that nobody waits for");
        }
    }

    /// Counts a boundary; kills the supervisor there if that is asked for. Returns whether it is gone.
    fn crosses_a_boundary(&mut self) -> bool {
        self.boundary += 1;
        if self.crash_at.front().is_none_or(|(at, _)| *at != self.boundary) {
            return false;
        }
        let (_, crash) = self.crash_at.pop_front().unwrap();
        // A boot that is killed before it has decided anything has not begun a life.
        if self.engine.is_none() {
            self.life += 1;
            self.soon(crash.away.max(1), Due::Boot);
        }
        self.crash(crash);
        true
    }
}

/// Effects at whose edges a crash makes a difference.
fn is_weighty(effect: &Effect) -> bool {
    use Effect::{EditPlans, EndHook, Exit, Kill, Launch, Reply, RunHook, SwitchLink, Terminate, Verify};
    matches!(
        effect,
        Launch(_)
            | Terminate
            | Kill
            | SwitchLink(_)
            | RunHook { .. }
            | EndHook { .. }
            | Verify { .. }
            | EditPlans { .. }
            | Exit(_)
            | Reply { .. }
    )
}
