//! The view of the chain's height, merged from all sources.
//!
//! One source is followed at a time; only its heads count. The *highest* height ever followed decides whether
//! a plan is due, so that a head that goes down (reorg, rewind after a kill) never takes a decision back. The
//! *current* head is what people see, what the block time is estimated from, and what probation judges.

use std::collections::VecDeque;
use std::time::Duration;

use crate::head::{BlockHash, Head, Height};
use crate::time::{MonoMs, Now, WallMs, millis};

/// So many advances are kept for the estimate of the block time: about a minute of a chain with 1 s blocks,
/// long enough to even out the jitter of polling, short enough to follow a change of pace.
const PACE_SAMPLES: usize = 64;

/// So many block hashes are remembered, for the pin that is compared after an upgrade.
const HASHES: usize = 64;

/// What is known about the chain's height.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeightView {
    head: Option<Seen>,
    highest: Option<Height>,
    progress_at: Option<MonoMs>,
    answered_at: Option<MonoMs>,
    advances: VecDeque<(Height, MonoMs)>,
    hashes: VecDeque<(Height, BlockHash)>,
    followed: Option<usize>,
    failures: Vec<Option<String>>,
    block_time: Option<Duration>,
}

/// A head and when it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// The head.
    pub head: Head,
    /// When it was seen first.
    pub at: Now,
}

/// What a new head meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The height went up by so many blocks.
    Up(u64),
    /// The height went down by so many blocks: a reorg, or a rewind after an unclean stop.
    Down(u64),
    /// The same height with another hash: a reorg of the tip.
    Replaced,
    /// Nothing new.
    Same,
}

impl HeightView {
    /// An empty view over `sources` sources. `block_time` is the estimate of an earlier run, if any.
    pub fn new(sources: usize, block_time: Option<Duration>) -> Self {
        Self { failures: vec![None; sources], block_time, ..Self::default() }
    }

    /// A head came in from `source`.
    pub fn head_seen(&mut self, source: usize, head: Head, now: Now) -> Change {
        self.follow(source);
        self.answered_at = Some(now.mono);
        if let Some(hash) = head.hash {
            self.remember_hash(head.height, hash);
        }
        let change = match self.head.map(|seen| seen.head) {
            None => Change::Up(1),
            Some(old) if head.height > old.height => Change::Up(head.height - old.height),
            Some(old) if head.height < old.height => Change::Down(old.height - head.height),
            Some(old) if old.hash.is_some() && head.hash.is_some() && old.hash != head.hash => {
                Change::Replaced
            }
            Some(_) => Change::Same,
        };
        match change {
            Change::Same => {
                if let Some(seen) = &mut self.head {
                    seen.head.hash = seen.head.hash.or(head.hash);
                    seen.head.block_time = seen.head.block_time.or(head.block_time);
                }
                return change;
            }
            Change::Up(_) => {
                self.progress_at = Some(now.mono);
                self.advances.push_back((head.height, now.mono));
            }
            Change::Down(_) => {
                self.advances.clear();
                self.advances.push_back((head.height, now.mono));
                self.hashes.retain(|(height, hash)| {
                    *height < head.height || (*height == head.height && Some(*hash) == head.hash)
                });
            }
            Change::Replaced => {}
        }
        while self.advances.len() > PACE_SAMPLES {
            self.advances.pop_front();
        }
        self.estimate_pace();
        self.highest = self.highest.max(Some(head.height));
        self.head = Some(Seen { head, at: now });
        change
    }

    /// A hash became known outside the stream of heads (asked for by height).
    pub fn remember_hash(&mut self, height: Height, hash: BlockHash) {
        self.hashes.retain(|(known, _)| *known != height);
        self.hashes.push_back((height, hash));
        if self.hashes.len() > HASHES {
            self.hashes.pop_front();
        }
    }

    /// There are other sources now, this many.
    pub fn sources_changed(&mut self, sources: usize) {
        self.failures = vec![None; sources];
        self.followed = None;
    }

    /// From now on `source` is the one whose heads count.
    pub fn follow(&mut self, source: usize) {
        self.followed = Some(source);
        self.recovered(source);
    }

    /// `source` does not answer, for `reason`.
    pub fn failed(&mut self, source: usize, reason: String) {
        if let Some(slot) = self.failures.get_mut(source) {
            *slot = Some(reason);
        }
    }

    /// `source` answers again.
    pub fn recovered(&mut self, source: usize) {
        if let Some(slot) = self.failures.get_mut(source) {
            *slot = None;
        }
    }

