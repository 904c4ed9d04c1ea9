//! A wemixvisor directory for one test, and waiting for facts.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)] // A test has its own clock and files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use wemixvisor_host::keeper::{
    AdoptHint, FileIdentity, Found, Keeper, KeeperEvent, KeeperState, Launch, LogPolicy, NodeExit,
};
use wemixvisor_host::process;

/// How long a fact may take to become true on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

pub struct Home {
    pub root: tempfile::TempDir,
}

/// A connected keeper and its events.
pub struct Connected {
    pub keeper: Keeper,
    pub events: mpsc::Receiver<KeeperEvent>,
    pub state: KeeperState,
}

impl Home {
    pub fn new() -> Self {
        let home = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(home.dir().join("logs")).unwrap();
        fs::create_dir_all(home.data()).unwrap();
        home
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join("wemixvisor")
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.dir().join("logs/node.log")
    }

    pub fn log_policy(&self) -> LogPolicy {
        LogPolicy { path: self.log(), max_bytes: 10 << 20, keep: 3 }
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// A node that is a shell script. The shell is the program: a freshly written file could still be open for
    /// writing in a process that another test is just forking (ETXTBSY).
    pub fn sh(&self, launch_id: u64, script: &str) -> Launch {
        self.program(launch_id, Path::new("/bin/sh"), &["-c", script])
    }

    pub fn program(&self, launch_id: u64, program: &Path, args: &[&str]) -> Launch {
        Launch {
            launch_id,
            program: program.to_owned(),
            identity: FileIdentity::at(program).unwrap(),
            args: args.iter().map(OsString::from).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME_DIR".into(), self.root.path().into())],
            cwd: self.root.path().to_owned(),
            locks: vec![self.data().join(wemixvisor_host::keeper::DATA_DIR_LOCK)],
            log: self.log_policy(),
        }
    }

    pub async fn start(&self) -> Connected {
        Connected::from(Keeper::start(&self.dir(), &keeper_program(), None).await.unwrap())
    }

    pub async fn adopt(&self, term_sent: bool) -> Connected {
        let hint = AdoptHint { term_sent, log: self.log_policy() };
        Connected::from(Keeper::start(&self.dir(), &keeper_program(), Some(hint)).await.unwrap())
    }

    pub async fn find(&self) -> Found {
        Keeper::find(&self.dir(), LIMIT).await.unwrap()
    }

    pub async fn find_running(&self) -> Connected {
        match self.find().await {
            Found::Running(keeper, state) => Connected::from((keeper, state)),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until there is neither keeper nor node.
    pub async fn becomes_empty(&self) {
        until("nothing runs", async || matches!(self.find().await, Found::Nothing)).await;
    }
}

impl From<(Keeper, KeeperState)> for Connected {
    fn from((mut keeper, state): (Keeper, KeeperState)) -> Self {
        let events = keeper.take_events();
        Self { keeper, events, state }
    }
}

impl Connected {
    pub async fn exit(&mut self) -> NodeExit {
        match tokio::time::timeout(LIMIT, self.events.recv()).await.expect("no event in time") {
            Some(KeeperEvent::Exited(exit)) => exit,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Home {
    /// Ends what the test left running: those who hold the locks of this home, so nobody else can be meant; except a
    /// process that another test is just forking, which holds a copy of our own look at the lock until its exec.
    fn drop(&mut self) {
        let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
        for name in ["keeper.lock", "node.lock"] {
            let Ok(file) = File::open(self.dir().join(name)) else { continue };
            let holders = process::holders_of(&file, Path::new(name)).into_iter();
            for pid in holders.filter(|pid| program(&pid.to_string()) != program("self")) {
                signal(pid, Signal::KILL);
            }
        }
    }
}

pub fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

/// The keeper's program, which cargo builds with the tests.
pub fn keeper_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_keeper-for-tests"))
}

/// Waits until the fact is true, and fails when it takes too long.
pub async fn until(fact: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_true().await {
        assert!(start.elapsed() < LIMIT, "not true in time: {fact}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn exists(pid: u32) -> bool {
    process::ProcessStat::of(pid).is_ok_and(|stat| !stat.ended())
}
