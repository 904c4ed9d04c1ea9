//! The screen in all its sizes, drawn into memory.

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};
use serde_json::{Value, json};
use tokio::time::Instant;
use wemixvisor_daemon::api::wire::{Event, Moment};
use wemixvisor_daemon::control::Frame;

use super::state::{News, Page};
use super::*;
use crate::render::status::tests::{fine, finished, upgrade};
use crate::screen::Paint;

fn mark(step: &str, text: &str, ended: Option<&str>) -> Value {
    json!({ "step": step, "text": text, "started": "2026-01-31T11:59:58Z", "ended": ended, "failed": null, "note": null })
}

fn under_way() -> Value {
    json!({
        "name": "v2.0.0", "height": 1500000, "from": "genesis", "to": "v2.0.0", "fired_at": "2026-01-31T11:59:58Z",
        "step": "probation", "step_text": "prove the new program",
        "steps": [
            mark("stop", "stop the old program", Some("2026-01-31T11:59:58.400Z")),
            mark("switch", "switch the link", Some("2026-01-31T11:59:58.410Z")),
            mark("start", "start the new program", Some("2026-01-31T11:59:58.440Z")),
            mark("probation", "prove the new program", None)
        ],
        "going_back": false, "failure": null, "waiting_for": ["2 more blocks"], "held": false, "can_cancel": false
    })
}

fn view(status: Value, begin: Instant) -> View {
    let mut view = View::new();
    let status = serde_json::from_value(status).unwrap();
    view.learn(News::Picture(Box::new(Ok(Some(status)))), begin);
    let heads = [(1, 0), (2, 1000), (3, 2400), (4, 3000)];
    for (height, at) in heads {
        let event = Event {
            seq: 1,
            timestamp: Moment(at),
            topic: "heights".into(),
            kind: "height".into(),
            data: json!({ "height": height }),
        };
        view.learn(News::Happened(Frame { durable: false, event }), begin);
    }
    let lines =
        (1..=30).map(|number| format!("\u{1b}[32mINFO\u{1b}[0m Imported new chain segment number={number}"));
    view.learn(News::Lines(lines.collect()), begin);
    view
}

fn drawn(view: &View, size: (u16, u16), paint: Paint, now: Instant) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let setting =
        Setting { home: "/srv/wemix".into(), network: "mainnet".into(), paint, zone: TimeZone::UTC };
    terminal.draw(|frame| draw::draw(frame, view, &setting, now)).unwrap();
    terminal.backend().buffer().clone()
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
}

fn shown(view: &View, size: (u16, u16), now: Instant) -> String {
    rows(&drawn(view, size, Paint::Plain, now)).join("\n")
}

