//! Who may ask for what: hosts, pages, tokens.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use testkit::Answer;

use super::{home, started, token, with_door};

/// Method, path and the scope that it needs; whether it can be asked for here without harm.
const ROUTES: [(&str, &str, usize, bool); 27] = [
    ("GET", "/metrics", 0, true),
    ("HEAD", "/api/v1/status", 0, true),
    ("OPTIONS", "/api/v1/status", 0, true),
    ("GET", "/api/v1/status", 0, true),
    ("GET", "/api/v1/version", 0, true),
    ("GET", "/api/v1/node", 0, true),
    ("GET", "/api/v1/upgrades", 0, true),
    ("GET", "/api/v1/upgrades/status", 0, true),
    ("GET", "/api/v1/upgrades/nope", 0, true),
    ("GET", "/api/v1/history", 0, true),
    ("GET", "/api/v1/config", 0, true),
    ("GET", "/api/v1/logs", 0, true),
    ("GET", "/api/v1/logs/stream", 0, false),
    ("GET", "/api/v1/events", 0, true),
    ("GET", "/api/v1/ws", 0, true),
    ("POST", "/api/v1/config/validate", 0, true),
    ("POST", "/api/v1/upgrades", 1, true),
    ("POST", "/api/v1/upgrades/nope/apply", 1, true),
    ("POST", "/api/v1/upgrades/nope/retry", 1, true),
    ("POST", "/api/v1/upgrades/rollback", 1, true),
    ("DELETE", "/api/v1/upgrades/nope", 1, true),
    ("POST", "/api/v1/node/start", 1, true),
    ("POST", "/api/v1/node/stop", 1, false),
    ("POST", "/api/v1/node/restart", 1, false),
    ("PUT", "/api/v1/config", 2, true),
    ("POST", "/api/v1/supervisor/stop", 2, false),
    ("POST", "/api/v1/supervisor/restart", 2, false),
];

