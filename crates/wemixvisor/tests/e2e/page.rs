//! The page at `/` in a real browser: what a person does with mouse, keyboard and a phone, against the built program.
//!
//! With `WEMIXVISOR_SCREENSHOTS=<directory>` the pictures of `docs/images/` are written there. Without Chromium on the
//! machine the tests say so in one line and pass; with `WEMIXVISOR_REQUIRE_BROWSER=1` they fail.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::{Browser, Program, TestHome, browser, free_port};

use crate::{empty_home, home, let_go};

/// Smaller than this, a finger misses it (in CSS pixels).
const FINGER: u64 = 44;

/// Serves the home's API on a port of its own; the answer is its address.
fn served(home: &TestHome) -> String {
    let port = free_port();
    home.set("api.enabled", "true");
    home.set("api.listen", &format!("127.0.0.1:{port}"));
    format!("http://127.0.0.1:{port}/")
}

/// A token of this scope.
fn token(home: &TestHome, name: &str, scope: &str) -> String {
    let said = home.cli(&["api", "token", "create", name, "--scope", scope, "--json"]).expect(0);
    said.json()["token"].as_str().expect("a token").to_owned()
}

/// Keeps what is seen, where pictures are asked for.
fn picture(browser: &mut Browser, name: &str) {
    if let Some(directory) = std::env::var_os("WEMIXVISOR_SCREENSHOTS") {
        browser.picture(&PathBuf::from(directory).join(name));
    }
}

/// The row of a table that begins with this name, as an expression.
fn row(table: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{table} tbody tr')].find(row => row.innerText.startsWith('{name}'))"
    )
}

/// Puts the focus on a field by its label's element and replaces what is in it.
fn fill(browser: &mut Browser, field: &str, text: &str) {
    browser.click(field);
    browser.value(&format!("document.querySelector('{field}').select()"));
    browser.write(text);
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let text = browser.value(&format!("document.querySelector('{selector}').innerText"));
    text.as_str().unwrap_or_default().to_owned()
}

/// Signs in and waits for the board.
fn sign_in(browser: &mut Browser, token: &str) {
    browser.sees("it asks for a token", "!document.querySelector('#login').hidden");
    fill(browser, "#token", token);
    browser.press("Enter");
    browser.sees("the board is there", "!document.querySelector('#board').hidden");
}

fn is_live(browser: &mut Browser) {
    browser.sees("the page is live", "document.querySelector('#connection').dataset.state === 'live'");
}

fn fits_the_window(browser: &mut Browser) {
    let width = browser.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
    assert_eq!(width[0], width[1], "nothing is wider than the window");
}

/// Nothing is too wide, and nothing too small for a finger.
fn fits_a_phone(browser: &mut Browser) {
    fits_the_window(browser);
    let small = browser.value(&format!(
        "[...document.querySelectorAll('button, input:not([type=checkbox]), select, summary, nav a')]\
         .filter(one => one.checkVisibility()).filter(one => one.getBoundingClientRect().height < {FINGER} - 0.5)\
         .map(one => one.outerHTML)"
    ));
    assert_eq!(small, json!([]), "large enough for a finger");
}

/// Everything that can be used has a name for those who only hear it.
fn can_be_heard(browser: &mut Browser) {
    const USED: [&str; 6] = ["button", "link", "textbox", "combobox", "checkbox", "DisclosureTriangle"];
    let heard = browser.read_aloud();
    let nameless: Vec<_> =
        heard.iter().filter(|(role, name)| USED.contains(&role.as_str()) && name.trim().is_empty()).collect();
    assert!(nameless.is_empty(), "without a name: {nameless:?}");
    for role in ["banner", "navigation", "main", "heading", "status"] {
        assert!(heard.iter().any(|(other, _)| other == role), "there is no {role}: {heard:?}");
    }
}

