//! The pace of the chain: the times between the last heads, as they were seen.

use std::collections::VecDeque;

use wemixvisor_daemon::api::wire::Event;

/// So many are kept.
const KEPT: usize = 60;

/// The eighths of a block, from low to high.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The times between blocks, in milliseconds, the newest last.
#[derive(Debug, Default)]
pub(super) struct Pace {
    intervals: VecDeque<u64>,
    /// The last head, and when it was seen, in milliseconds since 1970.
    last: Option<(u64, u64)>,
}

impl Pace {
    /// Looks whether the event tells a head.
    pub(super) fn take(&mut self, event: &Event) {
        if event.kind != "height" {
            return;
        }
        let Some(height) = event.data["height"].as_u64() else { return };
        let seen = event.timestamp.0;
        if let Some((before, then)) = self.last
            && height > before
        {
            if self.intervals.len() == KEPT {
                self.intervals.pop_front();
            }
            // Several blocks at once were made one after the other.
            self.intervals.push_back(seen.saturating_sub(then) / (height - before));
        }
        self.last = Some((height, seen));
    }

    /// Heads were missed: the next one tells no interval.
    pub(super) fn interrupted(&mut self) {
        self.last = None;
    }

    /// The newest intervals as at most `width` bars, the longest of them a full one, with the shortest and the longest
    /// in milliseconds; `None` where there are too few.
    pub(super) fn bars(&self, width: usize) -> Option<(String, u64, u64)> {
        let shown = self.intervals.len().min(width);
        let newest = || self.intervals.iter().skip(self.intervals.len() - shown).copied();
        let (least, most) = (newest().min()?, newest().max()?);
        if shown < 2 {
            return None;
        }
        let top = BARS.len() as u64 - 1;
        let bar = |interval: u64| {
            let eighth = interval.saturating_mul(top).checked_div(most).unwrap_or(0);
            BARS[usize::try_from(eighth).unwrap_or(0).min(BARS.len() - 1)]
        };
        Some((newest().map(bar).collect(), least, most))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wemixvisor_daemon::api::wire::Moment;

    use super::*;

    fn told(pace: &mut Pace, heads: &[(u64, u64)]) {
        for &(height, at) in heads {
            pace.take(&Event {
                seq: 1,
                timestamp: Moment(at),
                topic: "heights".into(),
                kind: "height".into(),
                data: json!({ "height": height }),
            });
        }
    }

    #[test]
    fn intervals_are_those_between_heads_that_go_up() {
        let mut pace = Pace::default();
        told(&mut pace, &[(10, 0), (11, 1000)]);
        assert_eq!(pace.bars(40), None, "one is no pace");
        told(&mut pace, &[(13, 3000), (12, 3500), (13, 4500), (14, 4500)]);
        assert_eq!(pace.intervals, [1000, 1000, 1000, 0]);
        assert_eq!(pace.bars(40), Some(("███▁".into(), 0, 1000)));
        assert_eq!(pace.bars(2), Some(("█▁".into(), 0, 1000)));
        assert_eq!((pace.bars(1), pace.bars(0)), (None, None));
        pace.interrupted();
        told(&mut pace, &[(900, 60_000), (901, 60_500)]);
        assert_eq!(pace.intervals, [1000, 1000, 1000, 0, 500]);
    }

    #[test]
    fn it_is_bounded_and_blocks_in_no_time_divide_by_nothing() {
        let mut pace = Pace::default();
        told(&mut pace, &(0..500).map(|height| (height, 7)).collect::<Vec<_>>());
        assert_eq!(pace.intervals.len(), KEPT);
        assert_eq!(pace.bars(3), Some(("▁▁▁".into(), 0, 0)));
    }
}
