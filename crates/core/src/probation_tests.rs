use super::*;
use crate::time::WallMs;

const LIMITS: ProbationLimits = ProbationLimits {
    must_answer_within: Duration::from_secs(60),
    must_be_steady_for: Duration::from_secs(1),
    must_advance_within: Duration::from_secs(120),
    advance_blocks: 2,
    in_step_blocks: 3,
    min_peers: 0,
};

const WALL: u64 = 1_700_000_000;

fn at(seconds: u64) -> Now {
    Now { mono: MonoMs(seconds * 1000), wall: WallMs((WALL + seconds) * 1000) }
}

fn hash(byte: u8) -> BlockHash {
    BlockHash([byte; 32])
}

fn reference() -> Reference {
    Reference {
        client_version: Some("gwemix/v1.0.0".into()),
        chain_id: Some(1111),
        genesis: Some(hash(1)),
        pinned: Some((99, hash(99))),
        head: Some(100),
        lag_ms: Some(500),
    }
}

fn begin() -> Probation {
    Probation::begin(reference(), Expectation::default(), Some(Duration::from_secs(1)), MonoMs(0))
}

/// A round of good answers with the head at `height`, made at second `made`.
fn good(height: Height, made: u64) -> Observation {
    Observation {
        client_version: Answer::Known("gwemix/v2.0.0-stable".into()),
        chain_id: Answer::Known(1111),
        genesis: Answer::Known(hash(1)),
        pinned: Answer::Known(Some(hash(99))),
        head: Answer::Known(Head { height, hash: None, block_time: Some(WALL + made) }),
        peers: Answer::Known(3),
        own_seal: Answer::NotAsked,
    }
}

fn silent() -> Observation {
    Observation { head: Answer::Failed("refused".into()), ..Observation::default() }
}

#[test]
fn passes_when_steady_advanced_and_in_step() {
    let mut probation = begin();
    probation.observe(&good(101, 1), &LIMITS, at(1));
    assert_eq!(
        probation.verdict(&LIMITS, at(1).mono),
        Verdict::Pending(vec![Missing::Steadiness, Missing::Head { at: Some(101), target: 102 }])
    );
    probation.observe(&good(102, 2), &LIMITS, at(2));
    assert_eq!(probation.verdict(&LIMITS, at(2).mono), Verdict::Passed);
}

/// A gap of 1,000 s at each stage: what was left on each clock is left after it.
#[test]
fn a_gap_is_taken_out_of_every_clock() {
    let gap = Duration::from_secs(1000);
    let fails = |probation: &Probation, second| {
        matches!(probation.verdict(&LIMITS, at(second).mono), Verdict::Failed(_))
    };
    let mut unanswered = begin();
    unanswered.stood_still(gap);
    assert_eq!(unanswered.deadline(&LIMITS), MonoMs(1_060_001));
    assert!(!fails(&unanswered, 1060) && fails(&unanswered, 1061));

    let mut answered = begin();
    answered.observe(&good(101, 50), &LIMITS, at(50));
    answered.stood_still(gap);
    let unsteady = Verdict::Pending(vec![Missing::Steadiness, Missing::Head { at: Some(101), target: 102 }]);
    assert_eq!(answered.verdict(&LIMITS, at(1050).mono), unsteady, "a gap proves no steadiness");
    assert!(!fails(&answered, 1110) && fails(&answered, 1111), "silence goes on where it was");
    for second in 1051..1180 {
        answered.observe(&good(101, second), &LIMITS, at(second));
        assert_eq!(fails(&answered, second), second > 1170, "{second}");
    }
}

