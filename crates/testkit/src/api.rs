//! The API over TCP, as a client has it: questions over HTTP, events over a WebSocket.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::home::TestHome;
use crate::port::free_port;
use crate::{LIMIT, http};

/// The API of a home.
#[derive(Debug, Clone, Copy)]
pub struct TestApi {
    /// Where it listens.
    pub address: SocketAddr,
}

impl TestApi {
    /// Has the home's supervisor serve it from its next start on, or, if it runs, from now on.
    pub fn of(home: &TestHome) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        home.set("api.listen", &address.to_string());
        home.set("api.enabled", "true");
        Self { address }
    }

    /// Asks; the answer is its status and its body as JSON.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.try_ask(method, path, body).expect("the API answers")
    }

    /// Asks; `None` where nobody answers.
    pub fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let stream = TcpStream::connect_timeout(&self.address, LIMIT).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        http::exchange(stream, method, path, body).ok()
    }

    /// What a GET is answered, which must be good.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{path}: {body:#}");
        body
    }

    /// Opens a WebSocket.
    pub fn events(&self) -> Events {
        let request = format!("ws://{}/api/v1/ws", self.address).into_client_request().unwrap();
        let stream = TcpStream::connect_timeout(&self.address, LIMIT).expect("the API listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut begun = tungstenite::client(request, stream);
        let socket = loop {
            match begun {
                Ok((socket, _)) => break socket,
                Err(tungstenite::HandshakeError::Interrupted(middle)) => begun = middle.handshake(),
                Err(tungstenite::HandshakeError::Failure(error)) => panic!("no WebSocket: {error}"),
            }
        };
        Events { socket, seen: Vec::new() }
    }
}

/// A WebSocket to the API.
#[derive(Debug)]
pub struct Events {
    socket: WebSocket<TcpStream>,
    /// Every frame so far.
    pub seen: Vec<Value>,
}

impl Events {
    /// Listens to `topics`, from the event after `since` on, or from how everything stands.
    pub fn subscribe(&mut self, topics: &[&str], since: Option<u64>) {
        let mut said = json!({"action": "subscribe", "topics": topics});
        if let Some(since) = since {
            said["since"] = json!(since);
        }
        self.say(&said.to_string());
        self.until("the subscription is confirmed", |frame| frame["type"] == "subscribed");
    }

    /// Says something, sense or not.
    pub fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the WebSocket takes it");
    }

    /// The next frame, if one comes within 50 ms. A closed socket ends the test.
    pub fn read(&mut self) -> Option<Value> {
        match self.socket.read() {
            Ok(Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                self.seen.push(frame.clone());
                Some(frame)
            }
            Ok(Message::Close(close)) => panic!("the WebSocket was closed: {close:?}"),
            Ok(_) => None,
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                None
            }
            Err(error) => panic!("the WebSocket broke: {error}"),
        }
    }

    /// Reads until a frame is the one.
    pub fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            if let Some(frame) = self.read().filter(&is_it) {
                return frame;
            }
            let seen: Vec<_> = self.seen.iter().map(|frame| frame["type"].to_string()).collect();
            assert!(begun.elapsed() < LIMIT, "never came true: {what}; seen: {}", seen.join(" "));
        }
    }

    /// The types of the durable events of a topic so far, in their order; steps with their names.
    pub fn story(&self, topic: &str) -> Vec<String> {
        let of_topic =
            self.seen.iter().filter(|frame| frame["topic"] == topic && frame["type"] != "snapshot");
        of_topic.map(|frame| frame["type"].as_str().unwrap().to_owned()).collect()
    }
}
