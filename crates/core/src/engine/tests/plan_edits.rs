//! Plans that are cancelled, moved and edited, by order and by hand, at every moment.

use super::timeline::Act;
use super::world::{Crash, World, name, plan, to};
use crate::engine::port::{Order, RefusalCode};
use crate::plan::{Plan, SwitchMode};
use crate::upgrade::{Hooks, Outcome, Step};

fn at(height: u64) -> Plan {
    plan("v2", height, SwitchMode::At)
}

fn schedule(plan: Plan) -> Order {
    Order::Schedule { plan: Box::new(plan), force: false }
}

#[test]
fn schedule_list_cancel_and_nothing_happens() {
    let mut world = World::with_plans(vec![]);
    world.run_to_head(102);
    assert!(world.ask(schedule(at(110))).is_ok());
    world.run_for(100);
    assert_eq!(world.snapshot().plans.len(), 1);
    assert!(world.ask(Order::Cancel(name("v2"))).is_ok());
    world.run_for(100_000);
    assert!(world.disk.journal.is_empty() && world.snapshot().plans.is_empty());
    for kind in ["upgrade_scheduled", "upgrade_ready", "upgrade_cancelled"] {
        assert_eq!(world.disk.count("upgrades", kind), 1, "{kind}");
    }
}

#[test]
fn cancelled_or_moved_one_block_before() {
    for order in [Order::Cancel(name("v2")), schedule(at(150))] {
        let mut world = World::with_plans(vec![at(110)]);
        world.run_to_head(109);
        world.run_for(500);
        assert!(world.ask(order.clone()).is_ok());
        world.run_for(30_000);
        assert!(world.disk.journal.is_empty(), "{order:?}");
        if matches!(order, Order::Schedule { .. }) {
            world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
            assert_eq!(world.disk.triggered()[0].head.unwrap().height, 150);
            assert_eq!(world.disk.count("upgrades", "upgrade_updated"), 1);
        }
    }
}

/// An upgrade of v2 whose program proves itself for a while.
fn in_probation() -> World {
    let mut world = World::with_plans(vec![at(110)]);
    world.program("v2").answers_after = Some(20_000);
    world.run_to("probation", 60_000, |world| {
        world.disk.open().is_some_and(|open| open.step == Step::Probation)
    });
    assert_eq!(world.disk.count("upgrades", "upgrade_ready"), 1);
    world
}

#[test]
fn the_plan_that_is_being_carried_out_is_not_told_to_be_ready() {
    let mut world = in_probation();
    // The next supervisor prepares it anew.
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(5_000);
    assert!(world.disk.open().is_some_and(|open| open.step == Step::Probation));
    assert!(world.snapshot().plans[0].readiness.is_some());
    assert_eq!(world.disk.count("upgrades", "upgrade_ready"), 1);
}

#[test]
fn a_plan_that_is_moved_while_it_is_carried_out_is_told_to_be_ready() {
    let mut world = in_probation();
    world.at(world.now, Act::Write(Ok(vec![at(500)])));
    world.run_for(5_000);
    assert!(world.disk.open().is_some_and(|open| open.step == Step::Probation));
    assert_eq!(world.disk.count("upgrades", "upgrade_ready"), 2);
}

/// The edit of the file takes longer than the block, and the program is verified in the meantime.
#[test]
fn an_order_that_is_being_written_holds_its_plan() {
    for (order, before_ms) in [
        (Order::Cancel(name("v2")), 1),
        (Order::Cancel(name("v2")), 500),
        (schedule(at(150)), 1),
        (schedule(at(150)), 500),
    ] {
        let mut world = World::with_plans(vec![at(110)]);
        (world.edit_ms, world.verify_ms) = (400, 50);
        world.run_to_head(109);
        world.run_for(1_002 - before_ms);
        let ticket = world.order(order.clone());
        world.run_for(20_000);
        assert!(world.replies[&ticket].is_ok());
        assert_eq!((world.disk.journal.len(), world.terminations), (0, 0), "{order:?} {before_ms}");
    }
}

#[test]
fn an_order_that_meets_the_verification_wins() {
    for order in [Order::Cancel(name("v2")), schedule(at(150))] {
        let mut world = World::with_plans(vec![at(110)]);
        (world.edit_ms, world.verify_ms) = (2, 300);
        world.run_to_head(110);
        world.run_for(100);
        assert!(world.disk.journal.is_empty());
        assert!(world.ask(order).is_ok());
        world.run_for(20_000);
        assert_eq!((world.disk.journal.len(), world.terminations), (0, 0));
    }
}

