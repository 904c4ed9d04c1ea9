//! The screen.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span, Text};
use tokio::time::Instant;

use super::keys::{KEYS, MORE_KEYS};
use super::lines::{Pen, Section, fit, fold, style, width};
use super::panels::{self, Setting};
use super::state::{Page, Said, View};
use crate::screen::{Paint, Tone};

/// From so many rows on the log has some of them, whatever else there is.
const ROOM_FOR_LOG: usize = 12;

/// The share of the rows that the log has then.
const SHARE_OF_LOG: usize = 5;

/// The width of the keys on the page of help.
const KEY: usize = 16;

/// At most so many lines of an answer are shown.
const LINES_OF_ANSWER: usize = 4;

/// Draws everything as of `now`.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, setting: &Setting, now: Instant) {
    let area = frame.area();
    let pen = Pen { width: area.width.into(), paint: setting.paint };
    let rows = usize::from(area.height);
    let foot = foot(view, pen, rows);
    let above = rows.saturating_sub(foot.len());
    let (lines, stale_from) = match view.page {
        Page::Overview => overview(view, setting, pen, above, now),
        Page::Log => (log(view, pen, above), above),
        Page::Help => (help(pen, above), above),
    };
    frame.render_widget(Text::from(lines), Rect { height: short(above), ..area });
    if view.lost.is_some() && setting.paint == Paint::Colour {
        let stale = Rect { y: short(stale_from), height: short(above.saturating_sub(stale_from)), ..area };
        frame.buffer_mut().set_style(stale.intersection(area), Style::new().add_modifier(Modifier::DIM));
    }
    let below = Rect { y: short(above), height: short(rows - above), ..area };
    frame.render_widget(Text::from(foot), below.intersection(area));
    if let Some(prompt) = &view.prompt
        && rows >= 2
        && area.width > 0
    {
        let x = short((2 + width(&prompt.typed)).min(pen.width - 1));
        frame.set_cursor_position(Position { x, y: short(rows - 2) });
    }
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Everything, and the row from which on it is old when nobody answers.
fn overview(
    view: &View,
    setting: &Setting,
    pen: Pen,
    rows: usize,
    now: Instant,
) -> (Vec<Line<'static>>, usize) {
    let kept = if rows >= ROOM_FOR_LOG { rows / SHARE_OF_LOG } else { 0 };
    let sections = panels::sections(view, setting, pen, now);
    let head = sections.iter().take(2).map(Section::len).sum();
    let mut lines = fit(sections, rows - kept, pen);
    lines.extend(log(view, pen, rows - lines.len()));
    (lines, head)
}

/// The log in so many rows, the first of which is its title.
fn log(view: &View, pen: Pen, rows: usize) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let up = view.log.up();
    let title = match (&view.log.missing, up) {
        (Some(why), _) => format!("── log, not followed: {} ", crate::render::harmless(why)),
        (None, 0) if view.log.is_empty() => "── log, nothing yet ".into(),
        (None, 0) => "── log ".into(),
        (None, up) => format!("── log, {up} further down (End) "),
    };
    let rule = "─".repeat(pen.width.saturating_sub(width(&title)));
    let mut lines = vec![Line::styled(title + &rule, style(pen.paint, Tone::Dim))];
    lines.extend(view.log.in_sight(rows - 1).into_iter().map(Line::raw));
    lines
}

fn help(pen: Pen, rows: usize) -> Vec<Line<'static>> {
    let mut section = Section::new(0, 0);
    section.push(Line::styled("KEYS", style(pen.paint, Tone::Strong)));
    let keys = KEYS.iter().map(|&(key, _, does)| (key, does));
    for (key, does) in keys.chain(MORE_KEYS) {
        let mut named = key;
        for piece in fold(does, pen.width.saturating_sub(KEY + 2)) {
            let key = Span::styled(format!("  {named:<KEY$}"), style(pen.paint, Tone::Strong));
            section.push(Line::from(vec![key, Span::raw(piece)]));
            named = "";
        }
    }
    section.push(Line::raw(""));
    let orders = "Every order asks for a word to be typed before it is sent. What is sent goes on in the \
                  supervisor, also when this view is left.";
    fold(orders, pen.width).into_iter().for_each(|piece| section.push(Line::raw(piece)));
    fit(vec![section], rows, pen)
}

/// What was said to an order, the prompt, the keys: at most all rows but one.
fn foot(view: &View, pen: Pen, rows: usize) -> Vec<Line<'static>> {
    let mut words = Section::new(0, 0);
    if let Some(said) = &view.said {
        let (text, tone) = match said {
            Said::Asked(what) => (format!("{what}: asked, no answer yet"), Tone::Dim),
            Said::Accepted(words) => (words.clone(), Tone::Good),
            Said::Refused(words) => (words.clone(), Tone::Bad),
        };
        for piece in fold(&text, pen.width) {
            words.push(Line::styled(piece, style(pen.paint, tone)));
        }
    }
    let prompt = view.prompt.as_ref();
    let texts =
        prompt.map(|prompt| [prompt.means.clone(), format!("Type {} and Enter to do it:", prompt.word)]);
    let mut asked = Section::new(1, 0);
    for piece in texts.iter().flatten().flat_map(|text| fold(text, pen.width)) {
        asked.push(Line::styled(piece, style(pen.paint, Tone::Strong)));
    }
    let below = 1 + usize::from(prompt.is_some());
    let most = rows.saturating_sub(below + 1).min(LINES_OF_ANSWER);
    let mut lines = fit(vec![asked, words], most, pen);
    lines.extend(prompt.map(|prompt| Line::raw(format!("> {}", prompt.typed))));
    lines.push(keys(prompt.is_some(), pen));
    lines
}

fn keys(at_prompt: bool, pen: Pen) -> Line<'static> {
    let pairs: Vec<(&str, &str)> = match at_prompt {
        true => vec![("Enter", "sends it"), ("Esc", "leaves it")],
        false => KEYS.iter().map(|&(key, word, _)| (key, word)).collect(),
    };
    let mut line = Line::default();
    for (key, word) in pairs {
        let lead = if line.spans.is_empty() { "" } else { "  " };
        if line.width() + lead.len() + key.len() + 1 + word.len() > pen.width {
            break;
        }
        line.push_span(Span::raw(lead));
        line.push_span(Span::styled(key, style(pen.paint, Tone::Strong)));
        line.push_span(Span::raw(format!(" {word}")));
    }
    line
}
