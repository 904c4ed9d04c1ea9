//! A supervisor that is stopped while a program proves itself, and goes on: the program is judged by the time in which
//! it was asked.

use super::program::Program;
use super::timeline::Act;
use super::world::{World, plan, to};
use crate::plan::SwitchMode;
use crate::target::Target;
use crate::upgrade::{Outcome, Step};

/// Longer than all clocks of a probation together.
const LONG: u64 = 1_000_000;

/// An upgrade whose program has just been started.
fn proving(program: impl FnOnce(&mut Program)) -> World {
    let mut world = World::new();
    program(world.program("v2"));
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    reaches(&mut world, Step::Probation);
    world
}

fn reaches(world: &mut World, step: Step) {
    world.run_to("the step", 300_000, |world| world.disk.open().is_some_and(|open| open.step == step));
}

fn freeze(world: &mut World, ms: u64) {
    world.at(world.now, Act::Freeze(ms));
}

/// The good program answers after 20 s and makes its first block after 40 s.
#[test]
fn a_good_program_is_committed_wherever_the_supervisor_stood_still() {
    for (stage, after) in [
        ("just started", 1),
        ("about to answer", 19_900),
        ("before a second answer", 20_100),
        ("steady", 30_000),
        ("about to advance", 39_900),
        ("about to pass", 41_100),
    ] {
        for gap in [3_500, 70_000, LONG] {
            let mut world = proving(|program| {
                (program.answers_after, program.stands_for) = (Some(20_000), 40_000);
            });
            world.run_for(after);
            assert!(world.disk.history.is_empty(), "{stage}: it has passed already");
            freeze(&mut world, gap);
            world.settle(gap + 100_000);
            assert_eq!(world.disk.outcomes(), [&Outcome::Committed], "{stage}, {gap} ms");
            assert!(world.disk.count("upgrades", "stood_still") == 1, "{stage}, {gap} ms: it is told");
            let said = world.disk.events.iter().find(|event| event.kind == "stood_still");
            let said = said.unwrap().data["message"].as_str().unwrap();
            let numbers = said.split(' ').filter_map(|word| word.parse::<f64>().ok());
            let [nothing_for, longer] = numbers.collect::<Vec<_>>()[..] else { panic!("{said}") };
            assert!((nothing_for - longer - 1.0).abs() < 0.11, "less one beat: {said}");
        }
    }
}

/// Its clocks stand still with the supervisor, and then run as they would have.
#[test]
fn a_bad_program_is_rolled_back_when_its_clock_has_run_its_length() {
    type Fault = fn(&mut Program);
    let faults: [(&str, Fault, u64); 2] = [
        ("no answer", |program| program.answers_after = None, 60_000),
        ("still missing: head", |program| program.last_block = 110, 120_000),
    ];
    for (word, fault, clock) in faults {
        let given_up_after = |gaps: &[(u64, u64)]| {
            let mut world = proving(fault);
            let begun = world.now;
            for (wait, gap) in gaps {
                world.run_for(*wait);
                freeze(&mut world, *gap);
                world.run_for(*gap);
            }
            reaches(&mut world, Step::BackStop);
            let after = world.now - begun;
            world.settle(300_000);
            let [Outcome::RolledBack { reason, stranded: None }] = world.disk.outcomes()[..] else {
                panic!("{:?}", world.disk.outcomes())
            };
            assert!(reason.contains(word), "{reason}");
            after
        };
        let usual = given_up_after(&[]);
        assert!((clock..clock + 5_000).contains(&usual), "{word}: {usual}");
        for gaps in [&[(1, LONG)][..], &[(10_000, 4_000)], &[(50_000, 70_000)], &[(2_000, 20_000); 15]] {
            let stood: u64 = gaps.iter().map(|(_, gap)| gap).sum();
            let after = given_up_after(gaps);
            // Up to a beat of each gap counts.
            let least = (usual + stood).saturating_sub(1_000 * gaps.len() as u64);
            assert!(
                (least..=usual + stood + 1_000).contains(&after),
                "{word}: {after} for {usual} and {gaps:?}"
            );
        }
    }
}

/// It is held up so hard that it hears something every four seconds only: that is slow, not endless.
#[test]
fn a_supervisor_that_hardly_runs_gives_a_bad_program_up_all_the_same() {
    let mut world = proving(|program| program.answers_after = None);
    let begun = world.now;
    while world.disk.open().is_some_and(|open| open.step == Step::Probation) {
        freeze(&mut world, 4_000);
        world.run_for(4_010);
        assert!(world.now - begun < 300_000);
    }
    assert!(world.disk.open().is_some_and(|open| open.step.is_back()));
}

#[test]
fn the_old_program_is_not_said_to_be_behind_because_nobody_asked_it() {
    let mut world = proving(|program| program.chain_id = 7);
    world.programs.get_mut(&Target::Genesis).unwrap().answers_after = Some(10_000);
    reaches(&mut world, Step::BackProbation);
    freeze(&mut world, LONG);
    world.settle(LONG + 100_000);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { stranded: None, .. }]));
}

/// A program that ended meanwhile has ended, and one that went silent before stays silent.
#[test]
fn what_happened_meanwhile_counts() {
    let mut world = proving(|program| {
        program.stands_for = 40_000;
        program.dies = Some((30_000, crate::exit::WaitStatus::Exited(2)));
    });
    world.run_for(5_000);
    freeze(&mut world, LONG);
    world.settle(LONG + 300_000);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { .. }]));
    assert_eq!(world.starts[&to("v2")], 1);
}
