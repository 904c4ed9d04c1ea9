//! A home in a temporary directory, and everything that is asked of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::Said;
use crate::program::Program;
use crate::waiting::{LIMIT, wait_for};
use crate::{http, journal, processes};

/// The file name of the node's program.
pub const NODE_NAME: &str = "gwemix";

/// Where homes lie, whatever TMPDIR says: real nodes open no IPC socket whose path is longer than 107 bytes.
const SHORT: &str = "/tmp";

/// How long what runs may take to go after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// So many lines of each record are shown when a test fails.
const SHOWN: usize = 60;

/// A home and what belongs to it.
#[derive(Debug)]
pub struct TestHome {
    dir: TempDir,
    wemixvisor: PathBuf,
    settings: Mutex<BTreeMap<String, String>>,
    reported: AtomicBool,
}

impl TestHome {
    /// An empty home for the built program `wemixvisor`, with fast settings and nothing laid out.
    pub fn new(wemixvisor: &str) -> Self {
        let home = Self {
            dir: tempfile::Builder::new().prefix("wv").tempdir_in(SHORT).expect("a temporary directory"),
            wemixvisor: kept(Path::new(wemixvisor)),
            settings: Mutex::default(),
            reported: AtomicBool::new(false),
        };
        fs::create_dir_all(home.wemixvisor()).expect("a directory");
        // The socket only: on the usual ports anything might listen.
        home.set("heights.rpc_addresses", &format!("[\"{}\"]", home.data().join("gwemix.ipc").display()));
        for (key, value) in [
            ("heights.poll_interval", "1s"),
            ("probation.must_answer_within", "30s"),
            ("probation.must_be_steady_for", "300ms"),
            ("probation.must_advance_within", "60s"),
            ("upgrade.version_limit", "30s"),
        ] {
            home.set(key, value);
        }
        home
    }

    /// A home laid out with a practice node of version 1.0.0 that makes a block every 100 ms, and one of version
    /// 2.0.0 installed as the upgrade `v2`.
    pub fn usual(wemixvisor: &str) -> Self {
        let home = Self::new(wemixvisor);
        home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
        home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
        home
    }

    /// The same with nodes that make no blocks of their own before the upgrade: every head comes by order.
    pub fn by_order(wemixvisor: &str) -> Self {
        let home = Self::new(wemixvisor);
        home.init(&Program::practice("1.0.0").with("--no-blocks").with("--block-time=100ms"));
        home.install("v2", &Program::practice("2.0.0").with("--block-time=100ms"));
        home
    }

    /// Sets a value in `config.toml`, for the next start of the supervisor and every later command. Numbers,
    /// booleans and `[lists]` are written as they are, anything else as text.
    pub fn set(&self, key: &str, value: &str) {
        let plain =
            value.parse::<u64>().is_ok() || value.starts_with('[') || matches!(value, "true" | "false");
        let value = if plain { value.to_owned() } else { Value::from(value).to_string() };
        let mut settings = self.settings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        settings.insert(key.to_owned(), value);
        let text: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        fs::write(self.wemixvisor().join("config.toml"), text).expect("the settings can be written");
    }

    /// Lays the home out with this first program, as a user does: `wemixvisor init`.
    pub fn init(&self, program: &Program) {
        let file = self.root().join("first-program");
        program.install(&self.wemixvisor, &file);
        let _ = self.cli(&["init", &file.to_string_lossy()]).expect(0);
    }

    /// Puts a program in place for the upgrade `name`.
    pub fn install(&self, name: &str, program: &Program) {
        program.install(&self.wemixvisor, &self.program(name));
    }

