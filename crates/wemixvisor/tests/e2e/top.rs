//! `wemixvisor top` as a person sees it: in a terminal of 80 columns and 24 rows, which tmux plays.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use testkit::TestHome;

use crate::{held_in, home, let_go};

/// What a person sees and types.
struct Terminal<'home> {
    home: &'home TestHome,
    socket: PathBuf,
}

impl<'home> Terminal<'home> {
    /// Opens the view; `None` where there is no tmux, which is said in one line on standard error.
    fn with_top(home: &'home TestHome, flags: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_err() {
            // Not by `eprintln!`: the test runner keeps that to itself when a test passes.
            let _ = writeln!(std::io::stderr(), "skipped: tmux is not on this machine");
            return None;
        }
        let terminal = Self { home, socket: home.root().join("tmux.sock") };
        let command = home.command();
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let line = format!("echo before; {} {flags} top; echo left with $?; exec cat", quoted.join(" "));
        let said =
            terminal.tmux(&["new-session", "-d", "-x", "80", "-y", "24", "-s", "top", "sh", "-c", &line]);
        assert!(said.status.success(), "{said:?}");
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).args(args);
        tmux.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.home.root());
        tmux.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        tmux.env("LC_ALL", "C.UTF-8").current_dir(self.home.root()).stdin(Stdio::null());
        tmux.output().unwrap()
    }

    /// What is on the screen.
    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-t", "top"]).stdout).into_owned()
    }

    /// A fact about the terminal, in tmux's words.
    fn fact(&self, format: &str) -> String {
        let said = self.tmux(&["display-message", "-p", "-t", "top", format]);
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    /// Waits until the screen shows all of these.
    fn shows(&self, parts: &[&str]) -> String {
        self.home.wait(&format!("the screen shows {parts:?}"), || {
            Some(self.screen()).filter(|screen| parts.iter().all(|part| screen.contains(part)))
        })
    }

    /// Types text, letter by letter.
    fn types(&self, text: &str) {
        let said = self.tmux(&["send-keys", "-t", "top", "-l", text]);
        assert!(said.status.success(), "{said:?}");
    }

    /// Hits a key by its name.
    fn hits(&self, key: &str) {
        let said = self.tmux(&["send-keys", "-t", "top", key]);
        assert!(said.status.success(), "{said:?}");
    }

    /// Hits a key that asks for a word, and types that.
    fn orders(&self, key: &str, word: &str) {
        self.types(key);
        self.shows(&[&format!("Type {word} and Enter to do it:"), "\n>"]);
        self.types(word);
        self.shows(&[&format!("\n> {word}")]);
        self.hits("Enter");
    }

    /// The view is left and the terminal as it was before.
    fn is_left(&self, code: u8) {
        let screen = self.shows(&[&format!("before\nleft with {code}\n")]);
        assert!(!screen.contains("head "), "{screen}");
        // Neither the other screen, nor a cursor that is not seen, nor keys that are not shown.
        assert_eq!(self.fact("#{alternate_on} #{cursor_flag}"), "0 1");
        self.types("typed");
        self.shows(&["\ntyped"]);
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}", self.screen());
        }
        let _ = self.tmux(&["kill-server"]);
    }
}

