//! Who answers the API: the engine of this process through its [`Handle`], or the files of a home without one.

use std::fmt;

use futures_util::future::BoxFuture;
use wemixvisor_core::engine::port::{HistoryEntry, Order};
use wemixvisor_core::engine::snapshot::Snapshot;

use super::error::ApiError;
use crate::handle::{Handle, Message, RecordedEvent, Subscription};

/// An answer that is on its way.
pub type Answering<'a, T> = BoxFuture<'a, Result<T, ApiError>>;

/// What the routes ask for; see the methods of the same name of [`Handle`].
pub trait Supervised: fmt::Debug + Send + Sync {
    /// How it stands.
    fn snapshot(&self) -> Answering<'_, Snapshot>;
    /// Orders something; the answer says in words what was done or has begun.
    fn order(&self, order: Order) -> Answering<'_, String>;
    /// The newest finished upgrades, newest first.
    fn history(&self, limit: usize) -> Answering<'_, Vec<HistoryEntry>>;
    /// The events after `seq`, oldest first, at most `limit`.
    fn events_since(&self, seq: u64, limit: usize) -> Answering<'_, Vec<RecordedEvent>>;
    /// The number of the newest event; 0 before the first one.
    fn newest_event(&self) -> Answering<'_, u64>;
    /// What happens from now on.
    fn subscribe(&self) -> Answering<'_, Subscription>;
    /// The settings file was changed.
    fn settings_changed(&self) -> Answering<'_, ()>;
    /// Has the supervisor stop the node and end.
    fn shut_down(&self) -> Answering<'_, ()>;
    /// Has the program on the disk take the supervisor's place.
    fn give_way(&self) -> Answering<'_, String>;
}

impl Supervised for Handle {
    fn snapshot(&self) -> Answering<'_, Snapshot> {
        Box::pin(async { Ok(Handle::snapshot(self).await?) })
    }

    fn order(&self, order: Order) -> Answering<'_, String> {
        Box::pin(async { Ok(Handle::order(self, order).await??) })
    }

    fn history(&self, limit: usize) -> Answering<'_, Vec<HistoryEntry>> {
        Box::pin(async move { Handle::history(self, limit).await?.map_err(ApiError::failed) })
    }

    fn events_since(&self, seq: u64, limit: usize) -> Answering<'_, Vec<RecordedEvent>> {
        Box::pin(async move { Handle::events_since(self, seq, limit).await?.map_err(ApiError::failed) })
    }

    fn newest_event(&self) -> Answering<'_, u64> {
        Box::pin(async { Ok(self.subscribe().await?.last) })
    }

    fn subscribe(&self) -> Answering<'_, Subscription> {
        Box::pin(async { self.question(Message::Subscribe).await?.map_err(ApiError::failed) })
    }

    fn settings_changed(&self) -> Answering<'_, ()> {
        Box::pin(async { Ok(Handle::settings_changed(self).await?) })
    }

    fn shut_down(&self) -> Answering<'_, ()> {
        Box::pin(async { Ok(Handle::shut_down(self).await?) })
    }

    fn give_way(&self) -> Answering<'_, String> {
        Box::pin(async { Ok(Handle::give_way(self).await??) })
    }
}
