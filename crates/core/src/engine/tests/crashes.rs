//! The supervisor is killed at every edge of everything it does: a decision dropped before it is written,
//! written and nothing done, and after each thing done. The next one goes on from what is on the disk.

use super::program::OnTerm;
use super::timeline::Act;
use super::world::{Crash, World, name, plan, to};
use crate::engine::port::Order;
use crate::exit::WaitStatus;
use crate::plan::SwitchMode;
use crate::target::Target;
use crate::upgrade::{Hooks, Outcome, Step};

/// After the last fault the world has settled within this virtual time: a probation that runs out (60 s for
/// an answer, or 120 s for blocks), the way back with its own (120 s), both stops and the supervisor's absence.
const SETTLES_WITHIN: u64 = 400_000;

/// The script runs so long before the settling is waited for.
const SCRIPT: u64 = 45_000;

type Scenario = (&'static str, fn() -> World, Ends);

/// How a scenario must end, whatever is killed when.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ends {
    /// The new program runs. If the node is killed as well, it may be taken for the new program's fault.
    Committed,
    /// The old program runs.
    RolledBack,
    /// Nothing has happened.
    Untouched,
    /// Both plans were carried out.
    Twice,
}

fn scenarios() -> Vec<Scenario> {
    vec![
        ("straight", || good(|_| {}), Ends::Committed),
        (
            "with hooks",
            || good(|world| world.hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true }),
            Ends::Committed,
        ),
        (
            "a validator",
            || {
                good(|world| {
                    world.settings.validator = true;
                    world.programs.values_mut().for_each(|program| program.istanbul = true);
                })
            },
            Ends::Committed,
        ),
        ("before", || with(vec![plan("v2", 110, SwitchMode::Before)], |_| {}), Ends::Committed),
        (
            "halted",
            || {
                with(vec![plan("v2", 110, SwitchMode::Halted)], |world| {
                    world.programs.get_mut(&Target::Genesis).unwrap().last_block = 109;
                })
            },
            Ends::Committed,
        ),
        (
            "late at boot",
            || {
                with(vec![plan("v2", 50, SwitchMode::At)], |world| {
                    world.disk.facts.reference.head = Some(100);
                    world.disk.facts_for_sure = world.disk.facts.clone();
                })
            },
            Ends::Committed,
        ),
        (
            "two in a row",
            || with(vec![plan("v2", 110, SwitchMode::At), plan("v3", 112, SwitchMode::At)], |_| {}),
            Ends::Twice,
        ),
        ("wrong chain", || bad(|world| world.program("v2").chain_id = 7), Ends::RolledBack),
        (
            "exits at once",
            || bad(|world| world.program("v2").dies = Some((30, WaitStatus::Exited(1)))),
            Ends::RolledBack,
        ),
        (
            "cannot be started",
            || bad(|world| world.program("v2").unstartable = Some("exec format error")),
            Ends::RolledBack,
        ),
        (
            "hangs and must be killed",
            || {
                bad(|world| {
                    world.settings.node.shutdown_grace = std::time::Duration::from_secs(10);
                    world.program("v2").answers_after = None;
                    world.program("v2").on_term = OnTerm::Hangs;
                    world.programs.get_mut(&Target::Genesis).unwrap().on_term = OnTerm::Hangs;
                })
            },
            Ends::RolledBack,
        ),
        (
            "a failed hook",
            || {
                bad(|world| {
                    world.hooks.pre_upgrade = true;
                    world.hook_runs.insert(Step::PreUpgrade, (20, [Err("exit code 1")].into()));
                })
            },
            Ends::RolledBack,
        ),
        (
            "a failed last hook",
            || {
                bad(|world| {
                    world.hooks.post_upgrade = true;
                    world.hook_runs.insert(Step::PostUpgrade, (20, [Err("exit code 1")].into()));
                })
            },
            Ends::RolledBack,
        ),
        ("unfit", || bad(|world| world.program("v2").unfit = Some("the checksum is wrong")), Ends::Untouched),
        (
            "cancelled in time",
            || {
                let mut world = good(|_| {});
                // Who is given no answer asks again.
                for when in [5_500, 7_000, 8_500, 9_500] {
                    world.at(when, Act::Order(Order::Cancel(name("v2"))));
                }
                world
            },
            Ends::Untouched,
        ),
    ]
}

