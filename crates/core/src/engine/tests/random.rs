//! Anything at any moment: the invariants hold, and once the faults stop the world settles.

use std::time::Duration;

use proptest::prelude::*;

use super::program::{OnTerm, Program};
use super::timeline::Act;
use super::world::{Crash, World, name, plan, to};
use crate::engine::port::{Decision, Effect, Entry, Input, Order, Verified, Work};
use crate::engine::snapshot::NodeState;
use crate::exit::{NodeExit, WaitStatus};
use crate::head::{BlockHash, Head};
use crate::observation::{Answer, Observation};
use crate::plan::{Plan, SwitchMode};
use crate::readiness::{Check, State};
use crate::settings::Kill;
use crate::target::Target;
use crate::time::{MonoMs, Now, WallMs};
use crate::upgrade::{Folded, Hooks, Record, Step, fold};

/// After the last fault: both stops by force (two minutes together, as set below), a probation that runs out
/// forth and back, and the longest back-off.
const SETTLES_WITHIN: u64 = 900_000;

fn any_status() -> impl Strategy<Value = WaitStatus> {
    prop_oneof![
        (0..3i32).prop_map(WaitStatus::Exited),
        Just(WaitStatus::Exited(127)),
        Just(WaitStatus::Signaled(9)),
        Just(WaitStatus::Signaled(11)),
        Just(WaitStatus::Unknown),
    ]
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["v2", "v3"])
}

fn any_target() -> impl Strategy<Value = Target> {
    prop_oneof![Just(Target::Genesis), any_name().prop_map(to)]
}

fn any_mode() -> impl Strategy<Value = SwitchMode> {
    prop_oneof![
        4 => Just(SwitchMode::At),
        1 => Just(SwitchMode::Before),
        1 => (1..9u64).prop_map(SwitchMode::Window),
        1 => Just(SwitchMode::Halted),
        1 => Just(SwitchMode::Manual),
    ]
}

fn any_plan() -> impl Strategy<Value = Plan> {
    (any_name(), 95..160u64, any_mode(), any::<bool>()).prop_map(|(name, height, mode, args)| {
        // Two plans never share a height: the reader of the file refuses that.
        let height = height * 2 + u64::from(name == "v3") - 100;
        Plan { args: args.then(|| vec!["--new".into()]), ..plan(name, height, mode) }
    })
}

fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    prop::collection::vec(any_plan(), 0..3).prop_map(|mut plans| {
        plans.sort_by(|a, b| a.name.cmp(&b.name));
        plans.dedup_by(|a, b| a.name == b.name);
        plans
    })
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        3 => (any_plan(), any::<bool>())
            .prop_map(|(plan, force)| Order::Schedule { plan: Box::new(plan), force }),
        1 => any_name().prop_map(|text| Order::Cancel(name(text))),
        3 => (any_name(), any::<bool>()).prop_map(|(text, force)| Order::Apply { name: name(text), force }),
        2 => any_name().prop_map(|text| Order::Retry(name(text))),
        2 => Just(Order::Rollback),
        1 => Just(Order::StartNode),
        1 => Just(Order::StopNode),
        1 => Just(Order::RestartNode),
        1 => Just(Order::ReplaceSupervisor),
    ]
}

fn any_program() -> impl Strategy<Value = Program> {
    let fault = prop_oneof![
        8 => Just(0u8),
        1 => 1..12u8,
    ];
    (any::<u16>(), fault, 1..6_000u64, any_status()).prop_map(|(id, fault, ms, status)| {
        let mut program = Program { sha256: format!("sha {id}"), ..Program::good("2.0") };
        program.answers_after = Some(ms / 4);
        match fault {
            1 => program.dies = Some((ms, status)),
            2 => program.unfit = Some("not a program"),
            3 => program.unstartable = Some("exec format error"),
            4 => program.answers_after = None,
            5 => program.last_block = 110 + ms / 100,
            6 => program.chain_id = 7,
            7 => program.on_term = OnTerm::Hangs,
            8 => program.on_term = OnTerm::Flushes(ms * 10),
            9 => program.stands_for = ms * 10,
            10 => program.own_past_from = 105,
            11 => (program.dies, program.dies_from_start) = (Some((ms, status)), 2),
            _ => {}
        }
        program
    })
}

