//! The node's output on standard output.
//!
//! On a thread of its own with a loop of its own: a reader that is slow or gone holds up nobody else, and a line
//! wakes one thread once, instead of the supervisor and its helpers several times.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wemixvisor_host::output::Follow;

/// How long the end of the output is waited for.
const LAST_LINES: Duration = Duration::from_millis(100);

/// The thread that copies.
#[derive(Debug)]
pub(crate) struct Mirror {
    end: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Mirror {
    /// Copies what comes to the log at `log` from now on.
    pub(crate) fn start(log: &Path) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let output = {
            let _inside = runtime.enter();
            Follow::from_end(log)?
        };
        let (end, asked) = oneshot::channel();
        let (tell, ended) = mpsc::channel();
        std::thread::Builder::new().name("mirror".into()).spawn(move || {
            copy(&runtime, output, asked);
            // Nobody may wait any more.
            let _ = tell.send(());
        })?;
        Ok(Self { end, ended })
    }

    /// Copies what is in the log by now and ends. A reader that does not read is not waited for.
    pub(crate) fn finish(self) {
        let _ = self.end.send(());
        let _ = self.ended.recv_timeout(LAST_LINES);
    }
}

fn copy(runtime: &Runtime, mut output: Follow, mut asked: oneshot::Receiver<()>) {
    let mut stdout = io::stdout();
    let mut show = |bytes: &[u8]| stdout.write_all(bytes).and_then(|()| stdout.flush()).is_ok();
    runtime.block_on(async {
        loop {
            let bytes = tokio::select! {
                bytes = output.next() => bytes,
                _ = &mut asked => break,
            };
            if !bytes.is_ok_and(|bytes| show(&bytes)) {
                return;
            }
        }
        while let Ok(Ok(bytes)) = timeout(Duration::ZERO, output.next()).await {
            if !show(&bytes) {
                return;
            }
        }
    });
}