    /// The node was stopped or started: what is seen next belongs to another process, so neither the pace
    /// nor the stillness of the head may be counted across the gap.
    pub fn interrupted(&mut self, now: MonoMs) {
        self.advances.clear();
        self.answered_at = None;
        self.progress_at = self.progress_at.map(|_| now);
    }

    /// The head as last seen.
    pub fn head(&self) -> Option<Seen> {
        self.head
    }

    /// The highest height ever seen.
    pub fn highest(&self) -> Option<Height> {
        self.highest
    }

    /// The source that is followed, as its place in the list of sources.
    pub fn followed(&self) -> Option<usize> {
        self.followed
    }

    /// Why each source does not answer; `None` where it does.
    pub fn failures(&self) -> &[Option<String>] {
        &self.failures
    }

    /// The newest known block at or below `limit` and its hash.
    pub fn newest_hash(&self, limit: Height) -> Option<(Height, BlockHash)> {
        self.hashes.iter().copied().filter(|(height, _)| *height <= limit).max_by_key(|(height, _)| *height)
    }

    /// How long the head has not gone up; `None` when it never has.
    pub fn still_for(&self, now: MonoMs) -> Option<Duration> {
        self.progress_at.map(|at| now.since(at))
    }

    /// When a source gave a head last; `None` when none has since the node's last start.
    pub fn answered_at(&self) -> Option<MonoMs> {
        self.answered_at
    }

    /// The estimated time between two blocks.
    pub fn block_time(&self) -> Option<Duration> {
        self.block_time
    }

    /// The wall-clock time at which `height` is expected; `None` without a head or an estimate, and when the
    /// height is past.
    pub fn expected_at(&self, height: Height, now: Now) -> Option<WallMs> {
        let seen = self.head?;
        let missing = height.checked_sub(seen.head.height).filter(|missing| *missing > 0)?;
        let block_time = millis(self.block_time?);
        let due = seen.at.wall.0.checked_add(missing.checked_mul(block_time)?)?;
        Some(WallMs(due.max(now.wall.0)))
    }

    /// How far the newest block's own time lies behind the wall clock; `None` where the source does not say.
    pub fn lag(&self) -> Option<Duration> {
        let seen = self.head?;
        lag_of(seen.head, seen.at.wall)
    }

    fn estimate_pace(&mut self) {
        let (Some(first), Some(last)) = (self.advances.front(), self.advances.back()) else { return };
        let blocks = last.0.saturating_sub(first.0);
        if let Some(per_block) = millis(last.1.since(first.1)).checked_div(blocks) {
            self.block_time = Some(Duration::from_millis(per_block));
        }
    }
}

/// How far a head lies behind the moment `at`, where its source says when it was made. The genesis block was never
/// made: its time is what somebody wrote into a file, often 0.
pub fn lag_of(head: Head, at: WallMs) -> Option<Duration> {
    head.block_time.filter(|_| head.height > 0).map(|seconds| lag(seconds, at))
}