fn any_crash() -> impl Strategy<Value = Crash> {
    (any::<[bool; 6]>(), 1..10_000u64).prop_map(
        |([node_too, exit_known, facts_lost, power, sure, link_lost], away)| Crash {
            power: power && sure,
            link_lost,
            node_too,
            exit_known,
            facts_lost,
            away,
        },
    )
}

/// Things said to the engine that are about nothing real.
fn any_nonsense() -> impl Strategy<Value = Input> {
    let exit = |status| NodeExit {
        status,
        term_sent: true,
        kill_sent: false,
        out_of_memory: true,
        tail: "x".into(),
    };
    prop_oneof![
        Just(Input::Tick),
        (0..9u64, 1..9u32).prop_map(|(launch, pid)| Input::NodeUp { launch, pid }),
        (0..9u64).prop_map(|launch| Input::LaunchFailed { launch, reason: "no".into() }),
        (0..9u64, any_status())
            .prop_map(move |(launch, status)| Input::NodeExited { launch, exit: exit(status) }),
        any::<Option<(u64, u64)>>().prop_map(|work| {
            Input::Work(work.map(|(cpu_ticks, written_bytes)| Work { cpu_ticks, written_bytes }))
        }),
        (0..9u64).prop_map(|launch| Input::Observed { launch, round: Box::default() }),
        any::<bool>().prop_map(|seals| Input::Sealing(Answer::Known(seals))),
        (0..9u64).prop_map(|run| Input::HookEnded { run, result: Ok("nothing".into()) }),
        (0..9usize).prop_map(|source| Input::SourceFailed { source, reason: "gone".into() }),
        (0..9usize).prop_map(|source| Input::SourceRecovered { source }),
        Just(Input::Checked { name: name("v9"), check: Check::default() }),
        Just(Input::Verified { target: to("v9"), result: Err("no".into()) }),
        Just(Input::Switched { target: to("v9"), result: Ok(()) }),
        Just(Input::Plans(Err("not JSON".into()))),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any_order().prop_map(Act::Order),
        3 => any_plans().prop_map(|plans| Act::Write(Ok(plans))),
        3 => any_status().prop_map(Act::NodeEnds),
        4 => any_crash().prop_map(Act::Crash),
        2 => Just(Act::Restart),
        2 => any::<bool>().prop_map(Act::Rpc),
        1 => (1..20u64).prop_map(Act::Reorg),
        1 => (-100_000_000..100_000_000i64).prop_map(Act::WallJump),
        2 => (1..90_000u64).prop_map(Act::Freeze),
        3 => (any_target(), any_program()).prop_map(|(target, program)| Act::Install(target, Box::new(program))),
        1 => (100..200u64).prop_map(Act::HaltAt),
        2 => (1..4u32).prop_map(Act::LinkFails),
        2 => (1..6u32).prop_map(Act::StoreFails),
        1 => (1..3u32).prop_map(Act::EditFails),
        2 => any_nonsense().prop_map(|input| Act::Nonsense(Box::new(input))),
    ]
}

