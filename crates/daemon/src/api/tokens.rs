//! Tokens: who may use the API over TCP, and for what.
//!
//! A token is 256 random bits, shown once. Kept is its SHA-256, in a file that only the supervisor's user can read:
//! with that many bits a slow hash would protect nothing. The file is looked at with every request, so a revoked
//! token is worth nothing at once.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wemixvisor_host::durable::{self, DurableError};
use wemixvisor_host::home::Home;

use super::wire::Moment;

/// The file in the supervisor's own directory.
const FILE_NAME: &str = "api-tokens.json";

/// Locked while the file is changed, so that no change is lost and no revoked token comes back.
const LOCK_NAME: &str = "api-tokens.lock";

/// Only the supervisor's user may read it.
const FILE_MODE: u32 = 0o600;

/// With these permission bits others could put tokens of their own into it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What every token begins with: so that one that was published by mistake is found.
const PREFIX: &str = "wxv_";

/// So many tokens are kept at most.
pub const MAX_TOKENS: usize = 100;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 64;

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What a token is good for; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Schedule, cancel, apply and roll back upgrades; start, stop and restart the node.
    Operate,
    /// Change the settings; end and replace the supervisor.
    Admin,
}

impl Scope {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose it is; no two have the same name.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// When it was made.
    pub created: Moment,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    tokens: Vec<Token>,
}

