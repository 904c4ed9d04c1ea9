//! What an upgrade leaves behind: in words, in figures, for its plan, its program and its next supervisor.

use super::program::Program;
use super::timeline::Act;
use super::world::{Crash, World, name, plan, to};
use crate::command_line::CommandLine;
use crate::engine::port::{Input, Order};
use crate::engine::snapshot::NodeState;
use crate::exit::WaitStatus;
use crate::plan::SwitchMode;
use crate::target::Target;
use crate::upgrade::{Hooks, Outcome, Record, Step};

/// `v2` does not work and was rolled back.
fn rolled_back() -> World {
    let mut world = World::new();
    world.program("v2").chain_id = 7;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("the end", 300_000, |world| world.disk.history.len() == 1);
    world.settle(10_000);
    world
}

fn committed() -> World {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    world.settle(10_000);
    world
}

/// A hook that takes five seconds holds the upgrade at its beginning.
fn drains(world: &mut World) {
    world.hooks = Hooks { pre_stop: true, ..Hooks::default() };
    world.hook_runs.insert(Step::PreStop, (5_000, [Ok("")].into()));
}

fn is_draining(world: &World) -> bool {
    world.disk.open().is_some_and(|open| open.step == Step::PreStop)
}

#[test]
fn a_failed_upgrade_is_an_alert_for_the_next_supervisor_too() {
    let mut world = rolled_back();
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(5_000);
    assert!(world.snapshot().alerts["upgrade_failed"].contains("v2 was rolled back"));
    // Taken off the list of bad ones, it is no news any more.
    let again = plan("v2", world.database + 1_000, SwitchMode::At);
    assert!(world.ask(Order::Schedule { plan: Box::new(again), force: true }).is_ok());
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(5_000);
    assert!(!world.has_alert("upgrade_failed"));
}

#[test]
fn after_a_good_one_there_is_nothing_to_recall() {
    let mut world = committed();
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(5_000);
    assert!(!world.has_alert("upgrade_failed"));
}

#[test]
fn one_that_is_called_off_neither_mends_nor_pins() {
    let mut world = rolled_back();
    drains(&mut world);
    let other = plan("v3", world.database + 3, SwitchMode::At);
    assert!(world.ask(Order::Schedule { plan: Box::new(other), force: false }).is_ok());
    world.run_to("the drain", 60_000, is_draining);
    assert!(world.ask(Order::Cancel(name("v3"))).is_ok());
    world.run_for(10_000);
    assert!(matches!(world.disk.outcomes()[1], Outcome::Cancelled { .. }));
    assert!(world.has_alert("upgrade_failed"), "v2 has still failed");
    assert_eq!(world.disk.pins.len(), 1);
}

#[test]
fn going_back_by_hand_pins_what_is_left_and_hears_of_its_own_node_only() {
    let mut world = committed();
    drains(&mut world);
    assert!(world.ask(Order::Rollback).is_ok());
    world.run_to("the drain", 60_000, is_draining);
    world.tell(Input::NodeExited {
        launch: u64::MAX,
        exit: crate::exit::NodeExit {
            status: WaitStatus::Exited(0),
            term_sent: false,
            kill_sent: false,
            out_of_memory: false,
            tail: String::new(),
        },
    });
    assert!(is_draining(&world), "another node's end is not ours");
    world.run_to("the end", 60_000, |world| world.disk.history.len() == 2);
    assert_eq!(world.disk.pins.len(), 1);
    assert_eq!(world.disk.pins[0].reason, "rolled back by hand");
}

#[test]
fn each_bad_version_has_one_pin() {
    let mut world = rolled_back();
    world.program("v3").chain_id = 8;
    let fails = |world: &mut World, version: &str, force| {
        let next = plan(version, world.database + 3, SwitchMode::At);
        let ended = world.disk.history.len();
        assert!(world.ask(Order::Schedule { plan: Box::new(next), force }).is_ok());
        world.run_to("the end", 300_000, |world| world.disk.history.len() == ended + 1);
        world.settle(10_000);
    };
    fails(&mut world, "v3", false);
    *world.program("v2") = Program { chain_id: 9, sha256: "another".into(), ..Program::good("2.0") };
    fails(&mut world, "v2", true);
    let pins = world.snapshot().pins;
    let mut pinned: Vec<_> = pins.iter().map(|pin| (pin.name.as_str(), pin.sha256.as_str())).collect();
    pinned.sort_unstable();
    assert_eq!(pinned, [("v2", "another"), ("v3", "sha of 3.0")]);
}

