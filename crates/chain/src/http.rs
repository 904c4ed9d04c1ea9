//! JSON-RPC over HTTP/1.1: one POST a question, the connection kept alive for the next one.
//!
//! Nothing runs in the background: the connection is driven only while a question is open, so an idle client
//! costs no task and no wake-ups.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::client::MAX_ANSWER_BYTES;
use crate::connect::Stream;
use crate::endpoint::Address;
use crate::link::{LinkError, excerpt};

/// The read buffer of a connection, in bytes. It bounds the answer's headers; the body is bounded on its own.
const BUFFER_BYTES: usize = 16 * 1024;

type Connection = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// A connection over which HTTP is spoken.
pub(crate) struct HttpLink {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Connection,
    host: HeaderValue,
    path: String,
    authorization: Option<HeaderValue>,
}

impl HttpLink {
    /// Prepares `stream` for requests to `address`.
    pub(crate) async fn open(stream: Stream, address: &Address) -> Result<Self, LinkError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let header = |text: &str| HeaderValue::from_str(text).map_err(io::Error::other);
        let mut authorization = address.authorization().map(header).transpose()?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let host = header(&address.authority())?;
        Ok(Self { sender, connection, host, path: address.path().to_owned(), authorization })
    }

    /// Whether the node has not closed the connection since it was last used.
    pub(crate) fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.connection).poll(&mut context).is_pending() && self.sender.is_ready()
    }

    /// Posts `question` and brings the body of the answer.
    pub(crate) async fn exchange(&mut self, question: &str) -> Result<Vec<u8>, LinkError> {
        let mut request = Request::post(self.path.as_str())
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::from(question.to_owned()))
            .map_err(io::Error::other)?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answer = async {
            let response = self.sender.send_request(request).await.map_err(broken)?;
            read_answer(response).await
        };
        let mut answer = pin!(answer);
        let connection = &mut self.connection;
        std::future::poll_fn(|context| {
            // The answer first puts the question on its way; the connection then carries both.
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            let ended = Pin::new(&mut *connection).poll(context);
            match (answer.as_mut().poll(context), ended) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Poll::Ready(ended)) => {
                    Poll::Ready(Err(ended.map_or_else(broken, |()| LinkError::closed())))
                }
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }
}

async fn read_answer(response: Response<Incoming>) -> Result<Vec<u8>, LinkError> {
    let status = response.status();
    let mut body = response.into_body();
    if body.size_hint().lower() > MAX_ANSWER_BYTES as u64 {
        return Err(LinkError::TooLarge);
    }
    let mut answer = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if answer.len() + data.len() > MAX_ANSWER_BYTES {
            return Err(LinkError::TooLarge);
        }
        answer.extend_from_slice(&data);
    }
    if status != StatusCode::OK {
        return Err(LinkError::Malformed(format!("HTTP {status}: {}", excerpt(&answer))));
    }
    Ok(answer)
}

fn broken(error: hyper::Error) -> LinkError {
    if error.is_parse() {
        return LinkError::Malformed(error.to_string());
    }
    LinkError::Broken(io::Error::other(error))
}