fn any_world() -> impl Strategy<Value = World> {
    let switches = any::<[bool; 8]>();
    (switches, any_plans(), any_program(), any_program(), 1..4_000u64, 1..500u64).prop_map(
        |(switches, plans, v2, v3, verify_ms, edit_ms)| {
            let mut world = World::new();
            let [validator, istanbul, pre_stop, pre_upgrade, post_upgrade, never, late, seals] = switches;
            world.settings.validator = validator;
            world.settings.node.shutdown_grace = Duration::from_secs(20);
            world.settings.node.stop_hard_limit = Duration::from_secs(60);
            world.settings.node.kill = if never && late { Kill::Never } else { Kill::Allowed };
            world.hooks = Hooks { pre_stop, pre_upgrade, post_upgrade };
            (world.verify_ms, world.edit_ms, world.we_seal) = (verify_ms, edit_ms, seals);
            world.programs.extend([(to("v2"), v2), (to("v3"), v3)]);
            world.programs.values_mut().for_each(|program| program.istanbul = istanbul);
            world.disk.plans = Ok(plans);
            world
        },
    )
}

/// Everything is mended, and the node is wanted.
fn mend(world: &mut World) {
    (world.rpc, world.wall_shift, world.chain.halts_at) = (true, 0, u64::MAX);
    (world.link_fails, world.store_fails, world.edit_fails, world.we_seal) = (0, 0, 0, false);
    for program in world.programs.values_mut() {
        *program =
            Program { sha256: program.sha256.clone(), istanbul: program.istanbul, ..Program::good("2.0") };
    }
    // What was told to stop and never would is ended by hand.
    if world.node.as_ref().is_some_and(|node| node.term_at.is_some()) {
        world.at(world.now, Act::NodeEnds(WaitStatus::Exited(0)));
    }
    world.at(world.now, Act::Write(Ok(vec![])));
    for after in [20_000, 200_000, 400_000, 600_000] {
        world.at(world.now + after, Act::Order(Order::StartNode));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    /// The world's own checks hold at every step; when everything is mended it settles, with what the link
    /// says, and stays so.
    #[test]
    fn anything_at_any_moment(
        world in any_world(),
        acts in prop::collection::vec((0..9_000u64, any_act()), 0..25),
        crashes in prop::collection::vec((1..12u64, any_crash()), 0..6),
    ) {
        let mut world = world;
        let mut edge = 0;
        for (further, crash) in crashes {
            edge += further;
            world.crash_at.push_back((edge, crash));
        }
        world.boot();
        for (wait, act) in acts {
            world.run_for(wait);
            world.at(world.now, act);
        }
        world.run_for(1_000);
        world.crash_at.clear();
        mend(&mut world);
        world.run_for(650_000);
        world.settle(SETTLES_WITHIN);
        world.run_for(10_000);
        let view = world.snapshot();
        prop_assert!(view.stuck.is_none(), "{:?}", view.stuck);
        let node = world.node.as_ref().unwrap();
        prop_assert_eq!(&node.target, &world.disk.link);
        prop_assert_eq!(view.node.pid, Some(node.pid));
        prop_assert_eq!(view.version, node.target.to_string());
        // Every order that reached a living supervisor was answered, or its supervisor died.
        prop_assert!(world.replies.len() as u64 <= world.tickets);
    }
}

/// Things said to a bare engine, true or not: also about what it has just ordered.
fn any_lie() -> impl Strategy<Value = Lie> {
    let round =
        (any::<[bool; 4]>(), 90..130u64).prop_map(|([known, chain, seal, time], height)| Observation {
            client_version: if known { Answer::Known("v".into()) } else { Answer::Unsupported },
            chain_id: Answer::Known(if chain { 1111 } else { 7 }),
            genesis: if known { Answer::Known(BlockHash([0; 32])) } else { Answer::Failed("no".into()) },
            pinned: Answer::Known(known.then_some(BlockHash([height as u8; 32]))),
            head: Answer::Known(Head { height, hash: None, block_time: time.then_some(height) }),
            peers: Answer::Known(height % 3),
            own_seal: Answer::Known(seal),
        });
    let head = (90..130u64, any::<bool>(), 0..3usize).prop_map(|(height, hashed, source)| {
        (source, Head { height, hash: hashed.then_some(BlockHash([1; 32])), block_time: None })
    });
    prop_oneof![
        6 => any_nonsense().prop_map(Lie::Plain),
        6 => head.prop_map(|(source, head)| Lie::Plain(Input::Head { source, head })),
        6 => any_order().prop_map(Lie::Order),
        4 => any_plans().prop_map(|plans| Lie::Plain(Input::Plans(Ok(plans)))),
        1 => Just(Lie::Plain(Input::Shutdown)),
        8 => Just(Lie::Up),
        3 => Just(Lie::NotStarted),
        5 => any_status().prop_map(Lie::Ended),
        6 => (any_target(), any::<bool>()).prop_map(|(target, well)| Lie::Plain(Input::Switched {
            target,
            result: if well { Ok(()) } else { Err("read-only".into()) },
        })),
        8 => (any_target(), any::<[bool; 4]>()).prop_map(|(target, [well, pre_stop, pre_upgrade, post_upgrade])| {
            let hooks = Hooks { pre_stop, pre_upgrade, post_upgrade };
            let verified = Verified { sha256: "s".into(), version: Some("v".into()), present_version: None, hooks };
            Lie::Plain(Input::Verified { target, result: if well { Ok(verified) } else { Err("unfit".into()) } })
        }),
        6 => (0..3u64, any::<bool>()).prop_map(|(before, well)| Lie::HookEnded { before, well }),
        6 => round.prop_map(|round| Lie::Round(Box::new(round))),
        3 => (any_name(), any::<bool>()).prop_map(|(text, ready)| {
            let mut check = Check { sha256: Some("s".into()), ..Check::default() };
            check.add("binary", if ready { State::Ok } else { State::Failed }, "looked at");
            Lie::Plain(Input::Checked { name: name(text), check })
        }),
        2 => (1..4u64, prop::option::of(any_plans())).prop_map(|(ticket, plans)| Lie::Plain(Input::PlansEdited {
            ticket,
            result: plans.ok_or_else(|| "full".into()),
            message: "edited".into(),
        })),
    ]
}

#[derive(Debug, Clone)]
enum Lie {
    Plain(Input),
    Order(Order),
    /// The newest launch runs, could not be started, or has ended.
    Up,
    NotStarted,
    Ended(WaitStatus),
    /// The newest run of a hook has ended, or one that was so much before it.
    HookEnded {
        before: u64,
        well: bool,
    },
    /// Answers of the newest launch.
    Round(Box<Observation>),
}

/// What the engine must believe, from what it was told and what it ordered.
#[derive(Debug, Default)]
struct Believed {
    newest: u64,
    runs: bool,
    termed: bool,
    killed: bool,
    journal: Vec<(u64, Record)>,
    /// Every run of a hook so far, and whether the newest one is still under way.
    hooks: Vec<u64>,
    hook_runs: bool,
    ended: bool,
}

impl Believed {
    fn check(&mut self, decision: Decision) {
        assert!(!self.ended || decision.effects.is_empty(), "it was told to end: {decision:?}");
        for entry in decision.entries {
            if let Entry::Journal { upgrade, record } = entry {
                self.journal.push((upgrade, record));
            }
        }
        let newest = self.journal.last().map(|(id, _)| *id);
        let own: Vec<_> =
            self.journal.iter().filter(|(id, _)| Some(*id) == newest).map(|(_, record)| record).collect();
        let open = (!own.is_empty()).then(|| fold(own.iter().map(|record| (*record, WallMs(0)))).unwrap());
        for effect in decision.effects {
            match effect {
                Effect::Launch(launch) => {
                    assert!(!self.runs, "a second process");
                    assert!(launch.launch > self.newest, "launches rise");
                    *self = Self {
                        newest: launch.launch,
                        runs: true,
                        termed: false,
                        killed: false,
                        ..std::mem::take(self)
                    };
                }
                Effect::Terminate => assert!(self.runs && !std::mem::replace(&mut self.termed, true)),
                Effect::Kill => assert!(self.termed && !std::mem::replace(&mut self.killed, true)),
                Effect::SwitchLink(_) => {
                    assert!(!self.runs, "the link is switched under a running node");
                    assert!(matches!(open, Some(Folded::Open(_))), "the link is switched by upgrades only");
                }
                Effect::RunHook { run, .. } => {
                    assert!(!std::mem::replace(&mut self.hook_runs, true), "a hook beside another one");
                    assert!(self.hooks.last().is_none_or(|last| *last < run), "runs rise");
                    self.hooks.push(run);
                }
                Effect::EndHook { run } => {
                    assert!(std::mem::take(&mut self.hook_runs) && self.hooks.last() == Some(&run));
                }
                Effect::Exit(_) => self.ended = true,
                _ => {}
            }
        }
        let waits = |step| matches!(step, Step::PreStop | Step::PreUpgrade | Step::PostUpgrade);
        let in_hook = matches!(&open, Some(Folded::Open(upgrade)) if waits(upgrade.step));
        assert!(in_hook || !self.hook_runs, "a hook that nobody waits for");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a bare engine is told, in any order: it never panics, never has two processes, signals once,
    /// switches the link only under an open journal and no node, and its journal always folds.
    #[test]
    fn whatever_it_is_told(
        lies in prop::collection::vec((0..40_000u64, any_lie()), 1..120),
        switches in any::<[bool; 4]>(),
    ) {
        let mut world = World::new();
        let [validator, held, restarts, plans] = switches;
        world.settings.validator = validator;
        world.settings.upgrade.restart_after_upgrade = !held;
        world.settings.node.restart_on_failure = restarts;
        if plans {
            world.disk.plans = Ok(vec![plan("v2", 100, SwitchMode::At)]);
        }
        let (mut engine, decision) = crate::engine::Engine::boot(world.boot_image(), world.moment());
        let mut believed = Believed::default();
        believed.check(decision);
        let mut now = Now { mono: MonoMs(0), wall: WallMs(1_700_000_000_000) };
        let mut ticket = 0;
        for (wait, lie) in lies {
            let wait = Duration::from_millis(wait);
            now = Now { mono: now.mono.after(wait), wall: now.wall.after(wait) };
            let launch = believed.newest;
            let input = match lie {
                Lie::Plain(input) => input,
                Lie::Order(order) => {
                    ticket += 1;
                    Input::Order { ticket, order }
                }
                Lie::Up => Input::NodeUp { launch, pid: 9 },
                Lie::NotStarted if believed.termed => continue,
                Lie::NotStarted => Input::LaunchFailed { launch, reason: "no".into() },
                Lie::Ended(status) => Input::NodeExited {
                    launch,
                    exit: NodeExit { status, term_sent: believed.termed, kill_sent: believed.killed, out_of_memory: false, tail: String::new() },
                },
                Lie::HookEnded { before, well } => {
                    let runs = &believed.hooks;
                    let Some(run) = runs.len().checked_sub(1 + before as usize).map(|at| runs[at]) else { continue };
                    believed.hook_runs &= before > 0;
                    let result = if well { Ok("fine".into()) } else { Err("exit code 1".into()) };
                    Input::HookEnded { run, result }
                }
                Lie::Round(round) => Input::Observed { launch, round },
            };
            let before = engine.snapshot(now).node.state;
            let ends = match &input {
                Input::NodeExited { launch: ended, .. } => *ended == launch,
                Input::LaunchFailed { launch: ended, .. } => *ended == launch && before == NodeState::Starting,
                _ => false,
            };
            if ends && !believed.ended {
                believed.runs = false;
            }
            let decision = engine.handle(input, now);
            believed.check(decision);
            if let Some(wake) = engine.next_wake(now) {
                prop_assert!(believed.ended || wake >= now.mono, "a wake in the past");
            }
            let view = engine.snapshot(now);
            serde_json::to_string(&view).unwrap();
            prop_assert!(view.stuck.is_none(), "{:?}", view.stuck);
        }
    }
}
