//! `/api/v1/ws`: events over a WebSocket. What is said in both directions: docs/api.md.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};
use futures_util::SinkExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::error::ApiError;
use super::frame::{Frame, MAX_FRAME, TOO_LARGE};
use super::hub::Listener;
use super::shown::{Shown, let_go};
use super::sse::next_lines;
use super::topic::{Topic, Topics};
use super::{Api, wire};

/// The subprotocol that a client may name beside its token.
pub(super) const PROTOCOL: &str = "wemixvisor";

/// The longest message of a client, in bytes.
const MAX_MESSAGE: usize = 16 * 1024;

/// The library's buffer for reading; clients say little.
const READ_BUFFER: usize = 4 * 1024;

/// What the library keeps for a client that does not read, in bytes: a frame, whatever its size, and what may lie
/// before it. The room is taken only as it is needed.
const MAX_WRITE_BUFFER: usize = MAX_FRAME + 1024 * 1024;

/// A client is asked so often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// A client that has been silent for so long is gone: it answers pings without knowing.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// One frame has to be taken within this time.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// A last word has to be taken within this time.
const LAST_WORD: Duration = Duration::from_secs(1);

/// So many messages that mean nothing are answered; then it is over.
const MAX_SLIPS: u32 = 32;

/// A client may say so much within [`SAYS_WITHIN`]: a replay reads many events.
const MAX_SAYS: u32 = 100;

/// The time in which [`MAX_SAYS`] counts.
const SAYS_WITHIN: Duration = Duration::from_secs(10);

/// What a client hears that is cut off.
pub(super) const TOO_SLOW: &str =
    "you are more than 256 frames behind; come again with `since` and nothing is missed";

/// Close codes of RFC 6455.
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;
const TRY_AGAIN_LATER: u16 = 1013;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    action: String,
    #[serde(default)]
    topics: Vec<String>,
    since: Option<u64>,
}

/// Why a conversation is over.
struct Over {
    code: u16,
    reason: &'static str,
}

/// The end of all conversations.
const ENDS: Over = Over { code: GOING_AWAY, reason: "the supervisor ends, or its API is set up anew" };

/// Events over a WebSocket.
///
/// Both sides speak JSON texts. The client says `{"action": "subscribe" or "unsubscribe", "topics": […], "since": n}`;
/// the server `{"type", "topic", "data", "timestamp", "seq"}`. Without `since` a topic begins with a `snapshot`, with
/// it every event after that number follows. A browser names its token as a subprotocol: `wemixvisor`,
/// `bearer.<token>`. More: docs/api.md.
#[utoipa::path(
    get, path = "/api/v1/ws", tag = "events", operation_id = "websocket",
    responses(
        (status = 101, description = "The WebSocket is open."),
        (status = 400, description = "That is no opening of a WebSocket."),
    )
)]
pub(super) async fn ws(
    State(api): State<Api>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(error) => {
            return ApiError::invalid(format!("a WebSocket is opened here: {}", error.body_text()))
                .into_response();
        }
    };
    let listener = match api.hub.join().await {
        Ok(listener) => listener,
        Err(error) => return error.into_response(),
    };
    upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| {
            Box::pin(async move {
                let says = (Instant::now(), 0);
                let mut client = Client { api, socket, shown: Shown::default(), slips: 0, says };
                let over = client.converse(listener).await;
                client.leave(over).await;
            })
        })
}

/// One client.
struct Client {
    api: Api,
    socket: WebSocket,
    shown: Shown,
    slips: u32,
    /// How much it has said, and since when that is counted.
    says: (Instant, u32),
}

/// The client is gone, or is to go.
type End = Option<Over>;

