//! What an upgrade meets: the kinds of cycle.

use std::fmt;

use testkit::{Program, TestHome};

const HOOK: &str = "#!/bin/sh\nexit 0\n";

/// One kind of upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cycle {
    /// The new program works.
    Good,
    /// The new program exits at once with a fatal error.
    Bad,
    /// The new program ends by itself a moment after its start.
    Dies,
    /// The new program answers, but makes no blocks.
    Stands,
    /// The old program does not end after SIGTERM and has to be killed.
    Hangs,
}

impl Cycle {
    pub const ALL: [Self; 5] = [Self::Good, Self::Bad, Self::Dies, Self::Stands, Self::Hangs];

    pub fn lay_out(self, home: &TestHome, old: Program, new: Program) {
        let (old, new) = match self {
            Self::Good => (old, new),
            Self::Bad => (old, new.with("--fail-start=bad flag")),
            Self::Dies => (old, new.with("--exit-after=150ms")),
            Self::Stands => (old, new.with("--no-blocks")),
            Self::Hangs => (old.with("--stop-hangs"), new),
        };
        if self == Self::Dies {
            // Also on a machine that stutters it ends while it is being proven.
            home.set("probation.must_be_steady_for", "3s");
        }
        if self == Self::Stands {
            home.set("probation.must_advance_within", "1500ms");
        }
        if self == Self::Hangs {
            home.set("node.shutdown_grace", "400ms");
            home.set("node.stop_hard_limit", "2s");
        }
        home.init(&old);
        home.install("v2", &new);
        for hook in ["pre-stop", "pre-upgrade", "post-upgrade"] {
            home.hook("v2", hook, HOOK);
        }
    }

    /// How the upgrade ends when no node was killed from outside.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Good | Self::Hangs => "committed",
            Self::Bad | Self::Dies | Self::Stands => "rolled_back",
        }
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Dies => "dies",
            Self::Stands => "stands",
            Self::Hangs => "hangs",
        })
    }
}
