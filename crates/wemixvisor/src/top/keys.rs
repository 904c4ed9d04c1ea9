//! What a key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::log::Move;
use super::prompt::{Order, Prompt, Wish};
use super::state::{Page, Said, View};

/// So many lines a page of the log has.
const LINES: usize = 10;

/// The keys, with a short word for the foot of the screen and what they do. The last ones that do not fit at the foot
/// are left out there.
pub(super) const KEYS: [(&str, &str, &str); 9] = [
    ("q", "quit", "leave; node and supervisor run on (also Ctrl-C)"),
    ("?", "help", "this page"),
    ("l", "log", "the log alone, and back"),
    ("r", "restart", "stop the node and start it again"),
    ("x", "stop", "stop the node; the supervisor stays up"),
    ("g", "start", "start the node, or the program that an upgrade waits to start"),
    ("a", "apply", "carry the next upgrade out now"),
    ("c", "cancel", "take the next upgrade off the schedule, or call off the one that begins"),
    ("b", "back", "go back to the program before the last upgrade"),
];

/// Keys that only the page of help tells.
pub(super) const MORE_KEYS: [(&str, &str); 5] = [
    ("↑ ↓ PgUp PgDn", "older and newer lines of the log"),
    ("← →", "the beginnings and the ends of its lines"),
    ("Home End", "the oldest line; the newest, which is followed from then on"),
    ("Esc", "back"),
    ("Ctrl-L", "draw everything anew"),
];

/// What is to be done after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Nothing but showing what has changed.
    Show,
    /// The same on a screen that something else has written on.
    DrawAnew,
    /// Leave.
    Quit,
    /// Leave, as by a signal.
    Interrupt,
    /// Send an order.
    Send(Order),
}

impl View {
    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Deed {
        if key.kind == KeyEventKind::Release {
            return Deed::Show;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Deed::Interrupt,
                KeyCode::Char('l') => Deed::DrawAnew,
                _ => Deed::Show,
            };
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            return Deed::Show;
        }
        match self.prompt.take() {
            Some(prompt) => self.key_at_prompt(prompt, key.code),
            None => self.key_at_page(key.code),
        }
    }

    fn key_at_prompt(&mut self, mut prompt: Prompt, key: KeyCode) -> Deed {
        match key {
            KeyCode::Esc => return Deed::Show,
            KeyCode::Enter => match prompt.send() {
                Ok(order) => {
                    self.said = Some(Said::Asked(order.what.clone()));
                    return Deed::Send(order);
                }
                Err(why) => {
                    self.said = Some(Said::Refused(why));
                    return Deed::Show;
                }
            },
            KeyCode::Backspace => drop(prompt.typed.pop()),
            KeyCode::Char(c) => prompt.type_in(c),
            _ => {}
        }
        self.prompt = Some(prompt);
        Deed::Show
    }

    fn key_at_page(&mut self, key: KeyCode) -> Deed {
        if let Some(to) = movement(key) {
            self.log.go(to);
            return Deed::Show;
        }
        // What was said has been read.
        self.said = None;
        let KeyCode::Char(key) = key else {
            if key == KeyCode::Esc {
                self.page = Page::Overview;
            }
            return Deed::Show;
        };
        match (key, self.page) {
            ('q', _) => return Deed::Quit,
            ('?', Page::Help) | ('l', Page::Log) => self.page = Page::Overview,
            ('?', _) => self.page = Page::Help,
            ('l', _) => self.page = Page::Log,
            _ => self.ask_for(key),
        }
        Deed::Show
    }

    fn ask_for(&mut self, key: char) {
        let wish = match key {
            'r' => Wish::Restart,
            'x' => Wish::Stop,
            'g' => Wish::Start,
            'a' => Wish::Apply,
            'c' => Wish::Cancel,
            'b' => Wish::Rollback,
            _ => return,
        };
        match Prompt::of(wish, self.status()) {
            Ok(prompt) => self.prompt = Some(prompt),
            Err(why) => self.said = Some(Said::Refused(why)),
        }
    }
}

