//! The home directory: where everything of one supervised node lies (PRODUCT.md section 2).
//!
//! Three roots can be set apart: the home itself, the node's data directory and the `wemixvisor` directory.
//! Every other path follows from them, from the program's name and from the names of upgrades. Inside the
//! `wemixvisor` directory links are relative, so that the tree can be moved.

use std::io;
use std::path::{Path, PathBuf};

use wemixvisor_core::plan::PlanName;
use wemixvisor_core::target::Target;

use crate::digest::Digest;
use crate::durable::{self, DurableError};
use crate::link::{self, LinkError};
use crate::program::{self, ProgramError};

/// The permission bits of an installed program.
pub const PROGRAM_MODE: u32 = 0o755;

/// The roots of one supervised node and the file name of its program. Absolute paths, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    wemixvisor: PathBuf,
    data: PathBuf,
    name: String,
}

/// A step of an upgrade at which the operator's own program can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the node is stopped: drain it.
    PreStop,
    /// After the stop, before the switch.
    PreUpgrade,
    /// After the new program has proven itself.
    PostUpgrade,
}

/// What `init` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// Nothing was to be done: the home has this program already.
    pub already_initialised: bool,
    /// Where the program lies.
    pub program: PathBuf,
    /// Its sum.
    pub sha256: Digest,
    /// The directories that were made, outermost first.
    pub made: Vec<PathBuf>,
    /// What `current` points to.
    pub current: Target,
}