/// What the page complained of, but for answers that a test asked for.
fn complaints(browser: &mut Browser, expected: &str) -> Vec<String> {
    let all = browser.complaints();
    all.into_iter().filter(|text| expected.is_empty() || !text.contains(expected)).collect()
}

#[test]
fn an_upgrade_is_scheduled_in_the_page_watched_to_its_end_and_another_one_cancelled() {
    let Some(program) = browser() else { return };
    let home = empty_home();
    home.init(&Program::practice("1.0.0").with("--block-time=500ms"));
    home.install("v2.0.0", &Program::practice("2.0.0").with("--block-time=500ms"));
    home.install("v3.0.0", &Program::practice("3.0.0").with("--block-time=500ms"));
    let held =
        "#!/bin/sh\nuntil [ -e \"$DAEMON_HOME/go\" ] || [ ! -d \"$DAEMON_HOME\" ]; do sleep 0.05; done\n";
    home.hook("v2.0.0", "pre-upgrade", held);
    let address = served(&home);
    let _supervisor = home.start();
    home.sees_head(5);

    let mut browser = Browser::start(&program);
    browser.size(1360, 1120);
    browser.dark(false);
    browser.open(&address);
    browser.sees("all is well", "document.querySelector('#verdict').dataset.level === 'ok'");
    is_live(&mut browser);
    let height = text(&mut browser, "#height");
    browser
        .sees("the height goes up", &format!("document.querySelector('#height').innerText !== '{height}'"));
    browser.sees("the log is there", "document.querySelector('#log-lines').innerText.includes('\\n')");

    // What makes no sense is said in the supervisor's words, and the focus stays in the form.
    browser.click("#schedule-box > summary");
    fill(&mut browser, "#plan-name", "v2.0.0");
    fill(&mut browser, "#plan-height", "nonsense");
    browser.press("Enter");
    browser.sees(
        "it says what is wrong",
        "document.querySelector('#schedule-error').innerText.includes('height')",
    );
    browser.sees("the form has the focus", "document.activeElement.closest('form')?.id === 'schedule'");
    assert_eq!(home.plans(), Vec::<Value>::new());

    let head = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    fill(&mut browser, "#plan-height", &format!("{}", head + 40));
    fill(&mut browser, "#plan-description", "The next fork");
    browser.press("Enter");
    browser.sees("it is scheduled", &row("scheduled", "v2.0.0"));
    assert_eq!(
        (home.plans()[0]["name"].as_str(), home.plans()[0]["height"].as_u64()),
        (Some("v2.0.0"), Some(head + 40))
    );
    // Another one, scheduled elsewhere, is seen without being asked for.
    let plan = json!({"name": "v3.0.0", "height": 2_000_000, "switch": "window:100", "description": "The one after that"});
    assert_eq!(home.ask("POST", "/api/v1/upgrades", Some(&plan)).unwrap().0, 200);
    browser.sees("the other one too", &row("scheduled", "v3.0.0"));
    browser.sees("it is ready", "document.querySelector('#next .tag')?.innerText === 'ready'");
    browser.sees("it is counted down", "/^in \\d+ s$/.test(document.querySelector('#countdown').innerText)");
    browser.click("#schedule-box > summary");
    for width in [600, 768, 1024, 1360] {
        browser.size(width, 1120);
        fits_the_window(&mut browser);
    }
    browser.value("scrollTo(0, 0)");
    picture(&mut browser, "page.png");

    // Its height comes: the checklist is there, and goes on by itself.
    browser.dark(true);
    browser.sees("it is under way", "document.querySelector('#upgrade').dataset.state === 'running'");
    browser.sees(
        "it waits in its hook",
        "document.querySelector('#upgrade [aria-current=step]')?.innerText.includes('pre-upgrade hook')",
    );
    let todo = browser.value(
        "[...document.querySelectorAll('#upgrade [data-state=todo] .what')].map(one => one.innerText)",
    );
    assert_eq!(todo, json!(["switch the link", "start the new program", "prove the new program"]));
    picture(&mut browser, "upgrade.png");
    let_go(&home);
    browser.sees("it is carried out", "document.querySelector('#upgrade').dataset.state === 'committed'");
    browser.sees(
        "the history has it",
        &format!("{}?.innerText.includes('carried out')", row("history", "v2.0.0")),
    );
    browser.sees("the new one runs", "document.querySelector('#node dd').innerText === 'v2.0.0'");
    let steps = browser.value("document.querySelectorAll('#upgrade [data-state=done]').length");
    assert_eq!(steps.as_u64(), Some(5), "stop, hook, switch, start, probation");
    browser.sees("all is well again", "document.querySelector('#verdict').dataset.level === 'ok'");

    // The log can be held to be read.
    browser.click("#log-pause");
    let lines = text(&mut browser, "#log-lines");
    browser
        .sees("lines wait", "/^Go on \\(\\d+ new\\)$/.test(document.querySelector('#log-pause').innerText)");
    assert_eq!(text(&mut browser, "#log-lines"), lines);
    browser.click("#log-pause");
    browser.sees(
        "they are there",
        &format!("document.querySelector('#log-lines').innerText !== {}", json!(lines)),
    );

    // The other one is cancelled, and not before its name is typed.
    browser.dark(false);
    browser.click("#scheduled button[aria-label='Cancel v3.0.0…']");
    browser.sees("it asks", "document.querySelector('#confirm').open");
    browser.write("v2.0.0");
    browser.press("Enter");
    assert_eq!(browser.value("document.querySelector('#confirm-yes').disabled"), true);
    fill(&mut browser, "#confirm-word", "v3.0.0");
    picture(&mut browser, "confirm.png");
    assert_eq!(home.plans().len(), 1, "still scheduled");
    browser.press("Enter");
    browser.sees("it is gone", &format!("!{}", row("scheduled", "v3.0.0")));
    browser.sees("the dialog is gone", "!document.querySelector('#confirm').open");
    browser.sees("it is said", "document.querySelector('#notice').innerText.includes('v3.0.0')");
    home.nothing_is_planned();
    assert_eq!(complaints(&mut browser, "400 (Bad Request)"), Vec::<String>::new());
}

