//! When a node that ended by itself is started again (PRODUCT.md section 5).

use std::collections::VecDeque;
use std::time::Duration;

use crate::exit::ExitClass;
use crate::time::MonoMs;

/// The first delay after a crash that is not the first one.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// No delay is longer: a node that can run again should not be kept waiting by its past.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// The settings of the policy.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartLimits {
    /// Whether a node that ended by itself is started again at all.
    pub enabled: bool,
    /// So many restarts within `period`, then the node counts as failed. 0 = never restart.
    pub max_restarts: u32,
    /// The period over which restarts are counted.
    pub period: Duration,
    /// A node that ran so long was healthy: what happened before no longer counts.
    pub healthy_uptime: Duration,
}

/// What the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Start again after this long. Zero for the first crash after a healthy time.
    After(Duration),
    /// The budget is used up, or restarts are switched off.
    GiveUp,
}

/// The restarts that still count.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RestartHistory {
    restarts: VecDeque<MonoMs>,
}

impl RestartHistory {
    /// The node ended at `now` after `uptime` (`None`: it never started). `jitter` is a random number that
    /// spreads the restarts of many nodes by up to a tenth.
    pub fn ended(
        &mut self,
        limits: &RestartLimits,
        class: ExitClass,
        uptime: Option<Duration>,
        now: MonoMs,
        jitter: u64,
    ) -> Restart {
        if uptime.is_some_and(|uptime| uptime >= limits.healthy_uptime) {
            self.restarts.clear();
        }
        self.restarts.retain(|at| now.since(*at) < limits.period);
        if !limits.enabled || self.restarts.len() >= limits.max_restarts as usize {
            return Restart::GiveUp;
        }
        let delay = self.delay(class, jitter);
        self.restarts.push_back(now);
        Restart::After(delay)
    }

    /// A person started the node: the budget begins anew.
    pub fn forgive(&mut self) {
        self.restarts.clear();
    }

    /// How many restarts count at the moment.
    pub fn used(&self) -> usize {
        self.restarts.len()
    }

    fn delay(&self, class: ExitClass, jitter: u64) -> Duration {
        let blind = matches!(class, ExitClass::LowDisk | ExitClass::FatalConfig | ExitClass::Loader);
        // The cause of these is still there a moment later: not even the first restart is immediate.
        let step = self.restarts.len() as u32 + u32::from(blind);
        if step == 0 {
            return Duration::ZERO;
        }
        let base = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(step - 1)).min(LONGEST_DELAY);
        let spread = u64::try_from(base.as_millis() / 10).unwrap_or(0);
        base - Duration::from_millis(if spread == 0 { 0 } else { jitter % spread })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: RestartLimits = RestartLimits {
        enabled: true,
        max_restarts: 5,
        period: Duration::from_secs(600),
        healthy_uptime: Duration::from_secs(60),
    };

    fn crash(history: &mut RestartHistory, at: u64, uptime: u64) -> Restart {
        history.ended(&LIMITS, ExitClass::Panic, Some(Duration::from_secs(uptime)), MonoMs(at), 0)
    }

    #[test]
    fn at_once_then_back_off_then_given_up() {
        let mut history = RestartHistory::default();
        let delays: Vec<_> = (0..6).map(|n| crash(&mut history, n * 1000, 1)).collect();
        let after = |seconds| Restart::After(Duration::from_secs(seconds));
        assert_eq!(delays, [after(0), after(1), after(2), after(4), after(8), Restart::GiveUp]);
        assert_eq!(history.used(), 5);
        history.forgive();
        assert_eq!(crash(&mut history, 9000, 1), after(0));
    }

    #[test]
    fn healthy_uptime_resets_the_budget() {
        let mut history = RestartHistory::default();
        (0..5).for_each(|n| {
            crash(&mut history, n * 1000, 1);
        });
        assert_eq!(crash(&mut history, 70_000, 60), Restart::After(Duration::ZERO));
    }

    #[test]
    fn old_restarts_fall_out_of_the_period() {
        let mut history = RestartHistory::default();
        (0..5).for_each(|n| {
            crash(&mut history, n * 1000, 1);
        });
        assert_eq!(crash(&mut history, 604_000, 1), Restart::After(Duration::ZERO));
    }

    #[test]
    fn what_will_not_mend_itself_waits_even_the_first_time() {
        for class in [ExitClass::LowDisk, ExitClass::FatalConfig, ExitClass::Loader] {
            let restart = RestartHistory::default().ended(&LIMITS, class, None, MonoMs(0), 0);
            assert_eq!(restart, Restart::After(FIRST_DELAY), "{class}");
        }
    }

    #[test]
    fn switched_off_means_never() {
        let off = RestartLimits { enabled: false, ..LIMITS };
        let none = RestartLimits { max_restarts: 0, ..LIMITS };
        for limits in [off, none] {
            let mut history = RestartHistory::default();
            assert_eq!(history.ended(&limits, ExitClass::Panic, None, MonoMs(0), 0), Restart::GiveUp);
        }
    }

    proptest! {
        /// Whatever happens, no delay is longer than the longest, and the budget holds.
        #[test]
        fn delays_and_budget_are_bounded(ends in prop::collection::vec((0u64..5000, 0u64..59, any::<u64>()), 1..200)) {
            let limits = RestartLimits { max_restarts: 30, ..LIMITS };
            let mut history = RestartHistory::default();
            let mut now = 0;
            for (gap, uptime, jitter) in ends {
                now += gap;
                match history.ended(&limits, ExitClass::Signal, Some(Duration::from_secs(uptime)), MonoMs(now), jitter) {
                    Restart::After(delay) => prop_assert!(delay <= LONGEST_DELAY),
                    Restart::GiveUp => prop_assert_eq!(history.used(), 30),
                }
                prop_assert!(history.used() <= 30);
            }
        }
    }
}
