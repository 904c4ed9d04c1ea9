//! The new program is bad: back to the old one, within its clock, with the old arguments, said once.

use super::program::{OnTerm, Program};
use super::timeline::Act;
use super::world::{World, name, plan, to};
use crate::engine::port::{Order, RefusalCode};
use crate::engine::snapshot::NodeState;
use crate::exit::WaitStatus;
use crate::plan::SwitchMode;
use crate::settings::Settings;
use crate::target::Target;
use crate::upgrade::{Hooks, Outcome, Step};

/// Everything that a rollback must leave behind, in virtual milliseconds after the head of the plan.
const CLOCK: u64 = 300_000;

fn upgrade_with(bad: impl FnOnce(&mut Program), more: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    bad(world.program("v2"));
    let mut order = plan("v2", 110, SwitchMode::At);
    order.args = Some(vec!["--new".into()]);
    order.env.insert("NEW".into(), "1".into());
    world.disk.plans = Ok(vec![order]);
    more(&mut world);
    world.boot();
    world.run_to_head(110);
    world.run_to("the end", CLOCK, |world| world.disk.history.len() == 1);
    world
}

/// Asserts all that a rollback promises, and returns its reason.
fn rolled_back(mut world: World) -> String {
    world.settle(CLOCK);
    world.run_for(300_000);
    let [Outcome::RolledBack { reason, stranded: None }] = world.disk.outcomes()[..] else {
        panic!("{:?}", world.disk.outcomes())
    };
    let reason = reason.clone();
    let node = world.node.as_ref().unwrap();
    assert_eq!(
        (&node.target, &node.line),
        (&Target::Genesis, &world.given),
        "the old program, its arguments"
    );
    assert_eq!(world.disk.link, Target::Genesis);
    assert_eq!(world.disk.plans, Ok(vec![]), "the plan is off the file");
    assert_eq!(world.disk.pins.len(), 1);
    assert_eq!(world.disk.pins[0].sha256, world.programs[&to("v2")].sha256);
    assert_eq!(world.disk.count("alerts", "upgrade_failed"), 1, "one alert");
    assert_eq!(world.disk.count("upgrades", "upgrade_rolled_back"), 1);
    assert!(world.has_alert("upgrade_failed"));
    assert_eq!(world.disk.facts.line, None);
    let head = world.database;
    world.run_for(5_000);
    assert!(world.database > head, "the head goes on");
    reason
}

#[test]
fn every_fault_of_the_new_program_is_rolled_back() {
    type Fault = fn(&mut Program);
    let faults: [(&str, &str, Fault); 14] = [
        ("exits at once", "refused to run", |p| p.dies = Some((30, WaitStatus::Exited(1)))),
        ("exits after 5 s", "panicked", |p| {
            p.dies = Some((5_000, WaitStatus::Exited(2)));
            p.stands_for = 20_000;
        }),
        ("dies by a signal", "SIGSEGV", |p| p.dies = Some((100, WaitStatus::Signaled(11)))),
        ("cannot be loaded", "could not be loaded", |p| p.dies = Some((5, WaitStatus::Exited(127)))),
        ("cannot be started", "exec format error", |p| p.unstartable = Some("exec format error")),
        ("never answers", "no answer within 60 s", |p| p.answers_after = None),
        ("its head stands still", "still missing: head 112", |p| p.last_block = 110),
        ("seals one block only", "still missing: head 112", |p| p.last_block = 111),
        ("lags behind", "in step", |p| {
            p.stands_for = 30_000;
            p.last_block = 112;
        }),
        ("another chain", "chain 7", |p| p.chain_id = 7),
        ("another genesis", "genesis", |p| p.own_genesis = true),
        ("another past", "its block 109", |p| p.own_past_from = 105),
        ("another version", "calls itself", |p| p.version = "9.9"),
        ("ignores SIGTERM", "head", |p| {
            p.last_block = 110;
            p.on_term = OnTerm::Hangs;
        }),
    ];
    for (what, word, fault) in faults {
        let asks_version = what == "another version";
        let world = upgrade_with(fault, |world| {
            world.settings.node.shutdown_grace = std::time::Duration::from_secs(20);
            if let (true, Ok(plans)) = (asks_version, &mut world.disk.plans) {
                plans[0].expect_version = Some("2.0".into());
            }
        });
        let reason = rolled_back(world);
        assert!(reason.contains(word), "{what}: {reason}");
    }
}

#[test]
fn the_version_is_expected_by_itself_where_old_answers_allow_it() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(110);
    world.run_to("the trigger", 100, |world| !world.disk.journal.is_empty());
    assert_eq!(world.disk.triggered()[0].expectation.version.as_deref(), Some("2.0"));
}