/// A home that cannot be laid out or used as asked.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The program's name is not a plain file name.
    #[error("the program's name {0:?} is not a file name: one word without '/', and neither '.' nor '..'")]
    BadProgramName(String),
    /// A root that cannot be made absolute.
    #[error("{what} {path:?} cannot be used as a directory")]
    BadRoot {
        /// Which root.
        what: &'static str,
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The home was initialised with another program.
    #[error(
        "this home has another first program already: {} ({found}); the given {} is {given}. Nothing was \
         changed. A new version goes into upgrades/<name>/bin; to begin anew choose another home",
        path.display(), binary.display()
    )]
    OtherGenesis {
        /// The program that is there.
        path: PathBuf,
        /// Its sum.
        found: Digest,
        /// The program that was given.
        binary: PathBuf,
        /// Its sum.
        given: Digest,
    },
    /// The home has no first program, yet `current` points somewhere.
    #[error(
        "{} points to {current} already, but there is no {}. Nothing was changed. A home that runs an upgrade \
         needs no init; to begin anew choose another home",
        link.display(), program.display()
    )]
    CurrentWithoutGenesis {
        /// The link.
        link: PathBuf,
        /// What it points to.
        current: Target,
        /// The first program that is missing.
        program: PathBuf,
    },
    /// A supervisor has run here and `current` is gone: init would quietly go back to the first program.
    #[error(
        "{} is gone, though this home has been in use ({} exists). Nothing was changed. Say what ran last: \
         ln -s upgrades/<name> {} (or genesis)",
        link.display(), state.display(), link.display()
    )]
    CurrentLost {
        /// The link.
        link: PathBuf,
        /// The file that shows that the home was in use.
        state: PathBuf,
    },
    /// The given file is not a program for this machine.
    #[error("{} was not installed", .0.path().display())]
    Program(#[from] ProgramError),
    /// `current` is there but is not the link it must be.
    #[error("this home cannot be initialised")]
    Link(#[from] LinkError),
    /// A file or directory could not be made.
    #[error("the home is not laid out completely; the same command again carries on")]
    Durable(#[from] DurableError),
    /// The first program that is there cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Home {
    /// A home from its roots; `wemixvisor` and `data` default to the directories of these names in `root`.
    /// Relative paths are taken from the working directory, now. Nothing is touched.
    ///
    /// # Errors
    /// [`HomeError::BadProgramName`], [`HomeError::BadRoot`].
    pub fn new(
        root: &Path,
        wemixvisor: Option<&Path>,
        data: Option<&Path>,
        name: &str,
    ) -> Result<Self, HomeError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(HomeError::BadProgramName(name.into()));
        }
        let absolute = |what, path: &Path| {
            std::path::absolute(path).map_err(|source| HomeError::BadRoot { what, path: path.into(), source })
        };
        let root = absolute("the home", root)?;
        Ok(Self {
            wemixvisor: absolute("the wemixvisor directory", wemixvisor.unwrap_or(&root.join("wemixvisor")))?,
            data: absolute("the data directory", data.unwrap_or(&root.join("data")))?,
            root,
            name: name.into(),
        })
    }

    /// The home itself: the node's working directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that holds everything of the supervisor.
    pub fn wemixvisor(&self) -> &Path {
        &self.wemixvisor
    }

    /// The node's data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The file name of the program, the same for every version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings file; optional.
    pub fn config(&self) -> PathBuf {
        self.wemixvisor.join("config.toml")
    }

    /// The link that says which program runs.
    pub fn current(&self) -> PathBuf {
        self.wemixvisor.join("current")
    }

    /// The directory of the installed upgrades.
    pub fn upgrades(&self) -> PathBuf {
        self.wemixvisor.join("upgrades")
    }

    /// The directory of one installed program: `genesis` or `upgrades/<name>`.
    pub fn directory(&self, target: &Target) -> PathBuf {
        self.wemixvisor.join(link::relative(target))
    }

    /// The program file of one installed program.
    pub fn program(&self, target: &Target) -> PathBuf {
        self.directory(target).join("bin").join(&self.name)
    }

    /// The operator's own program for one step of one upgrade; optional.
    pub fn hook(&self, upgrade: &PlanName, hook: Hook) -> PathBuf {
        self.upgrades().join(upgrade.as_str()).join(match hook {
            Hook::PreStop => "pre-stop",
            Hook::PreUpgrade => "pre-upgrade",
            Hook::PostUpgrade => "post-upgrade",
        })
    }

    /// The database of journal, history and events.
    pub fn state(&self) -> PathBuf {
        self.wemixvisor.join("state.db")
    }

    /// The file whose lock says that a supervisor or keeper is at work here.
    pub fn lock(&self) -> PathBuf {
        self.wemixvisor.join("wemixvisor.lock")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.wemixvisor.join("wemixvisor.sock")
    }

    /// The supervisor's process id, for people and scripts.
    pub fn pid(&self) -> PathBuf {
        self.wemixvisor.join("wemixvisor.pid")
    }

    /// The directory of the log files.
    pub fn logs(&self) -> PathBuf {
        self.wemixvisor.join("logs")
    }

    /// The plan file: the single truth about what is scheduled.
    pub fn plan_file(&self) -> PathBuf {
        self.data.join("upgrade-info.json")
    }

    /// Lays out the home: makes the directories, checks the program and copies it to `genesis/bin`, makes
    /// `current` point to it. Interrupted at any moment, it can be called again. A home in use is never
    /// changed: the same program again is fine, another one is refused.
    ///
    /// # Errors
    /// [`HomeError`]; each variant says what is there and what to do.
    pub fn init(&self, binary: &Path) -> Result<InitReport, HomeError> {
        let given = program::inspect(binary)?;
        let current = match link::current(self) {
            Ok(target) => Some(target),
            Err(LinkError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let installed = self.program(&Target::Genesis);
        let found = self.first_program(&installed)?;
        match (&current, found) {
            (_, Some(found)) if found != given.sha256 => {
                let (binary, given) = (binary.into(), given.sha256);
                return Err(HomeError::OtherGenesis { path: installed, found, binary, given });
            }
            (Some(current), None) => {
                let (link, current) = (self.current(), current.clone());
                return Err(HomeError::CurrentWithoutGenesis { link, current, program: installed });
            }
            (None, _) if self.state().exists() && (found.is_some() || self.has_upgrades()) => {
                return Err(HomeError::CurrentLost { link: self.current(), state: self.state() });
            }
            _ => {}
        }
        let already_initialised = current.is_some();
        let made = self.make_directories()?;
        if found.is_none() {
            durable::copy_atomic(binary, &installed, PROGRAM_MODE)?;
        }
        if current.is_none() {
            link::switch(self, &Target::Genesis)?;
        }
        Ok(InitReport {
            already_initialised,
            program: installed,
            sha256: given.sha256,
            made,
            current: current.unwrap_or(Target::Genesis),
        })
    }

    fn first_program(&self, path: &Path) -> Result<Option<Digest>, HomeError> {
        match Digest::of_file(path) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Unreadable { path: path.into(), source }),
        }
    }

    fn has_upgrades(&self) -> bool {
        link::programs(self).is_ok_and(|names| !names.is_empty())
    }

    fn make_directories(&self) -> Result<Vec<PathBuf>, DurableError> {
        let mut made = Vec::new();
        let first = self.directory(&Target::Genesis).join("bin");
        for dir in [first, self.upgrades(), self.logs(), self.data.clone()] {
            made.append(&mut durable::create_dirs(&dir)?);
        }
        for dir in [&self.wemixvisor, &self.directory(&Target::Genesis).join("bin")] {
            durable::remove_stale(dir)?;
        }
        Ok(made)
    }
}

