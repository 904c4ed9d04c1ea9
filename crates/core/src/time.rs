//! Moments as values. Two clocks are kept apart: one that only ever goes forward, for limits and back-off,
//! and the wall clock, for records and for what a person reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC. May jump when the machine's clock is set: never used for limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct WallMs(pub u64);

/// Milliseconds since this supervisor started. Never goes back, means nothing in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoMs(pub u64);

/// One moment, read from both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For limits.
    pub mono: MonoMs,
    /// For records.
    pub wall: WallMs,
}

impl MonoMs {
    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: MonoMs) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment put off by `by`.
    pub fn after(self, by: Duration) -> MonoMs {
        MonoMs(self.0.saturating_add(millis(by)))
    }
}

impl WallMs {
    /// This moment put off by `by`.
    pub fn after(self, by: Duration) -> WallMs {
        WallMs(self.0.saturating_add(millis(by)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: WallMs) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole milliseconds, at most `u64::MAX`.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
