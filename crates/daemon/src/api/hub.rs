//! One stream of events for everybody who listens.
//!
//! The engine tells one subscriber: the hub's pump. It makes a frame of each notice, once, and puts it into a ring
//! from which every client reads at its own pace. Who is [`BUFFER`] frames behind is cut off; nobody waits for it.
//! The pump runs while somebody listens.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, MutexGuard, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use wemixvisor_host::output::Follow;

use super::error::ApiError;
use super::frame::Frame;
use super::supervised::Supervised;
use super::topic::Topic;
use super::{logs, metrics};
use crate::handle::{Notice, Subscription};

/// A client may be so many frames behind (PRODUCT.md section 9).
pub(crate) const BUFFER: usize = 256;

/// The most clients that listen at once: the 1,000 of PRODUCT.md section 10, and people.
const MAX_LISTENERS: usize = 1500;

/// Numbers are told so often.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// Lines of the node are told at most so often, together.
const LINES_EVERY: Duration = Duration::from_millis(200);

/// The most lines that are told together; of more the last ones.
const MAX_LINES: usize = 200;

/// So many events are read from the store at a time.
const PAGE: usize = 500;

/// The stream of one supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    asked: Arc<dyn Supervised>,
    log: PathBuf,
    frames: broadcast::Sender<Arc<Frame>>,
    lines: broadcast::Sender<Arc<Frame>>,
    /// The number of the newest event that went into the ring.
    last: AtomicU64,
    listeners: AtomicUsize,
    /// Whether the pumps run.
    running: Mutex<Running>,
    /// Who reads a page of a replay.
    reading: Mutex<()>,
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Running {
    frames: bool,
    lines: bool,
}

/// Somebody who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) frames: broadcast::Receiver<Arc<Frame>>,
    /// The supervisor ends.
    pub(crate) over: CancellationToken,
    hub: Hub,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.0.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// A stream of what `asked` tells and of the log at `log`. `over` ends it.
    pub(crate) fn new(asked: Arc<dyn Supervised>, log: PathBuf, over: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            asked,
            log,
            frames: broadcast::Sender::new(BUFFER),
            lines: broadcast::Sender::new(BUFFER),
            last: AtomicU64::new(0),
            listeners: AtomicUsize::new(0),
            running: Mutex::default(),
            reading: Mutex::default(),
            over,
        }))
    }

    /// How many listen.
    pub(crate) fn listeners(&self) -> usize {
        self.0.listeners.load(Ordering::Relaxed)
    }

    /// The number of the newest event that went into the ring. What comes later is in the ring of whoever joined
    /// before this was asked.
    pub(crate) fn last(&self) -> u64 {
        self.0.last.load(Ordering::Acquire)
    }

    /// Waits until nobody else reads events to replay them.
    pub(crate) async fn turn_to_read(&self) -> MutexGuard<'_, ()> {
        self.0.reading.lock().await
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// Too many listen already; nobody tells anything.
    pub(crate) async fn join(&self) -> Result<Listener, ApiError> {
        let mut running = self.0.running.lock().await;
        if self.0.listeners.load(Ordering::Relaxed) >= MAX_LISTENERS {
            return Err(ApiError::busy(format!("{MAX_LISTENERS} clients listen already: try again later")));
        }
        let frames = self.0.frames.subscribe();
        if !running.frames {
            let subscription = self.0.asked.subscribe().await?;
            self.0.last.store(subscription.last, Ordering::Release);
            running.frames = true;
            tokio::spawn(self.clone().pump(subscription));
        }
        self.0.listeners.fetch_add(1, Ordering::Relaxed);
        Ok(Listener { frames, over: self.0.over.clone(), hub: self.clone() })
    }

    /// Hears the lines of the node from now on.
    pub(crate) async fn lines(&self) -> broadcast::Receiver<Arc<Frame>> {
        let mut running = self.0.running.lock().await;
        let lines = self.0.lines.subscribe();
        if !running.lines {
            running.lines = true;
            tokio::spawn(self.clone().pump_lines());
        }
        lines
    }

    async fn pump(self, mut subscription: Subscription) {
        let mut ticks = interval(METRICS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let notice = tokio::select! {
                notice = subscription.notices.recv() => notice,
                _ = ticks.tick() => {
                    self.tell_metrics().await;
                    if self.nobody_listens(|running| &mut running.frames, &self.0.frames).await {
                        return;
                    }
                    continue;
                }
            };
            match notice {
                Ok(Notice::Event(event)) if event.seq > self.last() => self.tell_event(Frame::event(&event)),
                Ok(Notice::Event(_)) => {}
                Ok(Notice::Head(head)) => self.tell(Frame::head(&head, self.last())),
                Err(RecvError::Lagged(_)) => self.catch_up().await,
                Err(RecvError::Closed) => {
                    self.0.running.lock().await.frames = false;
                    return;
                }
            }
        }
    }

    /// More has happened than was waiting for us: the events are in the store.
    async fn catch_up(&self) {
        while let Ok(events) = self.0.asked.events_since(self.last(), PAGE).await {
            events.iter().for_each(|event| self.tell_event(Frame::event(event)));
            if events.len() < PAGE {
                return;
            }
        }
    }

    fn tell_event(&self, frame: Frame) {
        let seq = frame.seq;
        self.tell(frame);
        // After it is in the ring: who sees the number need not look for it in the store.
        self.0.last.store(seq, Ordering::Release);
    }

    fn tell(&self, frame: Frame) {
        // Nobody may listen.
        let _ = self.0.frames.send(Arc::new(frame));
    }

    async fn tell_metrics(&self) {
        if let Ok(snapshot) = self.0.asked.snapshot().await {
            let frame = Frame::passing(Topic::Metrics, "metrics", &metrics::values(&snapshot), self.last());
            self.tell(frame);
        }
    }

    async fn nobody_listens(
        &self,
        flag: fn(&mut Running) -> &mut bool,
        ring: &broadcast::Sender<Arc<Frame>>,
    ) -> bool {
        let mut running = self.0.running.lock().await;
        let nobody = ring.receiver_count() == 0;
        if nobody {
            *flag(&mut running) = false;
        }
        nobody
    }

    async fn pump_lines(self) {
        let Ok(mut output) = Follow::from_end(&self.0.log) else {
            self.0.running.lock().await.lines = false;
            return;
        };
        let mut cut = logs::Lines::default();
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                bytes = output.next() => match bytes {
                    Ok(bytes) => {
                        cut.take(&bytes);
                        due = due.or_else(|| cut.has_any().then(|| Instant::now() + LINES_EVERY));
                    }
                    // It is followed anew from where it then is.
                    Err(_) => sleep(METRICS_EVERY).await,
                },
                // A quiet node would keep it for ever.
                () = self.0.over.cancelled() => return,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    let (lines, skipped) = cut.give(MAX_LINES, logs::FRAME_BYTES);
                    let _ = self.0.lines.send(Arc::new(Frame::lines(&lines, skipped, self.last())));
                    if self.nobody_listens(|running| &mut running.lines, &self.0.lines).await {
                        return;
                    }
                }
            }
        }
    }
}