/// How far a block with the time `block_seconds` lies behind the moment `at`.
pub fn lag(block_seconds: u64, at: WallMs) -> Duration {
    Duration::from_millis(at.0.saturating_sub(block_seconds.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { mono: MonoMs(ms), wall: WallMs(1_000_000 + ms) }
    }

    fn head(height: Height) -> Head {
        Head { height, hash: Some(BlockHash([height as u8; 32])), block_time: None }
    }

    fn walked(heights: &[(Height, u64)]) -> HeightView {
        let mut view = HeightView::new(1, None);
        for (height, ms) in heights {
            view.head_seen(0, head(*height), at(*ms));
        }
        view
    }

    #[test]
    fn the_highest_height_survives_a_rewind() {
        let mut view = walked(&[(10, 0), (11, 1000)]);
        assert_eq!(view.head_seen(0, head(4), at(2000)), Change::Down(7));
        assert_eq!(view.highest(), Some(11));
        assert_eq!(view.head().unwrap().head.height, 4);
        assert_eq!(view.newest_hash(100), Some((4, BlockHash([4; 32]))));
        assert_eq!(view.head_seen(0, head(5), at(3000)), Change::Up(1));
        assert_eq!(view.highest(), Some(11));
    }

    #[test]
    fn a_reorg_forgets_the_hashes_it_replaced_and_no_others() {
        let mut view = walked(&[(3, 0), (5, 1000), (7, 2000)]);
        let replaced = Head { hash: Some(BlockHash([55; 32])), ..head(5) };
        assert_eq!(view.head_seen(0, replaced, at(3000)), Change::Down(2));
        assert_eq!(view.newest_hash(100), Some((5, BlockHash([55; 32]))), "7 is gone, 5 is another one");
        assert_eq!(view.newest_hash(4), Some((3, BlockHash([3; 32]))), "3 is as it was");
        let unnamed = Head { hash: None, ..head(3) };
        assert_eq!(view.head_seen(0, unnamed, at(4000)), Change::Down(2));
        assert_eq!(view.newest_hash(100), None, "whether 3 is the same block is not known");
    }

    #[test]
    fn other_sources_begin_without_failures() {
        let mut view = HeightView::new(1, None);
        view.failed(0, "refused".into());
        view.follow(0);
        view.failed(0, "refused again".into());
        assert_eq!(view.followed(), Some(0));
        view.sources_changed(2);
        assert_eq!((view.followed(), view.failures()), (None, [None, None].as_slice()));
        view.follow(1);
        assert_eq!(view.followed(), Some(1));
    }

    #[test]
    fn a_repeat_is_no_progress_but_fills_in_what_was_missing() {
        let mut view = HeightView::new(1, None);
        view.head_seen(0, Head { height: 7, hash: None, block_time: None }, at(0));
        assert_eq!(view.head_seen(0, Head { block_time: Some(900), ..head(7) }, at(500)), Change::Same);
        assert_eq!(view.head().unwrap().head.block_time, Some(900));
        assert_eq!(view.still_for(MonoMs(700)), Some(Duration::from_millis(700)));
        assert_eq!(view.answered_at(), Some(MonoMs(500)));
    }

    #[test]
    fn another_hash_at_the_same_height_is_a_reorg_of_the_tip() {
        let mut view = walked(&[(7, 0)]);
        let other = Head { hash: Some(BlockHash([99; 32])), ..head(7) };
        assert_eq!(view.head_seen(0, other, at(1)), Change::Replaced);
        assert_eq!(view.newest_hash(7), Some((7, BlockHash([99; 32]))));
    }

    #[test]
    fn the_pace_gives_the_expected_time() {
        let view = walked(&[(100, 0), (101, 1000), (103, 3000)]);
        assert_eq!(view.block_time(), Some(Duration::from_secs(1)));
        assert_eq!(view.expected_at(110, at(3000)), Some(WallMs(1_000_000 + 10_000)));
        assert_eq!(view.expected_at(103, at(3000)), None, "already there");
        assert_eq!(view.expected_at(u64::MAX, at(3000)), None, "beyond any calendar");
        assert_eq!(view.expected_at(104, at(60_000)), Some(WallMs(1_060_000)), "overdue: now");
    }

    #[test]
    fn an_interruption_does_not_count_as_pace_or_stillness() {
        let mut view = walked(&[(100, 0), (101, 1000)]);
        view.interrupted(MonoMs(60_000));
        assert_eq!(view.answered_at(), None);
        assert_eq!(view.still_for(MonoMs(61_000)), Some(Duration::from_secs(1)));
        view.head_seen(0, head(102), at(62_000));
        assert_eq!(view.block_time(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn failures_are_kept_by_source() {
        let mut view = HeightView::new(2, None);
        view.failed(0, "refused".into());
        view.head_seen(1, head(3), at(0));
        assert_eq!(view.followed(), Some(1));
        assert_eq!(view.failures(), [Some("refused".into()), None]);
        view.recovered(0);
        view.failed(9, "no such source".into());
        assert_eq!(view.failures(), [None, None]);
    }

    #[test]
    fn heights_at_the_end_of_the_range_do_not_overflow() {
        let view = walked(&[(u64::MAX - 1, 0), (u64::MAX, 10)]);
        assert_eq!(view.highest(), Some(u64::MAX));
        assert_eq!(view.block_time(), Some(Duration::from_millis(10)));
        assert_eq!(lag(u64::MAX, WallMs(5)), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let view = walked(&(0..1000).map(|n| (n, n * 10)).collect::<Vec<_>>());
        assert_eq!((view.advances.len(), view.hashes.len()), (PACE_SAMPLES, HASHES));
    }

    #[test]
    fn the_lag_is_that_of_the_newest_block() {
        let mut view = HeightView::new(1, None);
        assert_eq!(view.lag(), None);
        view.head_seen(0, Head { block_time: Some(990), ..head(1) }, at(0));
        assert_eq!(view.lag(), Some(Duration::from_secs(10)));
        view.head_seen(0, Head { block_time: Some(0), ..head(0) }, at(0));
        assert_eq!(view.lag(), None, "the time of block 0 says nothing");
    }
}
