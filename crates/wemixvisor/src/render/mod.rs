//! What people read: spans of time, numbers, moments, wrapped text; and the screens made of them.

pub mod checklist;
pub mod status;
pub mod table;
pub mod upgrade;

use jiff::tz::TimeZone;
use wemixvisor_daemon::api::wire::Moment;

/// The width of what is shown, in characters.
pub const WIDTH: usize = 80;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A span of time in milliseconds, with the two units that matter.
pub fn span(ms: u64) -> String {
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {unit}"),
        small => format!("{big} {unit} {small} {small_unit}"),
    };
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..MINUTE => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        MINUTE..HOUR => two(ms / MINUTE, "min", ms % MINUTE / SECOND, "s"),
        HOUR..DAY => two(ms / HOUR, "h", ms % HOUR / MINUTE, "min"),
        _ => two(ms / DAY, "d", ms % DAY / HOUR, "h"),
    }
}

/// A number with its digits in groups of three.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment as a clock on the wall shows it, with its date.
pub fn date(at: Moment, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The same, shorter, for tables.
pub fn short_date(at: Moment, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The same to the minute, for what is only estimated.
pub fn minute(at: Moment, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// A moment of today.
pub fn clock(at: Moment, zone: &TimeZone) -> String {
    at.timestamp().to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// `text` in lines of at most [`WIDTH`], each but the first behind `indent` blanks, the first behind `lead`.
/// A word that is longer than a line stands alone.
pub fn wrap(lead: &str, indent: usize, text: &str) -> String {
    let mut lines = Vec::new();
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let wide = visible(&line) + usize::from(!empty) + visible(word) > WIDTH;
        if wide && !empty {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines.join("\n") + "\n"
}

/// How many characters of `text` are seen: colours are not.
fn visible(text: &str) -> usize {
    let mut in_code = false;
    text.chars()
        .filter(|c| {
            let counts = !in_code && *c != '\u{1b}';
            in_code = if in_code { *c != 'm' } else { *c == '\u{1b}' };
            counts
        })
        .count()
}

/// Text from elsewhere, without anything that would move the cursor, change colours, turn the direction of what
/// follows, or not be seen.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_unseen(c) { ' ' } else { c }).collect()
}

/// Characters without a shape of their own that can make a text look like another one.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_cannot_look_like_another_text() {
        let text = "a\u{1b}[31m\u{202e}b\u{202c}\u{200b}c\u{2066}\u{feff}é";
        assert_eq!(harmless(text), "a [31m b  c  é");
    }

    #[test]
    fn spans_have_two_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min"),
            (192_000, "3 min 12 s"),
            (3 * HOUR + 12 * MINUTE, "3 h 12 min"),
            (3 * DAY + 5 * HOUR + 7, "3 d 5 h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn digits_are_grouped() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_is_wrapped_at_the_width() {
        let text = wrap("  ! ", 4, &"twelve chars ".repeat(14));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    t") || line.starts_with("    c")));
        let long = "x".repeat(100);
        assert_eq!(wrap("", 2, &format!("a {long} b")), format!("a\n  {long}\n  b\n"));
    }

    #[test]
    fn a_nodes_name_cannot_paint_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\nc"), "a [31mb c");
    }

    #[test]
    fn moments_are_shown_in_the_local_zone() {
        let at = Moment(1_769_860_800_123);
        assert_eq!(date(at, &TimeZone::UTC), "Sat 2026-01-31 12:00:00 UTC");
        assert_eq!(clock(at, &TimeZone::fixed(jiff::tz::offset(9))), "21:00:00");
    }
}