#[test]
fn on_a_phone_with_a_token_that_is_kept_nowhere() {
    let Some(program) = browser() else { return };
    let home = home();
    let address = served(&home);
    home.set("api.require_token", "true");
    let (operate, read) = (token(&home, "phone", "operate"), token(&home, "screen", "read"));
    let _supervisor = home.start();
    home.sees_head(3);
    home.schedule("v2", 1_000_000);

    let mut browser = Browser::start(&program);
    browser.size(360, 760);
    browser.dark(true);
    browser.open(&address);
    browser.sees("it asks for a token", "document.activeElement.id === 'token'");
    assert_eq!(browser.value("document.querySelector('#board').hidden"), true);
    fits_a_phone(&mut browser);
    picture(&mut browser, "phone-token.png");
    fill(&mut browser, "#token", "wxv_wrong");
    browser.press("Enter");
    browser
        .sees("it says so", "document.querySelector('#token-error').innerText.includes('token is not good')");
    sign_in(&mut browser, &operate);
    is_live(&mut browser);
    browser.sees("the upgrade is there", &row("scheduled", "v2"));
    browser.sees("it is ready", "document.querySelector('#next .tag')?.innerText === 'ready'");
    for summary in ["#schedule-box", "#node details", "#chain details", "#next details"] {
        browser.value(&format!("document.querySelector('{summary}').open = true"));
    }
    fits_a_phone(&mut browser);
    can_be_heard(&mut browser);
    for summary in ["#schedule-box", "#node details", "#chain details", "#next details"] {
        browser.value(&format!("document.querySelector('{summary}').open = false"));
    }
    browser.value("scrollTo(0, 0)");
    picture(&mut browser, "phone.png");
    let kept = browser.value(
        "[location.href, localStorage.length, sessionStorage.length, document.cookie, history.length > 9]",
    );
    assert_eq!(kept, json!([address, 0, 0, "", false]));

    // The node is stopped and started with the keyboard alone; the word has to be typed.
    browser.value("document.querySelector('[data-key=stop]').focus()");
    browser.press("Enter");
    browser.sees(
        "it asks",
        "document.querySelector('#confirm').open && document.activeElement.id === 'confirm-word'",
    );
    fits_a_phone(&mut browser);
    picture(&mut browser, "phone-confirm.png");
    browser.press("Escape");
    browser.sees("nothing was done, and the focus is back", "document.activeElement.dataset.key === 'stop'");
    browser.press("Enter");
    browser.write("stop");
    browser.press("Enter");
    browser.sees("the node is down", "document.querySelector('#verdict').dataset.level === 'down'");
    home.sees("it is stopped", |status| status["node"]["state"] == "stopped");
    // Its end is heard of before the order is answered; then the focus goes back to where it was.
    browser.sees("the dialog is gone", "!document.querySelector('#confirm').open");
    browser.sees("it can be started", "!document.querySelector('[data-key=start]').disabled");
    browser.value("document.querySelector('[data-key=start]').focus()");
    browser.press("Enter");
    browser.sees("it runs again", "document.querySelector('#verdict').dataset.level === 'ok'");

    // Who may only look hears that from the supervisor.
    browser.click("#forget");
    assert!(
        !browser.value("document.body.innerText").as_str().unwrap().contains("v2"),
        "nothing is left to be read"
    );
    sign_in(&mut browser, &read);
    browser.click("[data-key=restart]");
    browser.sees("it asks", "document.querySelector('#confirm').open");
    browser.write("restart");
    browser.press("Enter");
    browser.sees(
        "it is refused",
        "document.querySelector('#confirm-error').innerText.includes('scope operate')",
    );
    browser.press("Escape");

    // A token that is taken back is worth nothing at once.
    let _ = home.cli(&["api", "token", "revoke", "screen"]).expect(0);
    browser.sees(
        "it asks again",
        "!document.querySelector('#login').hidden && document.querySelector('#board').hidden",
    );
    let left = complaints(&mut browser, "401 (Unauthorized)");
    // The stream is cut with the token as well; the browser complains of each time it was refused.
    let of_refusals = ["403 (Forbidden)", "HTTP Authentication failed"];
    let left: Vec<_> =
        left.into_iter().filter(|text| !of_refusals.iter().any(|refusal| text.contains(refusal))).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_failed_upgrade_is_told_with_its_reason_and_can_be_tried_again() {
    let Some(program) = browser() else { return };
    let home = home();
    home.install("v2", &Program::practice("2.0.0").with("--fail-start=unknown flag"));
    let address = served(&home);
    let _supervisor = home.start();
    home.sees_head(3);
    let mut browser = Browser::start(&program);
    browser.size(1360, 1120);
    browser.open(&address);
    is_live(&mut browser);
    home.plan("v2", 5);
    browser.sees("it is rolled back", "document.querySelector('#upgrade').dataset.state === 'rolled_back'");
    let told = text(&mut browser, "#upgrade");
    assert!(told.contains("unknown flag") && told.contains("check the old program"), "{told}");
    browser.sees("a person is needed", "document.querySelector('#verdict').dataset.level === 'attention'");
    browser.sees("it is among what needs one", "document.querySelector('#alerts').innerText.includes('v2')");
    picture(&mut browser, "rolled-back.png");

    home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
    browser.click("[data-key=retry]");
    browser.sees("it asks", "document.querySelector('#confirm').open");
    browser.write("v2");
    browser.press("Enter");
    browser.sees("it is carried out", "document.querySelector('#upgrade').dataset.state === 'committed'");
    assert_eq!(home.current().as_deref(), Some("v2"));
    browser.sees("both are in the history", "document.querySelectorAll('#history tbody tr').length === 2");

    // And it can be taken back by hand.
    browser.click("[data-key=rollback]");
    browser.sees("it asks", "document.querySelector('#confirm-title').innerText === 'Roll v2 back'");
    browser.write("v2");
    browser.press("Enter");
    browser.sees("the first one runs", "document.querySelector('#node dd').innerText === 'genesis'");
    browser
        .sees("there is nothing more to take back", "document.querySelector('[data-key=rollback]').disabled");
    assert_eq!(complaints(&mut browser, ""), Vec::<String>::new());
}

#[test]
fn it_says_that_it_is_stale_and_comes_back_by_itself() {
    let Some(program) = browser() else { return };
    let home = home();
    let address = served(&home);
    let supervisor = home.start();
    home.sees_head(3);
    let mut browser = Browser::start(&program);
    browser.size(1360, 900);
    browser.dark(false);
    browser.open(&address);
    is_live(&mut browser);
    browser.sees("all is well", "document.querySelector('#verdict').dataset.level === 'ok'");

    supervisor.kill();
    browser.sees("the connection is lost", "document.querySelector('#connection').dataset.state !== 'live'");
    assert_eq!(browser.value("document.querySelector('#stale').hidden"), true, "not at once");
    browser.sees("it says so", "document.querySelector('#stale').innerText.startsWith('Stale since')");
    assert!(browser.value("document.title").as_str().unwrap().starts_with("STALE"));
    assert!(text(&mut browser, "#verdict").contains("Not known"));
    picture(&mut browser, "stale.png");

    // What happened meanwhile is seen when the supervisor is back.
    home.plan("v2", 1_000_000);
    let _supervisor = home.start();
    is_live(&mut browser);
    browser.sees("nothing is stale", "document.querySelector('#stale').hidden");
    browser.sees("the upgrade is there", &row("scheduled", "v2"));
    let height = text(&mut browser, "#height");
    browser
        .sees("the height goes up", &format!("document.querySelector('#height').innerText !== '{height}'"));
    let left = complaints(&mut browser, "ERR_CONNECTION_REFUSED");
    let other = |text: &String| !text.contains("WebSocket connection") && !text.contains("net::ERR");
    assert_eq!(left.into_iter().filter(other).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn without_a_supervisor_it_asks_and_edits_the_plan_file() {
    let Some(program) = browser() else { return };
    let home = home();
    let port = free_port();
    let mut api = home.command();
    let mut api = api.args(["api", "--port", &port.to_string()]).stdout(Stdio::null()).spawn().unwrap();
    home.wait("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    home.plan("v2", 1_000_000);
    let mut browser = Browser::start(&program);
    browser.size(1360, 900);
    browser.open(&format!("http://127.0.0.1:{port}/"));
    browser.sees("nothing runs", "document.querySelector('#verdict').dataset.level === 'down'");
    browser.sees("it asks", "document.querySelector('#connection').innerText === 'asking every 5 s'");
    browser.click("#scheduled button[aria-label='Cancel v2…']");
    browser.sees("it asks back", "document.querySelector('#confirm').open");
    browser.write("v2");
    browser.press("Enter");
    browser.sees("it is gone", &format!("!{}", row("scheduled", "v2")));
    home.nothing_is_planned();
    let other = |text: &String| !text.contains("WebSocket connection");
    assert_eq!(browser.complaints().into_iter().filter(other).collect::<Vec<_>>(), Vec::<String>::new());
    api.kill().unwrap();
    api.wait().unwrap();
}

#[test]
fn what_others_wrote_stays_text() {
    let Some(program) = browser() else { return };
    let home = home();
    let address = served(&home);
    let markup =
        "<img src=x onerror=\"document.title='taken over'\"><script>alert(1)</script>\u{202e}\u{1b}[31m";
    let plan =
        json!({"name": "v2", "height": 1_000_000, "info": {"description": markup}, "expect_version": "<b>2"});
    home.write_plans(&plan.to_string());
    let _supervisor = home.start_with(&["--http.api", "<h1>me</h1>"]);
    home.sees_head(3);
    let mut browser = Browser::start(&program);
    browser.size(1360, 900);
    browser.open(&address);
    is_live(&mut browser);
    browser.sees(
        "it is shown as it was written",
        "document.querySelector('#next').innerText.includes('<img src=x onerror=')",
    );
    browser.sees(
        "in the list too",
        "document.querySelector('#scheduled').innerText.includes('<script>alert(1)')",
    );
    let node = browser.value("document.querySelector('#node details pre').textContent").to_string();
    assert!(node.contains("<h1>me</h1>"), "{node}");
    let made = browser.value("document.querySelectorAll('main img, main script, main b, main h1').length");
    assert_eq!(made, 0);
    let hidden = browser.value("/[\\u001b\\u202e]/.test(document.body.textContent)");
    assert_eq!(hidden, false, "what turns or colours text is left out");
    // And the policy would stop what slipped through.
    let stopped = browser.value(
        "(() => { try { document.querySelector('#about').innerHTML = '<b>x</b>'; return false } catch { return true } })()",
    );
    assert_eq!(stopped, true);
    let policy = browser.value("fetch('/').then(answer => answer.headers.get('content-security-policy'))");
    assert!(
        policy.as_str().unwrap().starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
        "{policy}"
    );
    let elsewhere = browser.value(
        "performance.getEntriesByType('resource').filter(one => !one.name.startsWith(location.origin) && !one.name.startsWith('data:')).map(one => one.name)",
    );
    assert_eq!(elsewhere, json!([]), "nothing comes from elsewhere");
    let left = complaints(&mut browser, "TrustedHTML");
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_api_is_described_in_a_page_of_its_own() {
    let Some(program) = browser() else { return };
    let home = home();
    let address = served(&home);
    let _supervisor = home.start();
    let mut browser = Browser::start(&program);
    browser.size(1100, 1000);
    browser.dark(false);
    browser.open(&format!("{address}docs"));
    browser.sees("it is there", "!document.querySelector('#docs').hidden");
    let counts = browser.value(
        "fetch('/openapi.json').then(answer => answer.json()).then(api => [\
           Object.values(api.paths).flatMap(path => Object.keys(path)).filter(key => /^(get|put|post|delete)$/.test(key)).length, \
           document.querySelectorAll('#operations .entry').length, \
           Object.keys(api.components.schemas).length, document.querySelectorAll('#schemas .entry').length])",
    );
    assert!(counts[0].as_u64() > Some(20) && counts[2].as_u64() > Some(10), "{counts}");
    assert_eq!((&counts[0], &counts[2]), (&counts[1], &counts[3]), "every operation and every schema");

    browser.click("#filter");
    browser.write("schedule");
    browser.sees("it is filtered", "/^[1-9] operation/.test(document.querySelector('#found').innerText)");
    let shown = "[...document.querySelectorAll('#operations .entry')].find(one => !one.hidden && one.words.startsWith('post /api/v1/upgrades '))";
    browser.sees("what schedules is found", &format!("{shown} !== undefined"));
    browser.value(&format!("{shown}.open = true"));
    browser.sees(
        "its answers are there",
        &format!("{shown}.querySelector('.answers')?.innerText.includes('409')"),
    );
    browser.value("scrollTo(0, 0)");
    picture(&mut browser, "docs.png");
    browser
        .sees("a schema can be opened", &format!("({shown}.querySelector('a[data-schema]').click(), true)"));
    browser.sees("it is", "document.activeElement.closest('#schemas .entry')?.open");
    // All of it, opened.
    browser.value("for (const one of document.querySelectorAll('.entry')) one.open = true");
    browser.size(360, 760);
    fits_the_window(&mut browser);
    let odd = browser.value("document.body.innerText.match(/undefined|\\[object|NaN/)");
    assert_eq!(odd, Value::Null);
    assert_eq!(complaints(&mut browser, ""), Vec::<String>::new());
}
