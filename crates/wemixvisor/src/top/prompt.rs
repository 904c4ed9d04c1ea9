//! Orders from the keyboard. Each is sent only after a word was typed that says what it is about: a key that was hit
//! by mistake does nothing.

use wemixvisor_core::plan::PlanName;
use wemixvisor_daemon::api::wire::Status;
use wemixvisor_daemon::control::Method;

use crate::render::status::waiting;

/// The most characters that are taken: those of the longest name.
const LONGEST: usize = 128;

/// What is sent to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// What it is, in words.
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) path: String,
}

/// An order before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// What will happen.
    pub(super) means: String,
    /// What has to be typed.
    pub(super) word: String,
    pub(super) typed: String,
    order: Order,
}

/// What can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Start,
    Stop,
    Restart,
    Cancel,
    Apply,
    Rollback,
}

impl Prompt {
    /// What has to be typed for this wish.
    ///
    /// # Errors
    /// There is nothing that it could be about.
    pub(super) fn of(wish: Wish, status: Option<&Status>) -> Result<Self, String> {
        let node = |word: &str, means: &str| {
            let path = format!("/api/v1/node/{word}");
            Self::new(word, means.into(), format!("{word} the node"), Method::POST, path)
        };
        match wish {
            Wish::Start => Ok(node("start", "The node is started.")),
            Wish::Stop => Ok(node("stop", "The node is stopped and stays down; the supervisor stays up.")),
            Wish::Restart => Ok(node("restart", "The node is stopped and started again.")),
            Wish::Cancel => {
                let (name, under_way) =
                    to_cancel(status).ok_or("no upgrade is scheduled that could be cancelled")?;
                let means = match under_way {
                    true => format!("Upgrade {name} is under way and is called off."),
                    false => format!("Upgrade {name} is taken off the schedule."),
                };
                let path = format!("/api/v1/upgrades/{name}");
                Ok(Self::new(name.as_str(), means, format!("cancel upgrade {name}"), Method::DELETE, path))
            }
            Wish::Apply => {
                let name = next(status).ok_or("no upgrade is scheduled that could be carried out")?;
                let means =
                    format!("Upgrade {name} is carried out now: the node is stopped, {name} is started.");
                let path = format!("/api/v1/upgrades/{name}/apply");
                Ok(Self::new(name.as_str(), means, format!("apply upgrade {name}"), Method::POST, path))
            }
            Wish::Rollback => Ok(Self::new(
                "rollback",
                "The node is stopped, and the program before the last upgrade is started.".into(),
                "roll back".into(),
                Method::POST,
                "/api/v1/upgrades/rollback".into(),
            )),
        }
    }

    fn new(word: &str, means: String, what: String, method: Method, path: String) -> Self {
        let order = Order { what, method, path };
        Self { means, word: word.into(), typed: String::new(), order }
    }

    pub(super) fn type_in(&mut self, c: char) {
        if !c.is_control() && self.typed.chars().count() < LONGEST {
            self.typed.push(c);
        }
    }

    /// The order, if what was typed is the word.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn send(self) -> Result<Order, String> {
        if self.typed == self.word {
            return Ok(self.order);
        }
        let Self { typed, word, order, .. } = self;
        Err(format!("not done ({}): \"{typed}\" was typed, not \"{word}\"", order.what))
    }
}

/// The upgrade under way, while it can be called off; else the next one that waits.
fn to_cancel(status: Option<&Status>) -> Option<(PlanName, bool)> {
    let under_way = status?.upgrade.as_ref().filter(|under_way| under_way.can_cancel);
    // What is no plan, such as a rollback, has words instead of a name.
    match under_way.and_then(|under_way| under_way.name.parse().ok()) {
        Some(name) => Some((name, true)),
        None => next(status).map(|name| (name, false)),
    }
}

/// The next upgrade that waits.
fn next(status: Option<&Status>) -> Option<PlanName> {
    waiting(status?).first()?.name.parse().ok()
}