#[test]
fn blocks_that_the_old_program_made_unseen_prove_nothing() {
    let mut probation = begin();
    for second in 1..=3 {
        // The old program was seen at 100 and ended at 105.
        probation.observe(&good(105, second), &LIMITS, at(second));
    }
    let missing = vec![Missing::Head { at: Some(105), target: 106 }];
    assert_eq!(probation.verdict(&LIMITS, at(3).mono), Verdict::Pending(missing));
    probation.observe(&good(106, 4), &LIMITS, at(4));
    assert_eq!(probation.verdict(&LIMITS, at(4).mono), Verdict::Passed);
}

#[test]
fn a_healthy_looking_node_behind_the_network_is_neither_passed_nor_failed() {
    let mut probation = begin();
    probation.observe(&good(104, 0), &LIMITS, at(7));
    for second in 1..=10 {
        // All answers are good, and even the target height is there: but its blocks are old.
        probation.observe(&good(105, 0), &LIMITS, at(second + 6));
        assert_eq!(probation.verdict(&LIMITS, at(second + 6).mono), {
            let mut missing = vec![Missing::InStep];
            if second == 1 {
                missing.insert(0, Missing::Steadiness);
            }
            Verdict::Pending(missing)
        });
    }
    probation.observe(&good(117, 17), &LIMITS, at(17));
    assert_eq!(probation.verdict(&LIMITS, at(17).mono), Verdict::Passed);
}

#[test]
fn a_slow_but_good_program_is_waited_for() {
    let mut probation = begin();
    for second in 0..30 {
        probation.observe(&silent(), &LIMITS, at(second));
        assert_eq!(
            probation.verdict(&LIMITS, at(second).mono),
            Verdict::Pending(vec![
                Missing::Answer,
                Missing::Identity,
                Missing::Head { at: None, target: 102 }
            ])
        );
    }
    for second in 30..60 {
        probation.observe(&good(100, 0), &LIMITS, at(second));
        assert!(matches!(probation.verdict(&LIMITS, at(second).mono), Verdict::Pending(_)));
    }
    probation.observe(&good(160, 60), &LIMITS, at(60));
    assert_eq!(probation.verdict(&LIMITS, at(60).mono), Verdict::Passed);
}

#[test]
fn each_clock_runs_out_with_its_own_reason() {
    let probation = begin();
    assert!(matches!(probation.verdict(&LIMITS, at(60).mono), Verdict::Pending(_)));
    assert_eq!(probation.verdict(&LIMITS, at(61).mono), Verdict::Failed(Fault::NoAnswer(60)));

    let mut probation = begin();
    probation.observe(&good(100, 5), &LIMITS, at(5));
    probation.observe(&silent(), &LIMITS, at(30));
    assert_eq!(probation.verdict(&LIMITS, at(66).mono), Verdict::Failed(Fault::FellSilent(60)));

    let mut probation = begin();
    for second in [1, 50, 100, 121, 122] {
        assert!(matches!(probation.verdict(&LIMITS, at(second).mono), Verdict::Pending(_)) || second == 122);
        probation.observe(&good(100, second), &LIMITS, at(second));
    }
    let Verdict::Failed(fault) = probation.verdict(&LIMITS, at(122).mono) else { panic!() };
    assert_eq!(fault.to_string(), "after 121 s still missing: head 102 (it is at 100)");
}

#[test]
fn a_break_in_the_answers_begins_the_steadiness_anew() {
    let mut probation = begin();
    probation.observe(&good(101, 1), &LIMITS, at(1));
    probation.observe(&good(102, 1), &LIMITS, at(1));
    probation.observe(&silent(), &LIMITS, at(3));
    assert_eq!(probation.verdict(&LIMITS, at(3).mono), Verdict::Pending(vec![Missing::Answer]));
    probation.observe(&good(103, 4), &LIMITS, at(4));
    assert_eq!(probation.verdict(&LIMITS, at(4).mono), Verdict::Pending(vec![Missing::Steadiness]));
}

