//! Hooks that behave badly, as real processes (SCENARIOS.md F41).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wemixvisor_host::hooks::{HookError, HookExit, HookOutcome, MARK, end_left_running, run_hook};

const LONG: Duration = Duration::from_secs(60);

struct Hook {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Hook {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pre-upgrade");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, path }
    }

    fn run(&self, limit: Duration) -> (Result<HookOutcome, HookError>, Vec<String>) {
        let env: Vec<(OsString, OsString)> = [("PATH", "/usr/bin:/bin"), ("UPGRADE_NAME", "v2 \"x\"")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        let mut lines = Vec::new();
        let mut log = |line: &str| lines.push(line.to_owned());
        let outcome = runtime().block_on(run_hook(
            &self.path,
            self.dir.path(),
            &env,
            limit,
            &CancellationToken::new(),
            &mut log,
        ));
        (outcome, lines)
    }

    fn exit(&self, limit: Duration) -> HookExit {
        self.run(limit).0.unwrap().exit
    }

    /// The process id that the hook wrote into a file.
    fn pid_in(&self, name: &str) -> u32 {
        fs::read_to_string(self.dir.path().join(name)).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Hook {
    /// What a test that failed left running here.
    fn drop(&mut self) {
        let Ok(text) = fs::read_to_string(self.dir.path().join("child")) else { return };
        let Some(pid) = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw) else { return };
        let cwd = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
        if cwd.is_ok_and(|cwd| cwd == self.dir.path()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Whether it runs: a zombie, whose parent is somebody else, does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next())
        .is_some_and(|state| !"ZX".contains(state))
}

#[test]
fn a_good_hook_gets_its_environment_directory_and_no_input() {
    let hook = Hook::new("#!/bin/sh\ncat\necho \"$UPGRADE_NAME\"\npwd\necho to stderr >&2\nenv | wc -l\n");
    let (outcome, lines) = hook.run(LONG);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.exit, HookExit::Success);
    assert_eq!(
        lines[..3],
        ["v2 \"x\"".to_owned(), hook.dir.path().display().to_string(), "to stderr".into()]
    );
    assert!(outcome.tail.contains("to stderr"));
    assert!(outcome.took < LONG);
}

#[test]
fn ways_to_fail_are_told_apart() {
    for (script, expected) in [
        ("exit 1", HookExit::Failed(1)),
        ("exit 30", HookExit::Failed(30)),
        ("no-such-command", HookExit::NotFound),
        ("/etc/passwd", HookExit::NotExecutable),
        ("kill -9 $$", HookExit::Signal(9)),
        ("kill -15 $$", HookExit::Signal(15)),
    ] {
        let hook = Hook::new(&format!("#!/bin/sh\n{script}\n"));
        assert_eq!(hook.exit(LONG), expected, "{script}");
    }
}

#[test]
fn every_end_is_told_in_words() {
    for (exit, said) in [
        (HookExit::Success, "succeeded"),
        (HookExit::Failed(3), "failed with exit code 3"),
        (HookExit::NotExecutable, "failed with exit code 126: a command in it is not executable"),
        (HookExit::NotFound, "failed with exit code 127: a command in it was not found"),
        (HookExit::Signal(9), "was ended by signal 9"),
        (HookExit::TimedOut(1500), "did not end within 1.5s and was killed"),
        (HookExit::CalledOff, "was ended: its upgrade does not wait for it any more"),
        (HookExit::LeftProcesses, "left processes running in the background; they were ended"),
    ] {
        assert_eq!(exit.to_string(), said);
    }
}

#[test]
fn a_hook_that_cannot_be_run_is_an_error() {
    let hook = Hook::new("#!/bin/sh\n");
    fs::set_permissions(&hook.path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(hook.run(LONG).0, Err(HookError::NotExecutable { mode: 0o644, .. })));
    fs::remove_file(&hook.path).unwrap();
    assert!(matches!(hook.run(LONG).0, Err(HookError::Missing(_))));
    fs::create_dir(&hook.path).unwrap();
    assert!(matches!(hook.run(LONG).0, Err(HookError::NotAFile(_))));
    for script in ["exit 0\n", "#!/no/such/interpreter\n"] {
        assert!(matches!(Hook::new(script).run(LONG).0, Err(HookError::NotRun { .. })), "{script}");
    }
}

#[test]
fn a_hook_that_hangs_is_ended_in_time_with_its_children() {
    let hook = Hook::new("#!/bin/sh\necho begun\nsleep 1000 & echo $! > child\nwait\n");
    let begun = Instant::now();
    let (outcome, _) = hook.run(Duration::from_secs(2));
    let outcome = outcome.unwrap();
    assert_eq!(outcome.exit, HookExit::TimedOut(2000));
    assert!(outcome.tail.contains("begun"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(!runs(hook.pid_in("child")));
}

#[test]
fn a_hook_that_ignores_sigterm_is_killed_with_its_children() {
    let hook = Hook::new(
        "#!/bin/sh\ntrap '' TERM\n(trap '' TERM; echo $$; sleep 1000) & echo $! > child\nsleep 1000\n",
    );
    let begun = Instant::now();
    assert_eq!(hook.exit(Duration::from_secs(2)), HookExit::TimedOut(2000));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(!runs(hook.pid_in("child")));
}

#[test]
fn what_a_hook_leaves_behind_is_ended_and_makes_it_a_failure() {
    let hook = Hook::new("#!/bin/sh\nsleep 1000 & echo $! > child\necho done\n");
    let (outcome, lines) = hook.run(LONG);
    assert_eq!(outcome.unwrap().exit, HookExit::LeftProcesses);
    assert_eq!(lines, ["done"]);
    assert!(!runs(hook.pid_in("child")));
}

/// A process with a session of its own, without its parent, that has nothing of the hook open, does not obey SIGTERM
/// and writes its id into the file `child`.
const ESCAPED: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ > child.new; mv child.new child; while :; do sleep 1; done' \
    </dev/null >/dev/null 2>&1 &)\nwhile ! [ -e child ]; do sleep 0.01; done\necho done\n";

#[test]
fn a_process_with_a_session_of_its_own_is_ended_too() {
    let hook = Hook::new(&format!("#!/bin/sh\n{ESCAPED}"));
    let (outcome, lines) = hook.run(LONG);
    assert_eq!(outcome.unwrap().exit, HookExit::LeftProcesses);
    assert_eq!(lines, ["done"]);
    assert!(!runs(hook.pid_in("child")));
}

#[test]
fn the_time_limit_holds_for_a_session_of_its_own_too() {
    let hook = Hook::new(&format!("#!/bin/sh\n{ESCAPED}sleep 1000\n"));
    let begun = Instant::now();
    assert_eq!(hook.exit(Duration::from_secs(3)), HookExit::TimedOut(3000));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!runs(hook.pid_in("child")));
}

#[test]
fn what_a_killed_supervisor_left_running_is_ended_and_nothing_else() {
    use std::os::unix::fs::MetadataExt as _;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The marks of a supervisor with the process id 1, which is not this process.
    let mark = |dir: &tempfile::TempDir| {
        let data = fs::metadata(dir.path()).unwrap();
        format!("{:x}-{:x}-1-0", data.dev(), data.ino())
    };
    let begin = |of: &tempfile::TempDir| {
        let script = "setsid sh -c 'echo $$ > child.new; mv child.new child; sleep 1000; :' & wait";
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]).env(MARK, mark(of)).current_dir(of.path());
        let hook = command.spawn().unwrap();
        let begun = Instant::now();
        while !of.path().join("child").exists() {
            assert!(begun.elapsed() < LONG);
        }
        let child: u32 = fs::read_to_string(of.path().join("child")).unwrap().trim().parse().unwrap();
        (hook, child)
    };
    let ((mut left, left_child), (mut stranger, its_child)) = (begin(&dir), begin(&other));
    let ended = runtime().block_on(end_left_running(dir.path())).unwrap();
    assert!(ended.contains(&left.id()) && ended.contains(&left_child), "{ended:?}");
    assert!(!runs(left.id()) && !runs(left_child));
    assert!(runs(stranger.id()) && runs(its_child), "another home's");
    left.wait().unwrap();
    assert!(runtime().block_on(end_left_running(dir.path())).unwrap().is_empty());
    assert!(runtime().block_on(end_left_running(&dir.path().join("gone"))).unwrap().is_empty());
    runtime().block_on(end_left_running(other.path())).unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_hundred_megabytes_of_output_neither_block_nor_stay() {
    let hook = Hook::new("#!/bin/sh\nhead -c 104857600 /dev/zero | tr '\\0' 'x'\necho\necho the end\n");
    let before = resident();
    let (outcome, lines) = hook.run(LONG);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.exit, HookExit::Success);
    assert!(
        outcome.tail.chars().count() == 200
            && outcome.tail.starts_with('…')
            && outcome.tail.ends_with("x the end")
    );
    assert!(lines.iter().map(String::len).sum::<usize>() < 2 * 1024 * 1024);
    assert!(resident().saturating_sub(before) < 16 * 1024, "{} kB more", resident().saturating_sub(before));
    println!("100 MB of output in {:?}", outcome.took);
}

#[test]
fn many_short_lines_are_logged_up_to_a_limit() {
    let (outcome, lines) = Hook::new("#!/bin/sh\nyes no | head -n 500000\necho last\n").run(LONG);
    assert!(outcome.unwrap().tail.ends_with("no no last"));
    assert_eq!(lines.len(), 1001);
    assert_eq!(lines[1000], "(further output is not logged)");
}

#[test]
fn a_hook_that_is_called_off_is_ended_with_its_children() {
    let traps = ["trap 'echo drained; exit 3' TERM", "trap '' TERM"];
    for trap in traps {
        let hook = Hook::new(&format!(
            "#!/bin/sh\n{trap}\nsleep 1000 & echo $! > child.new\nmv child.new child\nwhile :; do sleep 0.01; done\n"
        ));
        let begun = Instant::now();
        let outcome = runtime().block_on(async {
            let env = [(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))];
            let mut log = |_: &str| {};
            let called_off = CancellationToken::new();
            let run = run_hook(&hook.path, hook.dir.path(), &env, LONG, &called_off, &mut log);
            let call_off = async {
                while !hook.dir.path().join("child").exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                called_off.cancel();
            };
            tokio::join!(run, call_off).0.unwrap()
        });
        assert_eq!(outcome.exit, HookExit::CalledOff, "{trap}");
        assert_eq!(outcome.tail.contains("drained"), trap == traps[0], "{}", outcome.tail);
        assert!(begun.elapsed() < LONG && !runs(hook.pid_in("child")), "{trap}");
    }
}

#[test]
fn dropping_the_run_kills_the_hook() {
    let hook = Hook::new("#!/bin/sh\nsleep 1000 & echo $! > child.new\nmv child.new child\nwait\n");
    runtime().block_on(async {
        let env = [(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))];
        let mut log = |_: &str| {};
        let called_off = CancellationToken::new();
        let run = run_hook(&hook.path, hook.dir.path(), &env, LONG, &called_off, &mut log);
        let begun = async {
            while !hook.dir.path().join("child").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { _ = run => panic!("it ended"), () = begun => {} }
    });
    let child = hook.pid_in("child");
    let begun = Instant::now();
    while runs(child) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

/// The resident memory of this process in kB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
