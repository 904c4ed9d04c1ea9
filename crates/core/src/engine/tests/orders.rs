//! Orders: carried out, or refused with a reason; while an upgrade runs, and by hand back and forth.

use super::timeline::Act;
use super::world::{World, name, plan, to};
use crate::engine::port::{ExitWith, Input, Order, RefusalCode};
use crate::exit::WaitStatus;
use crate::plan::SwitchMode;
use crate::target::Target;
use crate::upgrade::{Hooks, Outcome, Step};

fn all_orders() -> Vec<Order> {
    let of = |name| Order::Apply { name, force: true };
    vec![of(name("v3")), Order::Retry(name("v3")), Order::StartNode, Order::StopNode, Order::RestartNode]
}

fn upgraded() -> World {
    let mut order = plan("v2", 110, SwitchMode::At);
    order.args = Some(vec!["--new".into()]);
    let mut world = World::with_plans(vec![order]);
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    world.settle(1_000);
    world.run_for(1_000);
    world
}

#[test]
fn every_order_is_refused_while_an_upgrade_runs() {
    use Step::{
        BackProbation, BackStop, BackSwitch, PostUpgrade, PreStop, PreUpgrade, Probation, Start, Stop, Switch,
    };
    let forth = [PreStop, Stop, PreUpgrade, Switch, Start, Probation, PostUpgrade];
    for step in forth.into_iter().chain([BackStop, BackSwitch, BackProbation]) {
        let mut world = World::new();
        world.hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true };
        world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At), plan("v3", 900, SwitchMode::At)]);
        if step.is_back() {
            world.program("v2").chain_id = 7;
        }
        world.boot();
        world.run_to("the step", 60_000, |world| world.disk.open().is_some_and(|open| open.step == step));
        let mut orders = all_orders();
        if !matches!(step, Probation | PostUpgrade) {
            orders.push(Order::Rollback);
        }
        for order in orders {
            assert_eq!(world.refusal(order.clone()), RefusalCode::Conflict, "{step}: {order:?}");
        }
        world.settle(400_000);
        assert_eq!(world.disk.history.len(), 1);
        assert_eq!(world.snapshot().plans.len(), 1, "v3 still waits");
    }
}

#[test]
fn every_order_is_refused_while_one_is_about_to_begin() {
    let mut world = World::with_plans(vec![plan("v2", 900, SwitchMode::At), plan("v3", 950, SwitchMode::At)]);
    world.verify_ms = 1_000;
    world.run_to_head(103);
    let ticket = world.order(Order::Apply { name: name("v2"), force: false });
    for order in all_orders().into_iter().chain([Order::Rollback]) {
        let refused = world.order(order.clone());
        assert_eq!(world.replies[&refused].as_ref().unwrap_err().code, RefusalCode::Conflict, "{order:?}");
    }
    world.run_for(2_000);
    assert!(world.replies[&ticket].is_ok());
}

#[test]
fn an_upgrade_can_be_gone_back_on_by_hand() {
    let mut world = upgraded();
    assert_eq!(world.node.as_ref().unwrap().line.args, ["--new".into()]);
    assert!(world.ask(Order::Rollback).is_ok());
    world.run_to("back", 60_000, |world| world.disk.history.len() == 2);
    world.settle(1_000);
    world.run_for(30_000);
    let node = world.node.as_ref().unwrap();
    assert_eq!((&node.target, &node.line), (&Target::Genesis, &world.given), "with its own arguments");
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed; 2]);
    assert_eq!(world.disk.pins[0].name, name("v2"));
    assert_eq!(world.refusal(Order::Rollback), RefusalCode::NotFound, "there is nothing further back");
    // Found again in the file, it does not come back by itself.
    let again = world.database + 5;
    world.at(world.now, Act::Write(Ok(vec![plan("v2", again, SwitchMode::At)])));
    world.run_for(60_000);
    assert_eq!(world.disk.triggered().len(), 2);
    assert_eq!(world.node.as_ref().unwrap().line, world.given);
}

#[test]
fn going_back_by_hand_to_a_program_that_fails_comes_forth_again() {
    let mut world = upgraded();
    world.programs.get_mut(&Target::Genesis).unwrap().chain_id = 9;
    assert!(world.ask(Order::Rollback).is_ok());
    world.run_to("the end", 300_000, |world| world.disk.history.len() == 2);
    assert!(matches!(world.disk.outcomes()[1], Outcome::RolledBack { stranded: None, .. }));
    assert_eq!(world.disk.link, to("v2"));
    assert_eq!(world.node.as_ref().unwrap().line.args, ["--new".into()]);
    assert!(world.disk.pins.is_empty(), "genesis is no upgrade that could be pinned");
}

#[test]
fn a_rollback_during_probation_goes_back_at_once() {
    for step in [Step::Probation, Step::PostUpgrade] {
        let mut world = World::new();
        world.hooks.post_upgrade = true;
        world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
        world.boot();
        world.run_to("the step", 60_000, |world| world.disk.open().is_some_and(|open| open.step == step));
        assert!(world.ask(Order::Rollback).is_ok());
        world.settle(300_000);
        let [Outcome::RolledBack { reason, stranded: None }] = world.disk.outcomes()[..] else { panic!() };
        assert!(reason.contains("a person ordered"), "{reason}");
    }
}

