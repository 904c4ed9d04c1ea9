//! Whether the node's log is kept, looked at apart from all else: its file may lie on a disk that does not answer,
//! and nothing but the log may wait for that.

use std::path::Path;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use wemixvisor_host::output::can_be_log;

/// The last look at the log's place, and the one under way.
pub(crate) struct LogLook {
    found: watch::Sender<Result<(), String>>,
    under_way: Option<JoinHandle<()>>,
}

impl LogLook {
    pub(crate) fn new() -> Self {
        Self { found: watch::Sender::new(Ok(())), under_way: None }
    }

    /// Why the last look found that the log is not kept, if so. Begins the next look, unless one still waits for the
    /// disk.
    pub(crate) fn last_and_next(&mut self, path: &Path) -> Result<(), String> {
        let last = self.found.borrow().clone();
        if self.under_way.as_ref().is_none_or(JoinHandle::is_finished) {
            let (path, found) = (path.to_owned(), self.found.clone());
            self.under_way = Some(tokio::task::spawn_blocking(move || {
                let _ = found.send_replace(can_be_log(&path).map_err(|error| error.to_string()));
            }));
        }
        last
    }
}