#[test]
fn g43_each_scope_opens_its_routes_and_no_others() {
    let home = home();
    let door = with_door(&home);
    home.set("api.require_token", "true");
    let tokens = ["read", "operate", "admin"].map(|scope| token(&home, scope, scope));
    let _supervisor = started(&home, door);
    for (method, path, needed, harmless) in ROUTES {
        let nobody = door.ask(method, path, &[], "");
        assert_eq!(nobody.status, 401, "{method} {path}: {nobody:?}");
        assert!(nobody.head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{nobody:?}");
        for (scope, token) in tokens.iter().enumerate() {
            let bearer = format!("Bearer {token}");
            if scope < needed {
                let refused = door.ask(method, path, &[("Authorization", &bearer)], "");
                assert_eq!(refused.error(), (403, "forbidden".into()), "{method} {path} {scope}");
            } else if harmless {
                for header in [("Authorization", bearer.as_str()), ("X-API-Key", token)] {
                    let let_in = door.ask(method, path, &[header], "").status;
                    assert!(
                        let_in != 401 && let_in != 403 && let_in != 0,
                        "{method} {path} {scope}: {let_in}"
                    );
                }
            }
        }
    }
    // Whatever is written in another way is another route, or none.
    for path in
        ["//api/v1/status", "/%61pi/v1/status", "/api/v1/../v1/status", "/api/v1/status/", "/API/v1/status"]
    {
        assert!([401, 404].contains(&door.get(path).status), "{path}: {:?}", door.get(path));
    }
    for path in ["/", "/docs", "/openapi.json", "/health", "/assets/page.js"] {
        assert_eq!(door.get(path).status, 200, "{path}");
    }
    let said = door.get("/ready").body + &door.ask("GET", "/ready", &[("X-API-Key", "wrong")], "").body;
    assert!(said.contains("ready") && !said.contains("node"), "{said}");
}

#[test]
fn g43_a_token_is_good_in_three_places_and_revoked_at_once() {
    let home = home();
    let door = with_door(&home);
    home.set("api.require_token", "true");
    let _supervisor = started(&home, door);
    let good = token(&home, "page", "read");
    let protocol = |token: &str| format!("wemixvisor, bearer.{token}");
    let mut talk = door.websocket(&[("Sec-WebSocket-Protocol", &protocol(&good))]).unwrap();
    talk.until("hello");
    assert_eq!(door.websocket(&[("Sec-WebSocket-Protocol", &protocol("wxv_0"))]).unwrap_err(), 401);
    assert_eq!(door.websocket(&[("Sec-WebSocket-Protocol", "wemixvisor")]).unwrap_err(), 401);
    let ask = |token: &str| door.ask("GET", "/api/v1/status", &[("X-API-Key", token)], "");
    assert_eq!(ask(&good).status, 200);
    for wrong in [
        "",
        " ",
        "wxv_",
        &good[..good.len() - 1],
        &format!("{good}0"),
        &good.to_uppercase(),
        &"x".repeat(9000),
    ] {
        assert_eq!(ask(wrong).error(), (401, "unauthenticated".into()), "{wrong:.80}");
    }
    let mut stream = door.stream("/api/v1/events", &[("X-API-Key", &good)]);
    stream.until("snapshot");
    let _ = home.cli(&["api", "token", "revoke", "page"]).expect(0);
    assert_eq!(ask(&good).error(), (401, "unauthenticated".into()));
    assert_eq!(talk.end().0, 0, "what was opened with it is cut off");
    while stream.next_data().is_some() {}

    let other = token(&home, "other", "admin");
    let file = home.wemixvisor().join("api-tokens.json");
    let text = fs::read_to_string(&file).unwrap();
    let said = || home.supervisor_said();
    for (what, spoil) in [
        ("damaged", &(|| fs::write(&file, "{").unwrap()) as &dyn Fn()),
        ("others may write into", &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap()),
        ("cannot read the tokens", &|| {
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
        }),
    ] {
        spoil();
        for _ in 0..3 {
            assert_eq!(ask(&other).status, 401, "{what}");
        }
        home.wait("it is said", || said().contains(what).then_some(()));
        assert_eq!(said().matches(what).count(), 1, "said once");
        let _ = fs::remove_dir(&file);
        let _ = fs::remove_file(&file);
        assert_eq!(ask(&other).status, 401, "removed");
        fs::write(&file, &text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(ask(&other).status, 200, "it is there again");
    }
}

#[test]
fn g43_no_secret_is_in_any_answer_log_or_file() {
    let home = home();
    let door = with_door(&home);
    home.set("api.require_token", "true");
    let admin = token(&home, "me", "admin");
    home.write_plans(
        &json!({"name": "v2", "height": 100_000, "args": ["--ethstats", "me:hush1@host"], "env": {"DB_PASSWORD": "hush2"},
            "info": {"binaries": {"any": "https://me:hush3@host/x"}}})
        .to_string(),
    );
    let _supervisor = home.start_with(&["--nodekeyhex", "hush4"]);
    home.wait("the API answers", || door.answers(401).then_some(()));
    home.sees("the plan is seen", |status| status["upgrades"][0]["name"] == "v2");
    let mut answers = String::new();
    for path in
        ["status", "node", "config", "upgrades", "upgrades/v2", "events?limit=1000", "history", "nothing"]
    {
        answers += &door.ask("GET", &format!("/api/v1/{path}"), &[("X-API-Key", &admin)], "").body;
    }
    answers += &door.ask("GET", "/metrics", &[("X-API-Key", &admin)], "").body;
    answers += &door.ask("POST", "/api/v1/upgrades", &[("X-API-Key", &admin)], &admin[..1]).body;
    answers += &home.cli(&["status", "--json"]).out;
    answers += &home.cli(&["api", "token", "list", "--json"]).expect(0).out;
    answers += &home.supervisor_said();
    answers += &fs::read_to_string(home.wemixvisor().join("api-tokens.json")).unwrap();
    for secret in [&admin[4..], "hush1", "hush2", "hush3", "hush4"] {
        let at = answers.find(secret).map(|at| &answers[at.saturating_sub(200)..at]);
        assert_eq!(at, None, "{secret} is told");
    }
}

#[test]
fn g43_pages_from_elsewhere_are_turned_away() {
    let home = home();
    let door = with_door(&home);
    home.set("api.hosts", "[\"node.example.org\"]");
    let _supervisor = started(&home, door);
    let ask = |headers: &[(&str, &str)]| door.ask("GET", "/api/v1/status", headers, "");
    let own = format!("127.0.0.1:{}", door.port());
    let here = format!("http://{own}");
    let refused = |answer: Answer| assert_eq!(answer.error(), (403, "forbidden".into()), "{answer:?}");

    for host in [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.",
        "127.0.0.1:x",
        "a@127.0.0.1",
    ] {
        let said = ask(&[("Host", host)]);
        assert!([400, 403].contains(&said.status), "{host}: {said:?}");
    }
    for host in
        [own.as_str(), "localhost", "LOCALHOST:1", "[::1]:80", "node.example.org", "Node.Example.Org:443"]
    {
        assert_eq!(ask(&[("Host", host)]).status, 200, "{host}");
    }
    assert_eq!(ask(&[("Host", &own), ("Host", "evil.example")]).error(), (400, "invalid".into()));
    let raw = |text: &str| door.raw(text.as_bytes());
    assert_eq!(
        raw("GET /api/v1/status HTTP/1.1\r\nConnection: close\r\n\r\n").error(),
        (400, "invalid".into())
    );
    refused(raw(
        "GET http://evil.example/api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ));
    assert_eq!(
        raw("GET http://localhost/api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .status,
        200
    );

    for origin in [
        "null",
        "http://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://localhost",
        "file://",
        "",
    ] {
        refused(ask(&[("Origin", origin)]));
        refused(door.ask("POST", "/api/v1/node/stop", &[("Origin", origin)], ""));
        refused(door.ask(
            "OPTIONS",
            "/api/v1/config",
            &[("Origin", origin), ("Access-Control-Request-Method", "PUT")],
            "",
        ));
        assert_eq!(door.websocket(&[("Origin", origin)]).unwrap_err(), 403, "{origin}");
    }
    refused(ask(&[("Origin", &here), ("Origin", "http://evil.example")]));
    // Rebinding: the browser takes our address for the page's own.
    refused(ask(&[("Host", "evil.example:8080"), ("Origin", "http://evil.example:8080")]));
    assert_eq!(ask(&[("Origin", &here)]).status, 200);
    assert!(door.websocket(&[("Origin", &here)]).is_ok());
    for site in ["cross-site", "same-site", "anything"] {
        refused(ask(&[("Sec-Fetch-Site", site)]));
        assert_eq!(door.ask("GET", "/", &[("Sec-Fetch-Site", site)], "").status, 200, "a link to the page");
    }
    for site in ["same-origin", "none"] {
        assert_eq!(ask(&[("Sec-Fetch-Site", site)]).status, 200);
    }
    let head = ask(&[]).head.to_ascii_lowercase();
    for line in [
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("access-control"), "{head}");
    home.sees("the node runs", |status| status["node"]["state"] == "running");
}