#[test]
fn cancelling_an_ordered_upgrade_that_is_about_to_begin() {
    let mut world = World::with_plans(vec![at(500)]);
    world.verify_ms = 300;
    world.run_to_head(103);
    let apply = world.order(Order::Apply { name: name("v2"), force: false });
    assert!(world.ask(Order::Cancel(name("v2"))).is_ok());
    world.run_for(20_000);
    assert_eq!(world.replies[&apply].as_ref().unwrap_err().code, RefusalCode::Conflict);
    assert_eq!((world.disk.journal.len(), world.terminations), (0, 0));
}

#[test]
fn an_order_that_cannot_be_written_changes_nothing() {
    let mut world = World::with_plans(vec![at(110)]);
    world.edit_fails = 2;
    world.run_to_head(105);
    assert_eq!(world.refusal(Order::Cancel(name("v2"))), RefusalCode::Failed);
    assert_eq!(world.refusal(schedule(at(140))), RefusalCode::Failed);
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert_eq!(world.disk.triggered()[0].head.unwrap().height, 110);
}

/// An upgrade whose drain takes its time, at its beginning.
fn draining(more: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.hooks = Hooks { pre_stop: true, ..Hooks::default() };
    world.hook_runs.insert(Step::PreStop, (5_000, [Ok("")].into()));
    world.disk.plans = Ok(vec![at(110)]);
    more(&mut world);
    world.boot();
    world.run_to("the drain", 60_000, |world| {
        world.disk.open().is_some_and(|open| open.step == Step::PreStop)
    });
    world.run_for(1_000);
    world
}

#[test]
fn an_upgrade_can_be_called_off_before_the_stop() {
    for by_hand in [true, false] {
        let mut world = draining(|_| {});
        assert!(world.snapshot().upgrade.unwrap().can_cancel);
        if by_hand {
            world.at(world.now, Act::Write(Ok(vec![])));
        } else {
            world.edit_ms = 300;
            assert!(world.ask(Order::Cancel(name("v2"))).is_ok());
        }
        world.run_for(60_000);
        assert!(matches!(world.disk.outcomes()[..], [Outcome::Cancelled { .. }]), "by hand: {by_hand}");
        assert_eq!((world.terminations, world.launches.len()), (0, 1), "by hand: {by_hand}");
        assert!(world.disk.pins.is_empty() && world.disk.plans == Ok(vec![]));
        assert!(world.disk.finished().is_empty());
        assert!(!world.has_alert("upgrade_failed"));
        // It is not burnt: it can be scheduled anew.
        let again = world.database + 10;
        assert!(world.ask(schedule(at(again))).is_ok());
        world.run_to("the commit", 60_000, |world| world.disk.history.len() == 2);
    }
}

/// The end of the first run comes while the second one drains.
#[test]
fn the_end_of_a_drain_that_was_called_off_is_not_that_of_the_next_one() {
    for by_hand in [true, false] {
        let mut world = draining(|_| {});
        let first = world.hook;
        assert!(first.is_some());
        world.run_for(1_000);
        if by_hand {
            world.at(world.now, Act::Write(Ok(vec![])));
            world.at(world.now + 500, Act::Write(Ok(vec![at(110)])));
        } else {
            assert!(world.ask(Order::Cancel(name("v2"))).is_ok());
            let plan = Box::new(at(110));
            assert!(world.ask(Order::Schedule { plan, force: true }).is_ok());
        }
        world.run_to("the second drain", 1_500, |world| world.hooks_run.len() == 2);
        let begun = world.now;
        assert_ne!(world.hook, first);
        world.run_to("the stop", 60_000, |world| world.terminations == 1);
        assert_eq!(world.now - begun, 5_000, "by hand: {by_hand}");
        world.run_to("the commit", 60_000, |world| world.disk.history.len() == 2);
        assert_eq!(world.disk.history[1].outcome, Outcome::Committed);
    }
}

/// Whatever ends the step ends its hook, and what that hook says in the end is not heard any more.
#[test]
fn a_hook_is_ended_with_its_step() {
    let mut world = World::new();
    world.hooks = Hooks { post_upgrade: true, ..Hooks::default() };
    world.hook_runs.insert(Step::PostUpgrade, (5_000, [Ok("")].into()));
    world.disk.plans = Ok(vec![at(110)]);
    world.boot();
    world.run_to("the hook", 120_000, |world| world.hook.is_some());
    assert!(world.ask(Order::Rollback).is_ok());
    assert_eq!(world.hook, None);
    world.settle(120_000);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { .. }]));
}

