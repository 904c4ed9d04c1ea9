//! The way for everybody else to the engine: ask how it stands, order something, hear what happened.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use wemixvisor_core::engine::port::{HistoryEntry, Input, Order, RefusalCode, Refused};
use wemixvisor_core::engine::snapshot::Snapshot;
use wemixvisor_core::head::Height;
use wemixvisor_core::settings::Settings;
use wemixvisor_core::time::WallMs;
use wemixvisor_host::home::Home;
use wemixvisor_host::link::{self, LinkError};
use wemixvisor_host::successor::Successor;

use crate::configuration::Configuration;
use crate::preparing::said;

/// So many questions are in the mailbox at once. The others wait before it, in turn: however many ask, what the engine
/// has to do is behind these few only.
const QUESTIONS: usize = 4;

/// What lands in the engine's mailbox.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened.
    Happened(Input),
    /// A person wants something.
    Ordered { order: Order, reply: oneshot::Sender<Result<String, Refused>> },
    /// The settings were read again.
    Settings(Result<Box<Settings>, String>),
    /// How does it stand?
    Snapshot(oneshot::Sender<Snapshot>),
    /// The newest finished upgrades.
    History { limit: usize, reply: oneshot::Sender<Result<Vec<HistoryEntry>, String>> },
    /// What happened after this sequence number.
    EventsSince { seq: u64, limit: usize, reply: oneshot::Sender<Result<Vec<RecordedEvent>, String>> },
    /// What happens from now on.
    Subscribe(oneshot::Sender<Result<Subscription, String>>),
}

/// Told to subscribers while it happens.
#[derive(Debug, Clone)]
pub enum Notice {
    /// An event was recorded.
    Event(Arc<RecordedEvent>),
    /// The head has moved.
    Head(HeadMoved),
}

/// The head has moved: told, but not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadMoved {
    /// Its height.
    pub height: Height,
    /// The estimated time between two blocks, in milliseconds.
    pub block_time_ms: Option<u64>,
}

/// What happens from a certain moment on.
#[derive(Debug)]
pub struct Subscription {
    /// Every notice after that moment. Who is too slow for it finds the events in the store.
    pub notices: broadcast::Receiver<Notice>,
    /// The number of the newest event before that moment; 0 before the first one.
    pub last: u64,
}

/// A handle to the running engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    mailbox: mpsc::Sender<Message>,
    questions: Arc<Semaphore>,
    successor: Arc<Successor>,
    pub(crate) configuration: Configuration,
}

/// The engine has ended: nobody answers any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor is ending")]
pub struct Gone;

/// An event as it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordedEvent {
    /// Its number: rising, without repetition, durable.
    pub seq: u64,
    /// When it was recorded.
    pub at: WallMs,
    /// `upgrades`, `heights`, `node`, `alerts`, `system`.
    pub topic: String,
    /// Its kind, a stable word.
    pub kind: String,
    /// Its particulars; `message` says it in words.
    pub data: Value,
}

impl Handle {
    pub(crate) fn new(
        mailbox: mpsc::Sender<Message>,
        successor: Successor,
        configuration: Configuration,
    ) -> Self {
        let questions = Arc::new(Semaphore::new(QUESTIONS));
        Self { mailbox, questions, successor: Arc::new(successor), configuration }
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`Gone`] when the supervisor is ending.
    pub async fn snapshot(&self) -> Result<Snapshot, Gone> {
        self.question(Message::Snapshot).await
    }

    /// Orders something. The outer error: nobody answers any more. The inner one: it was refused, and why. A
    /// long job (apply, rollback, restart) is answered when it has begun, not when it is over.
    ///
    /// # Errors
    /// [`Gone`] when the supervisor is ending.
    pub async fn order(&self, order: Order) -> Result<Result<String, Refused>, Gone> {
        self.ask(|reply| Message::Ordered { order, reply }).await
    }

    /// The newest finished upgrades, newest first.
    ///
    /// # Errors
    /// [`Gone`]; the inner error says why the store cannot be read.
    pub async fn history(&self, limit: usize) -> Result<Result<Vec<HistoryEntry>, String>, Gone> {
        self.question(|reply| Message::History { limit, reply }).await
    }

    /// The events after `seq`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`Gone`]; the inner error says why the store cannot be read.
    pub async fn events_since(
        &self,
        seq: u64,
        limit: usize,
    ) -> Result<Result<Vec<RecordedEvent>, String>, Gone> {
        self.question(|reply| Message::EventsSince { seq, limit, reply }).await
    }

    /// Has the supervisor stop the node and end.
    ///
    /// # Errors
    /// [`Gone`] when it is ending already.
    pub async fn shut_down(&self) -> Result<(), Gone> {
        self.mailbox.send(Message::Happened(Input::Shutdown)).await.map_err(|_| Gone)
    }

    /// Has the program on the disk take the supervisor's place; the node runs on. Refused when that program could not
    /// begin, or would find no program to start the node with.
    ///
    /// # Errors
    /// As [`Handle::order`].
    pub async fn give_way(&self) -> Result<Result<String, Refused>, Gone> {
        if let Err(message) = self.could_go_on().await {
            return Ok(Err(Refused { code: RefusalCode::NotReady, message }));
        }
        let answer = self.order(Order::ReplaceSupervisor).await?;
        if answer.is_ok() {
            // Said now: the log's thread does not outlive the exec.
            tracing::info!("{} takes this supervisor's place", self.successor.program.display());
        }
        Ok(answer)
    }

    /// Whether the next supervisor could begin, and would find a program to start the node with: settings that take
    /// its start to be in force may have changed.
    async fn could_go_on(&self) -> Result<(), String> {
        let fit = self.successor.is_fit().await;
        fit.map_err(|unfit| format!("{}; nothing was changed", said(&unfit)))?;
        let read = self.configuration.read.clone();
        let look = tokio::task::spawn_blocking(move || match read(None) {
            Ok(read) => finds_program(&read.settings),
            // What only the next supervisor's program understands, that has found to be good.
            Err(_) => Ok(()),
        });
        look.await.unwrap_or_else(|error| Err(format!("{error}; nothing was changed")))
    }

    /// Has the settings read again, as a changed file has by itself a moment later.
    ///
    /// # Errors
    /// [`Gone`] when the supervisor is ending.
    pub async fn settings_changed(&self) -> Result<(), Gone> {
        let (configuration, mailbox) = (self.configuration.clone(), self.mailbox.clone());
        let told = tokio::task::spawn_blocking(move || configuration.tell(&mailbox)).await;
        if told.is_err() || self.mailbox.is_closed() { Err(Gone) } else { Ok(()) }
    }

    pub(crate) async fn question<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Gone> {
        let _turn = self.questions.acquire().await.map_err(|_| Gone)?;
        self.ask(message).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(message(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

/// Whether a supervisor with these settings finds the program that `current` leads to.
fn finds_program(settings: &Settings) -> Result<(), String> {
    let home = Home::new(&settings.home, Some(&settings.own_dir()), None, &settings.name);
    let home = home.map_err(|error| format!("{}; nothing was changed", said(&error)))?;
    let problem = match link::current(&home).and_then(|target| link::program(&home, &target)) {
        Ok(_) => return Ok(()),
        Err(problem) => problem,
    };
    let mend = match problem {
        LinkError::NoProgram { .. } => "put the program there, or set `name` to the name that it has",
        _ => "put that right first",
    };
    Err(format!(
        "with the settings as they are now (name = {:?}) the next supervisor could not start the node: {}; nothing was \
         changed: {mend}",
        settings.name,
        said(&problem)
    ))
}
