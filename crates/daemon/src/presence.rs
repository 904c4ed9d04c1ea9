//! What shows that a supervisor is at work in a home: its lock, its control socket, its pid file, the directory of
//! the logs. Each of them can be removed by hand while it runs; what is gone is made anew at the next look.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use wemixvisor_host::durable;
use wemixvisor_host::home::Home;
use wemixvisor_host::lock::{LockFile, SupervisorLock};

use crate::api::wire::Supervisor;
use crate::api::{Api, Place};
use crate::control;
use crate::handle::Handle;
use crate::preparing::said;

/// How often it is looked whether all is still there. A command that finds no socket waits a little longer.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// An answer that has been given leaves within this time.
const ANSWERS_LEAVE: Duration = Duration::from_millis(500);

pub(crate) struct Presence {
    home: Arc<Home>,
    api: Api,
    runtime: Runtime,
    over: CancellationToken,
    socket: Socket,
    /// What is wrong and cannot be mended, as it was said last.
    problem: Option<String>,
    /// Let go of last: who finds no socket finds no supervisor either.
    lock: SupervisorLock,
}

/// The control socket and who answers on it.
struct Socket {
    serving: JoinHandle<()>,
    file: Option<(u64, u64)>,
}

impl Socket {
    fn open(home: &Home, runtime: &Runtime, api: Api, over: CancellationToken) -> std::io::Result<Self> {
        let _inside = runtime.enter();
        let listener = control::bind(home)?;
        let file = identity(home);
        let serving = runtime.spawn(control::serve(listener, api, over));
        Ok(Self { serving, file })
    }

    fn is_in_place(&self, home: &Home) -> bool {
        self.file.is_some() && self.file == identity(home)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn identity(home: &Home) -> Option<(u64, u64)> {
    fs::symlink_metadata(home.socket()).ok().map(|data| (data.dev(), data.ino()))
}

impl Presence {
    /// Opens the control socket, which is served on `runtime`.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn begin(
        lock: SupervisorLock,
        home: Arc<Home>,
        handle: Handle,
        about: Supervisor,
        place: Place,
        runtime: Runtime,
    ) -> std::io::Result<Self> {
        let over = CancellationToken::new();
        let api = Api::new(Arc::new(handle), Some(about), place, over.clone());
        let socket = Socket::open(&home, &runtime, api.clone(), over.clone())?;
        Ok(Self { home, api, runtime, over, socket, problem: None, lock })
    }

    /// Looks after everything, for ever.
    pub(crate) async fn keep(&mut self) -> Infallible {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let problem = self.tend().err();
            if let Some(problem) = problem.as_ref().filter(|new| self.problem.as_ref() != Some(new)) {
                tracing::error!("{problem}");
            }
            self.problem = problem;
        }
    }

    /// Whoever has asked is answered before nobody is there any more.
    pub(crate) async fn answer_the_last(&mut self) {
        self.over.cancel();
        let _ = timeout(ANSWERS_LEAVE, &mut self.socket.serving).await;
    }

    /// In words: what cannot be mended.
    fn tend(&mut self) -> Result<(), String> {
        let file = self.home.lock();
        match self.lock.tend().map_err(|error| said(&error))? {
            LockFile::InPlace => {}
            LockFile::MadeAnew => tracing::error!(
                "{} was removed or replaced while this supervisor runs; it is made anew. Do not remove it: no second \
                 supervisor comes in by that",
                file.display()
            ),
            LockFile::DirectoryGone => {
                return Err(format!(
                    "{} was moved or removed while this supervisor runs; what lies there now is left alone. Put it \
                     back, or end this supervisor (pid {})",
                    self.home.wemixvisor().display(),
                    std::process::id()
                ));
            }
        }
        let logs = self.home.logs();
        if !logs.exists() {
            durable::create_dirs(&logs).map_err(|error| said(&error))?;
            tracing::warn!("{} was removed; it is made anew", logs.display());
        }
        if !self.socket.is_in_place(&self.home) {
            let (api, over) = (self.api.clone(), self.over.clone());
            self.socket = Socket::open(&self.home, &self.runtime, api, over)
                .map_err(|error| format!("cannot make {} anew: {error}", self.home.socket().display()))?;
            tracing::error!("{} was removed or replaced; it is made anew", self.home.socket().display());
        }
        if !self.home.pid().exists() {
            write_pid(&self.home);
        }
        Ok(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.lock.is_in_place() {
            return;
        }
        if self.socket.is_in_place(&self.home) {
            let _ = fs::remove_file(self.home.socket());
        }
        let _ = fs::remove_file(self.home.pid());
    }
}

/// For people and scripts; nothing of ours reads it, so it is nothing to fail for.
#[allow(clippy::disallowed_methods)] // It means nothing after a crash, so it need not survive one.
pub(crate) fn write_pid(home: &Home) {
    if let Err(error) = fs::write(home.pid(), format!("{}\n", std::process::id())) {
        tracing::warn!("cannot write {}: {error}", home.pid().display());
    }
}
