//! A client of the API over TCP that says exactly what it is told to, right or wrong.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tokio_tungstenite::tungstenite::http::Request;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client, error::ProtocolError};

use crate::waiting::LIMIT;

/// A port of the loopback address behind which an API is, or is not.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    port: u16,
}

/// An answer over HTTP.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status; 0 when the connection ended without one.
    pub status: u16,
    /// Its head, with the status line.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Self { status: status.unwrap_or(0), head: head.into(), body: body.into() }
    }

    /// Its body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// Status and word of an error; the word is empty where there is none.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Door {
    /// The one at this port.
    pub fn at(port: u16) -> Self {
        Self { port }
    }

    /// The port.
    pub fn port(self) -> u16 {
        self.port
    }

    /// A connection; `None` when nobody listens.
    pub fn connect(self) -> Option<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Some(stream)
    }

    /// Sends these bytes and reads to the end of the connection.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn raw(self, bytes: &[u8]) -> Answer {
        exchange(self.connect().expect("somebody listens"), bytes)
    }

    /// One request with these headers besides `Host` and `Connection: close`; a header with the name `Host` takes
    /// its place.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn ask(self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.raw(request(method, path, &self.host(), headers, body).as_bytes())
    }

    /// `GET` without more headers.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn get(self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Whether something answers with this status.
    pub fn answers(self, status: u16) -> bool {
        let request = request("GET", "/api/v1/version", &self.host(), &[], "");
        self.connect().is_some_and(|stream| exchange(stream, request.as_bytes()).status == status)
    }

    fn host(self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A stream of server-sent events.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn stream(self, path: &str, headers: &[(&str, &str)]) -> EventStream {
        let mut stream = self.connect().expect("somebody listens");
        let mut all = vec![("Accept", "text/event-stream")];
        all.extend(headers);
        stream.write_all(request("GET", path, &self.host(), &all, "").as_bytes()).expect("a request");
        EventStream { lines: BufReader::new(stream) }
    }

    /// A WebSocket; or the status with which it was refused.
    ///
    /// # Errors
    /// The status; 0 without one.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn websocket(self, headers: &[(&str, &str)]) -> Result<Talk, u16> {
        let mut request = Request::builder()
            .uri(format!("ws://{}/api/v1/ws", self.host()))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request = request.header("Host", self.host());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        match client(request, self.connect().expect("somebody listens")) {
            Ok((socket, _)) => Ok(Talk { socket }),
            Err(error) => Err(status_of(error)),
        }
    }
}

fn status_of<T: tokio_tungstenite::tungstenite::handshake::HandshakeRole>(
    error: tokio_tungstenite::tungstenite::HandshakeError<T>,
) -> u16 {
    match error {
        tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(answer)) => {
            answer.status().as_u16()
        }
        _ => 0,
    }
}

/// The text of one request.
fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {host}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}

/// Sends what the other side takes and reads what it gives: it may end the connection in the middle.
fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Answer {
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Answer::of(&answer)
}

/// Server-sent events as they come.
#[derive(Debug)]
pub struct EventStream {
    lines: BufReader<TcpStream>,
}

impl EventStream {
    /// The data of the next event; `None` when the stream is over.
    pub fn next_data(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.lines.read_line(&mut line).ok()? > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data.trim_end()).ok();
            }
            line.clear();
        }
        None
    }

    /// The next event of this type.
    ///
    /// # Panics
    /// When the stream is over before.
    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let data = self.next_data().unwrap_or_else(|| panic!("the stream is over before {kind}"));
            if data["type"] == kind {
                return data;
            }
        }
    }
}

/// A conversation over a WebSocket.
#[derive(Debug)]
pub struct Talk {
    socket: WebSocket<TcpStream>,
}

impl Talk {
    /// Says something; whether it could be said.
    pub fn say(&mut self, text: impl Into<String>) -> bool {
        self.socket.send(Message::text(text.into())).is_ok()
    }

    /// The next frame; `Err`: it is over, with the code and the reason that were given.
    ///
    /// # Errors
    /// Code and reason; 0 without any.
    pub fn hear(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).expect("a frame is JSON")),
                Ok(Message::Close(why)) => {
                    let why = why.map(|why| (u16::from(why.code), why.reason.to_string()));
                    return Err(why.unwrap_or_default());
                }
                Ok(_) => {}
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Err((0, "reset".into()));
                }
                Err(error) => return Err((0, error.to_string())),
            }
        }
    }

    /// The next frame of this type.
    ///
    /// # Panics
    /// When it is over before.
    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.hear().unwrap_or_else(|why| panic!("over before {kind}: {why:?}"));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Reads on to its end: code and reason.
    pub fn end(&mut self) -> (u16, String) {
        loop {
            if let Err(why) = self.hear() {
                return why;
            }
        }
    }

    /// The connection itself.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.socket.get_ref().try_clone()
    }
}
