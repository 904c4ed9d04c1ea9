use proptest::prelude::*;

use super::*;

fn switchover(hooks: Hooks) -> Switchover {
    Switchover {
        id: 1,
        plan: None,
        why: Why::Reached,
        from: Target::Genesis,
        to: Target::Upgrade("v2".parse().unwrap()),
        from_line: CommandLine::default(),
        to_line: CommandLine::default(),
        sha256: "00".into(),
        head: None,
        reference: Reference::default(),
        expectation: Expectation::default(),
        block_time_ms: None,
        hooks,
        at: WallMs(1),
    }
}

const ALL_HOOKS: Hooks = Hooks { pre_stop: true, pre_upgrade: true, post_upgrade: true };

/// Runs the table, failing the steps of `fails`, and returns the records.
fn run(hooks: Hooks, fails: &[Step]) -> (Vec<Record>, Upgrade, Outcome) {
    let mut upgrade = Upgrade::new(switchover(hooks));
    let mut records = vec![Record::Triggered(Box::new(upgrade.switchover.clone()))];
    let mut step = upgrade.step;
    for tick in 1..50 {
        let started = Record::Started { step };
        upgrade.apply(&started, WallMs(tick)).unwrap();
        records.push(started);
        let failing = fails.contains(&step) && upgrade.tries == 0;
        let (record, ended) = if failing {
            (Record::Failed { step, reason: "broken".into() }, Ended::Failed("broken".into()))
        } else {
            (Record::Done { step, note: None }, Ended::Done(None))
        };
        upgrade.apply(&record, WallMs(tick)).unwrap();
        records.push(record);
        match next(&upgrade, &ended).unwrap() {
            Next::Go(following) => step = following,
            Next::Again => {}
            Next::Finish(outcome) => {
                records.push(Record::Finished(outcome.clone()));
                return (records, upgrade, outcome);
            }
        }
    }
    panic!("never ends: {records:?}");
}

fn steps(upgrade: &Upgrade) -> Vec<Step> {
    upgrade.marks.iter().map(|mark| mark.step).collect()
}

#[test]
fn the_straight_way() {
    let (_, upgrade, outcome) = run(ALL_HOOKS, &[]);
    assert_eq!(outcome, Outcome::Committed);
    use Step::{PostUpgrade, PreStop, PreUpgrade, Probation, Start, Stop, Switch};
    assert_eq!(steps(&upgrade), [PreStop, Stop, PreUpgrade, Switch, Start, Probation, PostUpgrade]);
    let (_, upgrade, outcome) = run(Hooks::default(), &[]);
    assert_eq!(outcome, Outcome::Committed);
    assert_eq!(steps(&upgrade), [Stop, Switch, Start, Probation]);
    assert_eq!(upgrade.starts, 1);
}

#[test]
fn every_failure_from_the_stop_on_goes_back() {
    use Step::{BackProbation, BackStart, BackStop, BackSwitch};
    for (failing, back) in [
        (Step::PreUpgrade, vec![BackSwitch, BackStart, BackProbation]),
        (Step::Switch, vec![BackSwitch, BackStart, BackProbation]),
        (Step::Start, vec![BackStop, BackSwitch, BackStart, BackProbation]),
        (Step::Probation, vec![BackStop, BackSwitch, BackStart, BackProbation]),
        (Step::PostUpgrade, vec![BackStop, BackSwitch, BackStart, BackProbation]),
    ] {
        let (_, upgrade, outcome) = run(ALL_HOOKS, &[failing]);
        let Outcome::RolledBack { reason, stranded: None } = outcome else {
            panic!("{failing}: {outcome:?}")
        };
        assert_eq!(reason, format!("{failing}: broken"));
        let taken: Vec<_> = steps(&upgrade).into_iter().filter(|step| step.is_back()).collect();
        assert_eq!(taken, back, "{failing}");
    }
}

#[test]
fn a_step_begun_again_keeps_its_first_beginning() {
    let mut upgrade = Upgrade::new(switchover(Hooks::default()));
    let begun = Record::Started { step: Step::Stop };
    upgrade.apply(&begun, WallMs(5)).unwrap();
    upgrade.apply(&begun, WallMs(9)).unwrap();
    upgrade.apply(&Record::Done { step: Step::Stop, note: Some("gone".into()) }, WallMs(11)).unwrap();
    let note = Some("gone".into());
    let mark = Mark { step: Step::Stop, started: WallMs(5), ended: Some(WallMs(11)), failed: None, note };
    assert_eq!(upgrade.marks, [mark]);
}

#[test]
fn a_failed_drain_does_not_cost_the_upgrade() {
    assert_eq!(run(ALL_HOOKS, &[Step::PreStop]).2, Outcome::Committed);
}

