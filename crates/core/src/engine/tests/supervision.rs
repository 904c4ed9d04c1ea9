//! The node between upgrades: crashes, budgets, ends of the supervisor, silent sources.

use super::timeline::Act;
use super::world::{Crash, World, plan, to};
use crate::engine::port::{ExitWith, Input, Order, RefusalCode};
use crate::engine::snapshot::NodeState;
use crate::engine::{Boot, RunningNode};
use crate::exit::WaitStatus;
use crate::plan::SwitchMode;
use crate::target::Target;
use crate::upgrade::{Hooks, Outcome, Step};

fn old(world: &mut World) -> &mut super::program::Program {
    world.programs.get_mut(&Target::Genesis).unwrap()
}

#[test]
fn a_crash_loop_backs_off_and_gives_up_until_a_person_mends_it() {
    let mut world = World::new();
    old(&mut world).dies = Some((200, WaitStatus::Exited(2)));
    world.boot();
    world.run_to("given up", 120_000, |world| world.snapshot().node.state == NodeState::Failed);
    assert_eq!(world.launches.len(), 6);
    let gaps: Vec<_> = world.launches.windows(2).map(|pair| (pair[1].0 - pair[0].0) / 900).collect();
    assert_eq!(gaps, [0, 1, 2, 4, 8]);
    assert!(world.snapshot().alerts["node_down"].contains("not started again"));
    world.run_for(3_600_000);
    assert_eq!(world.launches.len(), 6, "given up is given up");
    old(&mut world).dies = None;
    assert!(world.ask(Order::RestartNode).is_ok());
    world.settle(1_000);
    world.run_for(10);
    assert!(!world.has_alert("node_down"));
    assert_eq!(world.snapshot().node.state, NodeState::Running);
}

#[test]
fn the_first_crash_after_healthy_uptime_restarts_at_once() {
    let mut world = World::with_plans(vec![]);
    for _ in 0..20 {
        world.run_for(61_000);
        let at = world.now;
        world.at(at, Act::NodeEnds(WaitStatus::Signaled(11)));
        world.run_for(10);
        assert!(world.node.is_some(), "within 10 ms");
    }
    assert_eq!(world.launches.len(), 21);
}

#[test]
fn without_restarts_the_supervisor_ends_as_the_node_did() {
    let mut world = World::new();
    world.settings.node.restart_on_failure = false;
    world.boot();
    world.run_for(5_000);
    world.at(world.now, Act::NodeEnds(WaitStatus::Exited(3)));
    world.run_for(10);
    assert_eq!(world.exit, Some(ExitWith::Node(WaitStatus::Exited(3))));
}

#[test]
fn an_ordered_stop_and_start_is_no_failure() {
    let mut world = World::new();
    world.settings.node.restart_on_failure = false;
    world.boot();
    world.run_for(5_000);
    assert_eq!(world.ask(Order::StopNode).unwrap(), "the node is being stopped");
    // Before it is down.
    assert!(world.ask(Order::StartNode).unwrap().contains("again"));
    world.run_for(5_000);
    assert!(world.exit.is_none());
    assert_eq!(world.launches.len(), 2);
    assert_eq!(world.snapshot().node.restarts, 0);
    assert!(world.ask(Order::StopNode).is_ok());
    world.run_for(5_000);
    assert_eq!(world.ask(Order::StopNode).unwrap(), "the node is down");
    assert_eq!(world.snapshot().node.state, NodeState::Stopped);
    assert!(world.ask(Order::RestartNode).unwrap().contains("was down"));
    world.run_for(5_000);
    assert_eq!(world.ask(Order::StartNode).unwrap(), "the node runs already");
    assert_eq!(world.launches.len(), 3);
}

#[test]
fn a_crash_while_a_due_plan_is_blocked_keeps_to_the_budget() {
    let mut world = World::new();
    world.programs.remove(&to("v2"));
    world.disk.plans = Ok(vec![plan("v2", 103, SwitchMode::At)]);
    world.verify_ms = 4_000;
    world.boot();
    world.run_to("blocked", 20_000, |world| world.has_alert("blocked"));
    old(&mut world).dies = Some((5_500, WaitStatus::Exited(2)));
    world.at(world.now, Act::NodeEnds(WaitStatus::Exited(2)));
    world.run_to("given up", 300_000, |world| world.snapshot().node.state == NodeState::Failed);
    assert_eq!(world.launches.len(), 1 + 5);
}

#[test]
fn a_silent_source_is_an_alert_and_no_height() {
    let mut world = World::with_plans(vec![plan("v2", 500, SwitchMode::At)]);
    world.run_to_head(105);
    world.at(world.now, Act::Rpc(false));
    world.run_to("the alert", 60_000, |world| world.has_alert("heights_silent"));
    assert!(world.snapshot().alerts["heights_silent"].contains("connection refused"));
    assert_eq!(world.snapshot().chain.sources[0].failure.as_deref(), Some("connection refused"));
    world.at(world.now, Act::Rpc(true));
    world.run_for(10_000);
    assert!(!world.has_alert("heights_silent"));
    world.tell(Input::SourceFailed { source: 0, reason: "gone".into() });
    world.tell(Input::SourceRecovered { source: 0 });
    assert_eq!(world.snapshot().chain.sources[0].failure, None);
}

