//! The end of the node's log: lines that come, and what of them is in sight.

use std::collections::VecDeque;

/// So many lines are kept.
const KEPT: usize = 2000;

/// The most characters of a line that are kept.
const LONGEST: usize = 2000;

/// So many columns one step to the side goes.
const STEP: usize = 20;

/// The end of the log.
#[derive(Debug, Default)]
pub(super) struct Log {
    lines: VecDeque<String>,
    /// So many lines below the ones in sight.
    up: usize,
    /// So many columns left of the ones in sight.
    across: usize,
    /// Why it is not followed.
    pub(super) missing: Option<String>,
}

/// A movement in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// To older lines.
    Up(usize),
    /// To newer lines.
    Down(usize),
    /// To the beginnings of the lines.
    Left,
    /// To their ends.
    Right,
    /// To the oldest line.
    Oldest,
    /// To the newest line, which is followed from then on.
    Newest,
}

impl Log {
    /// Forgets what came before: the stream tells it again.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { across: self.across, ..Self::default() };
    }

    pub(super) fn add(&mut self, lines: &[String]) {
        for line in lines {
            self.lines.push_back(cleaned(line));
        }
        if self.up > 0 {
            self.up += lines.len();
        }
        let over = self.lines.len().saturating_sub(KEPT);
        self.lines.drain(..over);
        self.up = self.up.min(self.lines.len().saturating_sub(1));
    }

    pub(super) fn go(&mut self, to: Move) {
        let most = self.lines.len().saturating_sub(1);
        match to {
            Move::Up(lines) => self.up = (self.up + lines).min(most),
            Move::Down(lines) => self.up = self.up.saturating_sub(lines),
            Move::Left => self.across = self.across.saturating_sub(STEP),
            Move::Right => self.across = (self.across + STEP).min(LONGEST),
            Move::Oldest => self.up = most,
            Move::Newest => (self.up, self.across) = (0, 0),
        }
    }

    /// How many lines are below the ones in sight; 0 when the newest is followed.
    pub(super) fn up(&self) -> usize {
        self.up
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines in sight, at most `rows`.
    pub(super) fn in_sight(&self, rows: usize) -> Vec<String> {
        // Who went up further than there are lines to fill the rows sees the oldest ones.
        let end = (self.lines.len() - self.up.min(self.lines.len())).max(rows.min(self.lines.len()));
        let begin = end.saturating_sub(rows);
        let from = |line: &String| line.chars().skip(self.across).collect();
        self.lines.range(begin..end).map(from).collect()
    }
}

/// A line without anything that would move the cursor, change colours or turn the direction of writing: the node's
/// words are not to be trusted with the terminal. Sequences that begin with the escape character go as a whole.
fn cleaned(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(LONGEST));
    let mut chars = line.chars().peekable();
    let mut count = 0;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                // CSI: parameters, then one final byte.
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                continue;
            }
            '\t' => text.push_str("  "),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => continue,
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
        count += 1;
        if count == LONGEST {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("line {number}")).collect()
    }

    #[test]
    fn the_newest_lines_are_followed_until_one_goes_up() {
        let mut log = Log::default();
        assert_eq!(log.in_sight(5), Vec::<String>::new());
        log.go(Move::Up(3));
        log.go(Move::Oldest);
        log.add(&lines(0..10));
        assert_eq!(log.in_sight(3), lines(7..10));
        log.go(Move::Up(2));
        assert_eq!(log.in_sight(3), lines(5..8));
        log.add(&lines(10..14));
        assert_eq!((log.in_sight(3), log.up()), (lines(5..8), 6), "what is read stands still");
        log.go(Move::Oldest);
        assert_eq!(log.in_sight(3), lines(0..3));
        assert_eq!(log.in_sight(99), lines(0..14));
        log.go(Move::Newest);
        assert_eq!(log.in_sight(3), lines(11..14));
        log.go(Move::Right);
        assert_eq!(log.in_sight(1), [""]);
        log.go(Move::Left);
        log.begin_anew();
        log.add(&lines(0..1));
        assert_eq!(log.in_sight(3), lines(0..1));
    }

    #[test]
    fn it_is_bounded() {
        let mut log = Log::default();
        log.add(&lines(0..5));
        log.go(Move::Oldest);
        log.add(&lines(5..KEPT * 2));
        assert_eq!((log.lines.len(), log.up()), (KEPT, KEPT - 1));
        assert_eq!(log.in_sight(1), lines(KEPT..KEPT + 1));
        log.add(&["x".repeat(LONGEST * 9)]);
        assert_eq!(log.lines[KEPT - 1].len(), LONGEST);
    }

    #[test]
    fn a_line_cannot_paint_the_terminal() {
        for (line, text) in [
            ("\u{1b}[32mINFO\u{1b}[0m [01-31] x=\u{1b}[1;32m1", "INFO [01-31] x=1"),
            ("\u{1b}]0;title\u{7}a", " ]0;title a"),
            ("a\u{1b}[", "a"),
            ("a\u{9b}31mb\rc\u{8}d\te", "a 31mb c d  e"),
            ("a\u{202e}txt.exe\u{2066}", "atxt.exe"),
        ] {
            assert_eq!(cleaned(line), text, "{line:?}");
        }
    }
}
