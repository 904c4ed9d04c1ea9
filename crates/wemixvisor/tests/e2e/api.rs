//! The API over TCP (G44): upgrades driven and watched by it, events without a gap, settings that are hot.

use serde_json::{Value, json};
use testkit::{Events, LIMIT, TestApi};

use crate::{held_in, home, home_by_order, let_go};

/// What is heard of a good upgrade, from its schedule to its end.
const STORY: [&str; 5] =
    ["upgrade_scheduled", "upgrade_ready", "upgrade_triggered", "upgrade_step", "upgrade_completed"];

/// The durable upgrade events, with repetitions of the same kind left out.
fn story(events: &Events) -> Vec<String> {
    let mut story = events.story("upgrades");
    story.dedup();
    story
}

#[test]
fn g44_the_same_is_heard_whoever_schedules() {
    for by in ["api", "command line", "file"] {
        let home = home();
        let api = TestApi::of(&home);
        let supervisor = home.start();
        let mut events = api.events();
        events.subscribe(&["upgrades"], None);
        let height = home.status().unwrap()["chain"]["head"].as_u64().unwrap_or(0) + 30;
        match by {
            "api" => {
                let plan = json!({"name": "v2", "height": height});
                assert_eq!(api.ask("POST", "/api/v1/upgrades", Some(&plan)).0, 200);
            }
            "command line" => home.schedule("v2", height),
            _ => home.plan("v2", height),
        }
        events.until("the upgrade is completed", |frame| frame["type"] == "upgrade_completed");
        assert_eq!(story(&events), STORY, "scheduled by {by}");
        assert_eq!(supervisor.stop(), 0);
    }
}