/// Why the tokens are as they were.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the tokens in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written there.
    #[error("{} is damaged, and none of its tokens is good: remove it and make them anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Others may write into it.
    #[error("others may write into {}, so none of its tokens is good: look through it, then chmod 600", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be locked.
    #[error("no token was made or revoked: cannot lock {}", path.display())]
    Lock {
        /// The file beside it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("no token was made or revoked")]
    Write(#[from] DurableError),
    /// There is no randomness.
    #[error("no token was made: the system gives no random numbers")]
    Random(#[source] io::Error),
    /// The name is none.
    #[error("{0:?} is no name for a token: 1 to {MAX_NAME} letters, digits, dots, dashes and underscores")]
    BadName(String),
    /// There is one of this name.
    #[error("there is a token named {0} already: revoke it first, or take another name")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no token named {0}")]
    Unknown(String),
    /// There are [`MAX_TOKENS`].
    #[error("there are {MAX_TOKENS} tokens already: revoke one that nobody uses")]
    TooMany,
}

/// The file with the tokens of a home.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// That of a home; it need not exist.
    pub fn of(home: &Home) -> Self {
        Self { path: home.wemixvisor().join(FILE_NAME) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens, in the order in which they were made.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn list(&self) -> Result<Vec<Token>, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: self.path.clone(), source };
        // Nothing that may lie there instead, such as a pipe, is waited for.
        let not_waiting = OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(not_waiting).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        if file.metadata().map_err(unreadable)?.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(TokenError::Writable { path: self.path.clone() });
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
        let damaged = |source| TokenError::Damaged { path: self.path.clone(), source };
        Ok(serde_json::from_slice::<File>(&bytes).map_err(damaged)?.tokens)
    }

    /// Makes a token. The answer is the token itself, which is kept nowhere.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn create(&self, name: &str, scope: Scope) -> Result<String, TokenError> {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_plain) {
            return Err(TokenError::BadName(name.chars().take(MAX_NAME).collect()));
        }
        let _alone = self.alone()?;
        let mut tokens = self.list()?;
        if tokens.iter().any(|token| token.name == name) {
            return Err(TokenError::Exists(name.into()));
        }
        if tokens.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let mut bits = [0; 32];
        getrandom(&mut bits, GetRandomFlags::empty()).map_err(|error| TokenError::Random(error.into()))?;
        let token = format!("{PREFIX}{}", hex(&bits));
        tokens.push(Token {
            name: name.into(),
            scope,
            sha256: hex(&Sha256::digest(&token)),
            created: Moment::now(),
        });
        self.write(tokens)?;
        Ok(token)
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let _alone = self.alone()?;
        let mut tokens = self.list()?;
        let before = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == before {
            return Err(TokenError::Unknown(name.chars().take(MAX_NAME).collect()));
        }
        self.write(tokens)
    }

    /// Nobody else changes the file until the answer is dropped.
    fn alone(&self) -> Result<fs::File, TokenError> {
        let path = self.path.with_file_name(LOCK_NAME);
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(&path);
        let locked = open.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| TokenError::Lock { path, source })
    }

    fn write(&self, tokens: Vec<Token>) -> Result<(), TokenError> {
        let mut text = serde_json::to_string_pretty(&File { tokens }).unwrap_or_default();
        text.push('\n');
        Ok(durable::write_atomic(&self.path, text.as_bytes(), FILE_MODE)?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What tells whether a file is the one that was read before.
type Identity = Option<(u64, u64, i64, i64)>;

/// The tokens as they are now.
#[derive(Debug)]
pub(crate) struct Tokens {
    file: TokenFile,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    read: Identity,
    tokens: Arc<[Token]>,
    /// This one could not be read, which was said.
    bad: Identity,
}

impl Tokens {
    pub(crate) fn new(file: TokenFile) -> Self {
        Self { file, known: Mutex::default() }
    }

    /// What a token is good for; `None`: for nothing.
    pub(crate) fn scope(&self, token: &str) -> Option<Scope> {
        let sum = hex(&Sha256::digest(token));
        let mut found = None;
        // All of them are compared, each in the same time, wherever it differs.
        for token in self.now().iter() {
            if bool::from(token.sha256.as_bytes().ct_eq(sum.as_bytes())) {
                found = Some(token.scope);
            }
        }
        found
    }

    fn now(&self) -> Arc<[Token]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = fs::metadata(self.file.path())
            .ok()
            .map(|data| (data.ino(), data.size(), data.ctime(), data.ctime_nsec()));
        if identity.is_none() {
            return Arc::default();
        }
        if known.read != identity {
            match self.file.list() {
                Ok(tokens) => (known.read, known.tokens) = (identity, tokens.into()),
                Err(error) => {
                    // Tried again with every request, and said once.
                    if known.bad != identity {
                        tracing::error!("{}", crate::preparing::said(&error));
                        known.bad = identity;
                    }
                    return Arc::default();
                }
            }
        }
        known.tokens.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, TokenFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile { path: dir.path().join(FILE_NAME) };
        (dir, file)
    }

    #[test]
    fn a_token_is_good_until_it_is_revoked_and_kept_nowhere() {
        let (_dir, file) = file();
        let tokens = Tokens::new(file.clone());
        assert_eq!(tokens.scope("wxv_x"), None);
        let read = file.create("grafana", Scope::Read).unwrap();
        let admin = file.create("me", Scope::Admin).unwrap();
        assert_eq!((tokens.scope(&read), tokens.scope(&admin)), (Some(Scope::Read), Some(Scope::Admin)));
        assert_eq!((tokens.scope(""), tokens.scope(&read[..20])), (None, None));
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(&read[PREFIX.len()..]) && !text.contains(PREFIX), "{text}");
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        file.revoke("grafana").unwrap();
        assert_eq!((tokens.scope(&read), tokens.scope(&admin)), (None, Some(Scope::Admin)));
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // A damaged file need not be durable.
    fn what_makes_no_sense_changes_nothing() {
        let (_dir, file) = file();
        file.create("a", Scope::Read).unwrap();
        for name in ["", "a b", "../x", &"x".repeat(65)] {
            assert!(matches!(file.create(name, Scope::Read), Err(TokenError::BadName(_))), "{name}");
        }
        assert!(matches!(file.create("a", Scope::Admin), Err(TokenError::Exists(_))));
        assert!(matches!(file.revoke("b"), Err(TokenError::Unknown(_))));
        assert_eq!(file.list().unwrap().len(), 1);
        fs::write(file.path(), "{").unwrap();
        assert!(matches!(file.create("c", Scope::Read), Err(TokenError::Damaged { .. })));
        assert_eq!(Tokens::new(file).scope("x"), None);
    }

    #[test]
    fn a_revoked_token_does_not_come_back_with_a_new_one() {
        let (_dir, file) = file();
        for round in 0..20 {
            file.create("old", Scope::Admin).unwrap();
            let other = file.clone();
            let new = format!("new{round}");
            let makes = std::thread::spawn(move || other.create(&new, Scope::Read).unwrap());
            file.revoke("old").unwrap();
            makes.join().unwrap();
            assert!(file.list().unwrap().iter().all(|token| token.name != "old"), "{round}");
        }
        assert_eq!(file.list().unwrap().len(), 20, "none is lost");
        assert_eq!(fs::metadata(file.path().with_file_name(LOCK_NAME)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_write_and_one_that_is_none_are_no_tokens() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_dir, file) = file();
        let token = file.create("a", Scope::Admin).unwrap();
        let tokens = Tokens::new(file.clone());
        for (mode, good) in [(0o640, true), (0o620, false), (0o602, false), (0o600, true)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(tokens.scope(&token).is_some(), good, "{mode:o}");
        }
        fs::remove_file(file.path()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            file.path(),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_bits_truncate(0o600),
            0,
        )
        .unwrap();
        assert_eq!(tokens.scope(&token), None, "a pipe is not waited for");
    }
}