#[test]
fn what_the_old_program_called_itself_is_never_said_of_the_new_one() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(110);
    world.run_to("the commit", 60_000, |world| world.disk.history.len() == 1);
    let said = |world: &mut World| world.snapshot().node.client_version;
    assert!(said(&mut world).is_none_or(|said| said.contains("2.0")));
    world.run_for(1_000);
    assert!(said(&mut world).is_some_and(|said| said.contains("2.0")), "asked at once");
}

#[test]
fn a_good_but_slow_program_is_not_rolled_back() {
    let world = upgrade_with(
        |program| {
            program.answers_after = Some(25_000);
            program.stands_for = 30_000;
        },
        |_| {},
    );
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed]);
    assert_eq!(world.node.as_ref().unwrap().line.args, ["--new".into()]);
    assert_eq!(world.node.as_ref().unwrap().line.env["NEW"], "1");
}

#[test]
fn a_plans_arguments_hold_until_others_are_given() {
    let mut world = upgrade_with(|_| {}, |_| {});
    world.run_for(1_000);
    for _ in 0..2 {
        world.comes_back = true;
        world.at(world.now, Act::Restart);
        world.run_for(1);
        world
            .run_to("back", 60_000, |world| world.life > 1 && world.node.is_some() && world.engine.is_some());
        world.run_for(5_000);
        assert_eq!(world.node.as_ref().unwrap().line.args, ["--new".into()]);
    }
    world.given = crate::command_line::CommandLine::of(["--other".into()]);
    world.at(world.now, Act::Restart);
    world.run_for(30_000);
    assert_eq!(world.node.as_ref().unwrap().line, world.given);
    assert_eq!(world.disk.count("system", "arguments_changed"), 1);
}

fn validator(world: &mut World) {
    world.settings.validator = true;
    for program in world.programs.values_mut() {
        program.istanbul = true;
    }
}

#[test]
fn a_validator_must_see_its_own_seal() {
    let reason = rolled_back(upgrade_with(
        |_| {},
        |world| {
            validator(world);
            world.program("v2").seals = false;
        },
    ));
    assert!(reason.contains("our own seal"), "{reason}");
    let world = upgrade_with(|_| {}, validator);
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed]);
}

#[test]
fn peers_are_asked_for_where_wanted() {
    let world = upgrade_with(|program| program.peers = 1, |world| world.settings.probation.min_peers = 2);
    let reason = rolled_back(world);
    assert!(reason.contains("2 peers (it has 1)"), "{reason}");
    // The old program has no more of them, and follows the chain.
    rolled_back(upgrade_with(
        |program| program.peers = 1,
        |world| {
            world.settings.probation.min_peers = 2;
            world.programs.get_mut(&Target::Genesis).unwrap().peers = 1;
        },
    ));
}

#[test]
fn a_failed_hook_goes_back_after_its_retries() {
    for (step, tries) in [(Step::PreUpgrade, 3), (Step::PostUpgrade, 1)] {
        let world = upgrade_with(
            |_| {},
            |world| {
                world.hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true };
                world.settings.hooks.pre_upgrade_retries = 2;
                world.hook_runs.insert(step, (50, [Err("exit code 1")].into()));
            },
        );
        assert_eq!(world.hooks_run.iter().filter(|run| **run == step).count(), tries, "{step}");
        let reason = rolled_back(world);
        assert!(reason.contains("exit code 1"), "{reason}");
    }
}

#[test]
fn a_hook_that_works_at_last_is_enough() {
    let world = upgrade_with(
        |_| {},
        |world| {
            world.hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true };
            world.settings.hooks.pre_upgrade_retries = 2;
            world.hook_runs.insert(Step::PreStop, (50, [Err("no drain")].into()));
            world
                .hook_runs
                .insert(Step::PreUpgrade, (50, [Err("not yet"), Err("not yet"), Ok("done")].into()));
        },
    );
    assert_eq!(world.disk.outcomes(), [&Outcome::Committed], "nor does a failed drain cost the upgrade");
    let steps: Vec<_> = world.disk.history[0].steps.iter().map(|mark| mark.step).collect();
    assert_eq!(steps.len(), 7);
    assert!(steps.is_sorted(), "{steps:?}");
}

#[test]
fn a_link_that_cannot_be_switched_goes_back() {
    let reason = rolled_back(upgrade_with(|_| {}, |world| world.link_fails = 1));
    assert!(reason.contains("read-only"), "{reason}");
}