#[test]
fn an_upgrade_that_was_ordered_goes_on_when_its_plan_leaves_the_file() {
    let mut world = World::new();
    drains(&mut world);
    world.disk.plans = Ok(vec![plan("v2", 100_000, SwitchMode::At)]);
    world.boot();
    world.run_for(3_000);
    assert!(world.ask(Order::Apply { name: name("v2"), force: false }).is_ok());
    world.run_to("the drain", 60_000, is_draining);
    world.at(world.now, Act::Write(Ok(vec![])));
    world.run_to("the end", 60_000, |world| world.disk.history.len() == 1);
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed]);
}

/// Other arguments than those of before the upgrade were given in the meantime, and nobody replaced them.
#[test]
fn the_way_back_has_the_arguments_of_now() {
    let mut world = committed();
    world.given = CommandLine::of(["--given-later".into()]);
    world.at(world.now, Act::Crash(Crash { node_too: true, away: 1_000, ..Crash::default() }));
    world.run_for(5_000);
    world.settle(10_000);
    assert!(world.ask(Order::Rollback).is_ok());
    world.run_to("back", 60_000, |world| world.disk.history.len() == 2);
    world.settle(10_000);
    let node = world.node.as_ref().unwrap();
    assert_eq!((&node.target, &node.line), (&Target::Genesis, &world.given));
}

#[test]
fn what_stood_in_its_way_is_forgotten_when_an_upgrade_begins() {
    let mut world = World::new();
    drains(&mut world);
    let bad = world.programs.remove(&to("v2")).unwrap();
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("blocked", 60_000, |world| world.has_alert("blocked"));
    world.at(world.now, Act::Install(to("v2"), Box::new(bad)));
    world.run_to("the drain", 60_000, is_draining);
    world.run_for(10);
    assert_eq!(world.snapshot().plans[0].blocked, None);
    assert!(!world.has_alert("blocked"));
}

#[test]
fn a_seal_is_not_looked_for_where_the_client_has_none() {
    let mut world = World::new();
    world.settings.validator = true;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("the commit", 90_000, |world| world.disk.history.len() == 1);
    assert!(!world.disk.triggered()[0].expectation.own_seal);
}

#[test]
fn a_failure_is_told_once_with_its_reason() {
    let world = rolled_back();
    let told: Vec<_> = world
        .disk
        .events
        .iter()
        .filter(|event| event.topic == "upgrades" && event.kind == "upgrade_failed")
        .filter_map(|event| event.data["message"].as_str())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let Outcome::RolledBack { reason, .. } = world.disk.outcomes()[0] else { panic!() };
    assert!(!reason.is_empty() && told[0].contains(reason.as_str()), "{told:?}");
}

/// The simulated old node needs 200 ms to end, the new one is there 4 ms after its launch.
#[test]
fn the_time_without_a_node_is_the_sum_of_its_gaps() {
    let down = |world: &World| world.disk.history[0].downtime_ms.unwrap();
    let straight = down(&committed());
    assert!((1..50).contains(&straight), "{straight}");
    let there_and_back = down(&rolled_back());
    assert!((straight + 1..100).contains(&there_and_back), "{there_and_back}");
}

