//! Waiting for facts.

use std::time::{Duration, Instant};

/// How long a fact may take to come true on two busy cores. Far above what it takes: only a fact that never comes
/// true meets it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(20);

/// Waits until `fact` gives something, and fails the test when it does not within `limit`.
///
/// # Panics
/// When the fact has not come true in time.
pub fn wait_for<T>(what: &str, limit: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(begin.elapsed() < limit, "not true within {} s: {what}", limit.as_secs());
        std::thread::sleep(EVERY);
    }
}