#[test]
fn the_end_of_the_supervisor_ends_the_node_first() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    world.tell(Input::Shutdown);
    assert_eq!(world.terminations, 1);
    assert_eq!(world.refusal(Order::StartNode), RefusalCode::Conflict);
    assert!(world.snapshot().shutting_down);
    world.tell(Input::Shutdown);
    world.run_for(1_000);
    assert_eq!(world.exit, Some(ExitWith::Success));
    assert!(world.node.is_none());
}

#[test]
fn an_end_that_was_not_in_order_is_passed_on() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    world.tell(Input::Shutdown);
    world.at(world.now, Act::NodeEnds(WaitStatus::Exited(2)));
    world.run_for(1_000);
    assert_eq!(world.exit, Some(ExitWith::Node(WaitStatus::Exited(2))));
}

#[test]
fn an_end_while_the_node_is_being_started_waits_for_it() {
    let mut world = World::with_plans(vec![]);
    world.tell(Input::Shutdown);
    assert!(world.exit.is_none());
    world.run_for(1_000);
    assert_eq!((world.exit, world.node.is_none()), (Some(ExitWith::Success), true));
}

/// A supervisor that is told to end in any step of an upgrade: the next one finishes the upgrade.
#[test]
fn an_end_in_every_step_is_gone_on_from() {
    use Step::{BackProbation, BackStop, PostUpgrade, PreStop, PreUpgrade, Probation, Start, Stop, Switch};
    let steps = [PreStop, Stop, PreUpgrade, Switch, Start, Probation, PostUpgrade, BackStop, BackProbation];
    for step in steps {
        let mut world = World::new();
        world.hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true };
        world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
        if step.is_back() {
            world.program("v2").chain_id = 7;
        }
        world.boot();
        world.run_to("the step", 60_000, |world| {
            world.disk.open().is_some_and(|upgrade| upgrade.step == step)
        });
        world.at(world.now, Act::Restart);
        world.run_for(1);
        world.run_to("the end", 400_000, |world| world.disk.history.len() == 1 && world.is_settled());
        let committed = world.disk.outcomes() == [&Outcome::Committed];
        assert_eq!(committed, !step.is_back(), "{step}: {:?}", world.disk.outcomes());
        assert_eq!(world.disk.link == to("v2"), committed, "{step}");
        world.run_for(100_000);
        assert_eq!(world.disk.history.len(), 1);
        assert_eq!(world.life, 2 + 1, "{step}: booted twice");
    }
}

#[test]
fn a_running_node_is_taken_over_as_it_is() {
    let mut world = World::with_plans(vec![]);
    world.run_for(70_000);
    let (pid, launch) = world.node.as_ref().map(|node| (node.pid, node.launch)).unwrap();
    for _ in 0..3 {
        world.at(world.now, Act::Crash(Crash { facts_lost: true, away: 3_000, ..Crash::default() }));
        world.run_for(10_000);
        let view = world.snapshot().node;
        assert_eq!((view.pid, view.adopted, view.state), (Some(pid), true, NodeState::Running));
    }
    world.at(world.now, Act::NodeEnds(WaitStatus::Signaled(11)));
    world.run_for(1_000);
    assert!(world.node.as_ref().unwrap().launch > launch);
    assert_eq!((world.launches.len(), world.terminations), (2, 0));
}

/// The last supervisor had told the node to end and was lost before it did: no second SIGTERM, and a new start.
#[test]
fn a_node_that_was_told_to_end_by_the_last_supervisor_ends_and_is_started_again() {
    for upgrading in [false, true] {
        let mut world = World::new();
        world.disk.plans = Ok(if upgrading { vec![plan("v2", 110, SwitchMode::At)] } else { vec![] });
        world.program("v2").on_term = super::program::OnTerm::Ends(3_000);
        old(&mut world).on_term = super::program::OnTerm::Ends(3_000);
        world.boot();
        world.run_for(5_000);
        if upgrading {
            world.run_to("probation", 60_000, |world| {
                world.disk.open().is_some_and(|upgrade| upgrade.step == Step::Probation)
            });
        }
        let (starts, terms) = (world.launches.len(), world.terminations);
        world.tell(Input::Shutdown);
        world.run_for(100);
        world.at(world.now, Act::Crash(Crash { away: 100, ..Crash::default() }));
        world.run_for(500);
        assert_eq!(world.snapshot().node.state, NodeState::Stopping, "it is not said to run");
        world.run_for(60_000);
        world.settle(60_000);
        assert_eq!((world.launches.len(), world.terminations), (starts + 1, terms + 1), "{upgrading}");
        assert_eq!(world.disk.link, if upgrading { to("v2") } else { Target::Genesis });
    }
}

