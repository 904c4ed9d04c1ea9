//! What events are about, and sets of it.

use std::fmt;
use std::str::FromStr;

use wemixvisor_core::near::{did_you_mean, near};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Upgrades,
    Heights,
    Node,
    Logs,
    Metrics,
    Alerts,
    System,
}

impl Topic {
    pub(crate) const ALL: [Self; 7] =
        [Self::Upgrades, Self::Heights, Self::Node, Self::Logs, Self::Metrics, Self::Alerts, Self::System];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Upgrades => "upgrades",
            Self::Heights => "heights",
            Self::Node => "node",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Alerts => "alerts",
            Self::System => "system",
        }
    }

    /// The topic of a recorded event.
    pub(crate) fn of_event(text: &str) -> Self {
        text.parse().unwrap_or(Self::System)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no topic {text:?}{}; there are {}", did_you_mean(near), Topic::ALL.map(Topic::as_str).join(", "))]
pub(crate) struct UnknownTopic {
    text: String,
    near: Vec<&'static str>,
}

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text).ok_or_else(|| UnknownTopic {
            text: text.chars().take(64).collect(),
            near: near(text, Self::ALL.map(Self::as_str)),
        })
    }
}

/// A set of topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Topics(u8);

impl Topics {
    /// What is heard unless something else is asked for: all that is not endless by itself.
    pub(crate) fn usual() -> Self {
        [Topic::Upgrades, Topic::Heights, Topic::Node, Topic::Alerts, Topic::System].into_iter().collect()
    }

    pub(crate) fn contains(self, topic: Topic) -> bool {
        self.0 & bit(topic) != 0
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Topic> {
        Topic::ALL.into_iter().filter(move |topic| self.contains(*topic))
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        self.iter().map(Topic::as_str).collect()
    }

    /// The topics with these names.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownTopic> {
        names.into_iter().map(str::parse).collect()
    }
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        Self(topics.into_iter().fold(0, |bits, topic| bits | bit(topic)))
    }
}

fn bit(topic: Topic) -> u8 {
    1 << topic as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let two = Topics::named(["upgrades", "logs"]).unwrap();
        assert_eq!(two.names(), ["upgrades", "logs"]);
        assert_eq!(two.without(Topics::named(["logs"]).unwrap()).names(), ["upgrades"]);
        assert_eq!(two.with(Topics::usual()).names().len(), 6);
        assert!(!Topics::usual().contains(Topic::Metrics));
        let said = Topics::named(["upgrade"]).unwrap_err().to_string();
        assert!(said.starts_with(r#"there is no topic "upgrade" (did you mean upgrades?)"#), "{said}");
    }
}