impl Client {
    async fn converse(&mut self, mut listener: Listener) -> End {
        let hello = json!({"wemixvisor": env!("CARGO_PKG_VERSION"), "api": wire::API_VERSION});
        if let Err(end) = self.give(&answer("hello", &hello, self.api.hub.last())).await {
            return end;
        }
        let mut lines = None;
        let mut heard = Instant::now();
        let mut pings = interval_at(heard + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.shown.replays() {
                if let Err(end) = self.replay_on(&mut listener, lines.as_mut()).await {
                    return end;
                }
                // It has not been listened to meanwhile, and takes what it is sent.
                heard = Instant::now();
                continue;
            }
            let said = tokio::select! {
                // Lines and answers carry the number of an event: that has to be passed on before them.
                biased;
                () = listener.over.cancelled() => Err(Some(ENDS)),
                frame = listener.frames.recv() => self.pass_on(frame, &mut listener.frames).await,
                frame = next_lines(&mut lines) => self.pass_line(frame).await,
                message = self.socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => self.heard(message, &mut listener.frames, &mut lines).await,
                        // Also what breaks the protocol's rules: the library has answered that.
                        Some(Err(_)) | None => Err(None),
                    }
                }
                _ = pings.tick() => {
                    if heard.elapsed() >= IDLE_LIMIT {
                        Err(Some(Over { code: GOING_AWAY, reason: "you have been silent for 60 s" }))
                    } else {
                        self.send(Message::Ping(axum::body::Bytes::new())).await
                    }
                }
            };
            if let Err(end) = said {
                return end;
            }
        }
    }

    /// Sends the next page of a replay; each frame has to be taken before the next. The client is not listened to
    /// before the replay is over, and nothing else is told: its last number is the one to come back with.
    async fn replay_on(
        &mut self,
        listener: &mut Listener,
        lines: Option<&mut broadcast::Receiver<Arc<Frame>>>,
    ) -> Result<(), End> {
        let_go([Some(&mut listener.frames), lines]);
        let over = listener.over.clone();
        let page = async {
            match self.shown.next_page(&self.api).await {
                Ok(frames) => {
                    for frame in frames {
                        self.give(&frame).await?;
                    }
                    Ok(())
                }
                Err(error) => {
                    let last =
                        Frame::passing(Topic::System, "error", &json!(error.body()), self.shown.told());
                    self.give(&last).await?;
                    Err(Some(Over { code: TRY_AGAIN_LATER, reason: "the events cannot be read" }))
                }
            }
        };
        tokio::select! {
            done = page => done,
            () = over.cancelled() => Err(Some(ENDS)),
        }
    }

    /// Passes on a frame and all that wait behind it in their ring: what comes together is written at once.
    async fn pass_on(
        &mut self,
        first: Result<Arc<Frame>, RecvError>,
        ring: &mut broadcast::Receiver<Arc<Frame>>,
    ) -> Result<(), End> {
        self.pass(first).await?;
        self.pass_waiting(ring).await
    }

    async fn pass_line(&mut self, lines: Result<Arc<Frame>, RecvError>) -> Result<(), End> {
        self.pass(lines).await?;
        in_time(self.socket.flush()).await
    }

    async fn pass_waiting(&mut self, ring: &mut broadcast::Receiver<Arc<Frame>>) -> Result<(), End> {
        loop {
            let next = match ring.try_recv() {
                Ok(frame) => Ok(frame),
                Err(TryRecvError::Lagged(behind)) => Err(RecvError::Lagged(behind)),
                Err(TryRecvError::Closed) => Err(RecvError::Closed),
                Err(TryRecvError::Empty) => return in_time(self.socket.flush()).await,
            };
            self.pass(next).await?;
        }
    }

    async fn pass(&mut self, next: Result<Arc<Frame>, RecvError>) -> Result<(), End> {
        match next {
            Ok(frame) if self.shown.lets_pass(&frame) => {
                fits(&frame.text)?;
                self.shown.gives(&frame);
                in_time(self.socket.feed(Message::Text(frame.text.clone()))).await
            }
            Ok(_) => Ok(()),
            Err(RecvError::Lagged(_)) => Err(Some(Over { code: TRY_AGAIN_LATER, reason: TOO_SLOW })),
            Err(RecvError::Closed) => Err(None),
        }
    }

    async fn heard(
        &mut self,
        message: Message,
        ring: &mut broadcast::Receiver<Arc<Frame>>,
        lines: &mut Option<broadcast::Receiver<Arc<Frame>>>,
    ) -> Result<(), End> {
        if self.says.0.elapsed() > SAYS_WITHIN {
            self.says = (Instant::now(), 0);
        }
        self.says.1 += 1;
        if self.says.1 > MAX_SAYS {
            return Err(Some(Over { code: POLICY, reason: "more than 100 messages within 10 s" }));
        }
        // The number of the answer: everything up to it is in the ring.
        let known = self.api.hub.last();
        self.pass_waiting(ring).await?;
        let said = match message {
            Message::Text(text) => self.obey(&text, lines, known).await,
            Message::Binary(_) => Err(ApiError::invalid("messages are JSON texts")),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(None),
        };
        match said {
            Ok(frames) => {
                for frame in frames {
                    self.give(&frame).await?;
                }
                Ok(())
            }
            Err(error) => {
                self.slips += 1;
                if self.slips > MAX_SLIPS {
                    return Err(Some(Over { code: POLICY, reason: "too many messages that mean nothing" }));
                }
                self.give(&answer("error", &json!(error.body()), known)).await
            }
        }
    }

    /// Does what the client says; the answer is what it is told.
    async fn obey(
        &mut self,
        text: &str,
        lines: &mut Option<broadcast::Receiver<Arc<Frame>>>,
        known: u64,
    ) -> Result<Vec<Arc<Frame>>, ApiError> {
        let said: Said = serde_json::from_str(text).map_err(|error| {
            ApiError::invalid(format!(
                "say {{\"action\": \"subscribe\" or \"unsubscribe\", \"topics\": […], \"since\": number}}: {error}"
            ))
        })?;
        let topics = Topics::named(said.topics.iter().map(String::as_str))
            .map_err(|error| ApiError::unknown_topic(error.to_string()))?;
        if topics == Topics::default() {
            return Err(ApiError::invalid("`topics` is empty"));
        }
        match said.action.as_str() {
            "subscribe" => {
                if topics.contains(Topic::Logs) && lines.is_none() {
                    *lines = Some(self.api.hub.lines().await);
                }
                let frames = match said.since {
                    Some(since) => self.shown.go_on(&self.api, topics, since, known).await?,
                    None => self.shown.begin(&self.api, topics, known).await?,
                };
                // What is replayed comes only now.
                let known = said.since.map_or(known, |since| since.min(known));
                let told = json!({"topics": self.shown.topics().names()});
                Ok(std::iter::once(Arc::new(answer("subscribed", &told, known))).chain(frames).collect())
            }
            "unsubscribe" => {
                self.shown.leave(topics);
                if topics.contains(Topic::Logs) {
                    *lines = None;
                }
                let told = json!({"topics": self.shown.topics().names()});
                Ok(vec![Arc::new(answer("unsubscribed", &told, known))])
            }
            other => {
                let other: String = other.chars().take(64).collect();
                Err(ApiError::invalid(format!("there is no action {other:?}: subscribe and unsubscribe")))
            }
        }
    }

    async fn give(&mut self, frame: &Frame) -> Result<(), End> {
        fits(&frame.text)?;
        self.shown.gives(frame);
        self.send(Message::Text(frame.text.clone())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        in_time(self.socket.send(message)).await
    }

    async fn leave(mut self, end: End) {
        let Some(Over { code, reason }) = end else { return };
        tracing::debug!("a client of the event stream is let go: {reason}");
        let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
        // It may not read, or be gone.
        let _ = timeout(LAST_WORD, self.socket.send(close)).await;
    }
}

fn answer(kind: &str, data: &Value, known: u64) -> Frame {
    Frame::passing(Topic::System, kind, data, known)
}

/// The library has no room for a longer one, and would break off without a word.
fn fits(text: &Utf8Bytes) -> Result<(), End> {
    match text.len() <= MAX_FRAME {
        true => Ok(()),
        false => Err(Some(Over { code: TOO_BIG, reason: TOO_LARGE })),
    }
}

/// What is sent has to be taken.
async fn in_time(sending: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
    match timeout(SEND_LIMIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(None),
        Err(_) => Err(Some(Over { code: TRY_AGAIN_LATER, reason: TOO_SLOW })),
    }
}
