//! The settings as they can be read again: the same layers, with the file as it is now or as it could be.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

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
    /// Held while the file is read and told.
    told: Arc<Mutex<Told>>,
}

/// What the file held when it was read last.
struct Told {
    /// Whether it held anything.
    had_content: bool,
    /// Its sum, `None` where it could not be read; nothing before the engine was told.
    sum: Option<Option<Digest>>,
}

impl Configuration {
    /// Those in this file, and in the layers that `read` knows besides. `had_content`: whether the settings that are in
    /// force came from a file that held anything.
    pub fn new(file: PathBuf, read: Read, had_content: bool) -> Self {
        Self { file, read, told: Arc::new(Mutex::new(Told { had_content, sum: None })) }
    }

    /// Reads the settings and tells the engine, one after the other: what was read first is told first, so that an
    /// older reading never takes the place of a newer one. Waits for the disk and for the mailbox. The answer is the
    /// sum of the file, where it could be read.
    pub(crate) fn tell(&self, mailbox: &mpsc::Sender<Message>) -> Option<Digest> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = read_whole(&self.file);
        let sum = bytes.as_deref().ok().map(Digest::of_bytes);
        told.sum = Some(sum);
        let read = match self.loss(told.had_content, &bytes) {
            Some(loss) => Err(vec![loss]),
            None => {
                told.had_content = nothing_in(&bytes).is_none();
                // What is wrong with a file that cannot be read is said by who reads all layers.
                let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
                (self.read)(text).map(|resolved| Box::new(resolved.settings))
            }
        };
        // Nobody reads it any more when the supervisor ends.
        let _ = mailbox.blocking_send(Message::Settings(read.map_err(|errors| errors.join("\n"))));
        sum
    }

    /// What is to be said when the file, read just now, held something before and holds nothing any more. Then what is
    /// in force is not what the file and the other layers say.
    pub(crate) fn lost(&self, bytes: &io::Result<Vec<u8>>) -> Option<String> {
        self.loss(self.told.lock().unwrap_or_else(PoisonError::into_inner).had_content, bytes)
    }

    /// Whether the engine was told what the file holds, read just now: it may be half of what somebody writes.
    pub(crate) fn is_told(&self, bytes: &io::Result<Vec<u8>>) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).sum;
        told.is_none_or(|sum| sum == bytes.as_deref().ok().map(Digest::of_bytes))
    }

    /// A file that is gone or empty while a supervisor runs is on its way to be replaced, or lost: it does not mean that
    /// every setting is what it is without a file.
    fn loss(&self, had_content: bool, bytes: &io::Result<Vec<u8>>) -> Option<String> {
        let state = nothing_in(bytes).filter(|_| had_content)?;
        Some(format!(
            "{} {state}, and the settings are still those from before: put back what it held, or go on without it with: \
             wemixvisor restart --supervisor-only",
            self.file.display()
        ))
    }
}

/// How it is that a file holds nothing; `None` where it holds something, be it a comment, and where that cannot be told.
fn nothing_in(bytes: &io::Result<Vec<u8>>) -> Option<&'static str> {
    match bytes {
        Ok(bytes) => str::from_utf8(bytes).is_ok_and(|text| text.trim().is_empty()).then_some("is empty"),
        Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some("is gone"),
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").field("file", &self.file).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A file written in place is just what is to be noticed.
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use wemixvisor_core::settings::{Layers, resolve};

    use super::*;

    /// Whatever the file holds, the settings are the defaults.
    pub(crate) fn defaults(file: &Path, had_content: bool) -> Configuration {
        let layers = Layers { env: vec![("HOME".into(), "/h".into())], ..Layers::default() };
        let read = move |_: Option<String>| Ok(resolve(&layers).unwrap());
        Configuration::new(file.into(), Arc::new(read), had_content)
    }

    /// The engine is told; the words that it hears where the settings are refused.
    pub(crate) fn told(configuration: &Configuration) -> Option<String> {
        let (tell, mut mailbox) = mpsc::channel(1);
        configuration.tell(&tell);
        match mailbox.blocking_recv().unwrap() {
            Message::Settings(read) => read.err(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_is_lost_is_not_taken_for_one_without_settings() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let lost = |configuration: &Configuration| configuration.lost(&read_whole(&file));
        let (began_without, began_with) = (defaults(&file, false), defaults(&file, true));
        assert!(began_with.is_told(&read_whole(&file)), "nobody was told anything");
        assert_eq!((told(&began_without), lost(&began_without)), (None, None));
        assert!(told(&began_with).unwrap().contains("config.toml is gone"), "by the time it is read again");
        assert_eq!(told(&began_with), lost(&began_with));

        fs::write(&file, "# nothing is set here\n").unwrap();
        for configuration in [&began_without, &began_with] {
            assert!(!configuration.is_told(&read_whole(&file)));
            assert_eq!((told(configuration), lost(configuration)), (None, None), "a comment is something");
            assert!(configuration.is_told(&read_whole(&file)));
        }
        fs::write(&file, " \n").unwrap();
        for configuration in [&began_without, &began_with] {
            assert!(lost(configuration).unwrap().contains("is empty"));
            assert_eq!(told(configuration), lost(configuration));
        }
    }
}
