//! The API of a home whose supervisor does not run, for `wemixvisor api`: the same answers that the commands give
//! from the files.

use wemixvisor_core::engine::port::{HistoryEntry, Order};
use wemixvisor_core::engine::snapshot::Snapshot;
use wemixvisor_core::settings::Settings;
use wemixvisor_daemon::api::error::ApiError;
use wemixvisor_daemon::api::{Answering, Supervised};
use wemixvisor_daemon::{RecordedEvent, Subscription};
use wemixvisor_host::home::Home;

use crate::failure::{Failure, Kind};
use crate::files::Files;

/// What is said to whoever wants more than files.
const NEEDS_SUPERVISOR: &str = "no supervisor runs, so nobody carries that out; nothing was changed. To start one: \
                                wemixvisor start";

/// The files of a home.
#[derive(Debug, Clone)]
pub struct FilesApi {
    home: Home,
    settings: Settings,
}

impl FilesApi {
    /// Those of `home`, read anew for each answer.
    pub fn new(home: Home, settings: Settings) -> Self {
        Self { home, settings }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Files) -> Result<T, Failure> + Send + 'static,
    ) -> Answering<'_, T> {
        let Self { home, settings } = self.clone();
        Box::pin(async move {
            let work =
                tokio::task::spawn_blocking(move || question(&mut Files::read(&home, &settings)?)).await;
            work.map_err(|error| ApiError::failed(error.to_string()))?.map_err(as_answer)
        })
    }
}

fn as_answer(Failure { kind, code, message }: Failure) -> ApiError {
    match (kind, code.as_str()) {
        (_, "not_found") => ApiError::not_found(message),
        (Kind::Usage, _) => ApiError::invalid(message),
        (Kind::Refused, _) => ApiError::conflict(message),
        (Kind::NotRunning, _) => ApiError::not_running(message),
        (Kind::Failed, _) => ApiError::failed(message),
    }
}

fn needs_supervisor<'a, T: Send + 'a>() -> Answering<'a, T> {
    Box::pin(async { Err(ApiError::not_running(NEEDS_SUPERVISOR)) })
}

impl Supervised for FilesApi {
    fn snapshot(&self) -> Answering<'_, Snapshot> {
        self.ask(|files| Ok(files.snapshot()))
    }

    fn order(&self, order: Order) -> Answering<'_, String> {
        let message = match &order {
            Order::Schedule { plan, .. } => {
                format!("upgrade {} is scheduled at height {}", plan.name, plan.height)
            }
            Order::Cancel(name) => format!("upgrade {name} is cancelled"),
            _ => return needs_supervisor(),
        };
        self.ask(move |files| files.order(order).map(|()| message))
    }

    fn history(&self, limit: usize) -> Answering<'_, Vec<HistoryEntry>> {
        self.ask(move |files| files.entries(limit))
    }

    fn events_since(&self, seq: u64, limit: usize) -> Answering<'_, Vec<RecordedEvent>> {
        self.ask(move |files| files.events_since(seq, limit))
    }

    fn newest_event(&self) -> Answering<'_, u64> {
        self.ask(Files::newest_event)
    }

    fn subscribe(&self) -> Answering<'_, Subscription> {
        needs_supervisor()
    }

    fn settings_changed(&self) -> Answering<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn shut_down(&self) -> Answering<'_, ()> {
        needs_supervisor()
    }

    fn give_way(&self) -> Answering<'_, String> {
        needs_supervisor()
    }
}
