//! Collects the layers of the settings: finds and reads `config.toml`, takes the environment and the flags
//! as they were given, and lets `core` lay them over each other.
//!
//! The file stands in the supervisor's own directory, which is itself a setting. So the layers are resolved
//! twice: first, without the file, for where it stands; then with it. A file found that way must not move
//! the directory it was found in.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use wemixvisor_core::settings::{Layers, Resolved, SettingError, Settings, TABLE, resolve};

/// The name of the file in the supervisor's own directory.
pub const FILE_NAME: &str = "config.toml";

/// The largest file that is read, in bytes: every setting with a comment fits a hundred times.
pub const MAX_FILE: u64 = 1024 * 1024;

/// What the command line says about settings.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The file to read instead of the usual one (`--config`). It must be there.
    pub config: Option<PathBuf>,
    /// Keys with their values, as flags gave them.
    pub flags: Vec<(String, OsString)>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
    /// The directory in which the program was started: relative homes and files are read from there.
    pub cwd: PathBuf,
}

/// The settings, and the file they were, or would be, read from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings with their origins; the home is absolute.
    pub resolved: Resolved,
    /// Where `config.toml` is looked for.
    pub file: PathBuf,
    /// Whether it was there.
    pub file_found: bool,
    /// Whether it held anything, be it a comment.
    pub has_content: bool,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file given with `--config` is not there.
    #[error("there is no configuration file {}", .0.display())]
    Missing(PathBuf),
    /// The file is there but cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pipe in the file's place: it would be waited for, and can be read only once.
    #[error("the configuration file {} is a pipe, and must be a file: it is read again later", .0.display())]
    Pipe(PathBuf),
    /// The home is there, but is no directory.
    #[error("the home {} is not a directory: set DAEMON_HOME or --home to the one to be used", .0.display())]
    HomeIsNoDirectory(PathBuf),
    /// The file holds more than [`MAX_FILE`].
    #[error("the configuration file {} is larger than {MAX_FILE} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The file is not UTF-8.
    #[error("the configuration file {} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// A variable or a flag of ours is not UTF-8.
    #[error("{0} is not UTF-8 text")]
    ValueNotText(String),
    /// Values that are wrong: all of them.
    #[error("the configuration is not valid:{}", lines(.0))]
    Invalid(Vec<SettingError>),
    /// The file moves the directory in which it was found.
    #[error(
        "{} moves the supervisor's own directory to {}, where another {FILE_NAME} would be read: set home and \
         wemixvisor_dir in the environment or by flags, or name the file with --config",
        file.display(),
        own_dir.display()
    )]
    Moved {
        /// The file.
        file: PathBuf,
        /// The directory it names.
        own_dir: PathBuf,
    },
}