#[test]
fn a_link_that_cannot_be_switched_back_is_tried_again() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.link_fails = 4;
    world.run_to_head(110);
    world.run_to("barred", 5_000, |world| world.has_alert("rollback_barred"));
    world.run_to("the end", 60_000, |world| world.disk.history.len() == 1);
    assert!(!world.has_alert("rollback_barred"));
    rolled_back(world);
}

#[test]
fn a_link_that_stays_barred_does_not_fill_the_journal() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.link_fails = u32::MAX;
    world.run_to_head(110);
    world.run_to("barred", 5_000, |world| world.has_alert("rollback_barred"));
    let before = world.disk.journal.len();
    world.run_for(24 * 3_600_000);
    let records = world.disk.journal.len() - before;
    assert!((500..700).contains(&records), "two records every five minutes: {records}");
    world.link_fails = 0;
    world.run_to("the end", 300_000, |world| world.disk.history.len() == 1);
    rolled_back(world);
}

#[test]
fn a_program_changed_after_its_verification_is_not_run() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.run_to_head(110);
    world.run_to("the stop", 1_000, |world| world.terminations == 1);
    let old = world.program("v2").clone();
    world.program("v2").sha256 = "another".into();
    world.run_to("the way back", 5_000, |world| world.launches.len() == 2);
    *world.program("v2") = old;
    let reason = rolled_back(world);
    assert!(reason.contains("not the program that was verified"), "{reason}");
}

#[test]
fn when_the_old_program_cannot_follow_it_is_said() {
    let mut world = upgrade_with(
        |program| program.last_block = 110,
        |world| world.programs.get_mut(&Target::Genesis).unwrap().last_block = 110,
    );
    let [Outcome::RolledBack { stranded: Some(_), .. }] = world.disk.outcomes()[..] else {
        panic!("{:?}", world.disk.outcomes())
    };
    let alert = world.snapshot().alerts["upgrade_failed"].clone();
    assert!(alert.contains("cannot follow") && alert.contains("upgrade retry v2"), "{alert}");
    // The way forward: a mended program.
    *world.program("v2") = Program::good("2.0.1");
    assert!(world.ask(Order::Retry(name("v2"))).is_ok());
    world.run_to("the commit", CLOCK, |world| world.disk.history.len() == 2);
    world.settle(1_000);
    assert_eq!(world.disk.outcomes()[1], &Outcome::Committed);
    assert!(world.disk.pins.is_empty() && !world.has_alert("upgrade_failed"));
}

#[test]
fn when_neither_program_starts_the_policy_goes_on() {
    let mut world = World::with_plans(vec![plan("v2", 110, SwitchMode::At)]);
    world.program("v2").unstartable = Some("exec format error");
    world.run_to_head(110);
    world.programs.get_mut(&Target::Genesis).unwrap().unstartable = Some("input/output error");
    world.run_to("the end", CLOCK, |world| world.disk.history.len() == 1);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RollbackFailed { .. }]));
    assert_eq!(world.disk.count("alerts", "upgrade_failed"), 1);
    assert!(world.disk.plans == Ok(vec![]) && world.disk.pins.len() == 1);
    world.run_to("given up", 200_000, |world| world.snapshot().node.state == NodeState::Failed);
    world.programs.get_mut(&Target::Genesis).unwrap().unstartable = None;
    assert!(world.ask(Order::StartNode).is_ok());
    world.settle(5_000);
    assert_eq!(world.node.as_ref().unwrap().target, Target::Genesis);
}

#[test]
fn a_pinned_program_is_not_tried_again_a_mended_one_is() {
    let mut world = upgrade_with(|program| program.chain_id = 7, |_| {});
    world.settle(CLOCK);
    let again = plan("v2", world.database + 10, SwitchMode::At);
    let schedule = |force| Order::Schedule { plan: Box::new(again.clone()), force };
    assert_eq!(world.refusal(schedule(false)), RefusalCode::Conflict);
    world.at(world.now, Act::Write(Ok(vec![again.clone()])));
    world.run_for(30_000);
    assert_eq!(world.disk.triggered().len(), 1, "the same program under another height");
    assert!(world.snapshot().plans[0].pinned);
    assert!(world.snapshot().alerts["pinned"].contains("v2 is due"), "it is due and nothing happens: said");
    assert_eq!(world.refusal(Order::Apply { name: name("v2"), force: false }), RefusalCode::Conflict);
    *world.program("v2") = Program::good("2.0");
    world.program("v2").sha256 = "mended".into();
    let mut mended = again.clone();
    mended.info.description = Some("mended".into());
    world.at(world.now, Act::Write(Ok(vec![mended])));
    world.run_to("the commit", CLOCK, |world| world.disk.history.len() == 2);
    assert_eq!(world.disk.outcomes()[1], &Outcome::Committed);
    assert!(!world.has_alert("pinned"));
}