    /// The file of the program of the upgrade `name`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.wemixvisor().join("upgrades").join(name).join("bin").join(NODE_NAME)
    }

    /// Lets the home have a file of its own of the program that supervises it, `bin/wemixvisor`, which can be replaced.
    /// Practice nodes that are installed before run another one.
    #[must_use]
    pub fn with_own_program(mut self) -> Self {
        let place = self.root().join("bin/wemixvisor");
        Program::copy_of(&self.wemixvisor).install(&self.wemixvisor, &place);
        self.wemixvisor = place;
        self
    }

    /// The file of the program that supervises the home.
    pub fn own_program(&self) -> &Path {
        &self.wemixvisor
    }

    /// Puts another program in the place of the one that supervises, by rename.
    pub fn replace_own_program(&self, program: &Program) {
        program.install(&self.wemixvisor, &self.wemixvisor);
    }

    /// Puts a hook (`pre-stop`, `pre-upgrade`, `post-upgrade`) of the upgrade `name` in place.
    pub fn hook(&self, name: &str, hook: &str, script: &str) {
        let place = self.wemixvisor().join("upgrades").join(name).join(hook);
        Program::bytes(script).install(&self.wemixvisor, &place);
    }

    /// The arguments that every node of the home gets, then `more`.
    pub fn node_args(&self, more: &[&str]) -> Vec<String> {
        let data = self.data().display().to_string();
        let usual = ["--datadir".to_owned(), data, "--control".to_owned()];
        usual.into_iter().chain(more.iter().map(|&arg| arg.to_owned())).collect()
    }

    /// The home itself.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The supervisor's own directory.
    pub fn wemixvisor(&self) -> PathBuf {
        self.root().join("wemixvisor")
    }

    /// The node's data directory.
    pub fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The plan file.
    pub fn plan_file(&self) -> PathBuf {
        self.data().join("upgrade-info.json")
    }

    /// The practice nodes' record.
    pub fn journal(&self) -> PathBuf {
        self.data().join("testnode/journal.log")
    }

    /// What all supervisors of the home said, in one file.
    pub fn supervisor_log(&self) -> PathBuf {
        self.root().join("supervisor.log")
    }

    /// The text of [`TestHome::supervisor_log`].
    pub fn supervisor_said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.supervisor_log()).unwrap_or_default()).into_owned()
    }

    /// The node's output.
    pub fn node_log(&self) -> String {
        let file = self.wemixvisor().join("logs/node.log");
        String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
    }

    /// What `current` points to: `genesis` or the upgrade's name; `None` when it is not such a link.
    pub fn current(&self) -> Option<String> {
        let link = fs::read_link(self.wemixvisor().join("current")).ok()?;
        let text = link.to_str()?;
        Some(text.strip_prefix("upgrades/").unwrap_or(text).to_owned())
    }

    /// The plans in the file, as they stand there; an absent file has none.
    pub fn plans(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.plan_file()).unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(Value::Array(plans)) => plans,
            Ok(plan @ Value::Object(_)) => vec![plan],
            _ => Vec::new(),
        }
    }

    /// Writes the plan file by rename, as an editor does.
    pub fn write_plans(&self, text: &str) {
        fs::create_dir_all(self.data()).expect("a directory");
        let beside = self.data().join("upgrade-info.json.edited");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, self.plan_file())).expect("a plan file");
    }

    /// Writes one plan without asking anybody.
    pub fn plan(&self, name: &str, height: u64) {
        self.write_plans(&json!({"name": name, "height": height}).to_string());
    }

    /// A command of the program for this home.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.wemixvisor);
        command.arg("--home").arg(self.root()).args(["--name", NODE_NAME]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.root());
        // Where a program that is built for measuring coverage writes what it counted: without it nothing counts.
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        command.current_dir(self.root()).stdin(Stdio::null());
        command
    }

    /// Runs a command of the program to its end.
    pub fn cli(&self, args: &[&str]) -> Said {
        Said::of(&self.command().args(args).output().expect("the program starts"))
    }

    /// One exchange with the supervisor's control socket: HTTP status and body; `None` when nobody listens.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        self.ask_within(LIMIT, method, path, body)
    }

    /// The same; `None` also when a piece of the answer takes longer than `limit`.
    pub fn ask_within(
        &self,
        limit: Duration,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let stream = UnixStream::connect(self.wemixvisor().join("wemixvisor.sock")).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        http::exchange(stream, method, path, body).ok()
    }

    /// `GET /api/v1/status`; `None` when nobody answers.
    pub fn status(&self) -> Option<Value> {
        self.ask("GET", "/api/v1/status", None).filter(|(code, _)| *code == 200).map(|(_, status)| status)
    }

    /// Schedules an upgrade through the running supervisor.
    pub fn schedule(&self, name: &str, height: u64) {
        let plan = json!({"name": name, "height": height});
        let (code, answer) =
            self.ask("POST", "/api/v1/upgrades", Some(&plan)).expect("the supervisor answers");
        assert_eq!(code, 200, "{answer}");
    }

    /// The finished upgrades, newest first, as `wemixvisor upgrade history --json` lists them.
    pub fn history(&self) -> Vec<Value> {
        let said = self.cli(&["upgrade", "history", "--json"]).expect(0).json();
        said["history"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for a fact, at most [`LIMIT`].
    pub fn wait<T>(&self, what: &str, fact: impl FnMut() -> Option<T>) -> T {
        self.wait_within(what, LIMIT, fact)
    }

    /// Waits for a fact.
    pub fn wait_within<T>(&self, what: &str, limit: Duration, fact: impl FnMut() -> Option<T>) -> T {
        wait_for(what, limit, fact)
    }

    /// Waits until the supervisor's status shows something.
    pub fn sees(&self, what: &str, mut fact: impl FnMut(&Value) -> bool) -> Value {
        self.wait(what, || self.status().filter(|status| fact(status)))
    }

    /// Waits until the supervisor has seen this head, or a higher one.
    pub fn sees_head(&self, height: u64) -> Value {
        self.sees(&format!("head {height} is seen"), |status| {
            status["chain"]["head"].as_u64() >= Some(height)
        })
    }

    /// Waits until the program on probation has told its head: only blocks that it makes from then on count.
    pub fn has_answered_on_probation(&self) {
        self.sees("the program on probation has told its head", |status| {
            let upgrade = &status["upgrade"];
            let waiting_for: Vec<_> = upgrade["waiting_for"].as_array().into_iter().flatten().collect();
            let proving = ["probation", "back_probation"].iter().any(|step| upgrade["step"] == *step);
            let silent =
                |missing: &&&Value| missing.as_str().is_some_and(|text| text.starts_with("an answer"));
            proving && !waiting_for.is_empty() && !waiting_for.iter().any(|missing| silent(&missing))
        });
    }

    /// Waits until the upgrade `name` is the last finished one and none is under way; the answer is its entry.
    pub fn finished(&self, name: &str) -> Value {
        let status = self.sees(&format!("upgrade {name} is over"), |status| {
            status["last_upgrade"]["name"] == name && status["upgrade"].is_null()
        });
        status["last_upgrade"].clone()
    }

    /// Waits until the upgrade `name` is committed.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn committed(&self, name: &str) -> Value {
        let entry = self.finished(name);
        assert_eq!(entry["outcome"], "committed", "{entry:#}");
        assert_eq!(self.current().as_deref(), Some(name));
        entry
    }

    /// Waits until no plan is left in the plan file: a finished one leaves it a moment after its end.
    pub fn nothing_is_planned(&self) {
        self.wait("the plan leaves the file", || self.plans().is_empty().then_some(()));
    }

    /// The processes of the home's nodes, by what they execute.
    pub fn nodes(&self) -> Vec<u32> {
        let all = processes::of(self.root());
        let is_node = |pid: &u32| {
            let line = processes::command_line(*pid);
            (line.contains("practice-node") || line.contains("/bin/gwemix")) && !line.ends_with(" version")
        };
        all.into_iter().filter(is_node).collect()
    }

    /// The process id in a file of the wemixvisor directory, such as `keeper.lock`.
    pub fn pid_in(&self, file: &str) -> Option<u32> {
        fs::read_to_string(self.wemixvisor().join(file)).ok()?.trim().parse().ok()
    }

    /// The process id of the keeper, once it has written that down.
    pub fn keeper(&self) -> u32 {
        self.wait("the keeper has written its id down", || self.pid_in("keeper.lock"))
    }

    /// Waits until no process has to do with the home any more.
    pub fn is_deserted(&self) {
        self.wait("nothing runs any more", || processes::of(self.root()).is_empty().then_some(()));
    }

    /// Prints what is known, once: for a test that fails.
    pub(crate) fn report(&self) {
        if self.reported.swap(true, Ordering::Relaxed) {
            return;
        }
        let facts: String =
            journal::read(&self.journal()).iter().map(|fact| format!("{}\n", short(fact))).collect();
        let status = self.status().map_or("nobody answers".to_owned(), |status| format!("{status:#}"));
        let running: Vec<_> = processes::of(self.root())
            .into_iter()
            .map(|pid| format!("{pid} {}", processes::command_line(pid)))
            .collect();
        for (what, text) in [
            ("node's output", self.node_log()),
            ("node's journal", facts),
            ("status", status),
            ("processes", running.join("\n")),
            ("supervisor's log", self.supervisor_said()),
        ] {
            eprintln!("--- {what}\n{}", tail(&text, if what == "status" { usize::MAX } else { SHOWN }));
        }
    }

    fn end_all(&self) -> bool {
        let begin = Instant::now();
        loop {
            let left = processes::of(self.root());
            if left.is_empty() {
                return true;
            }
            if begin.elapsed() > GONE_WITHIN {
                return false;
            }
            for pid in left {
                processes::signal(pid, self.root(), Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            self.report();
        }
        let gone = self.end_all();
        if !panicking {
            assert!(gone, "processes of the home do not end: {:?}", processes::of(self.root()));
            self.judge();
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A fact without what is long and seldom needed.
fn short(fact: &Value) -> Value {
    let mut fact = fact.clone();
    if let Some(fields) = fact.as_object_mut() {
        fields.retain(|name, _| {
            !matches!(name.as_str(), "env" | "files" | "exe" | "cwd" | "ignored" | "blocked")
        });
    }
    fact
}

/// The program as it is now, under another name: cargo may replace it while tests run.
fn kept(program: &Path) -> PathBuf {
    static KEPT: OnceLock<PathBuf> = OnceLock::new();
    KEPT.get_or_init(|| {
        let beside = program.parent().expect("a program lies in a directory").join("e2e");
        fs::create_dir_all(&beside).expect("a directory beside the program");
        for old in fs::read_dir(&beside).expect("a directory").flatten() {
            let of = old.file_name().to_str().and_then(|name| name.split('-').nth(1)?.parse().ok());
            if of.is_some_and(|pid| !processes::runs(pid)) {
                let _ = fs::remove_file(old.path());
            }
        }
        // In a container process ids are the same each time.
        let kept = beside.join(format!("wemixvisor-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        fs::hard_link(program, &kept).expect("a link in the same directory tree");
        kept
    })
    .clone()
}