fn lines(errors: &[SettingError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

/// Reads `config.toml`, where there is one, and resolves all settings.
///
/// # Errors
/// Anything that leaves a doubt about what is meant; nothing is replaced by a default.
pub fn load(given: &Given) -> Result<Loaded, LoadError> {
    load_with(given, None)
}

/// The same; with a text, as if the file held that.
///
/// # Errors
/// As [`load`].
pub fn load_with(given: &Given, text: Option<String>) -> Result<Loaded, LoadError> {
    let mut layers = Layers { file: None, env: environment(given)?, flags: flags(given)? };
    let usual_dir = match &given.config {
        Some(_) => None,
        None => {
            let roots = roots_of(&layers, &given.cwd)?;
            if fs::metadata(&roots.home).is_ok_and(|found| !found.is_dir()) {
                return Err(LoadError::HomeIsNoDirectory(roots.home));
            }
            Some(roots.own_dir())
        }
    };
    let file = match (&given.config, &usual_dir) {
        (Some(config), _) => given.cwd.join(config),
        (None, dir) => dir.clone().unwrap_or_default().join(FILE_NAME),
    };
    let text = match text {
        Some(text) if text.len() as u64 > MAX_FILE => return Err(LoadError::TooLarge(file)),
        Some(text) => Some(text),
        None => read(&file)?,
    };
    let file_found = text.is_some();
    let has_content = text.as_ref().is_some_and(|text| !text.trim().is_empty());
    if !file_found && given.config.is_some() {
        return Err(LoadError::Missing(file));
    }
    layers.file = text.map(|text| (file.display().to_string(), text));

    let mut resolved = resolve(&layers).map_err(LoadError::Invalid)?;
    resolved.settings.home = absolute(&given.cwd, &resolved.settings.home);
    let own_dir = resolved.settings.own_dir();
    match usual_dir {
        Some(usual) if usual != own_dir => Err(LoadError::Moved { file, own_dir }),
        _ => Ok(Loaded { resolved, file, file_found, has_content }),
    }
}

/// The settings as far as environment and flags tell: enough to find a running supervisor when the file cannot be
/// used.
///
/// # Errors
/// A flag or a variable that is not valid.
pub fn without_file(given: &Given) -> Result<Settings, LoadError> {
    let layers = Layers { file: None, env: environment(given)?, flags: flags(given)? };
    let mut settings = resolve(&layers).map_err(LoadError::Invalid)?.settings;
    settings.home = absolute(&given.cwd, &settings.home);
    Ok(settings)
}

fn roots_of(layers: &Layers, cwd: &Path) -> Result<Settings, LoadError> {
    let roots = ["home", "wemixvisor_dir", "data_dir", "name"];
    let is_root = |key: &str| roots.contains(&key);
    let of_root = |name: &str| {
        name == "HOME" || TABLE.iter().any(|setting| setting.env == name && is_root(setting.key))
    };
    let alone = Layers {
        file: None,
        env: layers.env.iter().filter(|(name, _)| of_root(name)).cloned().collect(),
        flags: layers.flags.iter().filter(|(key, _)| is_root(key)).cloned().collect(),
    };
    let mut settings = resolve(&alone).map_err(LoadError::Invalid)?.settings;
    settings.home = absolute(cwd, &settings.home);
    Ok(settings)
}

/// The environment as text. Variables of others may be anything.
fn environment(given: &Given) -> Result<Vec<(String, String)>, LoadError> {
    let mut found = Vec::new();
    for (name, value) in &given.env {
        let Some(name) = name.to_str() else { continue };
        match value.to_str() {
            Some(value) => found.push((name.to_owned(), value.to_owned())),
            None if name == "HOME" || TABLE.iter().any(|setting| setting.env == name) => {
                return Err(LoadError::ValueNotText(format!("the environment variable {name}")));
            }
            None => {}
        }
    }
    Ok(found)
}

fn flags(given: &Given) -> Result<Vec<(String, String)>, LoadError> {
    let text = |(key, value): &(String, OsString)| match value.to_str() {
        Some(value) => Ok((key.clone(), value.to_owned())),
        None => Err(LoadError::ValueNotText(format!("the value given for {key}"))),
    };
    given.flags.iter().map(text).collect()
}

/// The text of the file; `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.into(), source };
    // A pipe without a writer is not waited for.
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(no_wait).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if file.metadata().map_err(unreadable)?.file_type().is_fifo() {
        return Err(LoadError::Pipe(path.into()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(LoadError::TooLarge(path.into()));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| LoadError::NotText(path.into()))
}

/// `path` read from `cwd`, without `.` and `..`. Links stay as they are, but for those before a `..`, which decide
/// where it leads; where that cannot be told, it stays.
fn absolute(cwd: &Path, path: &Path) -> PathBuf {
    let whole = cwd.join(path);
    let parts: Vec<Component<'_>> = whole.components().collect();
    let Some(last_up) = parts.iter().rposition(|part| *part == Component::ParentDir) else {
        return parts.iter().collect();
    };
    let (up, below) = parts.split_at(last_up + 1);
    let up: PathBuf = up.iter().collect();
    up.canonicalize().unwrap_or(up).join(below.iter().collect::<PathBuf>())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Files of a test need not be durable.
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use wemixvisor_core::settings::Origin;

    use super::*;

    /// A directory that is the cwd, with a home `h` in it.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("h/wemixvisor")).unwrap();
            Self(dir)
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
            fs::write(self.path(path), content).unwrap();
            self
        }

        fn given(&self, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Given {
            Given {
                config: None,
                flags: flags.iter().map(|(key, value)| ((*key).into(), value.into())).collect(),
                env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
                cwd: self.0.path().into(),
            }
        }

        fn refusal(&self, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
            load(&self.given(env, flags)).unwrap_err().to_string()
        }
    }

    const CONFIG: &str = "h/wemixvisor/config.toml";

    #[test]
    fn the_file_in_the_home_is_read() {
        let place = Place::new().with(CONFIG, "name = 'gwemix'");
        for given in [place.given(&[], &[("home", "h")]), place.given(&[("DAEMON_HOME", "./h/")], &[])] {
            let loaded = load(&given).unwrap();
            let settings = &loaded.resolved.settings;
            assert_eq!((settings.home.as_path(), settings.name.as_str()), (&*place.path("h"), "gwemix"));
            assert_eq!((loaded.file.as_path(), loaded.file_found), (&*place.path(CONFIG), true));
            let name = place.path(CONFIG).display().to_string();
            assert_eq!(loaded.resolved.origin("name"), Origin::File { name, line: 1 });
        }
    }

    #[test]
    fn a_comment_is_content_and_blanks_are_none() {
        for (text, has_content) in [("# mine\n", true), (" \n", false), ("", false)] {
            let place = Place::new().with(CONFIG, text);
            let loaded = load(&place.given(&[], &[("home", "h")])).unwrap();
            assert_eq!((loaded.file_found, loaded.has_content), (true, has_content), "{text:?}");
        }
    }

    #[test]
    fn a_home_with_dots_is_the_same_place_as_without() {
        let place = Place::new();
        fs::create_dir(place.path("q")).unwrap();
        std::os::unix::fs::symlink(place.path("q"), place.path("link")).unwrap();
        let real = place.0.path().canonicalize().unwrap();
        for (given, home) in [
            ("q/../h", real.join("h")),
            ("link/../new/", real.join("new")),
            ("./h/.", place.path("h")),
            ("link", place.path("link")),
            ("gone/../h", place.path("gone/../h")),
        ] {
            assert_eq!(absolute(place.0.path(), Path::new(given)), home, "{given}");
        }
        let loaded = load(&place.given(&[], &[("home", "q/../h"), ("data_dir", "data")])).unwrap();
        let data = real.join("h/data").display().to_string();
        assert_eq!(loaded.resolved.settings.other_data_dir(&["--datadir", &data]), None);
    }

    #[test]
    fn without_a_file_the_other_layers_hold() {
        let place = Place::new();
        let loaded = load(&place.given(&[("HOME", "/nobody")], &[])).unwrap();
        assert_eq!(loaded.file, Path::new("/nobody/.wemixd/wemixvisor/config.toml"));
        assert!(!loaded.file_found && !loaded.has_content);
        let apart = place.given(&[("DAEMON_HOME", "/h"), ("DAEMON_WEMIXVISOR_DIR", "/v")], &[]);
        assert_eq!(load(&apart).unwrap().file, Path::new("/v/config.toml"));
    }

    #[test]
    fn a_file_that_is_named_must_be_there_and_may_set_the_home() {
        let place = Place::new().with("c.toml", "home = '/other'");
        let mut given = place.given(&[], &[]);
        given.config = Some("c.toml".into());
        assert_eq!(load(&given).unwrap().resolved.settings.home, Path::new("/other"));
        given.config = Some("d.toml".into());
        let said = load(&given).unwrap_err().to_string();
        assert_eq!(said, format!("there is no configuration file {}", place.path("d.toml").display()));
    }

    #[test]
    fn the_file_in_the_home_must_not_name_another_home() {
        let place = Place::new();
        fs::create_dir_all(place.path(".wemixd/wemixvisor")).unwrap();
        let place = place.with(".wemixd/wemixvisor/config.toml", "home = '/other'");
        let user_home = place.path("").display().to_string();
        let said = place.refusal(&[("HOME", &user_home)], &[]);
        assert!(said.contains("moves the supervisor's own directory to /other/wemixvisor,"), "{said}");
        let env_first = place.given(&[("HOME", &user_home), ("DAEMON_HOME", "~/.wemixd")], &[]);
        load(&env_first).unwrap();
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let place = Place::new().with(CONFIG, "nme = 1\n[node]\nkill = 'x'\n");
        let said = place.refusal(&[("DAEMON_DEBUG", "x")], &[("home", "h"), ("network", "moon")]);
        assert!(said.starts_with("the configuration is not valid:\n  "), "{said}");
        for part in
            ["line 1: there is no setting \"nme\"", "line 3: node.kill", "DAEMON_DEBUG", "flag: network"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        let homeless = place.refusal(&[], &[]);
        assert!(homeless.contains("HOME is not set"), "{homeless}");
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_missing() {
        let flags = [("home", "h")];
        let place = Place::new();
        fs::create_dir(place.path(CONFIG)).unwrap();
        let error = load(&place.given(&[], &flags)).unwrap_err();
        assert!(matches!(error, LoadError::Unreadable { .. }), "{error}");
        let below_a_file = load(&Place::new().with("f", "").given(&[], &[("home", "f")])).unwrap_err();
        assert!(matches!(below_a_file, LoadError::HomeIsNoDirectory(_)), "{below_a_file}");
        let place = Place::new();
        rustix::fs::mkfifoat(rustix::fs::CWD, place.path(CONFIG), 0o600.into()).unwrap();
        let error = load(&place.given(&[], &flags)).unwrap_err();
        assert!(matches!(error, LoadError::Pipe(_)), "{error}");
        let said = Place::new().with(CONFIG, b"name = '\xff'").refusal(&[], &flags);
        assert!(said.ends_with("is not UTF-8 text"), "{said}");
        let said = Place::new().with(CONFIG, " ".repeat(MAX_FILE as usize + 1)).refusal(&[], &flags);
        assert!(said.contains("is larger than"), "{said}");
        load(&Place::new().with(CONFIG, " ".repeat(MAX_FILE as usize)).given(&[], &flags)).unwrap();
    }

    #[test]
    fn values_that_are_no_text_are_refused_where_they_matter() {
        let place = Place::new();
        let raw = || OsString::from_vec(vec![0xff]);
        let mut given = place.given(&[], &[("home", "h")]);
        given.env = vec![("OTHER".into(), raw()), (raw(), "x".into())];
        load(&given).unwrap();
        given.env.push(("DAEMON_NAME".into(), raw()));
        assert_eq!(
            load(&given).unwrap_err().to_string(),
            "the environment variable DAEMON_NAME is not UTF-8 text"
        );
        given.env.pop();
        given.flags.push(("name".into(), raw()));
        assert_eq!(load(&given).unwrap_err().to_string(), "the value given for name is not UTF-8 text");
    }
}