/// Whether two names lead to the same place.
pub fn same_place(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files will do for what a test lays out.
mod tests {
    use super::*;
    use std::fs;

    const PROGRAM: &[u8] = b"#!/bin/sh\nexit 0\n";

    fn home(dir: &tempfile::TempDir) -> Home {
        Home::new(&dir.path().join("home"), None, None, "gwemix").unwrap()
    }

    fn binary(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.path().join(name);
        durable::write_atomic(&path, content, 0o755).unwrap();
        path
    }

    #[test]
    fn init_lays_out_the_home_and_is_repeatable() {
        let dir = tempfile::tempdir().unwrap();
        let (home, program) = (home(&dir), binary(&dir, "node", PROGRAM));
        let report = home.init(&program).unwrap();
        assert!(!report.already_initialised);
        assert_eq!(report.sha256, Digest::of_bytes(PROGRAM));
        assert_eq!(fs::read(dir.path().join("home/wemixvisor/genesis/bin/gwemix")).unwrap(), PROGRAM);
        assert_eq!(fs::read_link(home.current()).unwrap(), Path::new("genesis"));
        let again = home.init(&program).unwrap();
        assert!(again.already_initialised && again.made.is_empty());
    }

    #[test]
    fn init_carries_on_where_it_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let (home, program) = (home(&dir), binary(&dir, "node", PROGRAM));
        home.init(&program).unwrap();
        fs::remove_file(home.current()).unwrap();
        assert!(!home.init(&program).unwrap().already_initialised);
        assert_eq!(link::current(&home).unwrap(), Target::Genesis);
    }

    #[test]
    fn init_never_changes_a_home_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let (home, program) = (home(&dir), binary(&dir, "node", PROGRAM));
        home.init(&program).unwrap();
        let other = binary(&dir, "other", b"#!/bin/sh\nexit 1\n");
        assert!(matches!(home.init(&other), Err(HomeError::OtherGenesis { .. })));

        fs::write(home.state(), "x").unwrap();
        fs::remove_file(home.current()).unwrap();
        assert!(matches!(home.init(&program), Err(HomeError::CurrentLost { .. })));
        assert!(!home.current().exists());

        let v2: Target = Target::Upgrade("v2".parse().unwrap());
        durable::create_dirs(&home.directory(&v2).join("bin")).unwrap();
        fs::write(home.program(&v2), PROGRAM).unwrap();
        link::switch(&home, &v2).unwrap();
        assert_eq!(home.init(&program).unwrap().current, v2);
        fs::remove_file(home.program(&Target::Genesis)).unwrap();
        assert!(matches!(home.init(&program), Err(HomeError::CurrentWithoutGenesis { .. })));
    }

    #[test]
    fn what_is_not_a_program_is_not_installed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, page) = (home(&dir), binary(&dir, "node", b"<!DOCTYPE html><html></html>"));
        assert!(matches!(home.init(&page), Err(HomeError::Program(_))));
        assert!(!home.wemixvisor().exists());
    }

    #[test]
    fn roots_can_be_apart_and_names_must_be_file_names() {
        let home = Home::new(Path::new("/h"), Some(Path::new("/w")), Some(Path::new("/d")), "geth").unwrap();
        assert_eq!(home.plan_file(), Path::new("/d/upgrade-info.json"));
        assert_eq!(home.program(&Target::Genesis), Path::new("/w/genesis/bin/geth"));
        assert_eq!(
            home.hook(&"v2.0.0".parse().unwrap(), Hook::PreUpgrade),
            Path::new("/w/upgrades/v2.0.0/pre-upgrade")
        );
        assert!(Home::new(Path::new("rel"), None, None, "geth").unwrap().root().is_absolute());
        for bad in ["", ".", "..", "a/b", "/x"] {
            assert!(matches!(Home::new(Path::new("/h"), None, None, bad), Err(HomeError::BadProgramName(_))));
        }
    }
}