#[test]
fn what_cannot_be_applied_is_refused_and_the_node_untouched() {
    let mut world = World::with_plans(vec![plan("v2", 900, SwitchMode::At)]);
    world.run_to_head(103);
    world.program("v2").unfit = Some("the checksum is wrong");
    let refused = world.ask(Order::Apply { name: name("v2"), force: false }).unwrap_err();
    assert_eq!(refused.code, RefusalCode::NotReady);
    assert!(refused.message.contains("checksum"));
    world.run_for(60_000);
    assert!(!world.has_alert("blocked"), "it is not due");
    assert_eq!(world.terminations, 0);
    assert_eq!(world.refusal(Order::Apply { name: name("v9"), force: false }), RefusalCode::NotFound);
    assert_eq!(world.refusal(Order::Retry(name("v9"))), RefusalCode::NotFound);
    assert_eq!(world.refusal(Order::Rollback), RefusalCode::NotFound);
}

#[test]
fn an_upgrade_ordered_for_a_stopped_node_starts_the_new_program() {
    let mut world = World::with_plans(vec![plan("v2", 900, SwitchMode::At)]);
    world.run_to_head(103);
    assert!(world.ask(Order::StopNode).is_ok());
    world.run_for(5_000);
    assert!(world.node.is_none());
    assert!(world.ask(Order::Apply { name: name("v2"), force: false }).is_ok());
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert_eq!(world.terminations, 1);
}

#[test]
fn a_stopped_node_is_left_alone_by_plans() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(108);
    assert!(world.ask(Order::StopNode).is_ok());
    world.run_for(60_000);
    assert!(world.disk.journal.is_empty() && world.node.is_none());
    assert!(world.ask(Order::StartNode).is_ok());
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

#[test]
fn an_ordered_program_that_crashes_while_it_is_looked_at_is_upgraded_all_the_same() {
    let mut world = World::with_plans(vec![plan("v2", 900, SwitchMode::At)]);
    world.verify_ms = 1_000;
    world.run_to_head(103);
    let ticket = world.order(Order::Apply { name: name("v2"), force: false });
    world.at(world.now + 100, Act::NodeEnds(WaitStatus::Exited(2)));
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert!(world.replies[&ticket].is_ok());
    assert_eq!(world.launches.len(), 2);
}

#[test]
fn a_retry_needs_no_plan_in_the_file() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.program("v2").dies = Some((100, WaitStatus::Exited(2)));
    world.run_to("the end", 300_000, |world| world.disk.history.len() == 1);
    world.settle(1_000);
    assert_eq!(world.refusal(Order::Rollback), RefusalCode::NotFound);
    world.program("v2").dies = None;
    assert!(world.ask(Order::Retry(name("v2"))).is_ok());
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 2);
    assert_eq!(world.disk.outcomes()[1], &Outcome::Committed);
    world.run_for(60_000);
    assert_eq!(world.disk.triggered().len(), 2);
}

#[test]
fn a_validators_planned_stop_can_be_called_off_with_its_restart() {
    let mut world = World::new();
    world.settings.validator = true;
    world.settings.node.stop_moment_limit = std::time::Duration::from_secs(60);
    world.we_seal = true;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("the trigger", 60_000, |world| world.disk.open().is_some());
    assert!(world.snapshot().upgrade.unwrap().can_cancel, "it waits for its moment");
    assert!(world.ask(Order::Cancel(name("v2"))).is_ok());
    world.we_seal = false;
    world.run_for(120_000);
    assert_eq!((world.terminations, world.launches.len()), (0, 1));
    assert!(matches!(world.disk.outcomes()[..], [Outcome::Cancelled { .. }]));
}

#[test]
fn a_supervisor_gives_way_at_every_step_but_in_a_hook_and_the_upgrade_goes_on() {
    use Step::{
        BackProbation, BackStop, BackSwitch, PostUpgrade, PreStop, PreUpgrade, Probation, Start, Stop, Switch,
    };
    let forth = [PreStop, Stop, PreUpgrade, Switch, Start, Probation, PostUpgrade];
    for step in forth.into_iter().chain([BackStop, BackSwitch, BackProbation]) {
        let mut world = World::new();
        world.hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true };
        world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
        if step.is_back() {
            world.program("v2").chain_id = 7;
        }
        world.boot();
        world.run_to("the step", 60_000, |world| world.disk.open().is_some_and(|open| open.step == step));
        let signals = world.terminations;
        if matches!(step, PreStop | PreUpgrade | PostUpgrade) {
            assert_eq!(world.refusal(Order::ReplaceSupervisor), RefusalCode::Conflict, "{step}");
        } else {
            let ticket = world.order(Order::ReplaceSupervisor);
            assert!(world.replies[&ticket].is_ok(), "{step}: {:?}", world.replies);
            assert_eq!((world.exit, world.terminations), (Some(ExitWith::Successor), signals), "{step}");
        }
        world.settle(400_000);
        assert_eq!(world.disk.history.len(), 1, "{step}");
        let outcome = &world.disk.history[0].outcome;
        let back = matches!(outcome, Outcome::RolledBack { .. });
        assert!(if step.is_back() { back } else { *outcome == Outcome::Committed }, "{step}: {outcome:?}");
    }
}

#[test]
fn a_supervisor_that_gives_way_leaves_its_node_alone() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    let before = world.node.as_ref().map(|node| node.launch);
    let ticket = world.order(Order::ReplaceSupervisor);
    assert!(world.replies[&ticket].is_ok());
    assert_eq!(world.exit, Some(ExitWith::Successor));
    world.run_for(5_000);
    assert_eq!((world.node.as_ref().map(|node| node.launch), world.terminations), (before, 0));
    world.tell(Input::Shutdown);
    assert_eq!(world.refusal(Order::ReplaceSupervisor), RefusalCode::Conflict, "it is ending");
}
