//! Other machines: TLS, a proxy, and the limit on the rate.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::TestHome;

use super::{home, started, token, with_door};

/// Runs `openssl`; `None` where it is not on this machine, which is said in one line on standard error.
fn openssl(at: &Path, args: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(args).current_dir(at).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        let _ = writeln!(std::io::stderr(), "skipped: openssl is not on this machine");
        return None;
    };
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned())
}

/// Puts a key and a certificate of its own for 127.0.0.1 in place, each whole.
fn certify(home: &TestHome, name: &str) -> Option<()> {
    let dir = home.wemixvisor();
    let subject = format!("/CN={name}");
    let key =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let rest = [
        "-subj",
        &subject,
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        "new.key",
        "-out",
        "new.crt",
    ];
    openssl(&dir, &key.iter().chain(&rest).copied().collect::<Vec<_>>(), "")?;
    for (new, place) in [("new.key", "tls.key"), ("new.crt", "tls.crt")] {
        std::fs::rename(dir.join(new), dir.join(place)).unwrap();
    }
    Some(())
}

#[test]
fn g43_tls_is_spoken_where_it_is_set_and_a_renewed_certificate_is_taken() {
    let home = home();
    let Some(()) = certify(&home, "first") else { return };
    let door = with_door(&home);
    home.set("api.tls_cert", "tls.crt");
    home.set("api.tls_key", "tls.key");
    let _supervisor = home.start();
    let address = format!("127.0.0.1:{}", door.port());
    let over_tls = || {
        let args = ["s_client", "-quiet", "-verify_return_error", "-CAfile", "tls.crt", "-connect", &address];
        let request = "GET /api/v1/version HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        openssl(&home.wemixvisor(), &args, request).unwrap()
    };
    home.wait("it is served over TLS", || over_tls().contains("200 OK").then_some(()));
    assert_eq!(door.get("/api/v1/version").status, 0, "plain HTTP is no answer");
    let silent = door.connect().unwrap();
    let subject = || openssl(&home.wemixvisor(), &["s_client", "-connect", &address], "").unwrap();
    assert!(subject().contains("CN=first") || subject().contains("CN = first"), "{}", subject());
    let _ = certify(&home, "second");
    home.wait("the renewed certificate is shown", || {
        let shown = subject();
        (shown.contains("CN=second") || shown.contains("CN = second")).then_some(())
    });
    assert!(over_tls().contains("200 OK"));
    let checked = || home.cli(&["config", "validate"]).expect(0).out;
    assert!(!checked().contains("tls"), "{}", checked());
    // A damaged one is not taken, and not the end either.
    std::fs::write(home.wemixvisor().join("tls.key"), "nonsense").unwrap();
    assert!(checked().contains("set as api.tls_key"), "{}", checked());
    assert!(subject().contains("second"), "the one before stays in use");
    home.wait("it is said", || {
        home.supervisor_said().contains("the certificates before stay in use").then_some(())
    });
    drop(silent);
}

#[test]
fn g43_other_machines_need_tls_or_a_proxy() {
    let home = home();
    for listen in ["0.0.0.0:0", "192.0.2.1:1"] {
        home.set("api.enabled", "true");
        home.set("api.listen", listen);
        let said = home.cli(&["config", "validate"]);
        assert_ne!(said.code, 0, "{listen}: {said:?}");
        assert!((said.out + &said.err).contains("in the clear"), "{listen}");
    }
    home.set("api.enabled", "false");
    home.set("api.listen", "127.0.0.1:8080");
    for host in ["0.0.0.0", "::", "::ffff:127.0.0.1"] {
        let said = home.cli(&["api", "--host", host, "--port", "0"]);
        assert!(said.code != 0 && said.err.contains("in the clear"), "{said:?}");
    }
}

#[test]
fn g43_behind_a_proxy_everybody_needs_a_token_and_has_a_rate_of_their_own() {
    let home = home();
    let door = with_door(&home);
    home.set("api.behind_proxy", "true");
    home.set("api.rate_limit", "1");
    let read = token(&home, "read", "read");
    let _supervisor = started(&home, door);
    let ask = |from: &str| {
        door.ask("GET", "/api/v1/version", &[("X-API-Key", &read), ("X-Forwarded-For", from)], "")
    };
    assert_eq!(door.ask("GET", "/api/v1/version", &[("X-Forwarded-For", "192.0.2.9")], "").status, 401);
    let many = |from: &str| (0..8).map(|_| ask(from).status).filter(|status| *status == 429).count();
    assert!(many("192.0.2.1") >= 4, "one client is held back");
    assert_eq!(ask("192.0.2.2").status, 200, "another one is not");
    assert_eq!(ask("192.0.2.1, 192.0.2.3").status, 200, "what the client wrote itself does not count");
    assert!((0..8).map(|n| ask(&format!("192.0.2.{n}, 192.0.2.4")).status).any(|status| status == 429));
    // A network of IPv6 is one client.
    assert!((0..8).map(|n| ask(&format!("2001:db8::{n}")).status).any(|status| status == 429));
    assert_eq!(ask("2001:db8:0:1::1").status, 200);
    let refused = (0..8).map(|_| ask("192.0.2.5")).find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.error().1, "too_many_requests");
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: 1"), "{refused:?}");
    // What guesses tokens is held back as well.
    let guess = |_| {
        door.ask("GET", "/api/v1/version", &[("X-API-Key", "x"), ("X-Forwarded-For", "192.0.2.6")], "").status
    };
    assert!((0..8).map(guess).any(|status| status == 429));
}

#[test]
fn g43_a_proxy_that_was_not_announced_lets_nobody_in() {
    let home = home();
    let door = with_door(&home);
    let _supervisor = started(&home, door);
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto"] {
        let answer = door.ask("POST", "/api/v1/node/stop", &[(header, "192.0.2.1")], "");
        assert_eq!(answer.error(), (403, "forbidden".into()), "{header}");
        assert!(answer.body.contains("api.behind_proxy"), "{answer:?}");
    }
}
