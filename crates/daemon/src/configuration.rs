//! The settings as they can be read again: the same layers, with the file as it is now or as it could be.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use wemixvisor_core::settings::Resolved;
use wemixvisor_host::digest::Digest;
use wemixvisor_host::watch::read_whole;

use crate::handle::Message;

/// Reads all layers; with a text, as if the file held that. The errors are all that is wrong.
pub type Read = Arc<dyn Fn(Option<String>) -> Result<Resolved, Vec<String>> + Send + Sync>;

/// Where the settings come from.
#[derive(Clone)]
pub struct Configuration {
    /// The settings file; it need not exist.
    pub file: PathBuf,
    /// How the settings are read.
    pub read: Read,
    /// Whether the file held anything when it was read last. Held while it is read and told.
    had_content: Arc<Mutex<bool>>,
}

impl Configuration {
    /// Those in this file, and in the layers that `read` knows besides.
    pub fn new(file: PathBuf, read: Read) -> Self {
        Self { file, read, had_content: Arc::default() }
    }

    /// Reads the settings and tells the engine, one after the other: what was read first is told first, so that an
    /// older reading never takes the place of a newer one. Waits for the disk and for the mailbox. The answer is the
    /// sum of the file, where it could be read.
    ///
    /// A file that is gone or empty while a supervisor runs is on its way to be replaced, or lost: it does not mean that
    /// every setting is what it is without a file.
    pub(crate) fn tell(&self, mailbox: &mpsc::Sender<Message>) -> Option<Digest> {
        let mut had_content = self.had_content.lock().unwrap_or_else(PoisonError::into_inner);
        // What is wrong with a file that cannot be read is said by who reads all layers.
        let bytes = read_whole(&self.file).ok();
        let sum = bytes.as_deref().map(Digest::of_bytes);
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let is_there = self.file.try_exists().unwrap_or(true);
        let holds_nothing = !is_there || text.as_ref().is_some_and(|text| text.trim().is_empty());
        let read = if *had_content && holds_nothing {
            let state = if is_there { "is empty" } else { "is gone" };
            Err(vec![format!(
                "{} {state}; if that is meant, it takes effect with: wemixvisor restart --supervisor-only",
                self.file.display()
            )])
        } else {
            *had_content = !holds_nothing;
            (self.read)(text).map(|resolved| Box::new(resolved.settings))
        };
        // Nobody reads it any more when the supervisor ends.
        let _ = mailbox.blocking_send(Message::Settings(read.map_err(|errors| errors.join("\n"))));
        sum
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").field("file", &self.file).finish_non_exhaustive()
    }
}
