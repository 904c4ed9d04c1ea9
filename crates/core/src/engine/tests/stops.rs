//! Stops: once, at the moment that suits the client, waited for as long as the node works.

use std::time::Duration;

use super::program::OnTerm;
use super::timeline::Act;
use super::world::{World, plan};
use crate::engine::port::{Input, Order};
use crate::engine::snapshot::NodeState;
use crate::observation::Answer;
use crate::plan::SwitchMode;
use crate::settings::Kill;
use crate::target::Target;
use crate::upgrade::Outcome;

fn old(world: &mut World) -> &mut super::program::Program {
    world.programs.get_mut(&Target::Genesis).unwrap()
}

fn validator(istanbul: bool) -> World {
    let mut world = World::new();
    world.settings.validator = true;
    for program in world.programs.values_mut() {
        program.istanbul = istanbul;
    }
    world.boot();
    world.run_to_head(103);
    world.run_for(500);
    world
}

#[test]
fn a_wbft_validator_stops_right_after_a_fresh_head() {
    let mut world = validator(true);
    let told = world.ask(Order::RestartNode).unwrap();
    assert!(told.contains("next good moment"), "{told}");
    let head = world.database;
    world.run_to("the stop", 2_000, |world| world.terminations == 1);
    assert_eq!((world.database, world.now % 1000), (head + 1, 2), "as the next head was heard");
    world.run_to("down", 2_000, |world| world.node.is_none());
    let down = world.now;
    world.run_to("up", 10_000, |world| world.node.is_some());
    assert!(world.now >= down + 3_000, "the floor: no round is signed twice");
}

#[test]
fn without_heads_the_limit_decides() {
    let mut world = validator(true);
    world.at(world.now, Act::HaltAt(world.database));
    world.run_for(2_000);
    assert!(world.ask(Order::RestartNode).is_ok());
    let asked = world.now;
    world.run_to("the stop", 20_000, |world| world.terminations == 1);
    assert_eq!(world.now - asked, 5_000);
}

#[test]
fn a_sealer_stops_when_another_one_seals_and_no_block_is_under_way() {
    let mut world = validator(false);
    world.we_seal = true;
    assert!(world.ask(Order::RestartNode).is_ok());
    world.run_for(3_000);
    assert_eq!(world.terminations, 0, "it seals");
    world.we_seal = false;
    world.run_to("the stop", 2_000, |world| world.terminations == 1);
    assert!(world.now % 1000 >= 100, "not within 100 ms after a block: {}", world.now);
    let mut world = validator(false);
    world.we_seal = true;
    assert!(world.ask(Order::RestartNode).is_ok());
    let asked = world.now;
    world.run_to("the limit", 20_000, |world| world.terminations == 1);
    assert_eq!(world.now - asked, 5_000);
}

#[test]
fn an_answer_from_before_the_newest_block_is_no_good_moment() {
    let mut world = validator(false);
    world.we_seal = true;
    assert!(world.ask(Order::RestartNode).is_ok());
    let height = world.database;
    world.run_to_head(height + 1);
    world.run_for(50);
    world.tell(Input::Sealing(Answer::Known(false)));
    assert_eq!(world.terminations, 0);
    world.tell(Input::Sealing(Answer::Unsupported));
    assert_eq!(world.terminations, 0);
}

#[test]
fn a_stop_that_may_not_wait_overtakes_one_that_does() {
    let mut world = validator(true);
    assert!(world.ask(Order::RestartNode).is_ok());
    assert!(world.ask(Order::StopNode).is_ok());
    assert_eq!(world.terminations, 1);
    world.run_for(60_000);
    assert!(world.node.is_none(), "the restart is off");
    assert_eq!(world.snapshot().node.state, NodeState::Stopped);
}

#[test]
fn a_stop_that_hangs_is_killed_after_the_grace() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    old(&mut world).on_term = OnTerm::Hangs;
    world.run_to_head(110);
    world.run_to("SIGTERM", 1_000, |world| world.terminations == 1);
    let told = world.now;
    world.run_to("SIGKILL", 400_000, |world| world.kills == 1);
    assert!((300_000..302_000).contains(&(world.now - told)), "{}", world.now - told);
    assert!(world.has_alert("stop_overdue"));
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert_eq!((world.terminations, world.kills), (1, 1));
    assert!(!world.has_alert("stop_overdue"));
}

