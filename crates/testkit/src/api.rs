//! The API over TCP, as a client has it who means well: questions in JSON, events over a WebSocket.

use std::time::Instant;

use serde_json::{Value, json};

use crate::door::{Door, Talk};
use crate::home::TestHome;
use crate::port::free_port;
use crate::{LIMIT, http};

/// The API of a home.
#[derive(Debug, Clone, Copy)]
pub struct TestApi {
    door: Door,
}

impl TestApi {
    /// The one behind this port of the loopback address.
    pub fn at(port: u16) -> Self {
        Self { door: Door::at(port) }
    }

    /// Has the home's supervisor serve it from its next start on, or, if it runs, from now on.
    pub fn of(home: &TestHome) -> Self {
        let port = free_port();
        home.set("api.listen", &format!("127.0.0.1:{port}"));
        home.set("api.enabled", "true");
        Self::at(port)
    }

    /// Asks; the answer is its status and its body as JSON.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.try_ask(method, path, body).expect("the API answers")
    }

    /// Asks; `None` where nobody answers.
    pub fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        http::exchange(self.door.connect()?, method, path, body).ok()
    }

    /// What a GET is answered, which must be good.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{path}: {body:#}");
        body
    }

    /// Opens a WebSocket.
    pub fn events(&self) -> Events {
        let talk = self.door.websocket(&[]).expect("a WebSocket");
        Events { talk, seen: Vec::new() }
    }
}

/// What is heard over a WebSocket.
#[derive(Debug)]
pub struct Events {
    talk: Talk,
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
        assert!(self.talk.say(text), "the WebSocket takes it");
    }

    /// Reads until a frame is the one.
    pub fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let seen =
                || self.seen.iter().map(|frame| frame["type"].to_string()).collect::<Vec<_>>().join(" ");
            let frame = match self.talk.hear() {
                Ok(frame) if begun.elapsed() < LIMIT => frame,
                Ok(_) => panic!("never came true: {what}; seen: {}", seen()),
                Err(end) => panic!("over with {end:?} before {what}; seen: {}", seen()),
            };
            self.seen.push(frame.clone());
            if is_it(&frame) {
                return frame;
            }
        }
    }

    /// The types of the durable events of a topic so far, in their order; steps with their names.
    pub fn story(&self, topic: &str) -> Vec<String> {
        let of_topic =
            self.seen.iter().filter(|frame| frame["topic"] == topic && frame["type"] != "snapshot");
        of_topic.map(|frame| frame["type"].as_str().unwrap().to_owned()).collect()
    }
}