fn with(plans: Vec<crate::plan::Plan>, more: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.disk.plans = Ok(plans);
    more(&mut world);
    world
}

fn good(more: impl FnOnce(&mut World)) -> World {
    with(vec![plan("v2", 110, SwitchMode::At)], more)
}

fn bad(more: impl FnOnce(&mut World)) -> World {
    good(more)
}

/// Runs a scenario with these crashes, lets it settle, and checks how it stands.
fn run(scenario: &Scenario, crashes: &[(u64, Crash)]) -> World {
    let (what, make, ends) = scenario;
    let mut world = make();
    world.crash_at = crashes.iter().copied().collect();
    world.boot();
    world.run_for(SCRIPT);
    let left = world.crash_at.len();
    world.run_to(&format!("{what} {crashes:?} settled"), SETTLES_WITHIN, |world| world.is_settled());
    // Crashes that are still to come may come now; the settling is bounded from the last one.
    world.run_for(30_000);
    world.settle(SETTLES_WITHIN);
    assert!(left <= crashes.len());
    let node_hurt = crashes.iter().any(|(_, crash)| crash.node_too);
    check(&world, *ends, node_hurt, &format!("{what} {crashes:?}"));
    world
}

fn check(world: &World, ends: Ends, node_hurt: bool, what: &str) {
    let outcomes = world.disk.outcomes();
    let node = world.node.as_ref().unwrap();
    assert_eq!(node.target, world.disk.link, "{what}: what the link says runs");
    let carried_out = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Cancelled { .. })).count();
    match ends {
        Ends::Untouched => {
            assert_eq!(carried_out, 0, "{what}: {outcomes:?}");
            assert_eq!(world.disk.link, Target::Genesis, "{what}");
            return;
        }
        Ends::Committed | Ends::RolledBack => assert_eq!(carried_out, 1, "{what}: {outcomes:?}"),
        Ends::Twice => assert_eq!(carried_out, 2, "{what}: {outcomes:?}"),
    }
    assert_eq!(world.disk.plans, Ok(vec![]), "{what}: the plan is off the file");
    let last = world.disk.history.iter().rfind(|entry| entry.outcome == Outcome::Committed);
    let expected = last.map_or(Target::Genesis, |entry| entry.to.clone());
    assert_eq!(world.disk.link, expected, "{what}: {outcomes:?}");
    let committed = outcomes.iter().filter(|outcome| ***outcome == Outcome::Committed).count();
    let rolled_back = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::RolledBack { .. })).count();
    assert_eq!(committed + rolled_back, carried_out, "{what}: {outcomes:?}");
    match ends {
        Ends::Committed if !node_hurt => assert_eq!(committed, 1, "{what}: {outcomes:?}"),
        Ends::Twice if !node_hurt => assert_eq!(committed, 2, "{what}: {outcomes:?}"),
        Ends::RolledBack => assert_eq!(rolled_back, 1, "{what}: {outcomes:?}"),
        _ => {}
    }
}

fn kinds_of_crash() -> Vec<Crash> {
    let crash = Crash { away: 700, ..Crash::default() };
    vec![
        crash,
        Crash { node_too: true, exit_known: true, ..crash },
        Crash { node_too: true, facts_lost: true, away: 20_000, ..crash },
        Crash { node_too: true, power: true, ..crash },
        Crash { node_too: true, power: true, link_lost: true, ..crash },
    ]
}

/// How many edges a scenario has when nobody is killed.
fn edges(scenario: &Scenario) -> u64 {
    run(scenario, &[]).boundary
}

