//! G. The API over TCP, for whoever means well and whoever does not.

mod beside;
mod flood;
mod hot;
mod large;
mod proxy_and_tls;
mod replay;
mod requests;
mod who;

use serde_json::Value;
use testkit::{Door, Supervisor, TestHome, free_port};

use crate::home;

/// Lets the API be served over TCP from the next start on, without a limit on the rate; the answer is where.
fn with_door(home: &TestHome) -> Door {
    let door = Door::at(free_port());
    home.set("api.listen", &format!("127.0.0.1:{}", door.port()));
    home.set("api.enabled", "true");
    home.set("api.rate_limit", "0");
    door
}

/// Starts the supervisor; the API answers then.
fn started(home: &TestHome, door: Door) -> Supervisor<'_> {
    let supervisor = home.start();
    home.wait("the API answers over TCP", || (door.answers(200) || door.answers(401)).then_some(()));
    supervisor
}

/// A token made by the command.
fn token(home: &TestHome, name: &str, scope: &str) -> String {
    let said = home.cli(&["api", "token", "create", name, "--scope", scope]).expect(0);
    said.out.trim().to_owned()
}

/// The alert of this kind, if it stands.
fn alert(home: &TestHome, kind: &str) -> Option<String> {
    let status = home.status()?;
    let alerts = status["alerts"].as_array()?.iter();
    alerts.filter(|alert| alert["kind"] == kind).find_map(|alert| alert["text"].as_str().map(str::to_owned))
}

/// Whether the supervisor does its work: the head that it sees goes up.
fn supervises(home: &TestHome) {
    let head = home.status().expect("an answer")["chain"]["head"].as_u64().unwrap_or(0);
    home.sees_head(head + 3);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