#[test]
fn a_stop_that_still_works_is_waited_for_beyond_the_grace() {
    let mut world = World::with_plans(vec![]);
    old(&mut world).on_term = OnTerm::Flushes(500_000);
    world.run_to_head(102);
    assert!(world.ask(Order::StopNode).is_ok());
    world.run_for(499_000);
    assert!(world.node.is_some() && world.kills == 0);
    assert_eq!(world.snapshot().node.state, NodeState::Stopping);
    world.run_to("down", 2_000, |world| world.node.is_none());
    assert_eq!((world.terminations, world.kills), (1, 0));
}

#[test]
fn the_hard_limit_ends_even_a_working_node() {
    let mut world = World::with_plans(vec![]);
    old(&mut world).on_term = OnTerm::Flushes(5_000_000);
    world.run_to_head(102);
    assert!(world.ask(Order::RestartNode).is_ok());
    let told = world.now;
    world.run_to("SIGKILL", 1_000_000, |world| world.kills == 1);
    assert_eq!(world.now - told, 900_000);
    assert!(world.has_alert("stop_overdue"));
    world.settle(10_000);
    world.run_for(1_000);
    assert!(!world.has_alert("stop_overdue"), "the next start ends the alert");
}

#[test]
fn kill_never_means_never() {
    let mut world = World::new();
    world.settings.node.kill = Kill::Never;
    world.settings.node.shutdown_grace = Duration::from_secs(10);
    old(&mut world).on_term = OnTerm::Hangs;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to_head(110);
    world.run_for(3_600_000);
    assert_eq!((world.terminations, world.kills), (1, 0));
    assert_eq!(world.disk.count("alerts", "stop_overdue"), 1);
    assert!(world.snapshot().alerts["stop_overdue"].contains("by hand"));
    world.at(world.now, Act::NodeEnds(crate::exit::WaitStatus::Signaled(9)));
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

#[test]
fn a_node_that_cannot_be_looked_at_is_killed_after_the_grace_too() {
    let mut world = World::with_plans(vec![]);
    old(&mut world).on_term = OnTerm::Flushes(5_000_000);
    world.run_to_head(102);
    assert!(world.ask(Order::StopNode).is_ok());
    let told = world.now;
    while world.kills == 0 {
        world.run_for(500);
        // Every look is overtaken by one that saw nothing.
        world.tell(Input::Work(None));
        assert!(world.now - told < 1_000_000);
    }
    assert_eq!(world.kills, 1);
}

#[test]
fn an_upgrade_that_fires_while_the_node_is_being_started_waits_for_it() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.verify_ms = 3;
    world.run_to_head(110);
    // The node goes down and comes up again within the verification.
    assert!(world.ask(Order::RestartNode).is_ok() || world.disk.open().is_some());
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

#[test]
fn a_stop_ordered_while_the_node_is_being_started_holds() {
    let mut world = World::with_plans(vec![]);
    // NodeUp is heard 4 ms after the launch.
    assert!(world.ask(Order::StopNode).is_ok());
    assert_eq!(world.snapshot().node.state, NodeState::Starting);
    world.run_for(60_000);
    assert!(world.node.is_none());
    assert_eq!(world.launches.len(), 1);
}

#[test]
fn a_restart_ordered_while_the_node_is_being_started_happens() {
    let mut world = World::with_plans(vec![]);
    assert!(world.ask(Order::RestartNode).is_ok());
    world.run_for(60_000);
    assert_eq!((world.launches.len(), world.terminations), (2, 1));
}

#[test]
fn a_failed_start_does_not_undo_a_stop() {
    let mut world = World::new();
    old(&mut world).unstartable = Some("input/output error");
    world.boot();
    assert!(world.ask(Order::StopNode).is_ok());
    world.run_for(120_000);
    assert_eq!(world.snapshot().node.state, NodeState::Stopped);
    assert_eq!(world.disk.count("node", "node_start_failed"), 1);
}
