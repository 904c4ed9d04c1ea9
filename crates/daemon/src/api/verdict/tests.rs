use std::collections::BTreeMap;

use wemixvisor_core::engine::snapshot::{ChainView, NodeView};
use wemixvisor_core::exit::{NodeExit, WaitStatus};
use wemixvisor_core::time::WallMs;
use wemixvisor_core::upgrade::Step;

use super::*;

/// A node that runs, at block 7, one block a second.
pub(crate) fn calm() -> Snapshot {
    Snapshot {
        at: WallMs(1_769_860_800_000),
        version: "genesis".into(),
        node: NodeView {
            state: NodeState::Running,
            pid: Some(42),
            version: Some("genesis".into()),
            client_version: Some("geth/v1".into()),
            since: Some(WallMs(1_769_860_790_000)),
            answering: true,
            adopted: false,
            args: vec!["--x".into()],
            restarts: 0,
            max_restarts: 5,
            starts_at: None,
            last_exit: None,
        },
        chain: ChainView {
            head: Some(7),
            hash: None,
            seen_at: Some(WallMs(1_769_860_799_500)),
            highest: Some(7),
            still_ms: Some(500),
            lag_ms: Some(400),
            block_time_ms: Some(1000),
            chain_id: Some(1111),
            sources: Vec::new(),
        },
        plans: Vec::new(),
        plan_problem: None,
        upgrade: None,
        last_upgrade: None,
        pins: Vec::new(),
        alerts: BTreeMap::new(),
        stuck: None,
        upgrades_enabled: true,
        shutting_down: false,
    }
}

fn said(snapshot: &Snapshot) -> (Level, String) {
    verdict(snapshot, true)
}

#[test]
fn a_calm_node_is_fine() {
    assert_eq!(said(&calm()), (Level::Ok, "the node runs and follows the chain".into()));
}

#[test]
fn without_a_supervisor_it_is_never_fine() {
    assert_eq!(verdict(&calm(), false).0, Level::Attention);
    let mut down = calm();
    down.node.pid = None;
    assert_eq!(verdict(&down, false).0, Level::Down);
}

#[test]
fn a_node_that_does_not_run_is_down_and_its_last_words_are_said() {
    let exit = NodeExit {
        status: WaitStatus::Exited(1),
        term_sent: false,
        kill_sent: false,
        out_of_memory: false,
        tail: "Fatal: no such flag".into(),
    };
    for (state, level) in [
        (NodeState::Failed, Level::Down),
        (NodeState::Waiting, Level::Down),
        (NodeState::Stopped, Level::Down),
        (NodeState::Starting, Level::Attention),
        (NodeState::Stopping, Level::Attention),
    ] {
        let mut snapshot = calm();
        snapshot.node.state = state;
        snapshot.node.last_exit = Some(exit.clone());
        let (found, text) = said(&snapshot);
        assert_eq!(found, level, "{state:?}");
        let explains = matches!(state, NodeState::Failed | NodeState::Waiting);
        assert_eq!(text.contains("Fatal: no such flag"), explains, "{text}");
    }
}

#[test]
fn a_node_that_could_not_be_started_is_not_told_by_the_end_of_the_one_before() {
    let mut snapshot = calm();
    snapshot.node.state = NodeState::Failed;
    snapshot.node.last_exit = Some(NodeExit {
        status: WaitStatus::Exited(0),
        term_sent: true,
        kill_sent: false,
        out_of_memory: false,
        tail: String::new(),
    });
    snapshot.alerts.insert("node_down".into(), "the node could not be started: no such file".into());
    assert_eq!(said(&snapshot), (Level::Down, "the node could not be started: no such file".into()));
}

#[test]
fn every_alert_that_is_raised_has_its_own_few_words() {
    let kinds = [
        "plan_file",
        "settings",
        "store_failed",
        "not_ready",
        "blocked",
        "refused_late",
        "upgrade_failed",
        "heights_silent",
        "stands_before_height",
        "stalled",
        "data_dir",
        "link",
        "log",
        "keeper",
        "store_gone",
        "disabled",
        "node_down",
        "stop_overdue",
        "held",
        "rollback_barred",
        "stuck",
    ];
    let words: std::collections::BTreeSet<_> = kinds.iter().map(|kind| in_short(kind)).collect();
    assert_eq!(words.len(), kinds.len(), "{words:?}");
}

#[test]
fn what_needs_a_person_is_said() {
    let with = |change: fn(&mut Snapshot)| {
        let mut snapshot = calm();
        change(&mut snapshot);
        let (level, text) = said(&snapshot);
        assert_eq!(level, Level::Attention, "{text}");
        text
    };
    assert!(with(|s| s.shutting_down = true).contains("ending"));
    assert!(with(|s| s.stuck = Some("no end".into())).contains("stuck: no end"));
    assert!(with(|s| s.chain.head = None).contains("not told its height"));
    assert!(with(|s| s.chain.still_ms = Some(61_000)).contains("stood still for 61 s"));
    let one = with(|s| drop(s.alerts.insert("not_ready".into(), "long".into())));
    assert_eq!(one, "the node runs, but an upgrade is not ready");
    let two = with(|s| s.alerts.extend(["a", "b"].map(|kind| (kind.to_owned(), String::new()))));
    assert_eq!(two, "the node runs, but 2 things need you");
}

#[test]
fn a_slow_chain_is_not_taken_for_a_standing_one() {
    let mut snapshot = calm();
    snapshot.chain.block_time_ms = Some(15_000);
    snapshot.chain.still_ms = Some(120_000);
    assert_eq!(said(&snapshot).0, Level::Ok);
}

#[test]
fn an_upgrade_under_way_comes_first() {
    let mut snapshot = calm();
    snapshot.node.state = NodeState::Stopped;
    let mut under_way = UpgradeView {
        label: "v2".into(),
        plan: None,
        from: "genesis".into(),
        to: "v2".into(),
        fired_at: WallMs(0),
        step: Step::Switch,
        steps: Vec::new(),
        failure: None,
        waiting_for: Vec::new(),
        held: false,
        can_cancel: false,
    };
    snapshot.upgrade = Some(under_way.clone());
    assert_eq!(said(&snapshot).1, "upgrade v2 is being carried out: switch the link");
    under_way.held = true;
    snapshot.upgrade = Some(under_way.clone());
    assert!(said(&snapshot).1.contains("waits for you"));
    snapshot.node.pid = None;
    assert_eq!(said(&snapshot).0, Level::Down);
    under_way.failure = Some("it died".into());
    snapshot.upgrade = Some(under_way);
    assert_eq!(said(&snapshot).1, "upgrade v2 goes back: it died");
}
