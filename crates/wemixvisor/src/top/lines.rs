//! Text as lines of a given width, and sections of them that are fitted into a given height.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use crate::render::harmless;
use crate::screen::{Paint, Tone};

/// The width of the names at the left.
pub(super) const LABEL: usize = 11;

/// A tone as the terminal shows it: colours only stand beside words that say the same.
pub(super) fn style(paint: Paint, tone: Tone) -> Style {
    let style = Style::new();
    match (paint, tone) {
        (Paint::Plain, _) => style,
        (_, Tone::Good) => style.green().bold(),
        (_, Tone::Warn) => style.yellow().bold(),
        (_, Tone::Bad) => style.red().bold(),
        (_, Tone::Strong) => style.bold(),
        (_, Tone::Dim) => style.add_modifier(Modifier::DIM),
    }
}

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in pieces of at most `room` columns, broken between words where that is possible. Control characters are
/// blanks. At least one piece.
pub(super) fn fold(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for word in harmless(text).split_whitespace() {
        let long = width(word);
        if used > 0 && used + 1 + long > room {
            pieces.push(String::new());
            used = 0;
        }
        let lead = if used > 0 { " " } else { "" };
        for c in lead.chars().chain(word.chars()) {
            let wide = width(c.encode_utf8(&mut [0; 4]));
            if used + wide > room && used > 0 {
                pieces.push(String::new());
                used = 0;
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(c);
            }
            used += wide;
        }
    }
    pieces
}

/// Lines that belong together.
#[derive(Debug, Clone)]
pub(super) struct Section {
    lines: Vec<Line<'static>>,
    /// Who comes first where room is short: the lowest.
    pub(super) rank: u8,
    /// So many lines it has before those of a higher rank have more than theirs.
    pub(super) least: usize,
    /// Where it is cut, the first line stays and then the newest, not the oldest ones.
    pub(super) keeps_end: bool,
}

/// What a section is written with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) width: usize,
    pub(super) paint: Paint,
}

impl Section {
    pub(super) fn new(rank: u8, least: usize) -> Self {
        Self { lines: Vec::new(), rank, least, keeps_end: false }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Adds a text behind a name, which stands before its first line only.
    pub(super) fn say(&mut self, pen: Pen, label: &str, lead: &str, tone: Option<Tone>, text: &str) {
        let before = LABEL + width(lead);
        for (at, piece) in fold(text, pen.width.saturating_sub(before)).into_iter().enumerate() {
            let named = if at == 0 { label } else { "" };
            let lead = if at == 0 { lead.to_owned() } else { " ".repeat(width(lead)) };
            self.lines.push(Line::from(vec![
                Span::styled(format!("{named:<LABEL$}"), style(pen.paint, Tone::Dim)),
                Span::styled(lead, tone.map(|tone| style(pen.paint, tone)).unwrap_or_default()),
                Span::raw(piece),
            ]));
        }
    }

    /// Adds a line as it is.
    pub(super) fn push(&mut self, line: Line<'static>) {
        self.lines.push(line);
    }

    /// At most `rows` of its lines; where some are left out, the last one that stays, or the first, says how many.
    fn cut(mut self, rows: usize, pen: Pen) -> Vec<Line<'static>> {
        let over = self.lines.len().saturating_sub(rows);
        if over == 0 || rows == 0 {
            self.lines.truncate(rows);
            return self.lines;
        }
        let marked = if self.keeps_end {
            self.lines.drain(1..=over);
            0
        } else {
            self.lines.truncate(rows);
            rows - 1
        };
        if let Some(line) = self.lines.get_mut(marked) {
            let mark = format!(" …+{over}");
            let room = pen.width.saturating_sub(width(&mark));
            shorten(line, room);
            line.push_span(Span::styled(mark, style(pen.paint, Tone::Dim)));
        }
        self.lines
    }
}

/// Cuts a line to at most `room` columns.
fn shorten(line: &mut Line<'static>, room: usize) {
    let mut left = room;
    for span in &mut line.spans {
        let mut kept = String::new();
        for c in span.content.chars() {
            let wide = width(c.encode_utf8(&mut [0; 4]));
            if wide > left {
                left = 0;
                break;
            }
            left -= wide;
            kept.push(c);
        }
        span.content = kept.into();
    }
}

/// As many lines of the sections, in their order, as fit into `rows`: each gets its least by rank, then the rest by
/// rank.
pub(super) fn fit(sections: Vec<Section>, rows: usize, pen: Pen) -> Vec<Line<'static>> {
    let mut order: Vec<usize> = (0..sections.len()).collect();
    order.sort_by_key(|&at| sections[at].rank);
    let mut given = vec![0; sections.len()];
    let mut left = rows;
    for wanted in [|section: &Section| section.least.min(section.len()), Section::len] {
        for &at in &order {
            let more = (wanted(&sections[at]) - given[at]).min(left);
            given[at] += more;
            left -= more;
        }
    }
    sections.into_iter().zip(given).flat_map(|(section, rows)| section.cut(rows, pen)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEN: Pen = Pen { width: 20, paint: Paint::Plain };

    fn section(name: &str, rank: u8, least: usize, lines: usize) -> Section {
        let mut section = Section::new(rank, least);
        (0..lines).for_each(|line| section.push(Line::raw(format!("{name}{line}"))));
        section
    }

    fn text(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect()
    }

    #[test]
    fn text_is_folded_between_words_and_where_that_is_not_possible_within() {
        assert_eq!(fold("one two three", 7), ["one two", "three"]);
        assert_eq!(fold("a abcdefghij", 4), ["a", "abcd", "efgh", "ij"]);
        assert_eq!(fold("a\nb\u{1b}[31m", 80), ["a b [31m"]);
        assert_eq!(fold("漢字漢字", 5), ["漢字", "漢字"]);
        assert_eq!((fold("", 5), fold("ab", 0)), (vec![String::new()], vec!["a".into(), "b".into()]));
        let long = "word ".repeat(99);
        assert!(fold(&long, 33).iter().all(|piece| width(piece) <= 33));
    }

    #[test]
    fn where_room_is_short_the_ranks_decide() {
        let all = || vec![section("a", 1, 1, 3), section("b", 0, 2, 4), section("c", 2, 1, 2)];
        assert_eq!(fit(all(), 99, PEN).len(), 9);
        assert_eq!(text(&fit(all(), 4, PEN)), ["a0 …+2", "b0", "b1 …+2", "c0 …+1"]);
        assert_eq!(text(&fit(all(), 7, PEN)), ["a0", "a1 …+1", "b0", "b1", "b2", "b3", "c0 …+1"]);
        assert_eq!(text(&fit(all(), 1, PEN)), ["b0 …+3"]);
        assert_eq!(fit(all(), 0, PEN).len(), 0);
    }

    #[test]
    fn what_keeps_its_end_loses_the_middle_and_marks_fit_into_the_width() {
        let mut steps = section("s", 0, 1, 6);
        steps.keeps_end = true;
        assert_eq!(text(&fit(vec![steps.clone()], 3, PEN)), ["s0 …+3", "s4", "s5"]);
        assert_eq!(text(&fit(vec![steps], 1, PEN)), ["s0 …+5"]);
        let mut wide = Section::new(0, 1);
        wide.say(PEN, "node", "! ", None, "many words that need several lines");
        assert_eq!(
            text(&wide.lines),
            [
                "node       ! many",
                "             words",
                "             that",
                "             need",
                "             several",
                "             lines"
            ]
        );
        let cut = fit(vec![wide], 1, PEN);
        assert_eq!(text(&cut), ["node       ! man …+5"]);
        assert!(cut[0].width() <= 20);
    }
}