#[test]
fn contradictions_fail_at_once() {
    let cases: [(Observation, &str); 3] = [
        (
            Observation { chain_id: Answer::Known(1), ..good(200, 1) },
            "it runs chain 1, the old program ran chain 1111",
        ),
        (Observation { genesis: Answer::Known(hash(2)), ..good(200, 1) }, "its genesis block is 0x0202"),
        (
            Observation { client_version: Answer::Known("x/v1".into()), ..good(200, 1) },
            "it calls itself \"x/v1\"",
        ),
    ];
    for (round, reason) in cases {
        let expectation = Expectation { version: Some("v2.0.0".into()), ..Expectation::default() };
        let mut probation = Probation::begin(reference(), expectation, None, MonoMs(0));
        probation.observe(&round, &LIMITS, at(1));
        let Verdict::Failed(fault) = probation.verdict(&LIMITS, at(1).mono) else { panic!("{reason}") };
        assert!(fault.to_string().starts_with(reason), "{fault}");
    }
}

#[test]
fn another_past_must_be_seen_twice_in_a_row() {
    let other = Observation { pinned: Answer::Known(Some(hash(7))), ..good(102, 1) };
    let mut probation = begin();
    for round in [&other, &good(102, 1), &other] {
        probation.observe(round, &LIMITS, at(1));
        assert!(!matches!(probation.verdict(&LIMITS, at(1).mono), Verdict::Failed(_)));
    }
    probation.observe(&other, &LIMITS, at(2));
    let expected = Fault::AnotherPast { height: 99, expected: hash(99), found: hash(7) };
    assert_eq!(probation.verdict(&LIMITS, at(2).mono), Verdict::Failed(expected));
}

#[test]
fn a_block_that_is_not_there_yet_is_no_contradiction() {
    let mut probation = begin();
    let rewound = Observation { pinned: Answer::Known(None), ..good(4, 1) };
    probation.observe(&rewound, &LIMITS, at(1));
    probation.observe(&rewound, &LIMITS, at(2));
    let Verdict::Pending(missing) = probation.verdict(&LIMITS, at(2).mono) else { panic!() };
    assert_eq!(missing, [Missing::Head { at: Some(4), target: 102 }]);
}

#[test]
fn peers_and_seals_count_where_they_can_be_asked() {
    let limits = ProbationLimits { min_peers: 4, ..LIMITS };
    let expectation = Expectation { own_seal: true, ..Expectation::default() };
    let mut probation = Probation::begin(reference(), expectation.clone(), None, MonoMs(0));
    probation.observe(&good(102, 1), &limits, at(1));
    probation.observe(&good(103, 2), &limits, at(2));
    let wanting = vec![Missing::Peers { has: 3, needs: 4 }, Missing::OwnSeal];
    assert_eq!(probation.verdict(&limits, at(2).mono), Verdict::Pending(wanting.clone()));
    assert_eq!(
        wanting.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["4 peers (it has 3)", "our own seal in a block"]
    );

    let unsupported = |height, made| Observation {
        peers: Answer::Unsupported,
        own_seal: Answer::Unsupported,
        ..good(height, made)
    };
    let mut probation = Probation::begin(reference(), expectation.clone(), None, MonoMs(0));
    probation.observe(&unsupported(102, 1), &limits, at(1));
    probation.observe(&unsupported(103, 2), &limits, at(2));
    assert_eq!(probation.verdict(&limits, at(2).mono), Verdict::Passed);
    assert_eq!(probation.skipped(), ["peers (net_peerCount)", "own seal (istanbul_*)"]);

    let mut probation = Probation::begin(reference(), expectation, None, MonoMs(0));
    probation.observe(&Observation { own_seal: Answer::Known(true), ..good(103, 1) }, &LIMITS, at(1));
    probation.observe(&Observation { own_seal: Answer::Known(false), ..good(104, 2) }, &LIMITS, at(2));
    assert_eq!(probation.verdict(&LIMITS, at(2).mono), Verdict::Passed, "one seal is enough");
}

