//! When a plan is due (PRODUCT.md section 3).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::head::Height;
use crate::plan::{Plan, SwitchMode};

/// Why a plan fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The head reached the height of its mode.
    Reached,
    /// The head had passed it when the plan was seen first.
    Late,
    /// The chain stands still at the last block of the old rules.
    Halted,
    /// The node went down by itself at the last block of the old rules.
    DownAtHalt,
    /// A person ordered it.
    Ordered,
}

/// What the decision is made from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Situation {
    /// The highest height known, of this run or recorded by an earlier one.
    pub highest: Option<Height>,
    /// The head as it stands.
    pub head: Option<Height>,
    /// How long the head has stood still while the node answered.
    pub still_for: Option<Duration>,
    /// The node ended by itself and is down.
    pub went_down: bool,
    /// From this many milliseconds of stillness on the chain counts as halted.
    pub stall_time: Duration,
    /// A number that differs from node to node, for the stagger of a window.
    pub stagger: u64,
    /// The plan was first seen at or past its height.
    pub late: bool,
}

/// The first height at which the plan fires; `None` for modes that do not fire by height alone.
pub fn firing_height(plan: &Plan, stagger: u64) -> Option<Height> {
    let last_old = plan.height.saturating_sub(1);
    match plan.switch {
        SwitchMode::At => Some(plan.height),
        SwitchMode::Before => Some(last_old),
        SwitchMode::Window(blocks) => Some(last_old.saturating_sub(stagger % blocks)),
        // A chain that should have halted and did not is past its fork: late is better than never.
        SwitchMode::Halted => Some(plan.height),
        SwitchMode::Manual => None,
    }
}

/// Whether the plan is due, and why.
pub fn due(plan: &Plan, now: &Situation) -> Option<Why> {
    let reached = match (firing_height(plan, now.stagger), now.highest) {
        (Some(firing), Some(highest)) => highest >= firing,
        _ => false,
    };
    if reached {
        return Some(if now.late { Why::Late } else { Why::Reached });
    }
    if plan.switch != SwitchMode::Halted || now.head != plan.height.checked_sub(1) {
        return None;
    }
    match (now.went_down, now.still_for) {
        (true, _) => Some(Why::DownAtHalt),
        (false, Some(still)) if still >= now.stall_time => Some(Why::Halted),
        _ => None,
    }
}

/// Whether the chain seems to have stopped by itself just before a plan that waits for more: in `at` mode a
/// head that stands still at the height − 1 never reaches it if the old program refuses the fork block.
pub fn stands_before(plan: &Plan, now: &Situation) -> bool {
    plan.switch == SwitchMode::At
        && now.head == plan.height.checked_sub(1)
        && now.still_for.is_some_and(|still| still >= now.stall_time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::PlanInfo;

    fn plan(height: Height, switch: SwitchMode) -> Plan {
        Plan {
            name: "v2".parse().unwrap(),
            height,
            info: PlanInfo::default(),
            switch,
            args: None,
            env: Default::default(),
            expect_version: None,
        }
    }

    fn head_at(height: Height) -> Situation {
        Situation {
            highest: Some(height),
            head: Some(height),
            still_for: Some(Duration::ZERO),
            stall_time: Duration::from_secs(15),
            ..Situation::default()
        }
    }

    #[test]
    fn each_mode_has_its_first_height() {
        for (mode, before, first) in
            [(SwitchMode::At, 99, 100), (SwitchMode::Before, 98, 99), (SwitchMode::Halted, 99, 100)]
        {
            assert_eq!(due(&plan(100, mode), &head_at(before)), None, "{mode}");
            assert_eq!(due(&plan(100, mode), &head_at(first)), Some(Why::Reached), "{mode}");
            assert_eq!(due(&plan(100, mode), &head_at(first + 5)), Some(Why::Reached), "{mode}");
        }
        assert_eq!(due(&plan(100, SwitchMode::Manual), &head_at(500)), None);
    }

    #[test]
    fn an_unknown_height_never_fires() {
        for mode in [SwitchMode::At, SwitchMode::Before, SwitchMode::Window(5), SwitchMode::Halted] {
            assert_eq!(due(&plan(1, mode), &Situation::default()), None, "{mode}");
        }
    }

    #[test]
    fn a_window_is_staggered_within_its_blocks() {
        let plan = plan(100, SwitchMode::Window(10));
        let firing: Vec<_> = (0..20).filter_map(|stagger| firing_height(&plan, stagger)).collect();
        assert_eq!(firing.iter().min(), Some(&90));
        assert_eq!(firing.iter().max(), Some(&99));
        let offset = Situation { stagger: 9, ..head_at(89) };
        assert_eq!(due(&plan, &offset), None);
        assert_eq!(due(&plan, &Situation { stagger: 9, ..head_at(90) }), Some(Why::Reached));
    }

    #[test]
    fn a_halt_fires_after_the_stall_or_when_the_node_went_down() {
        let plan = plan(100, SwitchMode::Halted);
        let still = |seconds| Situation { still_for: Some(Duration::from_secs(seconds)), ..head_at(99) };
        assert_eq!(due(&plan, &still(14)), None);
        assert_eq!(due(&plan, &still(15)), Some(Why::Halted));
        assert_eq!(due(&plan, &Situation { went_down: true, ..head_at(99) }), Some(Why::DownAtHalt));
        assert_eq!(due(&plan, &Situation { went_down: true, ..head_at(98) }), None);
        assert_eq!(due(&plan, &Situation { head: Some(98), ..still(60) }), None);
    }

    #[test]
    fn standing_before_the_height_is_said_in_at_mode_only() {
        let still = Situation { still_for: Some(Duration::from_secs(20)), ..head_at(99) };
        assert!(stands_before(&plan(100, SwitchMode::At), &still));
        assert!(!stands_before(&plan(100, SwitchMode::Halted), &still));
        assert!(!stands_before(&plan(100, SwitchMode::At), &head_at(99)));
        assert!(!stands_before(&plan(101, SwitchMode::At), &still));
    }

    #[test]
    fn late_is_said_as_late() {
        let late = Situation { late: true, ..head_at(100) };
        assert_eq!(due(&plan(50, SwitchMode::At), &late), Some(Why::Late));
    }

    proptest! {
        /// `at` never fires below its height and always at or above it, whatever else is true.
        #[test]
        fn at_fires_exactly_from_its_height_on(height in 1u64..=crate::plan::MAX_PLAN_HEIGHT, head: u64, stagger: u64, late: bool, went_down: bool) {
            let now = Situation { stagger, late, went_down, ..head_at(head) };
            prop_assert_eq!(due(&plan(height, SwitchMode::At), &now).is_some(), head >= height);
        }

        /// No mode fires before the window, and every mode that fires by height has fired at the height.
        #[test]
        fn no_mode_fires_early(height in 1u64..1_000_000, head in 0u64..1_000_000, blocks in 1u64..1000, stagger: u64) {
            let now = Situation { stagger, ..head_at(head) };
            let window = due(&plan(height, SwitchMode::Window(blocks)), &now).is_some();
            prop_assert!(!window || head >= height.saturating_sub(blocks));
            prop_assert!(window || head < height.saturating_sub(1));
        }
    }
}
