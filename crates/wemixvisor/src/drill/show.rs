//! How a drill looks: 80 columns of text for people, or one JSON object a line for programs.

use serde::Serialize;
use tokio::time::Instant;

use super::Broken;
use super::checks::Check;
use super::story::{Mark, Told};
use crate::failure::Failure;
use crate::render::{WIDTH, harmless, span, wrap};
use crate::screen::{Paint, Screen, Tone};

/// Where the words of a step begin.
const INDENT: usize = 10;

/// Where the fact of a check begins.
const FACT: usize = 29;

/// Tells a drill to whoever looks.
#[derive(Debug)]
pub struct Show<'a> {
    screen: &'a Screen,
    began: Instant,
    act: usize,
    /// The width of the line that is still open: that of a countdown.
    open: usize,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    at_ms: u64,
    act: usize,
    #[serde(flatten)]
    told: &'a Told,
}

impl<'a> Show<'a> {
    /// A show that begins now.
    pub fn new(screen: &'a Screen) -> Self {
        Self { screen, began: Instant::now(), act: 0, open: 0 }
    }

    /// Milliseconds since the beginning.
    pub fn at_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells one thing.
    ///
    /// # Errors
    /// [`Broken::ReaderGone`] when nobody looks any more: a drill without an audience is ended.
    pub fn tell(&mut self, told: &Told) -> Result<(), Broken> {
        if let Told::Act { number, .. } = told {
            self.act = *number;
        }
        let at_ms = self.at_ms();
        let text = if self.screen.json {
            let line = Line { at_ms, act: self.act, told };
            serde_json::to_string(&line)
                .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?
                + "\n"
        } else if self.screen.quiet && !matches!(told, Told::Verdict { .. }) {
            return Ok(());
        } else {
            render(self.screen.paint, at_ms, told, &mut self.open)
        };
        match self.screen.bytes(text.as_bytes()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Broken::ReaderGone),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Ends a line that is still open, before somebody else writes.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.open) > 0 {
            let _ = self.screen.bytes(b"\n");
        }
    }
}

/// The text for one thing that is told. A countdown leaves its line open for the next number.
fn render(paint: Paint, at_ms: u64, told: &Told, open: &mut usize) -> String {
    let stamp = format!("{:>5}.{}s ", at_ms / 1000, at_ms % 1000 / 100);
    if let Told::Countdown { name, head, blocks_left } = told {
        let first = format!("{stamp} head {head}; blocks until {name}:");
        let number = format!(" {blocks_left}");
        let (lead, width) = match *open {
            0 => (first.clone(), first.chars().count()),
            open if open + number.len() > WIDTH => (format!("\n{}", " ".repeat(INDENT)), INDENT),
            open => (String::new(), open),
        };
        *open = width + number.len();
        return format!("{lead}{number}");
    }
    let before = if std::mem::take(open) > 0 { "\n" } else { "" };
    let text = match told {
        Told::Begin { home, kept } => begin(paint, home, *kept),
        Told::Act { number, title, why } => {
            let title = paint.tone(Tone::Strong, &format!("ACT {number}  {title}"));
            format!("\n{title}\n{}", wrap("  ", 2, why))
        }
        Told::Step { mark, text } => step(paint, &stamp, *mark, text),
        Told::Verdict { passed, checks, took_ms, home } => {
            verdict(paint, *passed, checks, *took_ms, home.as_deref())
        }
        Told::Countdown { .. } => String::new(),
    };
    format!("{before}{text}")
}

fn begin(paint: Paint, home: &str, kept: bool) -> String {
    let title = paint.tone(Tone::Strong, "wemixvisor drill");
    let fate = if kept { "kept at the end" } else { "removed at the end" };
    let text = "A real supervisor upgrades a small practice node on this machine, in three acts. Nothing of yours is \
                touched, nothing listens on the network. It takes about 15 seconds; Ctrl-C ends it and cleans up.";
    format!("{title}\n{}{}", wrap("  ", 2, text), wrap("  ", 2, &format!("Home: {home} ({fate})")))
}

