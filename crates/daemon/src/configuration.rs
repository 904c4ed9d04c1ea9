//! The settings as they can be read again: the same layers, with the file as it is now or as it could be.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use wemixvisor_core::settings::{Resolved, Settings};

/// Reads all layers; with a text, as if the file held that. The errors are all that is wrong.
pub type Read = Arc<dyn Fn(Option<String>) -> Result<Resolved, Vec<String>> + Send + Sync>;

/// Where the settings come from.
#[derive(Clone)]
pub struct Configuration {
    /// The settings file; it need not exist.
    pub file: PathBuf,
    /// How the settings are read.
    pub read: Read,
}

impl Configuration {
    /// The settings as they are now, or all that is wrong with them, a line each.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn settings(&self) -> Result<Box<Settings>, String> {
        let resolved = (self.read)(None).map_err(|errors| errors.join("\n"))?;
        Ok(Box::new(resolved.settings))
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration").field("file", &self.file).finish_non_exhaustive()
    }
}