/// The text of a row behind its name.
fn row(screen: &str, name: &str) -> Option<String> {
    screen.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

fn head(screen: &str) -> Option<u64> {
    row(screen, "head ")?.split(", ").next()?.replace(',', "").parse().ok()
}

fn node_pid(screen: &str) -> Option<u32> {
    row(screen, "node ")?.split("pid ").nth(1)?.split(',').next()?.parse().ok()
}

#[test]
fn top_shows_the_height_rising_the_countdown_and_the_log() {
    let home = home();
    let _supervisor = home.start();
    let Some(terminal) = Terminal::with_top(&home, "") else { return };
    let screen =
        terminal.shows(&["OK  the node runs", "genesis, running, pid ", "no upgrade is scheduled", "pace "]);
    assert!(!screen.contains("nothing is told as it happens"), "{screen}");
    let first = home.wait("a head is shown", || head(&terminal.screen()));
    home.wait("the head rises", || head(&terminal.screen()).filter(|now| *now >= first + 10));
    let log = terminal.screen().split("── log ").nth(1).unwrap().to_owned();
    assert!(
        !log.starts_with(", not followed") && log.lines().filter(|line| !line.is_empty()).count() > 4,
        "{log}"
    );

    home.schedule("v2", first + 5000);
    let screen = terminal.shows(&["next       v2 at ", " blocks left, in ", "ready: version 2.0.0"]);
    let left = |screen: &str| {
        let before = screen.split(" blocks left").next()?.split_whitespace().last()?;
        before.replace(',', "").parse::<u64>().ok()
    };
    let before = left(&screen).unwrap();
    home.wait("it counts down", || left(&terminal.screen()).filter(|now| *now + 10 <= before));

    for (key, part) in [("l", "── log "), ("?", "KEYS\n")] {
        terminal.types(key);
        home.wait("the page is shown", || terminal.screen().starts_with(part).then_some(()));
        terminal.hits("Escape");
        terminal.shows(&["OK  the node runs"]);
    }
    terminal.tmux(&["resize-window", "-t", "top", "-x", "40", "-y", "15"]);
    home.wait("a smaller terminal is filled", || {
        let screen = terminal.screen();
        (screen.lines().all(|line| line.chars().count() <= 40) && screen.contains("q quit  ? help"))
            .then_some(())
    });
    terminal.types("q");
    terminal.is_left(0);
}

#[test]
fn top_shows_the_steps_of_an_upgrade_and_the_new_version() {
    let home = held_in("pre-upgrade");
    let _supervisor = home.start();
    home.sees_head(0);
    let Some(terminal) = Terminal::with_top(&home, "--no-color") else { return };
    terminal.shows(&["node       genesis, running"]);
    home.schedule("v2", 3);
    terminal.shows(&["v2 at 3 (when the head is there)", "ready: version 2.0.0"]);
    home.node().mine(3);
    let screen = terminal.shows(&["UNDER WAY v2: genesis -> v2", "[✓] ", "[…] ", "pre-upgrade"]);
    let steps = screen.lines().filter(|line| line.trim_start().starts_with("[✓] ")).count();
    assert!(steps >= 1, "{screen}");
    // A restart is refused meanwhile, in the supervisor's words.
    terminal.orders("r", "restart");
    terminal.shows(&["restart the node: ", "is being carried out"]);
    let_go(&home);
    terminal.shows(&[
        "v2 is committed: v2 runs and is proven",
        "node       v2, running",
        "no upgrade is scheduled",
    ]);
    home.committed("v2");
    terminal.hits("C-c");
    terminal.is_left(130);
}

#[test]
fn top_sends_orders_only_when_their_word_was_typed() {
    let home = home();
    let _supervisor = home.start();
    home.sees_head(2);
    home.schedule("v2", 1_000_000);
    let Some(terminal) = Terminal::with_top(&home, "") else { return };
    let screen = terminal.shows(&["genesis, running, pid ", "v2 at 1,000,000"]);
    let pid = node_pid(&screen).unwrap();

    terminal.types("r");
    terminal.shows(&["Type restart and Enter to do it:"]);
    terminal.types("restaurant");
    terminal.hits("Enter");
    terminal.shows(&["not done (restart the node): \"restaurant\" was typed"]);
    assert_eq!(node_pid(&terminal.screen()), Some(pid));

    terminal.orders("r", "restart");
    let again = home.wait("another process runs", || {
        node_pid(&terminal.screen()).filter(|now| *now != pid && home.nodes().contains(now))
    });
    home.sees("it answers", |status| status["node"]["answering"] == true && status["node"]["pid"] == again);
    terminal.orders("x", "stop");
    terminal.shows(&["node       genesis, stopped"]);
    assert_eq!(home.nodes(), [0; 0]);
    terminal.orders("g", "start");
    terminal.shows(&["OK  the node runs", "genesis, running, pid "]);

    terminal.orders("b", "rollback");
    terminal.shows(&["roll back: ", "no upgrade led to it"]);
    terminal.orders("c", "v2");
    terminal.shows(&["upgrade v2 is off the schedule", "next       no upgrade is scheduled"]);
    terminal.types("c");
    terminal.shows(&["no upgrade is scheduled that could be cancelled"]);

    home.schedule("v2", 1_000_000);
    terminal.shows(&["v2 at 1,000,000", "ready: version 2.0.0"]);
    terminal.orders("a", "v2");
    terminal.shows(&["v2 is committed", "node       v2, running"]);
    terminal.types("q");
    terminal.is_left(0);
}

#[test]
fn top_says_that_nobody_answers_and_comes_back_by_itself() {
    let home = home();
    let Some(terminal) = Terminal::with_top(&home, "") else { return };
    terminal.shows(&["NOT ANSWERING  no supervisor runs for this home."]);
    let supervisor = home.start();
    let screen = terminal.shows(&["OK  the node runs", "genesis, running, pid ", "pace "]);
    let pid = node_pid(&screen);
    supervisor.kill();
    let screen = terminal.shows(&["NOT ANSWERING  no supervisor runs", "Below is how it"]);
    assert_eq!(node_pid(&screen), pid, "what was known stays:\n{screen}");
    let _supervisor = home.start();
    let screen = home.wait("it comes back", || {
        Some(terminal.screen())
            .filter(|screen| !screen.contains("NOT ANSWERING") && screen.contains("genesis, running"))
    });
    assert_eq!(node_pid(&screen), pid, "the node ran on");
    let now = home.status().unwrap()["chain"]["head"].as_u64().unwrap();
    home.wait("heights come again", || head(&terminal.screen()).filter(|head| *head > now + 5));
    terminal.types("q");
    terminal.is_left(0);
}

#[test]
fn top_needs_a_terminal_and_has_no_json() {
    let home = home();
    let said = home.cli(&["top"]).expect(2);
    assert!(said.out.is_empty() && said.err.contains("top needs a terminal"), "{said:?}");
    let said = home.cli(&["top", "--json"]).expect(2);
    assert!(said.json()["error"].as_str().unwrap().contains("wemixvisor status --json"), "{said:?}");
}