#[test]
fn force_overrides_a_pin() {
    let mut world = upgrade_with(|program| program.chain_id = 7, |_| {});
    world.settle(CLOCK);
    world.program("v2").chain_id = 1111;
    let again = plan("v2", world.database + 10, SwitchMode::At);
    assert!(world.ask(Order::Schedule { plan: Box::new(again), force: true }).is_ok());
    assert!(world.disk.pins.is_empty());
    world.run_to("the commit", CLOCK, |world| world.disk.history.len() == 2);
    assert_eq!(world.disk.outcomes()[1], &Outcome::Committed);
}

#[test]
fn a_halted_chain_that_does_not_go_on_is_left_to_a_person() {
    let mut world = World::new();
    world.programs.get_mut(&Target::Genesis).unwrap().last_block = 109;
    world.program("v2").last_block = 109;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::Halted)]);
    world.boot();
    world.run_to("stalled", 200_000, |world| world.has_alert("stalled"));
    assert!(!world.snapshot().upgrade.unwrap().waiting_for.is_empty());
    world.run_for(600_000);
    assert_eq!(world.disk.open().unwrap().step, Step::Probation, "not gone back by itself");
    assert!(world.ask(Order::Rollback).is_ok());
    world.run_to("the end", CLOCK, |world| world.disk.history.len() == 1);
    assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { .. }]));
    assert!(!world.has_alert("stalled"));
}

#[test]
fn a_halted_chain_that_goes_on_late_is_committed() {
    let mut world = World::new();
    world.programs.get_mut(&Target::Genesis).unwrap().last_block = 109;
    world.program("v2").last_block = 109;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::Halted)]);
    world.boot();
    world.run_to("stalled", 200_000, |world| world.has_alert("stalled"));
    world.program("v2").last_block = u64::MAX;
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert!(!world.has_alert("stalled"));
}

#[test]
fn the_operator_can_be_waited_for_after_the_switch() {
    for way in ["start", "rollback", "supervisor restarts"] {
        let mut world = World::new();
        world.settings.upgrade.restart_after_upgrade = false;
        world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
        world.boot();
        world.run_to_head(110);
        world.run_to("held", 10_000, |world| world.has_alert("held"));
        world.run_for(600_000);
        assert!(world.node.is_none() && world.snapshot().upgrade.unwrap().held, "{way}");
        assert_eq!(world.refusal(Order::RestartNode), RefusalCode::Conflict);
        if way == "supervisor restarts" {
            for _ in 0..6 {
                world.at(world.now, Act::Restart);
                world.run_for(30_000);
                assert!(world.has_alert("held"), "waiting is no start");
            }
        }
        if way == "rollback" {
            assert!(world.ask(Order::Rollback).is_ok());
            assert_eq!(world.refusal(Order::Rollback), RefusalCode::Conflict, "it is under way");
            world.settle(CLOCK);
            assert!(matches!(world.disk.outcomes()[..], [Outcome::RolledBack { stranded: None, .. }]));
        } else {
            assert!(world.ask(Order::StartNode).is_ok());
            world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
        }
        assert!(!world.has_alert("held"));
    }
}

#[test]
fn a_held_upgrade_on_its_way_back_starts_nothing_new() {
    let mut world = World::new();
    world.settings.upgrade.restart_after_upgrade = false;
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to_head(110);
    world.run_to("held", 10_000, |world| world.has_alert("held"));
    world.link_fails = 3;
    assert!(world.ask(Order::Rollback).is_ok());
    assert_eq!(world.refusal(Order::StartNode), RefusalCode::Conflict);
    world.settle(CLOCK);
    assert_eq!(world.launches.len(), 2);
    assert_eq!(world.launches[1].1, Target::Genesis);
}

#[test]
fn the_restart_delay_is_kept() {
    let mut world = World::new();
    let base = Settings::default().upgrade;
    world.settings.upgrade =
        crate::settings::Upgrade { restart_delay: std::time::Duration::from_secs(8), ..base };
    world.disk.plans = Ok(vec![plan("v2", 110, SwitchMode::At)]);
    world.boot();
    world.run_to_head(110);
    world.run_to("down", 5_000, |world| world.node.is_none());
    let down = world.now;
    world.run_to("waiting", 100, |world| world.snapshot().node.state == NodeState::Waiting);
    assert!(world.snapshot().node.starts_at.is_some());
    world.run_to("the commit", 60_000, |world| world.disk.outcomes() == [&Outcome::Committed]);
    assert!(world.launches[1].0 >= down + 8_000);
}