fn step(paint: Paint, stamp: &str, mark: Mark, text: &str) -> String {
    let lines = wrap(&format!("{stamp} "), INDENT, &harmless(text));
    let (stamp, words) = lines.split_at(INDENT.min(lines.len()));
    let words = words.trim_end_matches('\n');
    let toned = |tone| {
        // Line by line: a colour must not run into the indent.
        let lines = words.lines().map(|line| {
            let blanks = line.len() - line.trim_start().len();
            format!("{}{}", &line[..blanks], paint.tone(tone, line.trim_start()))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let words = match mark {
        Mark::Plain => words.to_owned(),
        Mark::Good => toned(Tone::Good),
        Mark::Bad => toned(Tone::Warn),
    };
    format!("{}{words}\n", paint.tone(Tone::Dim, stamp))
}

fn verdict(paint: Paint, passed: bool, checks: &[Check], took_ms: u64, home: Option<&str>) -> String {
    let failed = checks.iter().filter(|check| !check.passed).count();
    let headline = match passed {
        true => paint.tone(Tone::Good, &format!("PASSED: all {} checks hold", checks.len())),
        false => paint.tone(Tone::Bad, &format!("FAILED: {failed} of {} checks do not hold", checks.len())),
    };
    let mut text = format!("\n{headline} ({})\n\n", span(took_ms));
    for Check { what, passed, fact } in checks {
        let (word, tone) = if *passed { ("OK", Tone::Good) } else { ("FAILED", Tone::Bad) };
        let lead = format!("  {word:<6}  {what:<19}");
        let lines = wrap(&format!("{lead:<FACT$}"), FACT, &harmless(fact));
        text.push_str(&lines.replacen(word, &paint.tone(tone, word), 1));
    }
    let advice = match (passed, home) {
        (true, None) => None,
        (true, Some(home)) => Some(format!("The home is kept: {home}")),
        (false, Some(home)) => Some(format!(
            "Something is not as it should be on this machine. The home is kept: see {home}/supervisor.log and \
             {home}/data/testnode/journal.log, and report it with these two files."
        )),
        (false, None) => Some(
            "Something is not as it should be on this machine, or it was too busy. Run it again with --keep: then \
             the logs stay and can be looked at."
                .to_owned(),
        ),
    };
    if let Some(advice) = advice {
        text.push_str(&format!("\n{}", wrap("", 0, &advice)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(told: &Told) -> String {
        render(Paint::Plain, 12_345, told, &mut 0)
    }

    #[test]
    fn a_step_has_its_time_and_is_wrapped_at_80_columns() {
        let text = plain(&Told::step(Mark::Plain, "word ".repeat(30)));
        assert!(text.starts_with("   12.3s  word word"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("          word"), "{text}");
    }

    #[test]
    fn colours_do_not_change_the_words() {
        let told = Told::step(Mark::Good, "good ".repeat(40));
        let coloured = render(Paint::Colour, 12_345, &told, &mut 0);
        let mut bare = coloured;
        for code in ["\u{1b}[0m", "\u{1b}[1;32m", "\u{1b}[2m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain(&told));
    }

    #[test]
    fn a_countdown_stays_in_its_line_until_something_else_is_told() {
        let count = |left| Told::Countdown { name: "v2.0.0".into(), head: 7, blocks_left: left };
        let mut open = 0;
        let mut text = String::new();
        for told in [count(3), count(2), count(1), Told::step(Mark::Plain, "begins")] {
            text.push_str(&render(Paint::Plain, 1_000, &told, &mut open));
        }
        assert_eq!(text, "    1.0s  head 7; blocks until v2.0.0: 3 2 1\n    1.0s  begins\n");
        for left in (0..100).rev() {
            text.push_str(&render(Paint::Plain, 1_000, &count(left), &mut open));
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn a_verdict_names_every_check_and_what_to_do() {
        let check = |passed| Check { what: "exact height", passed, fact: "at 10 and at 20 ".repeat(8) };
        let told = |passed, home: Option<&str>| {
            let home = home.map(str::to_owned);
            plain(&Told::Verdict { passed, checks: vec![check(true), check(passed)], took_ms: 21_400, home })
        };
        let good = told(true, None);
        assert!(good.contains("PASSED: all 2 checks hold (21.4 s)"), "{good}");
        assert!(good.contains("  OK      exact height"), "{good}");
        assert!(good.lines().all(|line| line.chars().count() <= WIDTH), "{good}");
        assert!(told(true, Some("/h")).contains("kept: /h"));
        let bad = told(false, None);
        assert!(bad.contains("FAILED: 1 of 2 checks"), "{bad}");
        assert!(bad.contains("  FAILED  exact height") && bad.contains("--keep"), "{bad}");
        assert!(told(false, Some("/h")).contains("/h/supervisor.log"));
    }

    #[test]
    fn a_line_of_json_has_its_time_and_act() {
        let told = Told::step(Mark::Bad, "no blocks");
        let line = Line { at_ms: 7, act: 2, told: &told };
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"at_ms":7,"act":2,"type":"step","mark":"bad","text":"no blocks"}"#
        );
    }
}