#[test]
fn the_floor_holds_across_supervisors() {
    let mut world = World::new();
    world.settings.validator = true;
    world.boot();
    world.run_for(5_000);
    world.at(
        world.now,
        Act::Crash(Crash {
            node_too: true,
            exit_known: true,
            away: 500,
            facts_lost: false,
            power: false,
            link_lost: false,
        }),
    );
    let died = world.now;
    world.run_to("up", 20_000, |world| world.launches.len() == 2);
    assert!(world.now >= died + 2_500, "{}", world.now - died);
}

fn boot_with(
    journal: Result<Vec<(crate::upgrade::Record, crate::time::WallMs)>, String>,
    runs: Option<Target>,
) -> World {
    let mut world = World::new();
    let (settings, given_line, plans) =
        (world.settings.clone(), world.given.clone(), world.disk.plans.clone());
    world.life = 1;
    let running = runs.clone().map(|target| {
        world.spawn(5, target.clone(), given_line.clone());
        RunningNode {
            launch: 5,
            pid: 1001,
            target: Some(target),
            uptime: Default::default(),
            term_sent: false,
        }
    });
    let boot = Boot {
        settings,
        sources: Vec::new(),
        given_line,
        target: world.disk.link.clone(),
        running,
        last_exit: None,
        journal,
        plans,
        pins: Vec::new(),
        finished: Vec::new(),
        last_upgrade: None,
        last_committed: None,
        facts: Default::default(),
        stagger: 1,
    };
    world.boot_from(boot);
    world
}

#[test]
fn a_journal_that_cannot_be_read_leaves_the_node_alone() {
    let mut world = boot_with(Err("disk I/O error".into()), Some(Target::Genesis));
    assert!(world.has_alert("stuck"));
    assert_eq!(world.snapshot().stuck.as_deref(), Some("disk I/O error"));
    world.at(world.now, Act::Write(Ok(vec![plan("v2", 50, SwitchMode::At)])));
    world.run_for(60_000);
    assert!(world.disk.journal.is_empty() && world.terminations == 0);
    let apply = Order::Apply { name: super::world::name("v2"), force: true };
    assert_eq!(world.refusal(apply), RefusalCode::Conflict);
    // The node itself can still be ordered about.
    assert!(world.ask(Order::RestartNode).is_ok());
    world.run_for(5_000);
    assert_eq!(world.launches.len(), 2);
}

#[test]
fn a_damaged_journal_is_not_followed() {
    let record = crate::upgrade::Record::Started { step: Step::Start };
    let world = boot_with(Ok(vec![(record, crate::time::WallMs(1))]), None);
    assert!(world.has_alert("stuck"));
    assert_eq!(world.launches.len(), 1, "what the link says runs");
}

#[test]
fn a_stranger_in_the_middle_of_an_upgrade_is_left_alone() {
    for (step, stranger) in [
        (Step::Stop, to("v3")),
        (Step::Switch, Target::Genesis),
        (Step::Start, to("v3")),
        (Step::Probation, Target::Genesis),
        (Step::BackSwitch, to("v3")),
        (Step::BackStart, to("v2")),
        (Step::BackProbation, to("v3")),
    ] {
        let mut source = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
        if step.is_back() {
            source.program("v2").chain_id = 7;
        }
        source.run_to("the step", 60_000, |world| world.disk.open().is_some_and(|open| open.step == step));
        let mut world = boot_with(Ok(source.disk.newest()), Some(stranger.clone()));
        world.run_for(10);
        assert!(world.has_alert("stuck"), "{step}");
        assert_eq!((world.terminations, world.launches.len()), (0, 1), "{step}");
    }
}

#[test]
fn a_bad_plan_file_leaves_the_last_good_plans_armed() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.at(world.now, Act::Write(Err("not JSON".into())));
    world.run_for(1_000);
    assert!(world.has_alert("plan_file"));
    assert_eq!(world.snapshot().plan_problem.as_deref(), Some("not JSON"));
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    world.at(world.now, Act::Write(Ok(vec![])));
    world.run_for(1_000);
    assert!(!world.has_alert("plan_file") && world.snapshot().plan_problem.is_none());
}

#[test]
fn a_node_killed_by_somebody_else_loses_blocks_and_nothing_fires() {
    let mut world = World::with_plans(vec![plan("v2", 120, SwitchMode::At)]);
    world.run_to_head(112);
    world.run_for(500);
    world.at(world.now, Act::NodeEnds(WaitStatus::Signaled(9)));
    world.run_for(600);
    assert!(world.database < 112 && world.disk.journal.is_empty());
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert_eq!(world.disk.triggered()[0].head.unwrap().height, 120);
}
