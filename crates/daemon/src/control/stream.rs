//! A stream of frames from the control socket: what happens, as it happens.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{BoxFuture, Fuse};
use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::client::{ClientError, MAX_ANSWER, broken, read};
use super::sse::{Message, Reader};
use crate::api::wire::Event;

/// How long a stream may be silent: the server says something every 15 s, if only that it is there.
const SILENCE_LIMIT: Duration = Duration::from_secs(40);

/// The content type of a stream.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// What drives the connection; it gives no answer of its own, and can be polled when it is over.
pub(super) type Connection = Fuse<BoxFuture<'static, ()>>;

/// A frame of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// It has a number of its own and is kept: the stream can be taken up behind it. Others are of the moment, and
    /// their number is that of the newest kept one before them.
    pub durable: bool,
    /// What happened.
    pub event: Event,
}

/// A stream that was opened with [`super::Client::stream`]. Dropped, it is closed.
pub struct Stream {
    socket: PathBuf,
    body: Incoming,
    /// Driven here and not by a task: when the stream is dropped, so is it.
    connection: Connection,
    reader: Reader,
    whole: VecDeque<Message>,
    /// Without it the connection would be closed.
    _sender: SendRequest<Full<Bytes>>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Stream {
    /// The stream in an answer whose head has come.
    pub(super) async fn open(
        socket: PathBuf,
        response: hyper::Response<Incoming>,
        connection: Connection,
        sender: SendRequest<Full<Bytes>>,
    ) -> Result<Self, ClientError> {
        let (head, body) = response.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_stream = kind.split(';').next().is_some_and(|kind| kind.trim() == EVENT_STREAM);
        let reader = Reader::default();
        let whole = VecDeque::new();
        let mut stream = Self { socket, body, connection, reader, whole, _sender: sender };
        if head.status.is_success() && is_stream {
            return Ok(stream);
        }
        Err(stream.refusal(head.status).await)
    }

    /// The next frame; `None` when the supervisor has ended the stream. It can be dropped while it waits: nothing is
    /// lost.
    ///
    /// # Errors
    /// The connection broke, the supervisor has been silent for 40 s, or what came is not understood. There is
    /// nothing more to be had from the stream then.
    pub async fn next(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(message) = self.whole.pop_front() {
                return frame(&message).map(Some);
            }
            let silent = |_| ClientError::Silent { socket: self.socket.clone(), limit: SILENCE_LIMIT };
            let piece = piece(&mut self.body, &mut self.connection);
            let Some(bytes) = timeout(SILENCE_LIMIT, piece).await.map_err(silent)?? else { return Ok(None) };
            self.reader
                .take(&bytes, &mut self.whole)
                .map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
        }
    }

    /// Why what came is no stream.
    async fn refusal(&mut self, status: StatusCode) -> ClientError {
        let mut bytes = Vec::new();
        loop {
            match piece(&mut self.body, &mut self.connection).await {
                Ok(Some(piece)) if bytes.len() + piece.len() <= MAX_ANSWER => bytes.extend_from_slice(&piece),
                Ok(_) => break,
                Err(error) => return error,
            }
        }
        match read(status, &bytes) {
            Err(error) if !status.is_success() => error,
            _ => ClientError::NotUnderstood("it gives a page instead of a stream of events".into()),
        }
    }
}

/// The next bytes of a body; `None` at its end.
async fn piece(body: &mut Incoming, connection: &mut Connection) -> Result<Option<Bytes>, ClientError> {
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = &mut *connection => continue,
        };
        let Some(frame) = frame else { return Ok(None) };
        // Trailers say nothing.
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            return Ok(Some(data));
        }
    }
}

