//! The thread on which the API is served: the control socket and, where it is set, TCP.
//!
//! A thread with a loop of its own, so that a thousand clients take their time from nobody who supervises.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle as Runtime};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wemixvisor_core::settings;
use wemixvisor_host::home::Home;

use crate::api::listen::{Bound, Share, guarded};
use crate::api::tokens::TokenFile;
use crate::api::wire::Supervisor;
use crate::api::{Api, Place};
use crate::handle::Handle;
use crate::preparing::said;

/// The engine goes first where both want the processor.
const NICE: i32 = 5;

/// An address that cannot be had is tried again so often.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Connections that are open when the API is set up anew end within this time.
const CONNECTIONS_END: Duration = Duration::from_secs(1);

/// The thread ends within this time after what runs on it.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// So many threads read and write files for it at most.
const FILE_THREADS: usize = 8;

/// The thread. What runs on it ends when this is dropped.
pub(crate) struct Serving {
    runtime: Runtime,
    over: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(FILE_THREADS).build()?;
        let handle = runtime.handle().clone();
        let over = CancellationToken::new();
        let end = over.clone();
        let thread = std::thread::Builder::new().name("api".into()).spawn(move || {
            // Of the calling thread, and of those that it starts. Without it the API is served all the same.
            let _ = setpriority_process(None, NICE);
            runtime.block_on(end.cancelled());
            runtime.shutdown_timeout(LAST_WAIT);
        })?;
        Ok(Self { runtime: handle, over, thread: Some(thread) })
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Serves the API over TCP as the settings say, now and when they change.
    pub(crate) fn serve_tcp(
        &self,
        handle: Handle,
        about: Supervisor,
        place: Place,
        home: &Home,
        first: settings::Api,
    ) -> Tcp {
        let (change, changed) = watch::channel(first);
        let problem = Arc::new(Mutex::new(None));
        let tending = Tending {
            handle,
            about,
            place,
            tokens: TokenFile::of(home),
            own_dir: home.wemixvisor().to_owned(),
            problem: problem.clone(),
            over: self.over.clone(),
        };
        self.runtime.spawn(tending.tend(changed));
        Tcp { change, problem }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The API over TCP, as the engine's side has it.
#[derive(Debug)]
pub(crate) struct Tcp {
    change: watch::Sender<settings::Api>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Tcp {
    /// Other settings are in force from now on.
    pub(crate) fn set(&self, settings: &settings::Api) {
        self.change.send_if_modified(|present| {
            let differs = present != settings;
            present.clone_from(settings);
            differs
        });
    }

    /// Why it is not served, if it should be.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Tending {
    handle: Handle,
    about: Supervisor,
    place: Place,
    tokens: TokenFile,
    own_dir: PathBuf,
    problem: Arc<Mutex<Option<String>>>,
    over: CancellationToken,
}

impl Tending {
    async fn tend(self, mut settings: watch::Receiver<settings::Api>) {
        loop {
            let wanted = settings.borrow_and_update().clone();
            if !wanted.enabled {
                self.say(None);
                if settings.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match Bound::to(&wanted, Path::new(&self.own_dir)).await {
                Ok(bound) => {
                    self.say(None);
                    tracing::info!("the API is served on {}", bound.url());
                    let over = self.over.child_token();
                    let about = Some(self.about.clone());
                    let api =
                        Api::new(Arc::new(self.handle.clone()), about, self.place.clone(), over.clone());
                    let routes = guarded(api, wanted, self.tokens.clone());
                    let mut serving = tokio::spawn(bound.serve(routes, Share::Tcp, over.clone()));
                    let changed = settings.changed().await;
                    over.cancel();
                    // The address is free again when the listener has ended.
                    if timeout(CONNECTIONS_END, &mut serving).await.is_err() {
                        serving.abort();
                    }
                    if changed.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.say(Some(format!("{}; it is tried again all the time", said(&error))));
                    tokio::select! {
                        changed = settings.changed() => if changed.is_err() { return },
                        () = sleep(TRY_AGAIN) => {}
                    }
                }
            }
        }
    }

    fn say(&self, problem: Option<String>) {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != problem
            && let Some(text) = &problem
        {
            tracing::error!("{text}");
        }
        *known = problem;
    }
}
