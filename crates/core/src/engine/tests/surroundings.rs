//! What other hands do to the home: it is told in time, and the same thing is told once.

use super::program::OnTerm;
use super::timeline::Act;
use super::world::{Crash, World, plan, to};
use crate::engine::port::{Input, Surroundings};
use crate::plan::SwitchMode;
use crate::target::Target;
use crate::upgrade::Outcome;

/// A home that nobody has touched.
fn all_well() -> Surroundings {
    Surroundings {
        link: Ok(Target::Genesis),
        program: Ok(()),
        replaced: vec![],
        store: Ok(()),
        log: Ok(()),
        keeper_stopped: None,
    }
}

#[test]
fn a_link_pointed_elsewhere_is_told_until_it_is_back() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    assert!(!world.has_alert("link"));
    world.disk.link = to("v3");
    world.run_for(11_000);
    let text = world.snapshot().alerts["link"].clone();
    assert!(text.contains("v3 by another hand") && text.contains("back to genesis"), "{text}");
    world.disk.link = Target::Genesis;
    world.run_for(11_000);
    assert!(!world.has_alert("link"));
}

#[test]
fn a_link_or_a_store_that_is_gone_is_told_and_the_node_left_alone() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    let found = Surroundings { link: Err("no link".into()), store: Err("moved".into()), ..all_well() };
    world.tell(Input::Surroundings(found));
    assert!(world.snapshot().alerts["link"].contains("no link"));
    assert!(world.snapshot().alerts["store_gone"].contains("moved"));
    world.run_for(11_000);
    assert!(!world.has_alert("link") && !world.has_alert("store_gone"));
    assert_eq!((world.launches.len(), world.terminations), (1, 0));
}

#[test]
fn a_program_that_is_gone_is_told_until_it_is_back() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    let gone = |link| Surroundings { link, program: Err("no file x".into()), ..all_well() };
    world.tell(Input::Surroundings(gone(Ok(Target::Genesis))));
    let text = world.snapshot().alerts["link"].clone();
    assert!(text.contains("no file x") && text.contains("the program of genesis back"), "{text}");
    // Where the link leads comes first.
    world.tell(Input::Surroundings(gone(Ok(to("v3")))));
    assert!(world.snapshot().alerts["link"].contains("v3 by another hand"));
    world.tell(Input::Surroundings(all_well()));
    assert!(!world.has_alert("link"));
    assert_eq!((world.launches.len(), world.terminations), (1, 0));
}

#[test]
fn a_stopped_keeper_is_told_until_it_goes_on_also_while_the_supervisor_ends() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    world.keeper_stopped = Some(77);
    world.run_for(11_000);
    let text = world.snapshot().alerts["keeper"].clone();
    assert!(text.contains("(pid 77) is stopped") && text.contains("kill -CONT 77"), "{text}");
    world.keeper_stopped = None;
    world.run_for(11_000);
    assert!(!world.has_alert("keeper"));
    assert_eq!((world.disk.count("alerts", "keeper"), world.disk.count("alerts", "keeper_over")), (1, 1));
    // Nobody ends the node while its keeper is stopped.
    world.programs.get_mut(&Target::Genesis).unwrap().on_term = OnTerm::Hangs;
    world.keeper_stopped = Some(77);
    world.tell(Input::Shutdown);
    world.run_for(11_000);
    assert!(world.has_alert("keeper"));
    let found = Surroundings { link: Err("no link".into()), keeper_stopped: None, ..all_well() };
    world.tell(Input::Surroundings(found));
    assert!(!world.has_alert("keeper") && !world.has_alert("link"), "nothing else counts any more");
}

#[test]
fn a_log_that_keeps_nothing_is_told_until_it_does() {
    let mut world = World::with_plans(vec![]);
    world.run_for(5_000);
    world.tell(Input::Surroundings(Surroundings { log: Err("x is a FIFO".into()), ..all_well() }));
    let text = world.snapshot().alerts["log"].clone();
    assert!(text.contains("is not kept: x is a FIFO") && text.contains("`logs.file`"), "{text}");
    world.run_for(11_000);
    assert!(!world.has_alert("log"));
}