#[test]
fn the_way_back_has_its_own_ends() {
    let both = [Step::Probation, Step::BackStart];
    let (_, _, outcome) = run(ALL_HOOKS, &both);
    assert_eq!(
        outcome,
        Outcome::RollbackFailed { reason: format!("{}: broken", Step::Probation), failure: "broken".into() }
    );
    let (_, _, outcome) = run(ALL_HOOKS, &[Step::Probation, Step::BackProbation]);
    assert!(matches!(outcome, Outcome::RolledBack { stranded: Some(_), .. }));
    let (_, upgrade, outcome) = run(ALL_HOOKS, &[Step::Start, Step::BackSwitch]);
    assert!(matches!(outcome, Outcome::RolledBack { stranded: None, .. }), "the link is tried again");
    assert_eq!(upgrade.reason(), format!("{}: broken", Step::Start), "the first reason is kept");
}

#[test]
fn a_stop_cannot_fail() {
    for step in [Step::Stop, Step::BackStop] {
        let upgrade = Upgrade { step, ..Upgrade::new(switchover(ALL_HOOKS)) };
        assert_eq!(next(&upgrade, &Ended::Failed(String::new())), None);
    }
}

#[test]
fn each_step_knows_its_program() {
    let mut upgrade = Upgrade::new(switchover(ALL_HOOKS));
    for step in run(ALL_HOOKS, &[Step::PostUpgrade]).1.marks.iter().map(|mark| mark.step) {
        upgrade.step = step;
        let old = matches!(
            step,
            Step::PreStop | Step::Stop | Step::BackSwitch | Step::BackStart | Step::BackProbation
        );
        assert_eq!(*upgrade.program() == Target::Genesis, old, "{step}");
    }
}

#[test]
fn damaged_journals_are_refused() {
    let (records, ..) = run(Hooks::default(), &[]);
    let at = |records: Vec<Record>| fold(records.iter().map(|record| (record, WallMs(0)))).unwrap_err();
    assert_eq!(at(vec![]), Damaged::NoBeginning);
    assert_eq!(at(records[1..].to_vec()), Damaged::NoBeginning);
    assert_eq!(at([&records[..1], &records[..1]].concat()), Damaged::Twice);
    assert_eq!(
        at([&records[..1], &records[2..3]].concat()),
        Damaged::Order { step: Step::Stop, current: Step::Stop }
    );
    assert_eq!(at([&records[..], &records[1..2]].concat()), Damaged::AfterTheEnd);
    let wrong = Record::Failed { step: Step::Switch, reason: String::new() };
    let damage = at([&records[..2], &[wrong]].concat());
    assert_eq!(
        damage.to_string(),
        "the upgrade's journal ends the step \"switch the link\" while \"stop the old program\" was under way"
    );
}

#[test]
fn labels_are_for_people() {
    let ordered = switchover(ALL_HOOKS);
    assert_eq!(ordered.label(), "rollback to v2");
    assert!(Step::Switch.past_the_stop() && !Step::Stop.past_the_stop());
    assert_eq!(Upgrade::new(ordered).reason(), "no reason was recorded");
}

fn any_step() -> impl Strategy<Value = Step> {
    prop::sample::select(vec![
        Step::PreStop,
        Step::PreUpgrade,
        Step::Switch,
        Step::Start,
        Step::Probation,
        Step::PostUpgrade,
        Step::BackSwitch,
        Step::BackStart,
        Step::BackProbation,
    ])
}

proptest! {
    /// For every prefix of every journal: the fold gives the state the writer had, and running on from there
    /// ends committed or rolled back, never both.
    #[test]
    fn every_prefix_folds_to_the_writers_state(
        hooks in (any::<bool>(), any::<bool>(), any::<bool>()),
        fails in prop::collection::vec(any_step(), 0..4),
    ) {
        let hooks = Hooks { pre_stop: hooks.0, pre_upgrade: hooks.1, post_upgrade: hooks.2 };
        let (records, last, outcome) = run(hooks, &fails);
        let mut writer = Upgrade::new(switchover(hooks));
        for end in 1..=records.len() {
            if end > 1 {
                writer.apply(&records[end - 1], WallMs(7)).unwrap();
            }
            let read = serde_json::to_string(&records[..end]).unwrap();
            let read: Vec<Record> = serde_json::from_str(&read).unwrap();
            match fold(read.iter().map(|record| (record, WallMs(7)))).unwrap() {
                Folded::Open(open) => {
                    prop_assert!(end < records.len());
                    prop_assert_eq!(&*open, &writer);
                }
                Folded::Finished(upgrade, ended) => {
                    prop_assert_eq!(end, records.len());
                    prop_assert_eq!(&ended, &outcome);
                    prop_assert_eq!(steps(&upgrade), steps(&last));
                }
            }
        }
        let went_back = last.marks.iter().any(|mark| mark.step.is_back());
        prop_assert_eq!(went_back, outcome != Outcome::Committed);
    }
}