fn frame(message: &Message) -> Result<Frame, ClientError> {
    let event = serde_json::from_str(&message.data)
        .map_err(|error| ClientError::NotUnderstood(format!("an event in its stream: {error}")))?;
    Ok(Frame { durable: message.id.is_some(), event })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;
    use wemixvisor_host::home::Home;

    use super::super::{Client, bind};
    use super::*;

    const HEAD: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

    /// A home on whose socket one client gets its answer by `answer`; what the client asked is the result.
    async fn served<A, F>(answer: A) -> (Client, tokio::task::JoinHandle<String>, tempfile::TempDir)
    where
        A: FnOnce(UnixStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), None, None, "node").unwrap();
        std::fs::create_dir_all(home.wemixvisor()).unwrap();
        let listener = bind(&home).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            answer(stream).await;
            String::from_utf8(asked).unwrap()
        });
        (Client::new(&home), server, dir)
    }

    fn text(seq: u64, kind: &str) -> String {
        json!({"type": kind, "topic": "node", "data": {"n": seq}, "timestamp": "1970-01-01T00:00:01Z", "seq": seq})
            .to_string()
    }

    async fn chunk(stream: &mut UnixStream, bytes: &[u8]) {
        let head = format!("{:x}\r\n", bytes.len());
        for part in [head.as_bytes(), bytes, b"\r\n"] {
            stream.write_all(part).await.unwrap();
        }
        stream.flush().await.unwrap();
    }

    #[tokio::test]
    async fn frames_come_one_by_one_however_the_server_cuts_them() {
        let (client, server, _dir) = served(async |mut stream: UnixStream| {
            stream.write_all(HEAD.as_bytes()).await.unwrap();
            let said = format!(
                ":hello\n\nid: 4\nevent: node_started\ndata: {}\n\nevent: height\ndata: {}\n\n",
                text(4, "node_started"),
                text(4, "height")
            );
            for piece in said.as_bytes().chunks(7) {
                chunk(&mut stream, piece).await;
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        })
        .await;
        let mut frames = client.stream("/api/v1/events?topics=node").await.unwrap();
        let first = frames.next().await.unwrap().unwrap();
        assert!(first.durable && first.event.kind == "node_started" && first.event.seq == 4, "{first:?}");
        let second = frames.next().await.unwrap().unwrap();
        assert!(!second.durable && second.event.data == json!({"n": 4}), "{second:?}");
        assert_eq!(frames.next().await.unwrap(), None);
        let asked = server.await.unwrap().to_lowercase();
        assert!(asked.starts_with("get /api/v1/events?topics=node http/1.1\r\n"), "{asked}");
        assert!(asked.contains("accept: text/event-stream\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let (client, _server, _dir) = served(async |mut stream: UnixStream| {
            stream.write_all(HEAD.as_bytes()).await.unwrap();
            let said = format!("data: {}\n\n", text(1, "x"));
            for piece in said.as_bytes().chunks(1) {
                chunk(&mut stream, piece).await;
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        })
        .await;
        let mut frames = client.stream("/x").await.unwrap();
        let found = loop {
            tokio::select! {
                biased;
                frame = frames.next() => break frame,
                () = tokio::task::yield_now() => {}
            }
        };
        assert_eq!(found.unwrap().unwrap().event.kind, "x");
    }

    #[tokio::test]
    async fn what_is_no_stream_is_said_for_what_it_is() {
        for (answer, expected) in [
            ("HTTP/1.1 404 N\r\ncontent-length: 30\r\n\r\n{\"error\":\"no\",\"code\":\"absent\"}", "no"),
            (
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
                "a page instead of a stream",
            ),
            ("HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nhi", "502"),
            ("", "broke off"),
        ] {
            let (client, _server, _dir) =
                served(async |mut stream: UnixStream| stream.write_all(answer.as_bytes()).await.unwrap())
                    .await;
            let said = client.stream("/x").await.unwrap_err().to_string();
            assert!(said.contains(expected), "{answer:?}: {said}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_falls_silent_or_makes_no_sense_is_an_error() {
        let (client, _server, _dir) = served(async |mut stream: UnixStream| {
            stream.write_all(HEAD.as_bytes()).await.unwrap();
            chunk(&mut stream, b"data: 1").await;
        })
        .await;
        let found = client.stream("/x").await.unwrap().next().await;
        assert!(matches!(found, Err(ClientError::BrokenOff(_))), "{found:?}");

        let (client, _server, _dir) = served(async |mut stream: UnixStream| {
            stream.write_all(HEAD.as_bytes()).await.unwrap();
            chunk(&mut stream, b"data: {}\n\n").await;
        })
        .await;
        let found = client.stream("/x").await.unwrap().next().await;
        assert!(matches!(found, Err(ClientError::NotUnderstood(_))), "{found:?}");

        let (client, server, _dir) = served(async |mut stream: UnixStream| {
            stream.write_all(HEAD.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let mut frames = client.stream("/x").await.unwrap();
        tokio::time::pause();
        let found = frames.next().await;
        assert!(matches!(found, Err(ClientError::Silent { .. })), "{found:?}");
        server.abort();
    }
}
