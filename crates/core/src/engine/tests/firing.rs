//! When a plan fires: at its height, once, and never on what is not known.

use super::timeline::Act;
use super::world::{Crash, World, name, plan, to};
use crate::engine::port::{Input, Order, RefusalCode};
use crate::exit::WaitStatus;
use crate::head::Height;
use crate::plan::SwitchMode;
use crate::settings::Late;
use crate::target::Target;
use crate::trigger::Why;
use crate::upgrade::Outcome;

fn fired_at(world: &World) -> (Height, Why) {
    let order = world.disk.triggered().last().copied().expect("it fired").clone();
    (order.head.expect("a head").height, order.why)
}

fn committed(mode: SwitchMode) -> World {
    let mut world = World::with_plans(vec![plan("v2", 110, mode)]);
    world.run_to("the commit", 120_000, |world| world.disk.history.len() == 1);
    world.settle(1_000);
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed]);
    world
}

#[test]
fn at_its_height_and_once() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(109);
    world.run_for(900);
    assert!(world.disk.journal.is_empty(), "never before");
    world.settle(100);
    world.run_to("the commit", 20_000, |world| world.disk.history.len() == 1);
    assert_eq!(fired_at(&world), (110, Why::Reached));
    assert_eq!(world.disk.link, to("v2"));
    assert_eq!(world.node.as_ref().unwrap().line, world.given);
    world.run_for(600_000);
    assert_eq!(world.disk.history.len(), 1);
    assert_eq!((world.launches.len(), world.terminations, world.kills), (2, 1, 0));
    assert_eq!(world.disk.plans, Ok(vec![]));
    let entry = &world.disk.history[0];
    assert!(entry.downtime_ms.unwrap() < 50, "{entry:?}");
    let view = world.snapshot();
    assert!(view.alerts.is_empty() && view.upgrade.is_none() && view.plans.is_empty(), "{view:?}");
    assert_eq!(view.version, "v2");
}

#[test]
fn before_fires_one_block_earlier() {
    assert_eq!(fired_at(&committed(SwitchMode::Before)), (109, Why::Reached));
}

#[test]
fn a_window_is_staggered() {
    // The stagger is 7: seven blocks before the deadline, which is the last block before the height.
    assert_eq!(fired_at(&committed(SwitchMode::Window(9))), (102, Why::Reached));
}

#[test]
fn manual_waits_for_its_order() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::Manual)]);
    world.run_to_head(150);
    assert!(world.disk.journal.is_empty());
    let name = name("v2");
    assert!(world.ask(Order::Apply { name, force: false }).is_ok());
    world.run_to("the commit", 20_000, |world| world.disk.history.len() == 1);
    assert_eq!(fired_at(&world).1, Why::Ordered);
}

fn halting(mode: SwitchMode) -> World {
    let mut world = World::new();
    world.programs.get_mut(&Target::Genesis).unwrap().last_block = 109;
    world.disk.plans = Ok(vec![plan("v2", 110, mode)]);
    world.boot();
    world
}

