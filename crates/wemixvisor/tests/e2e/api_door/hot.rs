//! The settings of the API, changed while it runs; and settings changed through it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use testkit::{Door, free_port};

use super::{alert, home, started, supervises, text, token, with_door};

#[test]
fn g43_the_api_is_turned_on_moved_and_turned_off_while_the_node_runs() {
    let home = home();
    let door = with_door(&home);
    home.set("api.enabled", "false");
    let _supervisor = home.start();
    let node = home.sees_head(1)["node"]["pid"].clone();
    assert!(door.connect().is_none());
    home.set("api.enabled", "true");
    home.wait("it is turned on", || door.answers(200).then_some(()));
    let mut talk = door.websocket(&[]).unwrap();
    talk.until("hello");
    let other = Door::at(free_port());
    home.set("api.listen", &format!("127.0.0.1:{}", other.port()));
    home.wait("it is served at the new port", || other.answers(200).then_some(()));
    home.wait("and not at the old one", || door.connect().is_none().then_some(()));
    let (code, reason) = talk.end();
    assert!(code == 1001 && reason.contains("set up anew"), "{code} {reason}");
    home.set("api.require_token", "true");
    home.wait("tokens are needed from now on", || other.answers(401).then_some(()));
    let read = token(&home, "x", "read");
    assert_eq!(other.ask("GET", "/api/v1/status", &[("X-API-Key", &read)], "").status, 200);
    home.set("api.enabled", "false");
    home.wait("it is turned off", || other.connect().is_none().then_some(()));
    assert_eq!(home.status().unwrap()["node"]["pid"], node);
}

#[test]
fn g43_a_port_that_is_taken_is_an_alert_until_it_is_free() {
    let home = home();
    let door = with_door(&home);
    let other = TcpListener::bind(("127.0.0.1", door.port())).unwrap();
    let _supervisor = home.start();
    let said = home.wait("it is an alert", || alert(&home, "api"));
    assert!(said.contains("another program listens there"), "{said}");
    home.wait("it is in the log", || {
        home.supervisor_said().contains("another program listens").then_some(())
    });
    supervises(&home);
    assert_eq!(home.supervisor_said().matches("another program listens").count(), 1, "said once");
    drop(other);
    home.wait("it is served by itself", || door.answers(200).then_some(()));
    home.wait("the alert is gone", || alert(&home, "api").is_none().then_some(()));
}

#[test]
fn g46_settings_are_changed_through_the_api_and_what_guards_is_not() {
    let home = home();
    let door = with_door(&home);
    let file = home.wemixvisor().join("config.toml");
    let _supervisor = started(&home, door);
    let before = fs::read_to_string(&file).unwrap() + "\n# mine\nnode.max_restarts = 3 # three\n";
    fs::write(&file, &before).unwrap();
    let setting = |key: &str| {
        let settings = door.get("/api/v1/config").json();
        settings["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone()
    };
    let send = |method: &str, path: &str, settings: serde_json::Value| {
        door.ask(method, path, &[], &json!({"settings": settings}).to_string())
    };
    let checked = send("POST", "/api/v1/config/validate", json!({"node.max_restarts": 7}));
    assert_eq!(
        (checked.status, text(&checked.json()["changes"][0]["value"])),
        (200, "7".into()),
        "{checked:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), before, "nothing is changed by a check");
    let changed = send("PUT", "/api/v1/config", json!({"node.max_restarts": 7}));
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before.replace("= 3 #", "= 7 #"), "comments stay");
    home.sees("it is in force", |status| status["node"]["max_restarts"] == 7);
    let present = fs::read_to_string(&file).unwrap();
    for (settings, words) in [
        (json!({"node.max_restart": 1}), "did you mean node.max_restarts?"),
        (json!({"node.max_restarts": "many"}), "node.max_restarts"),
        (json!({"node.max_restarts": -1}), "not a whole number"),
        (json!({"node.max_restarts": {}}), "not an object"),
        (json!({"node.max_restarts": 9, "node.kill": "perhaps"}), "node.kill"),
        (json!({"api.enabled": false}), "not changed over the API"),
        (json!({"api.require_token": false}), "not changed over the API"),
        (json!({"hooks.pre_upgrade": "/tmp/x"}), "not changed over the API"),
        (json!({"logs.file": "/etc/passwd"}), "not changed over the API"),
        (json!({"home": "/tmp"}), "not changed over the API"),
        (json!({"heights.rpc_addresses": ["http://evil.example"]}), "not changed over the API"),
        (json!({}), "no setting"),
    ] {
        for (method, path) in [("PUT", "/api/v1/config"), ("POST", "/api/v1/config/validate")] {
            let answer = send(method, path, settings.clone());
            assert_eq!(answer.error(), (400, "invalid".into()), "{settings}");
            assert!(answer.body.contains(words), "{settings}: {}", answer.body);
        }
    }
    let all =
        send("POST", "/api/v1/config/validate", json!({"node.kill": "x", "upgrade.late": "y", "nope": 1}));
    for key in ["node.kill", "upgrade.late", "nope"] {
        assert!(all.status == 400 && all.body.contains(key), "{key}: {}", all.body);
    }
    let twice = r#"{"settings": {"node.max_restarts": 1, "node.max_restarts": 2}}"#;
    assert!(door.ask("PUT", "/api/v1/config", &[], twice).body.contains("stands twice"));
    assert_eq!(fs::read_to_string(&file).unwrap(), present, "nothing was changed");
    fs::write(&file, "node.kill = 'x'\n").unwrap();
    let broken = door.get("/api/v1/config");
    assert!(broken.status == 400 && !broken.body.contains("nothing was changed"), "{broken:?}");
    fs::write(&file, &present).unwrap();
    assert_eq!(send("PUT", "/api/v1/config", json!({"node.max_restarts": null})).status, 200);
    assert!(setting("node.max_restarts")["origin"].as_str().unwrap().contains("default"));
    assert_eq!(setting("api.listen")["changeable"], false);
}

#[test]
fn g46_a_settings_file_that_is_a_link_stays_one() {
    let home = home();
    let door = with_door(&home);
    let file = home.wemixvisor().join("config.toml");
    let real = home.root().join("c.toml");
    fs::rename(&file, &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &file).unwrap();
    let _supervisor = started(&home, door);
    let body = json!({"settings": {"node.max_restarts": 7}}).to_string();
    let changed = door.ask("PUT", "/api/v1/config", &[], &body);
    assert_eq!(changed.status, 200, "{changed:?}");
    home.sees("it is in force", |status| status["node"]["max_restarts"] == 7);
    assert!(file.is_symlink() && fs::read_to_string(&real).unwrap().contains("max_restarts = 7"));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o640);
}