#[test]
fn a_halted_chain_is_no_reason_to_go_back() {
    let expectation = Expectation { halted_chain: true, ..Expectation::default() };
    let mut probation = Probation::begin(reference(), expectation.clone(), None, MonoMs(0));
    for second in [1, 60, 119, 122] {
        probation.observe(&good(100, second), &LIMITS, at(second));
    }
    let missing = vec![Missing::Head { at: Some(100), target: 102 }];
    assert_eq!(probation.verdict(&LIMITS, at(122).mono), Verdict::Stalled(missing));
    let mute = Probation::begin(reference(), expectation, None, MonoMs(0));
    assert_eq!(mute.verdict(&LIMITS, at(121).mono), Verdict::Failed(Fault::NoAnswer(60)));
}

#[test]
fn heads_from_the_stream_count_between_rounds() {
    let mut probation = begin();
    probation.observe(&good(100, 1), &LIMITS, at(1));
    probation.head_seen(Head { height: 102, hash: None, block_time: None }, &LIMITS, at(2));
    assert_eq!(probation.verdict(&LIMITS, at(2).mono), Verdict::Passed);
    assert_eq!(probation.deadline(&LIMITS), MonoMs(62_001), "silence");
    let impatient = ProbationLimits { must_advance_within: Duration::from_secs(5), ..LIMITS };
    assert_eq!(probation.deadline(&impatient), MonoMs(6_001), "no advance");
    assert_eq!(probation.pinned(), Some((99, hash(99))));
}

#[test]
fn a_node_that_lagged_before_may_lag_as_much_after() {
    let lagging = Reference { lag_ms: Some(3_600_000), ..reference() };
    let mut probation = Probation::begin(lagging, Expectation::default(), None, MonoMs(0));
    probation.observe(&good(150, 0), &LIMITS, at(3000));
    probation.observe(&good(151, 0), &LIMITS, at(3002));
    let limits = ProbationLimits { must_advance_within: Duration::from_secs(9999), ..LIMITS };
    assert_eq!(probation.verdict(&limits, at(3002).mono), Verdict::Passed);
}

#[test]
fn without_a_reference_only_what_is_known_is_compared() {
    let mut probation = Probation::begin(Reference::default(), Expectation::default(), None, MonoMs(0));
    let bare = |height| Observation {
        client_version: Answer::Unsupported,
        chain_id: Answer::Unsupported,
        genesis: Answer::Unsupported,
        head: Answer::Known(Head { height, hash: None, block_time: None }),
        ..Observation::default()
    };
    probation.observe(&bare(1), &LIMITS, at(1));
    probation.observe(&bare(2), &LIMITS, at(2));
    assert_eq!(probation.verdict(&LIMITS, at(2).mono), Verdict::Passed);
    assert_eq!(probation.skipped().len(), 3);
}

#[test]
fn heads_alone_are_not_enough() {
    let mut probation = begin();
    for second in 1..5 {
        let head = Head { height: 101 + second, hash: None, block_time: Some(WALL + second) };
        probation.head_seen(head, &LIMITS, at(second));
        let failed = Observation { genesis: Answer::Failed("late".into()), ..good(101 + second, second) };
        probation.observe(&failed, &LIMITS, at(second));
    }
    assert_eq!(probation.verdict(&LIMITS, at(5).mono), Verdict::Pending(vec![Missing::Identity]));
}

#[test]
fn what_is_missing_is_said_in_words() {
    for (missing, words) in [
        (Missing::Answer, "an answer of its RPC"),
        (Missing::Steadiness, "answers without a break"),
        (Missing::Head { at: None, target: 5 }, "head 5 (it gives none)"),
        (Missing::Identity, "its answers to what it is (version, chain id, genesis)"),
        (Missing::Steadiness, "answers without a break"),
        (Missing::InStep, "a head in step with the wall clock"),
    ] {
        assert_eq!(missing.to_string(), words);
    }
}