#[test]
fn moving_a_plan_by_hand_before_the_stop_calls_its_upgrade_off() {
    let mut world = draining(|_| {});
    world.at(world.now, Act::Write(Ok(vec![at(150)])));
    world.run_for(10_000);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::Cancelled { .. }]));
    assert_eq!(world.terminations, 0);
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 2);
    assert_eq!(world.disk.triggered()[1].head.unwrap().height, 150);
}

#[test]
fn past_the_stop_a_plan_that_is_taken_away_changes_nothing() {
    let mut world = World::with_plans(vec![at(110)]);
    world.run_to("probation", 60_000, |world| {
        world.disk.open().is_some_and(|open| open.step == Step::Probation)
    });
    assert_eq!(world.refusal(Order::Cancel(name("v2"))), RefusalCode::Conflict);
    world.at(world.now, Act::Write(Ok(vec![])));
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert_eq!(world.disk.count("upgrades", "upgrade_cancelled"), 0);
}

#[test]
fn a_plan_moved_by_hand_while_it_fails_is_kept() {
    let mut world = World::with_plans(vec![at(110)]);
    world.program("v2").chain_id = 7;
    world.run_to("the way back", 60_000, |world| world.disk.open().is_some_and(|open| open.step.is_back()));
    world.at(world.now, Act::Write(Ok(vec![at(400)])));
    world.settle(300_000);
    world.run_for(5_000);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { .. }]));
    let view = world.snapshot();
    assert_eq!(view.plans.len(), 1);
    assert!(view.plans[0].pinned && view.plans[0].plan.height == 400);
    assert_eq!(world.disk.plans, Ok(vec![at(400)]));
}

#[test]
fn other_plans_can_be_edited_while_one_is_carried_out() {
    let mut world = World::with_plans(vec![at(110)]);
    world.run_to("probation", 60_000, |world| {
        world.disk.open().is_some_and(|open| open.step == Step::Probation)
    });
    assert!(world.ask(schedule(plan("v3", 130, SwitchMode::At))).is_ok());
    world.run_to("both", 120_000, |world| world.disk.history.len() == 2);
    assert_eq!(world.disk.link, to("v3"));
    assert_eq!(world.disk.count("upgrades", "upgrade_already_done"), 0);
}

#[test]
fn what_cannot_be_scheduled_is_refused() {
    let mut world = World::with_plans(vec![at(110), plan("v3", 200, SwitchMode::At)]);
    world.run_to_head(105);
    world.run_for(10);
    assert_eq!(world.refusal(schedule(plan("v4", 200, SwitchMode::At))), RefusalCode::Conflict);
    assert_eq!(world.refusal(schedule(plan("v4", 50, SwitchMode::At))), RefusalCode::Conflict);
    assert_eq!(world.refusal(schedule(plan("v4", 106, SwitchMode::Before))), RefusalCode::Conflict);
    world.run_to("probation", 60_000, |world| {
        world.disk.open().is_some_and(|open| open.step == Step::Probation)
    });
    assert_eq!(world.refusal(schedule(at(300))), RefusalCode::Conflict, "it is under way");
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    assert_eq!(world.refusal(schedule(at(300))), RefusalCode::Conflict, "it runs");
    assert_eq!(world.disk.plans.as_ref().unwrap().len(), 1);
    assert_eq!(world.refusal(Order::Cancel(name("v2"))), RefusalCode::NotFound);
    let refused = world.ask(Order::Cancel(name("V3"))).unwrap_err();
    assert!(refused.message.contains("v3"), "{refused}");
    let refused = world.ask(Order::Cancel(name("entirely-else"))).unwrap_err();
    assert!(refused.message.contains("scheduled: v3"), "{refused}");
    // Force puts in what has passed: it fires at once.
    let late = Order::Schedule { plan: Box::new(plan("v4", 60, SwitchMode::At)), force: true };
    assert!(world.ask(late).is_ok());
    world.run_for(1_000);
    assert!(world.has_alert("blocked"), "there is no v4");
}

#[test]
fn a_plan_that_was_carried_out_is_not_scheduled_again_at_its_height() {
    let mut world = World::with_plans(vec![at(110)]);
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    world.settle(10);
    assert!(world.ask(Order::Rollback).is_ok());
    world.run_to("back", 60_000, |world| world.disk.history.len() == 2);
    assert_eq!(world.refusal(schedule(at(110))), RefusalCode::Conflict);
}

#[test]
fn the_same_content_again_is_nothing() {
    let mut world = World::with_plans(vec![at(300)]);
    world.run_for(5_000);
    let events = world.disk.events.len();
    world.at(world.now, Act::Write(Ok(vec![at(300)])));
    world.run_for(1_000);
    assert_eq!(world.disk.events.len(), events);
    assert!(world.snapshot().plans[0].readiness.is_some(), "what is known of it stays known");
}