#[test]
fn g44_a_client_that_comes_back_misses_nothing() {
    let home = home_by_order();
    let api = TestApi::of(&home);
    let supervisor = home.start();
    let mut events = api.events();
    events.subscribe(&["upgrades"], None);
    home.schedule("v2", 50);
    let seen = events.until("it is scheduled", |frame| frame["type"] == "upgrade_scheduled");
    drop(events);
    // Meanwhile, and over the supervisor's own end.
    home.schedule("v2", 60);
    assert_eq!(home.cli(&["upgrade", "cancel", "v2"]).code, 0);
    supervisor.kill();
    let supervisor = home.start();
    home.wait("the API is back", || api.try_ask("GET", "/health", None));
    let mut events = api.events();
    events.subscribe(&["upgrades"], seen["seq"].as_u64());
    events.until("it is cancelled", |frame| frame["type"] == "upgrade_cancelled");
    let numbers: Vec<u64> = events
        .seen
        .iter()
        .filter(|frame| frame["topic"] == "upgrades")
        .filter_map(|frame| frame["seq"].as_u64())
        .collect();
    let all: Value = api.get("/api/v1/events?topics=upgrades&limit=1000");
    let recorded = all["events"].as_array().unwrap().iter().filter_map(|event| event["seq"].as_u64());
    let after: Vec<u64> = recorded.filter(|seq| *seq > seen["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, after);
    // A number that there never was, and one that makes no sense.
    let beyond = api.get("/api/v1/events?since=1000000");
    let newest = api.get("/api/v1/events?limit=1000");
    assert_eq!((&beyond["last"], &beyond["gap"]), (&newest["last"], &json!(true)));
    assert_eq!(
        (&all["gap"], api.get("/api/v1/events?since=0")["gap"].clone()),
        (&json!(false), json!(false))
    );
    let mut events = api.events();
    events.say(&json!({"action": "subscribe", "topics": ["node"], "since": 1_000_000}).to_string());
    events.until("the gap is told", |frame| frame["type"] == "gap");
    events.until("and how it stands", |frame| frame["type"] == "snapshot" && frame["topic"] == "node");
    events.say(r#"{"action": "subscribe", "topics": ["weather"]}"#);
    let error = events.until("it is no topic", |frame| frame["type"] == "error");
    assert_eq!(error["data"]["code"], "unknown_topic");
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn g44_cancelled_before_its_height_nothing_happens() {
    let home = home();
    let api = TestApi::of(&home);
    let supervisor = home.start();
    let head = home.sees_head(3)["chain"]["head"].as_u64().unwrap();
    let plan = json!({"name": "v2", "height": head + 40});
    assert_eq!(api.ask("POST", "/api/v1/upgrades", Some(&plan)).0, 200);
    let (status, said) = api.ask("DELETE", "/api/v1/upgrades/v2", None);
    assert_eq!(status, 200, "{said:#}");
    assert_eq!(api.ask("DELETE", "/api/v1/upgrades/v2", None).0, 404);
    home.sees_head(head + 45);
    assert_eq!((home.current(), home.history().len()), (Some("genesis".into()), 0));
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn g44_orders_during_an_upgrade_conflict() {
    let home = held_in("pre-upgrade");
    let api = TestApi::of(&home);
    let supervisor = home.start();
    home.plan("v2", 100);
    home.sees("the plan is known", |status| status["upgrades"][0]["ready"] == true);
    assert_eq!(api.ask("POST", "/api/v1/upgrades/v2/apply", None).0, 202);
    home.sees("the upgrade waits in its hook", |status| !status["upgrade"].is_null());
    for (method, path) in [
        ("POST", "/api/v1/upgrades/v2/apply"),
        ("POST", "/api/v1/upgrades/rollback"),
        ("POST", "/api/v1/node/restart"),
    ] {
        let (status, said) = api.ask(method, path, None);
        assert_eq!((status, &said["code"]), (409, &json!("conflict")), "{path}: {said:#}");
    }
    let_go(&home);
    home.committed("v2");
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn the_settings_are_changed_over_the_api_and_the_api_by_the_settings() {
    let home = home();
    let api = TestApi::of(&home);
    let supervisor = home.start();
    let max_restarts = || {
        let config = api.get("/api/v1/config");
        let settings = config["settings"].as_array().unwrap();
        settings.iter().find(|one| one["key"] == "node.max_restarts").unwrap()["value"].clone()
    };
    let change = |value: Value| json!({"settings": {"node.max_restarts": value}});
    let (status, said) = api.ask("PUT", "/api/v1/config", Some(&change(json!(2))));
    assert_eq!((status, &said["changes"][0]["value"]), (200, &json!("2")), "{said:#}");
    assert_eq!(max_restarts(), "2");
    assert_eq!(home.status().unwrap()["node"]["max_restarts"], 2);
    let file = std::fs::read_to_string(home.wemixvisor().join("config.toml")).unwrap();
    assert_eq!(api.ask("POST", "/api/v1/config/validate", Some(&change(json!(9)))).0, 200);
    for bad in [json!("many"), json!(-1), json!({})] {
        assert_eq!(api.ask("PUT", "/api/v1/config", Some(&change(bad))).0, 400);
    }
    let (status, said) =
        api.ask("PUT", "/api/v1/config", Some(&json!({"settings": {"api.require_token": false}})));
    assert_eq!((status, &said["code"]), (400, &json!("invalid")), "{said:#}");
    assert_eq!(
        std::fs::read_to_string(home.wemixvisor().join("config.toml")).unwrap(),
        file,
        "nothing was changed"
    );
    // Another port, while it runs; then a token, then none at all.
    let other = TestApi::of(&home);
    home.wait("it is served on the other port", || other.try_ask("GET", "/health", None));
    assert!(api.try_ask("GET", "/health", None).is_none());
    assert_eq!(other.get("/api/v1/status")["supervisor"], home.status().unwrap()["supervisor"]);
    home.set("api.require_token", "true");
    home.wait("a token is needed", || {
        other.try_ask("GET", "/api/v1/status", None).filter(|(status, _)| *status == 401)
    });
    home.set("api.enabled", "false");
    testkit::wait_for("it is not served", LIMIT, || {
        other.try_ask("GET", "/health", None).is_none().then_some(())
    });
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn a_lost_settings_file_is_not_made_anew_over_the_api() {
    let home = home();
    home.set("node.max_restarts", "7");
    let api = TestApi::of(&home);
    let supervisor = home.start();
    let file = home.wemixvisor().join("config.toml");
    let held = std::fs::read(&file).unwrap();
    let change = json!({"settings": {"validator": false}});
    let aside = file.with_extension("aside");
    for (state, lose) in [
        ("is gone", &(|| std::fs::rename(&file, &aside).unwrap()) as &dyn Fn()),
        ("is empty", &|| std::fs::write(&file, "").unwrap()),
    ] {
        lose();
        for (method, path, body) in [
            ("GET", "/api/v1/config", None),
            ("POST", "/api/v1/config/validate", Some(&change)),
            ("PUT", "/api/v1/config", Some(&change)),
        ] {
            let (status, said) = api.ask(method, path, body);
            assert_eq!((status, &said["code"]), (409, &json!("conflict")), "{method} {path}: {said:#}");
            let text = said["error"].as_str().unwrap();
            assert!(text.contains(state) && text.contains("restart --supervisor-only"), "{text}");
        }
        assert_eq!(home.status().unwrap()["node"]["max_restarts"], 7, "{state}");
        std::fs::write(&file, &held).unwrap();
        assert_eq!(api.ask("PUT", "/api/v1/config", Some(&change)).0, 200, "put back after it {state}");
        assert_eq!(home.status().unwrap()["node"]["max_restarts"], 7);
    }
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn a_token_is_taken_back_whatever_the_settings_say() {
    let home = home();
    let supervisor = home.start();
    let _ = home.cli(&["api", "token", "create", "lost"]).expect(0);
    home.set("api.enabled", "perhaps");
    let said = home.cli(&["api", "token", "revoke", "lost"]).expect(0);
    assert!(said.err.contains("perhaps"), "the fault is said: {}", said.err);
    assert_eq!(home.cli(&["api", "token", "revoke", "lost"]).code, 1, "there is none any more");
    assert_eq!(supervisor.stop(), 0);
}

#[test]
fn a_port_that_is_taken_is_said_and_taken_when_it_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = home();
    home.set("api.listen", &address.to_string());
    home.set("api.enabled", "true");
    let supervisor = home.start();
    let is_said = |status: &Value| {
        let alerts = status["alerts"].as_array().unwrap();
        alerts
            .iter()
            .any(|alert| alert["kind"] == "api" && alert["text"].as_str().unwrap().contains("cannot listen"))
    };
    home.sees("it is said, and the node runs", |status| {
        is_said(status) && status["node"]["answering"] == true
    });
    let said = home.cli(&["api", "--port", &address.port().to_string()]);
    assert_eq!(said.code, 1, "at once: {}", said.err);
    drop(taken);
    let api = TestApi::at(address.port());
    home.wait("it is served", || api.try_ask("GET", "/health", None));
    home.sees("the alert is over", |status| !is_said(status));
    assert_eq!(supervisor.stop(), 0);
}