#[test]
fn the_link_is_not_judged_during_a_switch() {
    let mut world = World::with_plans(vec![plan("v2", 105, SwitchMode::At)]);
    world.run_to("an upgrade", 60_000, |world| world.disk.open().is_some());
    world.tell(Input::Surroundings(Surroundings { link: Ok(to("v3")), ..all_well() }));
    assert!(!world.has_alert("link"));
}

#[test]
fn a_program_replaced_after_it_was_prepared_is_prepared_again_at_once() {
    let mut world = World::with_plans(vec![plan("v2", 10_000, SwitchMode::At)]);
    world.run_for(5_000);
    assert_eq!(world.disk.count("upgrades", "upgrade_ready"), 1);
    world.program("v2").sha256 = "sha of another".into();
    world.run_for(11_000);
    assert_eq!(world.disk.count("upgrades", "upgrade_ready"), 2, "it is another program: that is news");
    world.run_for(60_000);
    assert_eq!(world.disk.count("upgrades", "upgrade_ready"), 2);
    world.program("v2").unfit = Some("it is a web page");
    world.program("v2").sha256 = "sha of a page".into();
    world.run_for(11_000);
    assert!(world.snapshot().alerts["not_ready"].contains("it is a web page"));
}

#[test]
fn what_the_last_supervisor_has_told_is_not_told_again() {
    let plans = vec![plan("v2", 200, SwitchMode::At), plan("v3", 300, SwitchMode::At)];
    let mut world = World::with_plans(plans.clone());
    world.run_for(5_000);
    for _ in 0..3 {
        world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
        world.run_for(5_000);
    }
    assert_eq!(world.disk.count("upgrades", "upgrade_scheduled"), 2);
    // What was changed while nobody looked is told.
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(1);
    world.disk.plans = Ok(vec![plan("v2", 250, SwitchMode::At)]);
    world.run_for(5_000);
    assert_eq!(world.disk.count("upgrades", "upgrade_scheduled"), 2);
    assert_eq!(world.disk.count("upgrades", "upgrade_updated"), 1);
    assert_eq!(world.disk.count("upgrades", "upgrade_cancelled"), 1);
}

#[test]
fn a_plan_file_that_is_bad_at_the_start_forgets_nothing() {
    let mut world = World::with_plans(vec![plan("v2", 200, SwitchMode::At)]);
    world.run_for(5_000);
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(1);
    let good = std::mem::replace(&mut world.disk.plans, Err("half written".into()));
    world.run_for(40_000);
    world.at(world.now, Act::Write(good));
    world.run_for(1_000);
    assert_eq!(world.disk.count("upgrades", "upgrade_scheduled"), 1);
    world.run_to("the commit", 300_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}

#[test]
fn many_plans_that_are_not_ready_are_one_short_alert() {
    let names = ["a", "b", "c", "d", "e"];
    let plans = names.iter().zip(1_000..).map(|(name, height)| plan(name, height, SwitchMode::At));
    let mut world = World::with_plans(plans.collect());
    world.run_for(5_000);
    let text = world.snapshot().alerts["not_ready"].clone();
    assert!(
        text.contains("upgrade c") && !text.contains("upgrade d") && text.ends_with("and 2 more"),
        "{text}"
    );
}

#[test]
fn no_upgrade_begins_while_the_store_is_away() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(105);
    let gone = || Surroundings { store: Err("moved".into()), ..all_well() };
    world.store_gone = true;
    world.tell(Input::Surroundings(gone()));
    world.run_to_head(115);
    assert!(world.snapshot().alerts["blocked"].contains("state.db is not in its place"));
    assert!(world.disk.journal.is_empty() && world.terminations == 0);
    world.store_gone = false;
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
}
