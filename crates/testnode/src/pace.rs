//! When the next blocks come: the rule, without a clock.

use crate::chain::{Anchor, Chain, Fork};
use crate::faults::Faults;

/// What the rule needs to know besides the chain and the faults.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    /// When the node started, in milliseconds since the epoch.
    pub(crate) started_ms: u64,
    /// The time between two blocks, in milliseconds, at least 1.
    pub(crate) step_ms: u64,
    /// A network makes the blocks, not this node.
    pub(crate) follows: bool,
    /// The head when the node started was behind the network.
    pub(crate) behind_at_start: bool,
    /// The first block that this program cannot import, besides what the faults say.
    pub(crate) foreign_from: Option<u64>,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    /// Extend the chain to this height, if it is above the head.
    pub(crate) target: u64,
    /// The times of the new blocks.
    pub(crate) pace: Anchor,
    /// How many of the new blocks, the last ones, the node took part in.
    pub(crate) live: u64,
    /// The head stands because the next block cannot be imported.
    pub(crate) stuck: bool,
    /// Look again at this time (milliseconds since the epoch); `None`: only when something changes.
    pub(crate) wake_ms: Option<u64>,
}

/// The first block that this node cannot import.
pub(crate) fn wall(circumstances: &Circumstances, faults: &Faults) -> Option<u64> {
    [circumstances.foreign_from, faults.cannot_import_from].into_iter().flatten().min()
}

/// Applies the rule at `now_ms`.
pub(crate) fn next(chain: &Chain, faults: &Faults, around: &Circumstances, now_ms: u64) -> Next {
    let head = chain.head;
    let pace = if around.follows {
        chain.network(around.step_ms)
    } else {
        let last = chain.time_of(head).max(around.started_ms).min(now_ms.max(around.started_ms));
        Anchor { height: head, at_ms: last, step_ms: around.step_ms }
    };
    let stand = |wake_ms, stuck| Next { target: head, pace, live: 0, stuck, wake_ms };
    if faults.no_blocks || head == u64::MAX {
        return stand(None, false);
    }
    let held = [
        faults.head_still.map(|span| around.started_ms.saturating_add(span.ms())),
        faults
            .catch_up_after
            .filter(|_| around.behind_at_start)
            .map(|span| around.started_ms.saturating_add(span.ms())),
    ];
    if let Some(until) = held.into_iter().flatten().max().filter(|&until| until > now_ms) {
        return stand(Some(until), false);
    }
    let due = if around.follows { pace.height_at(now_ms) } else { pace.height_at(now_ms).min(head + 1) };
    let limit = wall(around, faults).map_or(u64::MAX, |first| first.saturating_sub(1));
    let target = due.min(limit).min(faults.halt_at.unwrap_or(u64::MAX));
    if target > head {
        // Alone, every block is ours; in a network only the one that comes as it is made.
        let live = u64::from(!around.follows || target == head + 1);
        let pace = if around.follows {
            pace
        } else {
            Anchor {
                height: target,
                at_ms: pace.time_of(target).max(now_ms.saturating_sub(around.step_ms / 2)),
                ..pace
            }
        };
        return Next {
            target,
            pace,
            live,
            stuck: false,
            wake_ms: Some(pace.time_of(target.saturating_add(1))),
        };
    }
    let stuck = limit <= head && due > head;
    let halted = faults.halt_at.is_some_and(|at| at <= head);
    let wake_ms = (!stuck && !halted).then(|| pace.time_of(head.saturating_add(1)));
    stand(wake_ms, stuck)
}

/// The first block whose rules divide this program from its network: it has no rules for the network's fork, or
/// another height for it.
pub(crate) fn foreign_from(network: Option<&Fork>, own: &[Fork]) -> Option<u64> {
    let network = network?;
    match own.iter().find(|fork| fork.name == network.name) {
        Some(fork) if fork.height == network.height => None,
        Some(fork) => Some(fork.height.min(network.height)),
        None => Some(network.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Span;
    use std::time::Duration;

    fn chain(head: u64) -> Chain {
        let mut chain = Chain::new(1112, "", 1_000_000, 1000);
        chain.extend(head, Anchor { height: 0, at_ms: 1_000_000, step_ms: 1000 }, &[]);
        chain
    }

    fn around(follows: bool) -> Circumstances {
        Circumstances {
            started_ms: 1_050_000,
            step_ms: 1000,
            follows,
            behind_at_start: follows,
            foreign_from: None,
        }
    }

    fn seconds(s: u64) -> Option<Span> {
        Some(Span(Duration::from_secs(s)))
    }

    #[test]
    fn alone_one_block_a_step_from_the_start_on() {
        let next_at = |now| next(&chain(5), &Faults::default(), &around(false), now);
        assert_eq!((next_at(1_050_400).target, next_at(1_050_400).wake_ms), (5, Some(1_051_000)));
        let due = next_at(1_051_002);
        assert_eq!((due.target, due.live, due.wake_ms), (6, 1, Some(1_052_000)));
        let late = next_at(1_090_000);
        assert_eq!((late.target, late.pace.time_of(6)), (6, 1_089_500));
    }

    #[test]
    fn a_network_goes_on_by_the_wall_clock() {
        let due = next(&chain(5), &Faults::default(), &around(true), 1_050_400);
        assert_eq!((due.target, due.live, due.wake_ms), (50, 0, Some(1_051_000)));
        let due = next(&chain(49), &Faults::default(), &around(true), 1_050_400);
        assert_eq!((due.target, due.live), (50, 1));
    }

    #[test]
    fn a_validator_that_missed_a_block_stands_and_then_jumps() {
        let faults = Faults { catch_up_after: seconds(10), ..Faults::default() };
        let standing = next(&chain(5), &faults, &around(true), 1_059_999);
        assert_eq!((standing.target, standing.wake_ms, standing.stuck), (5, Some(1_060_000), false));
        assert_eq!(next(&chain(5), &faults, &around(true), 1_060_000).target, 60);
        let in_step = Circumstances { behind_at_start: false, ..around(true) };
        assert_eq!(next(&chain(50), &faults, &in_step, 1_051_000).target, 51);
    }

    #[test]
    fn a_fork_that_cannot_be_imported_is_a_wall() {
        let faults = Faults { cannot_import_from: Some(40), ..Faults::default() };
        assert_eq!(next(&chain(5), &faults, &around(true), 1_050_400).target, 39);
        let at_wall = next(&chain(39), &faults, &around(true), 1_050_400);
        assert_eq!((at_wall.target, at_wall.stuck, at_wall.wake_ms), (39, true, None));
        assert!(next(&chain(45), &faults, &around(true), 1_050_400).stuck);
    }

    #[test]
    fn a_halt_is_no_wall() {
        let faults = Faults { halt_at: Some(6), ..Faults::default() };
        assert_eq!(next(&chain(5), &faults, &around(false), 1_051_000).target, 6);
        let halted = next(&chain(6), &faults, &around(false), 1_053_000);
        assert_eq!((halted.target, halted.stuck, halted.wake_ms), (6, false, None));
    }

    #[test]
    fn who_has_the_networks_fork_at_its_height_is_not_divided_from_it() {
        let fork = |name: &str, height| Fork { name: name.to_owned(), height };
        let network = fork("a", 40);
        assert_eq!(foreign_from(Some(&network), &[fork("a", 40)]), None);
        assert_eq!(foreign_from(Some(&network), &[fork("a", 30)]), Some(30));
        assert_eq!(foreign_from(Some(&network), &[fork("b", 30)]), Some(40));
        assert_eq!(foreign_from(None, &[]), None);
    }
}
