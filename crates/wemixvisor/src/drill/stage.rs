//! Where a drill plays: a temporary home with four versions of the practice node, and the supervisor on it.
//!
//! Everything is of this machine and of this user, and nothing listens on a network: the node is asked over its
//! IPC socket. Whatever ends the drill, [`Stage::clear`] and in the last resort the drop of the stage end every
//! process that was started, by its id, before the home is removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use wemixvisor_core::settings::TABLE;
use wemixvisor_daemon::control::{Client, Method};
use wemixvisor_host::durable;
use wemixvisor_host::home::{Home, PROGRAM_MODE};

use super::journal::Journal;
use super::{Broken, processes};

/// The file name of the practice node's programs.
const NAME: &str = "practice-node";

/// The time between two blocks: quick, and still long against everything that the supervisor does.
pub const BLOCK_TIME: Duration = Duration::from_millis(250);

/// A new program that has made no block for so long is given up. Long against two blocks, short for somebody who
/// watches.
pub const MUST_ADVANCE_WITHIN: Duration = Duration::from_secs(4);

/// The longest path of a directory for temporary files, in bytes, with which the node can open its IPC socket: a
/// Unix socket's path has at most 107.
const LONGEST_PLACE: usize = 60;

/// Where a drill plays when TMPDIR lies deeper than that.
const SHORT_PLACE: &str = "/tmp";

/// The program may take so long to say its version. Nothing is slower than a machine that swaps.
const FIRST_RUN: Duration = Duration::from_secs(20);

/// A supervisor that is told to end stops its node first; neither has much to do.
const END_LIMIT: Duration = Duration::from_secs(20);

/// From SIGTERM to SIGKILL when a drill is broken off.
const CLEAR_LIMIT: Duration = Duration::from_secs(5);

/// So much of the end of the supervisor's log is shown when a drill is broken off, in bytes; whole lines only.
const LAST_WORDS: usize = 1500;

/// The versions of the practice node, with what is special about each.
const VERSIONS: [(&str, &str); 4] = [("1.0.0", ""), ("2.0.0", ""), ("3.0.0", " --no-blocks"), ("4.0.0", "")];