fn movement(key: KeyCode) -> Option<Move> {
    Some(match key {
        KeyCode::Up => Move::Up(1),
        KeyCode::Down => Move::Down(1),
        KeyCode::PageUp => Move::Up(LINES),
        KeyCode::PageDown => Move::Down(LINES),
        KeyCode::Left => Move::Left,
        KeyCode::Right => Move::Right,
        KeyCode::Home => Move::Oldest,
        KeyCode::End => Move::Newest,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::Instant;
    use wemixvisor_daemon::control::Method;

    use super::super::state::News;
    use super::*;
    use crate::render::status::tests::{fine, upgrade};

    fn view(change: impl FnOnce(&mut Value)) -> View {
        let mut status = fine();
        change(&mut status);
        let mut view = View::new();
        let status = serde_json::from_value(status).unwrap();
        view.learn(News::Picture(Box::new(Ok(Some(status)))), Instant::now());
        view
    }

    fn hit(view: &mut View, code: KeyCode) -> Deed {
        view.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn typed(view: &mut View, text: &str) -> Deed {
        let each = text.chars().map(|c| hit(view, if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) }));
        each.last().unwrap_or(Deed::Show)
    }

    fn sent(deed: Deed) -> (Method, String) {
        match deed {
            Deed::Send(order) => (order.method, order.path),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_order_is_sent_only_when_its_word_was_typed() {
        for (keys, method, path) in [
            ("rrestart\n", Method::POST, "/api/v1/node/restart"),
            ("xstop\n", Method::POST, "/api/v1/node/stop"),
            ("gstart\n", Method::POST, "/api/v1/node/start"),
            ("av2.0.0\n", Method::POST, "/api/v1/upgrades/v2.0.0/apply"),
            ("cv2.0.0\n", Method::DELETE, "/api/v1/upgrades/v2.0.0"),
            ("brollback\n", Method::POST, "/api/v1/upgrades/rollback"),
        ] {
            let mut view = view(|_| {});
            assert_eq!(sent(typed(&mut view, keys)), (method, path.to_owned()), "{keys}");
            assert!(matches!(view.said, Some(Said::Asked(_))) && view.prompt.is_none(), "{view:?}");
            let slip = &keys[..keys.len() - 2];
            for wrong in [format!("{slip}\n"), format!("{slip}x\n"), format!("{}\n", &keys[..1])] {
                assert_eq!(typed(&mut view, &wrong), Deed::Show, "{wrong:?}");
                assert!(matches!(view.said, Some(Said::Refused(_))) && view.prompt.is_none(), "{view:?}");
            }
        }
    }

    #[test]
    fn the_word_can_be_mended_and_the_prompt_left() {
        let mut view = view(|_| {});
        let _ = typed(&mut view, "xstoo");
        let _ = hit(&mut view, KeyCode::Backspace);
        assert_eq!(sent(typed(&mut view, "p\n")).1, "/api/v1/node/stop");
        let _ = typed(&mut view, "xq");
        assert_eq!(view.prompt.as_ref().unwrap().typed, "q", "a letter, not the key");
        let _ = hit(&mut view, KeyCode::Esc);
        assert!(view.prompt.is_none());
        let _ = typed(&mut view, "x");
        let _ = typed(&mut view, &"y".repeat(999));
        assert_eq!(view.prompt.as_ref().unwrap().typed.len(), 128);
    }

    #[test]
    fn orders_about_upgrades_name_the_one_that_is_meant() {
        let mut nothing = view(|status| status["upgrades"] = json!([]));
        for key in ['a', 'c'] {
            assert_eq!(hit(&mut nothing, KeyCode::Char(key)), Deed::Show);
            assert!(
                matches!(&nothing.said, Some(Said::Refused(why)) if why.starts_with("no upgrade is scheduled"))
            );
        }
        let under_way = |can_cancel: bool, name: &str| {
            json!({
                "name": name, "height": 9, "from": "genesis", "to": "v2.0.0", "fired_at": "2026-01-31T11:59:58Z",
                "step": "stop", "step_text": "stop the old program", "steps": [], "going_back": false,
                "failure": null, "waiting_for": [], "held": false, "can_cancel": can_cancel
            })
        };
        let busy = |can_cancel, name: &str| {
            view(|status| {
                status["upgrade"] = under_way(can_cancel, name);
                status["upgrades"] = json!([upgrade("v2.0.0", 9), upgrade("v3", 10)]);
            })
        };
        for (can_cancel, name, key, word) in [
            (true, "v2.0.0", 'c', "v2.0.0"),
            (false, "v2.0.0", 'c', "v3"),
            (true, "v2.0.0", 'a', "v3"),
            (true, "rollback to genesis", 'c', "v2.0.0"),
        ] {
            let mut view = busy(can_cancel, name);
            let _ = hit(&mut view, KeyCode::Char(key));
            assert_eq!(view.prompt.unwrap().word, word, "{name} {key}");
        }
    }

    #[test]
    fn pages_are_left_by_the_key_that_opened_them_and_by_escape() {
        let mut view = view(|_| {});
        for (key, page) in [('l', Page::Log), ('?', Page::Help), ('l', Page::Log), ('l', Page::Overview)] {
            assert_eq!(hit(&mut view, KeyCode::Char(key)), Deed::Show);
            assert_eq!(view.page, page);
        }
        let _ = typed(&mut view, "?");
        let _ = hit(&mut view, KeyCode::Esc);
        assert_eq!(view.page, Page::Overview);
        assert_eq!(hit(&mut view, KeyCode::Char('q')), Deed::Quit);
        view.log.add(&["a".into(), "b".into(), "c".into()]);
        let _ = hit(&mut view, KeyCode::Up);
        assert_eq!(view.log.up(), 1);
        let _ = hit(&mut view, KeyCode::End);
        assert_eq!(view.log.up(), 0);
    }

    #[test]
    fn control_c_leaves_also_at_a_prompt_and_is_no_c() {
        let mut view = view(|_| {});
        let with = |code, modifiers| KeyEvent::new(KeyCode::Char(code), modifiers);
        assert_eq!(view.key(with('c', KeyModifiers::CONTROL)), Deed::Interrupt);
        let _ = typed(&mut view, "xst");
        assert_eq!(view.key(with('d', KeyModifiers::CONTROL)), Deed::Show);
        assert_eq!(view.key(with('l', KeyModifiers::CONTROL)), Deed::DrawAnew);
        assert_eq!(view.key(with('q', KeyModifiers::ALT)), Deed::Show);
        assert_eq!(view.prompt.as_ref().unwrap().typed, "st");
        assert_eq!(view.key(with('c', KeyModifiers::CONTROL)), Deed::Interrupt);
    }
}