#[test]
fn halted_fires_when_the_head_has_stood_still() {
    let mut world = halting(SwitchMode::Halted);
    world.run_to_head(109);
    world.run_for(14_500);
    assert!(world.disk.journal.is_empty(), "not before the stall time");
    world.run_to("the trigger", 2_000, |world| !world.disk.journal.is_empty());
    assert_eq!(fired_at(&world), (109, Why::Halted));
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

#[test]
fn halted_fires_when_the_node_goes_down_there() {
    let mut world = halting(SwitchMode::Halted);
    world.run_to_head(109);
    world.run_for(500);
    world.at(world.now, Act::NodeEnds(WaitStatus::Exited(2)));
    world.run_to("the trigger", 1_000, |world| !world.disk.journal.is_empty());
    assert_eq!(fired_at(&world).1, Why::DownAtHalt);
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert_eq!(world.launches.len(), 2, "the old program is not started once more");
}

#[test]
fn halted_does_not_take_silence_for_a_standstill() {
    let mut world = halting(SwitchMode::Halted);
    world.run_to_head(109);
    world.run_for(500);
    world.at(world.now, Act::Rpc(false));
    world.run_for(120_000);
    assert!(world.disk.journal.is_empty(), "an unknown height never means go");
    assert!(world.has_alert("heights_silent"));
    world.at(world.now, Act::Rpc(true));
    world.run_to("the trigger", 40_000, |world| !world.disk.journal.is_empty());
    assert!(!world.has_alert("heights_silent"));
}

#[test]
fn halted_does_not_take_a_restart_for_a_halt() {
    let mut world = halting(SwitchMode::Halted);
    world.settings.validator = true;
    world.at(world.now, Act::Settings(Box::new(world.settings.clone())));
    world.programs.get_mut(&Target::Genesis).unwrap().answers_after = Some(20_000);
    world.run_to_head(109);
    world.run_for(500);
    assert!(world.ask(Order::RestartNode).is_ok());
    let stopped = world.now;
    world.run_to("down", 20_000, |world| world.node.is_none());
    world.run_to("up", 20_000, |world| world.node.is_some());
    assert!(world.now >= stopped + 3_000, "the floor of a validator");
    assert!(world.disk.journal.is_empty(), "a stop that was ordered is no halt");
    world.run_to("an answer", 30_000, World::answers);
    world.run_for(14_000);
    assert!(world.disk.journal.is_empty(), "the time without answers is not stillness");
    world.run_to("the trigger", 8_000, |world| !world.disk.journal.is_empty());
}

#[test]
fn at_a_standstill_one_block_before_it_is_said_why() {
    let mut world = halting(SwitchMode::At);
    world.run_to_head(109);
    world.run_for(30_000);
    assert!(world.has_alert("stands_before_height"));
    assert!(world.disk.journal.is_empty());
    world.programs.get_mut(&Target::Genesis).unwrap().last_block = 109_000;
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert!(!world.has_alert("stands_before_height"));
}

/// The node runs on while the supervisor is away, past the height.
fn missed(late: Late, node_too: bool) -> World {
    let mut world = World::new();
    world.settings.upgrade.late = late;
    world.boot();
    world.run_to_head(135);
    world.at(
        world.now,
        Act::Crash(Crash {
            node_too,
            exit_known: true,
            facts_lost: false,
            away: 20_000,
            power: false,
            link_lost: false,
        }),
    );
    world.run_for(10_000);
    world.disk.plans = Ok(vec![plan("v2", if node_too { 125 } else { 145 }, SwitchMode::At)]);
    world.run_for(12_000);
    world
}

#[test]
fn a_height_that_passed_while_nothing_ran_is_switched_before_the_first_launch() {
    let mut world = missed(Late::Apply, true);
    world.settle(30_000);
    assert_eq!(
        world.launches.iter().map(|(_, target)| target.clone()).collect::<Vec<_>>(),
        [Target::Genesis, to("v2")]
    );
    assert_eq!(world.disk.triggered()[0].why, Why::Late);
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed]);
}