#[test]
fn killed_at_every_edge_of_every_scenario() {
    let mut runs = 0;
    for scenario in scenarios() {
        let edges = edges(&scenario);
        assert!(edges >= 5, "{}: {edges}", scenario.0);
        for crash in kinds_of_crash() {
            for edge in 1..=edges {
                run(&scenario, &[(edge, crash)]);
                runs += 1;
            }
        }
    }
    assert!(runs > 1_000, "{runs}");
}

#[test]
fn killed_again_at_every_edge_of_the_recovery() {
    for scenario in scenarios().into_iter().filter(|(what, ..)| ["with hooks", "wrong chain"].contains(what))
    {
        let edges = edges(&scenario);
        for crash in kinds_of_crash() {
            for edge in 1..=edges {
                for later in 1..=6 {
                    run(&scenario, &[(edge, crash), (edge + later, crash)]);
                }
            }
        }
    }
}

#[test]
fn killed_three_times_in_a_row() {
    let [alive, known, lost, power, back] = kinds_of_crash()[..] else { panic!() };
    for scenario in scenarios() {
        let edges = edges(&scenario);
        for edge in 1..=edges {
            run(&scenario, &[(edge, alive), (edge + 1, lost), (edge + 2, alive)]);
            run(&scenario, &[(edge, known), (edge + 2, alive), (edge + 3, lost)]);
            run(&scenario, &[(edge, power), (edge + 3, power), (edge + 4, known)]);
            run(&scenario, &[(edge, back), (edge + 3, power), (edge + 4, back)]);
        }
    }
}

#[test]
fn a_bad_program_is_not_started_for_ever_by_crashing_supervisors() {
    let mut world = good(|world| world.program("v2").answers_after = None);
    world.boot();
    // Nobody ever sees how the new program ends: every machine goes down with it.
    for _ in 0..10 {
        world.run_for(30_000);
        world.at(world.now, Act::Crash(Crash { node_too: true, away: 1_000, ..Crash::default() }));
        world.run_for(1);
    }
    world.settle(SETTLES_WITHIN);
    assert_eq!(world.starts[&to("v2")], crate::upgrade::MAX_STARTS);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { .. }]));
}

#[test]
fn what_ended_by_itself_while_nobody_looked_is_judged() {
    for status in [WaitStatus::Exited(1), WaitStatus::Signaled(11)] {
        let mut world = good(|world| world.program("v2").stands_for = 60_000);
        world.boot();
        world.run_to("probation", 60_000, |world| {
            world.disk.open().is_some_and(|upgrade| upgrade.step == Step::Probation)
        });
        world.at(world.now, Act::Crash(Crash { away: 5_000, ..Crash::default() }));
        world.at(world.now + 1_000, Act::NodeEnds(status));
        world.run_for(2_000);
        world.settle(SETTLES_WITHIN);
        assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { .. }]));
        assert_eq!(world.starts[&to("v2")], 1);
    }
}

#[test]
fn writes_that_fail_decide_nothing() {
    for fails in 1..12 {
        let mut world = good(|_| {});
        world.boot();
        world.run_to_head(109);
        world.at(world.now + 900, Act::StoreFails(fails));
        world.run_for(60_000);
        world.settle(SETTLES_WITHIN);
        assert_eq!(world.disk.outcomes(), [&Outcome::Committed], "{fails}");
    }
}

#[test]
fn a_plan_under_way_stays_in_the_file_and_is_not_called_done() {
    let mut world = good(|world| world.program("v2").stands_for = 20_000);
    world.boot();
    world.run_to("probation", 60_000, |world| {
        world.disk.open().is_some_and(|upgrade| upgrade.step == Step::Probation)
    });
    world.at(world.now, Act::Crash(Crash { away: 1_000, ..Crash::default() }));
    world.run_for(5_000);
    assert_eq!(world.snapshot().plans.len(), 1);
    assert_eq!(world.disk.count("upgrades", "upgrade_already_done"), 0);
    assert_eq!(world.disk.count("upgrades", "upgrade_resumed"), 1);
    world.settle(SETTLES_WITHIN);
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed]);
    assert_eq!(world.disk.plans, Ok(vec![]));
}
