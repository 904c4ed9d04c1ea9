//! The built program on a home of its own, without a supervisor: what it says, what it changes, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)] // These are tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A home, and the program that works on it.
struct Home {
    dir: tempfile::TempDir,
}

/// How a command went.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {:?} {:?}", self.out, self.err))
    }
}

impl Home {
    /// A directory without anything in it.
    fn bare() -> Self {
        // Short: a path is never broken over two lines, and what `status` prints is held to 80 columns.
        Self { dir: tempfile::tempdir_in("/tmp").unwrap() }
    }

    /// A home that is laid out.
    fn new() -> Self {
        let home = Self::bare();
        let program = home.program("node");
        let ran = home.run(&["init", program.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        home
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn plan_file(&self) -> PathBuf {
        self.root().join("data/upgrade-info.json")
    }

    fn plans(&self) -> Value {
        serde_json::from_slice(&fs::read(self.plan_file()).unwrap()).unwrap()
    }

    /// A script that is a program.
    fn program(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("wemixvisor"));
        command.args(args).env_clear().env("DAEMON_HOME", self.root()).current_dir(self.dir.path());
        // Where a program that is built for measuring coverage writes what it counted: without it nothing counts.
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// Runs with `--json` and reads the one document on standard output.
    fn json(&self, args: &[&str]) -> (i32, Value) {
        let mut args = args.to_vec();
        args.push("--json");
        let ran = self.run(&args);
        assert_eq!(ran.out.lines().count(), 1, "{args:?}: {}", ran.out);
        (ran.code, ran.json())
    }

    fn supervisor_files(&self) -> Vec<String> {
        files_in(&self.root())
    }
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Every file and link below `dir`, in order.
fn files_in(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_in(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn init_lays_out_a_home_once() {
    let home = Home::bare();
    let program = home.program("node");
    let (code, said) = home.json(&["init", program.to_str().unwrap()]);
    assert_eq!((code, &said["current"], &said["already_initialised"]), (0, &json!("genesis"), &json!(false)));
    assert!(home.root().join("wemixvisor/genesis/bin/wemixd").is_file());
    let (code, said) = home.json(&["init", program.to_str().unwrap()]);
    assert_eq!((code, &said["already_initialised"]), (0, &json!(true)));
    let other = home.dir.path().join("other");
    fs::write(&other, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&other, fs::metadata(&program).unwrap().permissions()).unwrap();
    let before = home.supervisor_files();
    let refused = home.run(&["init", other.to_str().unwrap()]);
    assert_eq!(refused.code, 4);
    assert!(refused.err.contains("has another first program already"), "{}", refused.err);
    assert_eq!(home.supervisor_files(), before);
}

#[test]
fn init_refuses_what_is_no_program_and_makes_nothing() {
    let home = Home::bare();
    let page = home.dir.path().join("page");
    fs::write(&page, "<!DOCTYPE html>").unwrap();
    for file in [page.to_str().unwrap(), "/no/such/file", "."] {
        let (code, said) = home.json(&["init", file]);
        assert_eq!((code, &said["code"]), (1, &json!("failed")), "{file}: {said}");
    }
    assert!(!home.root().exists());
}

#[test]
fn without_a_home_every_command_says_how_to_lay_it_out() {
    let home = Home::bare();
    for args in [
        &["status"][..],
        &["start"],
        &["run"],
        &["stop"],
        &["upgrade", "list"],
        &["upgrade", "schedule", "v2", "5"],
        &["upgrade", "cancel"],
        &["upgrade", "history"],
    ] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}");
        assert!(ran.err.contains("wemixvisor init <binary>"), "{args:?}: {}", ran.err);
    }
    assert!(!home.root().exists());
}

#[test]
fn a_plan_is_scheduled_listed_replaced_and_cancelled() {
    let home = Home::new();
    let sum = format!("sha256:{}", "ab".repeat(32));
    let (code, said) = home.json(&[
        "upgrade",
        "schedule",
        "v2.0.0",
        "1500",
        "--checksum",
        &sum,
        "--info",
        "words",
        "--switch",
        "before",
        "--binaries",
        r#"{"linux/amd64": "https://host/v2"}"#,
    ]);
    assert_eq!((code, &said["upgrade"]["fires_at"], &said["supervised"]), (0, &json!(1499), &json!(false)));
    let plan = home.plans();
    assert_eq!(
        (&plan["name"], &plan["height"], &plan["switch"]),
        (&json!("v2.0.0"), &json!(1500), &json!("before"))
    );
    assert_eq!(plan["info"]["checksums"]["any"], json!(sum));
    assert_eq!(plan["info"]["binaries"]["linux/amd64"], json!("https://host/v2"));

    assert_eq!(home.run(&["upgrade", "schedule", "v2.0.0", "1600"]).code, 0);
    assert_eq!(home.run(&["upgrade", "schedule", "v1.9.0", "900"]).code, 0);
    let (_, list) = home.json(&["upgrade", "list"]);
    let heights: Vec<_> =
        list["upgrades"].as_array().unwrap().iter().map(|plan| plan["height"].clone()).collect();
    assert_eq!((heights, &list["count"]), (vec![json!(900), json!(1600)], &json!(2)));

    let taken = home.run(&["upgrade", "schedule", "v3", "900"]);
    assert_eq!(taken.code, 4);
    assert!(taken.err.contains("height 900 is taken by upgrade v1.9.0"), "{}", taken.err);
    let which = home.run(&["upgrade", "cancel"]);
    assert_eq!(which.code, 2);
    assert!(which.err.contains("v1.9.0 at 900, v2.0.0 at 1600"), "{}", which.err);
    let unknown = home.run(&["upgrade", "cancel", "V2.0.1"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("did you mean v2.0.0"), "{}", unknown.err);

    assert_eq!(home.run(&["upgrade", "cancel", "v1.9.0"]).code, 0);
    assert_eq!(home.run(&["upgrade", "cancel"]).code, 0);
    assert_eq!(home.plans(), json!([]));
    let nothing = home.run(&["upgrade", "cancel"]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.err.contains("no upgrade is scheduled"), "{}", nothing.err);
    assert_eq!(home.run(&["upgrade", "list"]).out, "no upgrade is scheduled\n");
}

#[test]
fn nonsense_is_refused_with_one_message_and_changes_nothing() {
    let home = Home::new();
    let long = "x".repeat(300);
    let before = home.supervisor_files();
    for (args, part) in [
        (&["../../x", "5"][..], "must not start with a dot"),
        (&["a/b", "5"], "contains '/'"),
        (&["", "5"], "must not be empty"),
        (&[".x", "5"], "must not start with a dot"),
        (&[&long, "5"], "at most 128"),
        (&["a\u{7}b", "5"], "is made of"),
        (&["v2", "0"], "whole number from 1"),
        (&["v2", "-1"], "whole number from 1"),
        (&["v2", "9223372036854775808"], "whole number from 1"),
        (&["v2", "1e6"], "whole number from 1"),
        (&["v2", ""], "whole number from 1"),
        (&["v2", "soon"], "whole number from 1"),
        (&["v2"], "required"),
        (&["v2", "5", "--switch", "soon"], "no switch mode"),
        (&["v2", "5", "--checksum", "sha256:12"], "64 hex digits"),
        (&["v2", "5", "--switch", "window:0"], "window:<blocks> (at least 1)"),
        (&["v2", "5", "--switch", "window:999999999999"], "takes at most 4"),
        (&["v2", "5", "--switch", ""], "no switch mode"),
        (&["v2", "5", "--checksum", ""], "--checksum is empty"),
        (&["v2", "5", "--binaries", " "], "--binaries is empty"),
        (&["v2", "5", "--checksum", "{"], "begins like a JSON object"),
        (&["v2", "5", "--binaries", "{"], "begins like a JSON object"),
        (&["v2", "5", "--binaries", "ftp://host/v2"], "http, https and file are known"),
        (&["v2", "5", "--binaries", "here"], "no address"),
        (&["v2", "5", "--colour"], "--colour"),
    ] {
        let args = [&["upgrade", "schedule"], args].concat();
        let ran = home.run(&args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(part), "{args:?}: {}", ran.err);
        assert!(!ran.err.contains('\u{7}'), "what was typed cannot ring the bell: {}", ran.err);
        let (code, said) = home.json(&args);
        assert_eq!((code, &said["code"]), (2, &json!("invalid")), "{args:?}");
    }
    for (args, part) in [
        (&["upgrade", "history", "--limit", "0"][..], "1..=1000"),
        (&["upgrade", "history", "--limit", "1001"], "1..=1000"),
        (&["logs", "--tail", "0"], "shows nothing"),
        (&["logs", "--tail", "-1"], "-1"),
        (&["upgrade", "apply", ""], "must not be empty"),
        (&["upgrade", "retry", "a\u{1b}[31m"], "is made of"),
        (&["upgrade", "cancel", ""], "must not be empty"),
        (&["--set", "foo=bar", "status"], "there is no setting \"foo\""),
        (&["--set", "node.max_restart=1", "upgrade", "list"], "did you mean node.max_restarts?"),
        (&["--home", "/", "status"], "must not be the root directory"),
        (&["--home", "/", "init", "node"], "must not be the root directory"),
        (&["--config", "none.toml", "status"], "there is no configuration file"),
    ] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(part) && !ran.err.contains('\u{1b}'), "{args:?}: {}", ran.err);
    }
    assert_eq!(home.supervisor_files(), before);
}

#[test]
fn a_plan_file_that_cannot_be_read_is_not_overwritten() {
    let home = Home::new();
    for text in ["", "{", "{}", "[1]", r#"[{"name":"a","height":5},{"name":"b","height":5}]"#] {
        fs::write(home.plan_file(), text).unwrap();
        for args in
            [&["upgrade", "schedule", "v2", "7"][..], &["upgrade", "list"], &["upgrade", "cancel", "a"]]
        {
            let (code, said) = home.json(args);
            assert_eq!(code, 1, "{text:?} {args:?}: {said}");
        }
        let status = home.run(&["status"]);
        assert!(status.code == 3 && status.out.contains("PLAN FILE: "), "{text:?}: {}", status.out);
        assert_eq!(fs::read_to_string(home.plan_file()).unwrap(), text);
    }
}

#[test]
fn status_without_a_supervisor_is_told_from_the_files() {
    let home = Home::new();
    home.run(&["upgrade", "schedule", "v2", "7"]);
    let ran = home.run(&["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert!(ran.out.starts_with("DOWN  neither the supervisor nor the node runs\n"), "{}", ran.out);
    assert!(ran.out.contains("NEXT UPGRADE v2 at 7"), "{}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    let (code, status) = home.json(&["status"]);
    assert_eq!((code, &status["verdict"], &status["supervisor"]), (3, &json!("down"), &Value::Null));
    assert_eq!(status["upgrades"][0]["name"], json!("v2"));
    let (code, status) = home.json(&["upgrade", "status"]);
    assert_eq!(
        (code, &status["pending_upgrade"]["height"], &status["upgrading"]),
        (0, &json!(7), &json!(false))
    );
    let (code, history) = home.json(&["upgrade", "history"]);
    assert_eq!((code, history), (0, json!({ "history": [], "count": 0 })));
    let (code, version) = home.json(&["version"]);
    assert_eq!((code, version), (0, json!({ "wemixvisor": env!("CARGO_PKG_VERSION"), "supervisor": null })));
}

#[test]
fn what_needs_a_supervisor_says_so() {
    let home = Home::new();
    for args in [
        &["stop"][..],
        &["restart"],
        &["upgrade", "apply", "v2"],
        &["upgrade", "retry", "v2"],
        &["upgrade", "rollback"],
        &["upgrade", "status", "--follow"],
    ] {
        let (code, said) = home.json(args);
        assert_eq!((code, &said["code"]), (3, &json!("not_running")), "{args:?}");
        let ran = home.run(args);
        assert_eq!((ran.code, ran.err.lines().count()), (3, 1), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_link_that_is_wrong_is_said_and_left_alone() {
    let home = Home::new();
    let link = home.root().join("wemixvisor/current");
    fs::remove_file(&link).unwrap();
    for args in [&["status"][..], &["run"], &["start"], &["upgrade", "schedule", "v2", "5"]] {
        let ran = home.run(args);
        assert_eq!(ran.code, 1, "{args:?}: {}", ran.err);
        assert!(ran.err.contains("current"), "{args:?}: {}", ran.err);
    }
    assert!(!link.is_symlink());
}

#[test]
fn wrong_settings_are_all_told_at_once() {
    let home = Home::new();
    let config = home.root().join("wemixvisor/config.toml");
    fs::write(&config, "nme = 'x'\n[node]\nshutdown_grace = '5 minutes'\nkill = 'maybe'\n").unwrap();
    let mut command = home.command(&["--network", "moon", "--set", "node.max_restart=1", "run", "--x"]);
    let said = ran(command.env("DAEMON_DEBUG", "perhaps").output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    for part in [
        r#"line 1: there is no setting "nme" (did you mean name?)"#,
        "line 3: node.shutdown_grace",
        "line 4: node.kill",
        "environment DAEMON_DEBUG",
        "flag: network",
        "node.max_restart\" (did you mean node.max_restarts?)",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let (code, checked) = home.json(&["config", "validate"]);
    assert_eq!((code, &checked["valid"]), (2, &json!(false)));
    assert_eq!(checked["errors"].as_array().unwrap().len(), 3, "{checked}");
}

/// A settings file that is none: one sentence, exit code 2, and nothing that waits.
#[test]
fn a_settings_file_that_cannot_be_used_is_said_in_one_sentence() {
    let home = Home::new();
    let config = home.root().join("wemixvisor/config.toml");
    let pipe = || rustix::fs::mkfifoat(rustix::fs::CWD, &config, 0o600.into()).unwrap();
    let make: [(&dyn Fn(), &str); 5] = [
        (&|| fs::create_dir(&config).unwrap(), "Is a directory"),
        (&|| fs::write(&config, "#".repeat(10_000_000)).unwrap(), "is larger than 1048576 bytes"),
        (&|| fs::write(&config, b"\xff\xfe\0").unwrap(), "is not UTF-8 text"),
        (&pipe, "is a pipe, and must be a file"),
        (&|| std::os::unix::fs::symlink("config.toml", &config).unwrap(), "symbolic link"),
    ];
    for (make, part) in make {
        make();
        for args in [&["status"][..], &["start"], &["upgrade", "schedule", "v2", "7"], &["config", "show"]] {
            let ran = home.run(args);
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
            assert!(ran.err.contains(part) && ran.err.lines().count() == 1, "{args:?}: {}", ran.err);
        }
        if config.is_dir() { fs::remove_dir(&config) } else { fs::remove_file(&config) }.unwrap();
    }
    assert!(!home.plan_file().exists());
}

#[test]
fn a_home_that_is_none_is_said_and_nothing_is_made() {
    let home = Home::bare();
    let program = home.program("node");
    for args in [&["status"][..], &["init", "node"], &["start"], &["upgrade", "list"]] {
        let ran = ran(home.command(args).env("DAEMON_HOME", &program).output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("is not a directory") && ran.err.lines().count() == 1, "{}", ran.err);
    }
    // Below a directory that nobody may write to.
    let ran = ran(home.command(&["init", "node"]).env("DAEMON_HOME", "/proc/self/home").output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("/proc/self/home") && ran.err.lines().count() == 1, "{}", ran.err);
    // A path from here is one from here, whatever the home is called by later.
    let here = crate::ran(home.command(&["init", "node"]).env("DAEMON_HOME", "./there").output().unwrap());
    assert_eq!(here.code, 0, "{}", here.err);
    assert!(home.dir.path().join("there/wemixvisor/genesis").is_dir(), "{}", here.out);
}

#[test]
fn settings_are_shown_with_their_origin_and_files_are_checked() {
    let home = Home::new();
    fs::write(home.root().join("wemixvisor/config.toml"), "[node]\nshutdown_grace = '7m'\n").unwrap();
    let (code, shown) = home.json(&["config", "show", "--set", "node.kill=never"]);
    assert_eq!((code, &shown["file_found"]), (0, &json!(true)));
    let row = |key: &str| {
        shown["settings"].as_array().unwrap().iter().find(|row| row["key"] == key).unwrap().clone()
    };
    assert_eq!(row("node.shutdown_grace")["value"], "7m");
    assert!(row("node.shutdown_grace")["origin"].as_str().unwrap().ends_with("config.toml line 2"));
    assert_eq!((&row("node.kill")["origin"], &row("name")["origin"]), (&json!("flag"), &json!("default")));
    assert!(home.run(&["config", "show", "--origin"]).out.contains("environment DAEMON_HOME"));

    fs::write(home.dir.path().join("good.toml"), "name = 'gwemix'\n").unwrap();
    fs::write(home.dir.path().join("bad.toml"), "name = \n").unwrap();
    assert_eq!(home.run(&["config", "validate"]).code, 0);
    assert_eq!(home.run(&["config", "validate", "good.toml"]).code, 0);
    for file in ["bad.toml", "none.toml"] {
        let ran = home.run(&["config", "validate", file]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{file}");
        assert!(ran.err.contains(file), "{}", ran.err);
    }
    let bad = home.run(&["--set", "nonsense", "status"]);
    assert!(bad.code == 2 && bad.err.contains("--set takes KEY=VALUE"), "{}", bad.err);
}

#[test]
fn logs_show_the_end_of_the_nodes_output() {
    let home = Home::new();
    let none = home.run(&["logs"]);
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    assert!(none.err.contains("there is no log yet"), "{}", none.err);
    fs::write(home.root().join("wemixvisor/logs/node.log"), "one\ntwo\n\u{fffd}three\n").unwrap();
    assert_eq!(home.run(&["logs", "--tail", "2"]).out, "two\n\u{fffd}three\n");
    assert_eq!(home.json(&["logs", "-n", "1"]), (0, json!({ "lines": ["\u{fffd}three"] })));
}

#[test]
fn help_and_slips_of_the_keyboard() {
    let home = Home::bare();
    let help = home.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(!help.out.contains("keeper") && !help.out.contains("--background"), "{}", help.out);
    assert_eq!(home.run(&["--version"]).out, format!("wemixvisor {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(home.run(&["help", "run"]).code, 0);
    for args in [&[][..], &["stat"], &["upgrade"], &["upgrade", "lst"], &["status", "x"]] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
    }
    let (code, said) = home.json(&["stat"]);
    assert_eq!((code, &said["code"]), (2, &json!("invalid")));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let mut child =
        home.command(&["config", "show"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn colours_are_for_terminals_only() {
    let home = Home::new();
    for args in [&["status"][..], &["upgrade", "list"], &["config", "show"]] {
        assert!(!home.run(args).out.contains('\u{1b}'), "{args:?}");
    }
}
