//! The one place where the supervisor reads the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wemixvisor_core::time::{MonoMs, Now, WallMs};

/// What the forward-only clock shows at the supervisor's start, in milliseconds: so much, 31 years, that what began
/// before it (a node that was taken over) has its moment on it, too.
const AT_START: u64 = 1_000_000_000_000;

/// Both clocks, counted from the supervisor's start and from 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    #[allow(clippy::disallowed_methods)] // This is the place the ban points to.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    #[allow(clippy::disallowed_methods)] // This is the place the ban points to.
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mono = AT_START + self.started.elapsed().as_millis() as u64;
        Now { mono: MonoMs(mono), wall: WallMs(wall.as_millis() as u64) }
    }

    /// The moment `at` as the runtime's timers understand it.
    pub(crate) fn instant(&self, at: MonoMs) -> tokio::time::Instant {
        // Up to the next whole millisecond: a timer that fires early would find nothing due.
        tokio::time::Instant::from_std(
            self.started + std::time::Duration::from_millis(at.0.saturating_sub(AT_START)),
        )
    }
}