/// The first run of this hook waits for a file, so that the supervisor can be killed at exactly this moment. It
/// waits half a minute at most.
const WAITING_HOOK: &str = "#!/bin/sh
tries=0
while [ ! -e \"$DAEMON_HOME/go\" ] && [ $tries -lt 300 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
";

/// The stage and who is on it.
#[derive(Debug)]
pub struct Stage {
    root: PathBuf,
    home: Home,
    own_program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    supervisor: Option<Child>,
    /// Removed last.
    dir: Option<TempDir>,
}

impl Stage {
    /// Lays out the home and the programs in `place`, or in `/tmp` if that lies too deep. Nothing is started yet.
    pub fn build(
        place: &Path,
        own_program: &Path,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Broken> {
        let place = if place.as_os_str().len() > LONGEST_PLACE { Path::new(SHORT_PLACE) } else { place };
        let dir = tempfile::Builder::new()
            .prefix("wemixvisor-drill-")
            .tempdir_in(place)
            .map_err(|source| Broken::NoPlace { dir: place.into(), source })?;
        let root =
            dir.path().canonicalize().map_err(|source| Broken::NoPlace { dir: dir.path().into(), source })?;
        let home = Home::new(&root, None, None, NAME)?;
        let stage = Self {
            environment: environment_for(&root, environment),
            own_program: own_program.into(),
            supervisor: None,
            dir: Some(dir),
            home,
            root,
        };
        stage.lay_out()?;
        Ok(stage)
    }

    fn lay_out(&self) -> Result<(), Broken> {
        for (version, flags) in VERSIONS {
            let script = script(&self.own_program, version, flags);
            let program = if version == VERSIONS[0].0 {
                self.root.join(NAME)
            } else {
                let bin = self.home.upgrades().join(format!("v{version}")).join("bin");
                durable::create_dirs(&bin)?;
                bin.join(NAME)
            };
            durable::write_atomic(&program, &script, PROGRAM_MODE)?;
        }
        self.home.init(&self.root.join(NAME))?;
        Ok(())
    }

    /// Runs the first program once, so that a directory whose programs may not be executed is noticed at once.
    #[allow(clippy::disallowed_methods)] // The practice node is started to see whether it can be.
    pub async fn try_program(&self) -> Result<(), Broken> {
        let program = self.root.join(NAME);
        let cannot = |source| Broken::CannotRun { program: program.clone(), source };
        let mut command = Command::new(&program);
        command.arg("version").env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = match tokio::time::timeout(FIRST_RUN, run).await {
            Ok(output) => output.map_err(cannot)?,
            Err(_) => {
                return Err(Broken::TooLong {
                    what: "the practice node to say its version",
                    limit: FIRST_RUN,
                });
            }
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(cannot(std::io::Error::other(format!("{}: {said}", output.status))))
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    fn log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    /// The way to the supervisor.
    pub fn client(&self) -> Client {
        Client::new(&self.home)
    }

    /// Starts a supervisor: `wemixvisor run`, with the node's arguments. Its process id is the answer.
    #[allow(clippy::disallowed_methods)] // The supervisor is what a drill plays with.
    pub fn start_supervisor(&mut self) -> Result<u32, Broken> {
        let failed =
            |source| Broken::Io { doing: "start the supervisor", path: self.own_program.clone(), source };
        let log = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let child = Command::new(&self.own_program)
            .arg("run")
            .args([OsStr::new("--datadir"), self.home.data().as_os_str()])
            .current_dir(&self.root)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            // The node's output; it is in the node's log as well.
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C at the terminal is for the drill alone; it ends the others in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        self.supervisor = Some(child);
        Ok(pid)
    }

    /// How the supervisor ended, if it has.
    pub fn supervisor_ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.as_mut()?.try_wait().ok().flatten()
    }

    /// Kills the supervisor, and nobody else, with SIGKILL.
    pub async fn kill_supervisor(&mut self) -> Result<(), Broken> {
        let Some(mut supervisor) = self.supervisor.take() else { return Ok(()) };
        let path = self.own_program.clone();
        supervisor.kill().await.map_err(|source| Broken::Io { doing: "kill the supervisor", path, source })
    }

    /// Puts a hook in place that holds the upgrade right after the old node was stopped.
    pub fn hold_before_switch(&self, upgrade: &str) -> Result<(), Broken> {
        let hook = self.home.upgrades().join(upgrade).join("pre-upgrade");
        Ok(durable::write_atomic(&hook, WAITING_HOOK.as_bytes(), PROGRAM_MODE)?)
    }

    /// Lets that hook, and every later run of it, end.
    pub fn let_go(&self) -> Result<(), Broken> {
        Ok(durable::write_atomic(&self.root.join("go"), b"", 0o644)?)
    }

    /// What the practice nodes have written down so far.
    pub fn journal(&self) -> Journal {
        Journal::read(&fs::read_to_string(self.home.data().join("testnode/journal.log")).unwrap_or_default())
    }

    /// What `current` points to.
    pub fn link(&self) -> String {
        fs::read_link(self.home.current())
            .map_or_else(|error| error.to_string(), |to| to.display().to_string())
    }

    /// The last lines of the supervisor's log.
    pub fn last_words(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut room = LAST_WORDS;
        let fits = |line: &&str| {
            room = room.saturating_sub(line.len() + 1);
            room > 0
        };
        let mut lines: Vec<&str> = text.lines().rev().take_while(fits).collect();
        lines.reverse();
        lines.join("\n")
    }

    /// Ends the supervisor and with it the node, in order. What still runs after that is the answer.
    pub async fn end(&mut self) -> Result<Vec<String>, Broken> {
        self.client().order(Method::POST, "/api/v1/supervisor/stop", None).await?;
        if let Some(mut supervisor) = self.supervisor.take()
            && tokio::time::timeout(END_LIMIT, supervisor.wait()).await.is_err()
        {
            self.supervisor = Some(supervisor);
        }
        let left = processes::gone_within(&self.root, CLEAR_LIMIT).await;
        Ok(left.into_iter().map(|process| format!("{} (pid {})", process.line, process.pid)).collect())
    }

    /// Ends whatever runs, however it stands: in order if the supervisor can, then by SIGTERM, then by SIGKILL.
    pub async fn clear(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            let pid = supervisor.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
            // A hook that waits would hold it up.
            let _ = self.let_go();
            // Not collected yet, so the id is still its own.
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            if processes::gone_within(&self.root, CLEAR_LIMIT).await.is_empty() {
                return;
            }
        }
        for signal in [Signal::TERM, Signal::KILL] {
            // The keeper takes no SIGTERM; it goes when its node is gone.
            processes::signal_all(&self.root, signal);
            if processes::gone_within(&self.root, CLEAR_LIMIT).await.is_empty() {
                return;
            }
        }
    }

    /// Leaves the home where it is; its path is the answer.
    pub fn keep(&mut self) -> PathBuf {
        match self.dir.take() {
            Some(dir) => dir.keep(),
            None => self.root.clone(),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Only after a panic does anything run here still.
        processes::signal_all(&self.root, Signal::KILL);
    }
}

/// A version of the practice node: this program in another mode.
fn script(own_program: &Path, version: &str, flags: &str) -> Vec<u8> {
    let mut text = b"#!/bin/sh\nexec '".to_vec();
    for &byte in own_program.as_os_str().as_bytes() {
        match byte {
            b'\'' => text.extend(br"'\''"),
            byte => text.push(byte),
        }
    }
    let block_time = BLOCK_TIME.as_millis();
    let rest = format!(
        "' {NAME} --as-version {version} --solo --block-time {block_time}ms --journal-blocks{flags} \"$@\"\n"
    );
    text.extend(rest.as_bytes());
    text
}

/// The supervisor's environment: this process's own without any setting, and the drill's settings.
fn environment_for(home: &Path, inherited: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<_> = inherited.iter().filter(|(name, _)| !is_setting(name)).cloned().collect();
    let mut set = |name: &str, value: &OsStr| environment.push((name.into(), value.to_owned()));
    set("DAEMON_HOME", home.as_os_str());
    // Named, so that no other node of this machine is taken for ours.
    set("DAEMON_RPC_ADDRESS", home.join("data/gwemix.ipc").as_os_str());
    let advance = format!("{}s", MUST_ADVANCE_WITHIN.as_secs());
    for (name, value) in [
        ("DAEMON_NAME", NAME),
        ("DAEMON_HEIGHT_POLL_INTERVAL", "250ms"),
        ("DAEMON_SHUTDOWN_GRACE", "10s"),
        ("DAEMON_STOP_HARD_LIMIT", "20s"),
        ("DAEMON_PROBATION_MUST_ANSWER_WITHIN", "10s"),
        ("DAEMON_PROBATION_MUST_BE_STEADY_FOR", "500ms"),
        ("DAEMON_PROBATION_MUST_ADVANCE_WITHIN", &advance),
        ("COSMOVISOR_COLOR_LOGS", "false"),
    ] {
        set(name, OsStr::new(value));
    }
    environment
}

/// Whether a variable means something to a supervisor or to who watches over it.
fn is_setting(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let ours = ["DAEMON_", "COSMOVISOR_", "UNSAFE_", "WEMIXVISOR_", "UPGRADE_"];
    let service = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"];
    ours.iter().any(|start| name.starts_with(start))
        || service.contains(&name)
        || TABLE.iter().any(|setting| setting.env == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_quote_in_its_path_is_still_executed() {
        let text = script(Path::new("/it's/wemixvisor"), "3.0.0", " --no-blocks");
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("#!/bin/sh\nexec '/it'\\''s/wemixvisor' practice-node --as-version 3.0.0 "),
            "{text}"
        );
        assert!(text.ends_with(" --journal-blocks --no-blocks \"$@\"\n"), "{text}");
    }

    #[test]
    fn the_users_settings_do_not_reach_the_drill() {
        let given = |name: &str| (OsString::from(name), OsString::from("theirs"));
        let names = ["PATH", "DAEMON_HOME", "VALIDATOR_MODE", "UNSAFE_SKIP_BACKUP", "NOTIFY_SOCKET", "HOME"];
        let environment = environment_for(Path::new("/drill"), &names.map(given));
        let theirs = environment.iter().filter(|(_, value)| value == "theirs");
        assert_eq!(theirs.map(|(name, _)| name.to_str().unwrap()).collect::<Vec<_>>(), ["PATH", "HOME"]);
        let set = |name: &str| environment.iter().any(|(key, _)| key == name);
        assert!(set("DAEMON_HOME") && set("DAEMON_RPC_ADDRESS"));
        for (name, _) in environment.iter().filter(|(_, value)| value != "theirs") {
            assert!(TABLE.iter().any(|setting| name == setting.env), "{name:?} is no setting");
        }
    }

    #[test]
    fn the_stage_is_laid_out_and_goes_with_its_drop() {
        let place = tempfile::tempdir_in(SHORT_PLACE).unwrap();
        let build = |place: &Path| Stage::build(place, Path::new("/wemixvisor"), &[]).unwrap();
        let stage = build(place.path());
        let home = stage.home().clone();
        assert!(home.root().starts_with(place.path()));
        for version in ["v2.0.0", "v3.0.0", "v4.0.0"] {
            assert!(home.upgrades().join(version).join("bin/practice-node").is_file());
        }
        assert_eq!(stage.link(), "genesis");
        assert_eq!(stage.journal(), Journal::default());
        stage.hold_before_switch("v4.0.0").unwrap();
        drop(stage);
        assert!(!home.root().exists());
        let mut kept = build(place.path());
        let path = kept.keep();
        drop(kept);
        assert!(path.is_dir());

        let deep = place.path().join("d".repeat(LONGEST_PLACE));
        fs::create_dir(&deep).unwrap();
        assert!(build(&deep).home().data().join("gwemix.ipc").as_os_str().len() <= 107);
    }
}