fn typed(view: &mut View, keys: &str) {
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        let _ = view.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

#[test]
fn a_node_that_is_fine_at_80_by_24() {
    let begin = Instant::now();
    let expected = "\
wemixvisor  /srv/wemix (mainnet, chain id 1111)                         12:00:03
OK  the node runs and follows the chain
supervisor wemixvisor 0.1.0, pid 41, up 3 h 12 min
node       genesis, running, pid 42, up 3 h 12 min
           Gwemix/v0.10.9-stable/linux-amd64/go1.19
head       1,234,567, 3.8 s ago; a block every 1.0 s; 400 ms behind
pace       ▆█▄ 600 ms to 1.4 s a block
source     ws://127.0.0.1:8598
           silent: http://127.0.0.1:8588 cannot be reached: connection refused
next       v2.0.0 at 1,500,000 (when the head is there)
           265,433 blocks left, in 3 d 1 h: Tue 2026-02-03 13:43:53 UTC
           ready: version 2.0.0
── log ─────────────────────────────────────────────────────────────────────────
INFO Imported new chain segment number=21
INFO Imported new chain segment number=22
INFO Imported new chain segment number=23
INFO Imported new chain segment number=24
INFO Imported new chain segment number=25
INFO Imported new chain segment number=26
INFO Imported new chain segment number=27
INFO Imported new chain segment number=28
INFO Imported new chain segment number=29
INFO Imported new chain segment number=30
q quit  ? help  l log  r restart  x stop  g start  a apply  c cancel  b back";
    assert_eq!(shown(&view(fine(), begin), (80, 24), begin + Duration::from_secs(3)), expected);
}

#[test]
fn an_upgrade_under_way_at_80_by_24() {
    let begin = Instant::now();
    let mut status = fine();
    status["upgrade"] = under_way();
    status["verdict"] = json!("attention");
    status["headline"] = json!("upgrade v2.0.0 is under way: prove the new program");
    let expected = "\
wemixvisor  /srv/wemix (mainnet, chain id 1111)                         12:00:00
ATTENTION  upgrade v2.0.0 is under way: prove the new program
supervisor wemixvisor 0.1.0, pid 41, up 3 h 12 min
node       genesis, running, pid 42, up 3 h 12 min
           Gwemix/v0.10.9-stable/linux-amd64/go1.19
head       1,234,567, 800 ms ago; a block every 1.0 s; 400 ms behind
pace       ▆█▄ 600 ms to 1.4 s a block
source     ws://127.0.0.1:8598
           silent: http://127.0.0.1:8588 cannot be reached: connection refused
upgrade    UNDER WAY v2.0.0: genesis -> v2.0.0, for 2.0 s
           [✓] stop the old program     11:59:58  400 ms
           [✓] switch the link          11:59:58  410 ms
           [✓] start the new program    11:59:58  440 ms
           […] prove the new program    11:59:58  2.0 s
               still to prove: 2 more blocks
── log ─────────────────────────────────────────────────────────────────────────
INFO Imported new chain segment number=24
INFO Imported new chain segment number=25
INFO Imported new chain segment number=26
INFO Imported new chain segment number=27
INFO Imported new chain segment number=28
INFO Imported new chain segment number=29
INFO Imported new chain segment number=30
q quit  ? help  l log  r restart  x stop  g start  a apply  c cancel  b back";
    assert_eq!(shown(&view(status, begin), (80, 24), begin), expected);
}

/// Everything that can go wrong, at once.
fn crowded() -> Value {
    let mut status = fine();
    let mut upgrading = under_way();
    upgrading["going_back"] = json!(true);
    upgrading["failure"] =
        json!("prove the new program: ".to_owned() + &"it fell silent and then ".repeat(9));
    upgrading["can_cancel"] = json!(true);
    upgrading["held"] = json!(true);
    let back = ["back_stop", "back_switch", "back_start", "back_probation"];
    let steps = upgrading["steps"].as_array_mut().unwrap();
    steps[3]["failed"] = json!("it \u{1b}[31mdied");
    steps.extend(back.map(|step| mark(step, "go back to the old program", None)));
    status["upgrade"] = upgrading;
    status["headline"] = json!("a headline \u{1b}[2J that is long ".repeat(9));
    status["upgrades"] = json!([upgrade("v3", 1600000), upgrade("v4", 1700000)]);
    status["upgrades"][0]["findings"] =
        json!([{ "what": "x", "state": "failed", "detail": "no program ".repeat(9) }]);
    status["upgrades"][0]["ready"] = json!(false);
    status["plan_problem"] = json!("it is half a file");
    let alerts =
        (0..9).map(|number| json!({ "kind": "x", "text": format!("alert {number} {}", "word ".repeat(30)) }));
    status["alerts"] = alerts.collect();
    status
}

#[test]
fn what_matters_most_stays_where_room_is_short() {
    let begin = Instant::now();
    let text = shown(&view(crowded(), begin), (80, 24), begin);
    for part in [
        "a headline",
        "GOES BACK v2.0.0",
        "[…] go back to the old program",
        "head       1,234,567",
        "! alert 0",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for part in ["node       genesis", "plan file", "── log", "number=30", "q quit", "…+"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let small = shown(&view(crowded(), begin), (40, 15), begin);
    for part in ["OK  a headline", "GOES BACK v2.0.0", "head       1,234,567", "q quit  ? help"] {
        assert!(small.contains(part), "{part} in\n{small}");
    }
    let small = shown(&view(fine(), begin), (40, 15), begin);
    for part in ["OK  the node runs", "node       genesis", "v2.0.0 at 1,500,000", "265,433", "INFO Imported"]
    {
        assert!(small.contains(part), "{part} in\n{small}");
    }
    let large = shown(&view(crowded(), begin), (200, 60), begin);
    for part in
        ["alert 8", "then       v4 at 1,700,000", "c calls it off", "g starts the new program", "number=30"]
    {
        assert!(large.contains(part), "{part} in\n{large}");
    }
}

#[test]
fn every_size_can_be_drawn_on_every_page() {
    let begin = Instant::now();
    let statuses = [None, Some(fine()), Some(crowded())];
    for status in statuses {
        let mut view = status.map_or_else(View::new, |status| view(status, begin));
        for lost in [false, true] {
            if lost {
                view.learn(News::Picture(Box::new(Err(Failure::failed("it hangs ".repeat(40))))), begin);
                view.log.missing = Some("why ".repeat(50));
            }
            for page in [Page::Overview, Page::Log, Page::Help] {
                for prompt in ["", "b", "broll"] {
                    view.page = page;
                    view.prompt = None;
                    typed(&mut view, prompt);
                    view.said = Some(Said::Refused("no, for a reason that is long ".repeat(20)));
                    for size in
                        [(1, 1), (2, 9), (9, 2), (5, 3), (20, 6), (40, 15), (80, 24), (81, 13), (200, 60)]
                    {
                        let _ = shown(&view, size, begin);
                    }
                }
            }
        }
    }
}

#[test]
fn nobody_who_answers_is_said_with_what_was_known_below() {
    let begin = Instant::now();
    let at = |s| begin + Duration::from_secs(s);
    let none = || News::Picture(Box::new(Ok(None)));
    let mut unknown = View::new();
    assert!(shown(&unknown, (80, 24), begin).contains("\n...  the supervisor is asked\n"));
    unknown.learn(none(), begin);
    let text = shown(&unknown, (80, 24), at(70));
    assert!(text.contains("NOT ANSWERING  no supervisor runs for this home."), "{text}");
    assert!(text.contains("For 1 min 10 s now") && !text.contains("Below"), "{text}");

    let mut known = view(fine(), begin);
    known.learn(none(), at(5));
    let buffer = drawn(&known, (80, 24), Paint::Colour, at(6));
    let text = rows(&buffer).join("\n");
    assert!(text.contains("Below is how it") && text.contains("head       1,234,567, 800 ms ago"), "{text}");
    let dim = |y: u16| buffer[(0, y)].modifier.contains(Modifier::DIM);
    assert!(!dim(1) && dim(8) && !dim(23), "what is old is dim");
}

#[test]
fn colours_are_there_unless_they_are_not_wished_for() {
    let begin = Instant::now();
    let view = view(fine(), begin);
    let coloured = drawn(&view, (80, 24), Paint::Colour, begin);
    assert_eq!(coloured[(0, 1)].fg, Color::Green);
    let plain = drawn(&view, (80, 24), Paint::Plain, begin);
    assert_eq!(rows(&coloured), rows(&plain), "the words are the same");
    let styled =
        |cell: &&ratatui::buffer::Cell| cell.style() != Style::reset() && cell.style() != Style::new();
    let one = plain
        .content
        .iter()
        .find(|cell| styled(cell) && cell.fg != Color::Reset || !cell.modifier.is_empty());
    assert_eq!(one, None);
}

#[test]
fn a_prompt_its_answer_and_the_other_pages() {
    let begin = Instant::now();
    let mut view = view(fine(), begin);
    typed(&mut view, "av2");
    let text = shown(&view, (80, 24), begin);
    let foot = "\
Upgrade v2.0.0 is carried out now: the node is stopped, v2.0.0 is started.
Type v2.0.0 and Enter to do it:
> v2
Enter sends it  Esc leaves it";
    assert!(text.ends_with(foot), "{text}");
    typed(&mut view, ".0.0\n");
    assert!(shown(&view, (80, 24), begin).contains("\napply upgrade v2.0.0: asked, no answer yet\nq quit"));
    view.said = Some(Said::Refused("apply upgrade v2.0.0: it is not ready".into()));
    assert!(shown(&view, (80, 24), begin).contains("\napply upgrade v2.0.0: it is not ready\nq quit"));
    typed(&mut view, "l");
    let text = shown(&view, (80, 24), begin);
    assert!(
        text.starts_with("── log ───") && text.contains("number=9\n") && !text.contains("not ready"),
        "{text}"
    );
    for _ in 0..3 {
        let _ = view.key(KeyEvent::new(KeyCode::Up, KeyModifiers::NONE));
    }
    let text = shown(&view, (80, 24), begin);
    assert!(text.starts_with("── log, 3 further down (End) ──"), "{text}");
    assert!(text.contains("number=27\n") && !text.contains("number=28"), "{text}");
    typed(&mut view, "?");
    let text = shown(&view, (80, 24), begin);
    assert!(
        text.starts_with("KEYS\n  q               leave;") && text.contains("typed before it is sent"),
        "{text}"
    );
}

#[test]
fn the_last_upgrade_stays_in_sight() {
    let begin = Instant::now();
    let mut status = fine();
    status["last_upgrade"] = finished(7, "2026-01-30T12:00:00Z");
    status["last_upgrade"]["steps"] = under_way()["steps"].clone();
    let text = shown(&view(status, begin), (80, 24), begin);
    assert!(
        text.contains("last       12:00:05 v2.0.0 was rolled back: prove the new program: it died."),
        "{text}"
    );
    assert!(text.contains("[✓] stop the old program"), "{text}");
}