#[test]
fn an_upgrade_of_a_node_that_is_just_being_started_stops_it_once_it_is_up() {
    let mut world = World::new();
    world.disk.plans = Ok(vec![plan("v2", 100_000, SwitchMode::At)]);
    world.verify_ms = 2;
    world.boot();
    assert_eq!(world.snapshot().node.state, NodeState::Starting);
    let ticket = world.order(Order::Apply { name: name("v2"), force: false });
    world.run_for(3);
    assert!(world.replies[&ticket].is_ok());
    assert!(world.disk.open().is_some_and(|open| open.step == Step::Stop), "before NodeUp is heard");
    assert_eq!(world.terminations, 0);
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

/// The notes of the steps that were done, as the journal has them.
fn notes(world: &World, wanted: Step) -> Vec<Option<String>> {
    let records = world.disk.journal.iter();
    records
        .filter_map(|(_, record, _)| match record {
            Record::Done { step, note } if *step == wanted => Some(note.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_note_is_written_down_where_there_is_one() {
    let mut world = World::new();
    world.hooks = Hooks { pre_upgrade: true, post_upgrade: true, ..Hooks::default() };
    world.hook_runs.insert(Step::PreUpgrade, (20, [Ok("moved 3 files")].into()));
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    assert_eq!(notes(&world, Step::PreUpgrade), [Some("moved 3 files".to_owned())]);
    assert_eq!(notes(&world, Step::PostUpgrade), [None]);
    assert_eq!(notes(&world, Step::Probation), [None], "everything that was asked was answered");
}

#[test]
fn the_news_of_another_switch_is_no_end_of_this_one() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    let at = |step| move |world: &World| world.disk.open().is_some_and(|open| open.step == step);
    world.run_to("the switch", 60_000, at(Step::Switch));
    world.tell(Input::Switched { target: to("v3"), result: Err("not ours".into()) });
    assert!(at(Step::Switch)(&world), "it waits for its own");
    world.run_to("the probation", 60_000, at(Step::Probation));
    world.tell(Input::Switched { target: to("v2"), result: Err("long done".into()) });
    assert!(at(Step::Probation)(&world), "nothing is switched now");
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

/// Blocks come on the full second and are heard of 2 ms later; rounds of questions go on in between.
#[test]
fn the_block_that_proves_the_program_ends_its_probation_at_once() {
    let mut world = World::new();
    world.settings.probation.must_be_steady_for = std::time::Duration::from_millis(10);
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    assert!(world.now % 1_000 <= 3, "{}", world.now);
}

/// Every time before the clocks of its probation have run out.
#[test]
fn a_supervisor_that_is_lost_again_and_again_does_not_keep_a_bad_program() {
    let mut world = World::new();
    world.program("v2").last_block = 110;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("probation", 60_000, |world| {
        world.disk.open().is_some_and(|open| open.step == Step::Probation)
    });
    let begun = world.now;
    while world.disk.history.is_empty() {
        world.at(world.now, Act::Crash(Crash { away: 500, ..Crash::default() }));
        world.run_for(5_000);
        assert!(world.now < begun + 900_000, "{:#?}", world.disk.open());
    }
    assert!(matches!(world.disk.outcomes()[0], Outcome::RolledBack { .. }), "{:?}", world.disk.outcomes());
}

/// A height that the node was seen beyond in an earlier life has passed, whether or not it tells a height now.
#[test]
fn a_height_that_had_passed_before_the_supervisor_came_is_passed() {
    let mut world = World::with_plans(vec![]);
    world.run_to_head(120);
    world.run_for(40_000);
    world.rpc = false;
    world.at(world.now, Act::Crash(Crash { node_too: true, away: 1_000, ..Crash::default() }));
    world.run_for(3_000);
    assert_eq!(world.snapshot().chain.head, None);
    let passed = plan("v2", 115, SwitchMode::At);
    let refused = world.ask(Order::Schedule { plan: Box::new(passed), force: false }).unwrap_err();
    assert!(refused.message.contains("height 115 has passed"), "{refused}");
}

#[test]
fn the_time_without_a_node_is_known_to_the_next_supervisor() {
    for step in [Step::Switch, Step::Start, Step::Probation] {
        let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
        world.run_to("the step", 60_000, |world| world.disk.open().is_some_and(|open| open.step == step));
        world.at(world.now, Act::Crash(Crash { away: 700, ..Crash::default() }));
        world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
        let down = world.disk.history[0].downtime_ms.unwrap();
        // A program that is being started already is not held up by the supervisor's absence.
        let expected = if step == Step::Switch { 700..900 } else { 1..900 };
        assert!(expected.contains(&down), "{step}: {down}");
    }
}

/// Also while an answer is waited for that may never come.
#[test]
fn the_end_of_a_probations_clock_is_woken_up_for() {
    let mut world = World::new();
    world.settings.probation.must_answer_within = std::time::Duration::from_secs(2);
    world.program("v2").answers_after = None;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to("a question in probation", 60_000, |world| {
        let asking = world.engine.as_ref().is_some_and(|engine| engine.probe.asking);
        asking && world.disk.open().is_some_and(|open| open.step == Step::Probation)
    });
    let moment = world.moment();
    let wake = world.engine.as_ref().unwrap().next_wake(moment).unwrap();
    assert!(wake.since(moment.mono) < std::time::Duration::from_secs(3), "{wake:?} {moment:?}");
}