#[test]
fn a_height_that_passed_while_the_node_ran_on_fires_at_once() {
    let mut world = missed(Late::Apply, false);
    world.run_to("the commit", 30_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

#[test]
fn late_plans_can_be_refused() {
    for node_too in [true, false] {
        let mut world = missed(Late::Refuse, node_too);
        world.run_for(60_000);
        assert!(world.disk.journal.is_empty());
        assert!(world.has_alert("refused_late"));
        assert!(world.snapshot().plans[0].refused);
        let name = name("v2");
        assert!(world.ask(Order::Apply { name, force: false }).is_ok(), "by order all the same");
        world.run_to("the commit", 30_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
        world.run_for(1_000);
        assert!(!world.has_alert("refused_late"));
    }
}

#[test]
fn an_unknown_height_never_fires() {
    let mut world = World::new();
    world.rpc = false;
    world.disk.plans = Ok(vec![plan("v2", 50, SwitchMode::At), plan("v3", 60, SwitchMode::Halted)]);
    world.boot();
    world.run_for(600_000);
    assert!(world.disk.journal.is_empty());
    assert!(world.has_alert("heights_silent"));
    assert_eq!(world.snapshot().chain.head, None);
}

#[test]
fn two_plans_run_in_a_row_the_second_from_the_firsts_program() {
    for second in [111, 112, 130] {
        let plans = vec![plan("v3", second, SwitchMode::At), plan("v2", 110, SwitchMode::At)];
        let mut world = World::with_plans(plans);
        world.run_to("both", 120_000, |world| world.disk.history.len() == 2);
        world.settle(1_000);
        let from: Vec<_> = world.disk.history.iter().map(|entry| (&entry.from, &entry.to)).collect();
        assert_eq!(from, [(&Target::Genesis, &to("v2")), (&to("v2"), &to("v3"))]);
        assert_eq!(world.disk.outcomes(), [&Outcome::Committed; 2]);
        world.run_for(100_000);
        assert_eq!(world.launches.len(), 3);
    }
}

#[test]
fn a_reorg_or_a_rewind_never_fires_twice() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(109);
    world.at(world.now + 100, Act::Reorg(5));
    world.run_to("the commit", 30_000, |world| world.disk.history.len() == 1);
    world.at(world.now, Act::Reorg(20));
    world.run_for(3_000);
    world.at(world.now, Act::NodeEnds(WaitStatus::Signaled(9)));
    world.run_for(120_000);
    assert_eq!(world.disk.history.len(), 1);
    assert!(world.disk.kinds().contains(&"head_went_down"));
}

#[test]
fn a_plan_found_again_is_not_run_again() {
    let mut world = committed(SwitchMode::At);
    world.at(world.now, Act::Write(Ok(vec![plan("v2", 110, SwitchMode::At)])));
    world.run_for(10_000);
    assert_eq!(world.disk.plans, Ok(vec![]), "taken off the file");
    assert_eq!((world.disk.history.len(), world.launches.len()), (1, 2));
    assert_eq!(world.disk.count("upgrades", "upgrade_already_done"), 1);
    // Read again before it is off the file, and once more by another hand.
    for _ in 0..3 {
        world.at(world.now, Act::Write(Ok(vec![plan("v2", 110, SwitchMode::At)])));
    }
    world.run_for(10_000);
    assert_eq!(world.disk.plans, Ok(vec![]));
    assert_eq!(world.disk.count("upgrades", "upgrade_already_done"), 2);
}

#[test]
fn heights_are_asked_for_more_often_as_the_plan_comes_near() {
    let mut world = World::with_plans(vec![plan("v2", 200, SwitchMode::At)]);
    world.run_to("the commit", 150_000, |world| world.disk.history.len() == 1);
    world.run_for(5_000);
    assert_eq!(world.poll_paces, [1000, 250, 5000]);
}

#[test]
fn the_expected_time_is_shown() {
    let mut world = World::with_plans(vec![plan("v2", 500, SwitchMode::At)]);
    world.run_to_head(105);
    world.run_for(10);
    let view = world.snapshot();
    let expected = view.plans[0].expected_at.unwrap();
    assert_eq!(view.plans[0].blocks_left, Some(500 - 105));
    assert!(expected.since(view.at).as_secs().abs_diff(395) <= 1);
    assert_eq!(view.plans[0].ready, Some(true));
}

#[test]
fn while_upgrades_are_switched_off_it_is_only_said() {
    let mut world = World::new();
    world.settings.upgrade.enabled = false;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to_head(130);
    assert!(world.disk.journal.is_empty() && world.has_alert("disabled"));
    assert_eq!(world.launches.len(), 1);
    for order in [Order::Apply { name: name("v2"), force: true }, Order::Retry(name("v2"))] {
        assert_eq!(world.refusal(order), RefusalCode::Conflict, "watched, not acted on");
    }
    world.settings.upgrade.enabled = true;
    world.at(world.now, Act::Settings(Box::new(world.settings.clone())));
    world.run_to("the commit", 30_000, |world| world.disk.history.len() == 1);
    world.run_for(1_000);
    assert!(!world.has_alert("disabled"));
}

#[test]
fn a_program_that_is_missing_at_the_height_is_waited_for() {
    let mut world = World::new();
    world.programs.remove(&to("v2"));
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_for(2_000);
    assert!(world.has_alert("not_ready"), "long before the height");
    world.run_to_head(140);
    assert!(world.has_alert("blocked"));
    assert_eq!((world.disk.journal.len(), world.terminations), (0, 0), "the old program runs on");
    assert_eq!(world.disk.count("alerts", "blocked"), 1, "said once");
    world.at(world.now, Act::Install(to("v2"), Box::new(super::program::Program::good("2.0"))));
    world.run_to("the commit", 70_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    world.run_for(1_000);
    let alerts = world.snapshot().alerts;
    assert!(alerts.is_empty(), "{alerts:?}");
}

#[test]
fn a_program_that_is_missing_at_boot_does_not_keep_the_node_down() {
    let mut world = World::new();
    world.programs.remove(&to("v2"));
    world.disk.facts.reference.head = Some(500);
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("up", 100, |world| world.node.is_some());
    assert_eq!(world.launches[0].1, Target::Genesis);
    world.run_for(5_000);
    assert!(world.has_alert("blocked"));
}

#[test]
fn heads_of_a_node_that_is_gone_do_not_count() {
    let mut world = World::with_plans(vec![plan("v2", 500, SwitchMode::At)]);
    world.run_to_head(102);
    assert!(world.ask(Order::StopNode).is_ok());
    world.run_to("down", 1_000, |world| world.node.is_none());
    world.run_for(10);
    let head = crate::head::Head { height: 600, hash: None, block_time: None };
    world.tell(Input::Head { source: 0, head });
    world.run_for(1_000);
    assert_eq!(world.snapshot().chain.head, Some(102));
    assert!(world.disk.journal.is_empty());
}
