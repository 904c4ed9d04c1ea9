//! The link `current`: which program runs. A relative symbolic link to `genesis` or `upgrades/<name>`, only
//! ever replaced as a whole by `rename(2)`, so that no reader finds it absent.
//!
//! Whatever else lies in its place is an error that says what it is. Nothing is guessed and nothing is
//! deleted: the first program must never run by accident.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use wemixvisor_core::plan::PlanName;
pub use wemixvisor_core::target::Target;

use crate::durable::{self, DurableError};
use crate::home::Home;

/// A `current` that does not say which program runs, or could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is nothing.
    #[error("there is no {}: the home is not initialised, or the link was lost", link.display())]
    Missing {
        /// The link.
        link: PathBuf,
    },
    /// It points to a directory that is not there.
    #[error("{} points to {}, which does not exist", link.display(), to.display())]
    Dangling {
        /// The link.
        link: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// It points to a file.
    #[error("{} points to {}, which is not a directory", link.display(), to.display())]
    NotToADirectory {
        /// The link.
        link: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// A plain directory lies in its place.
    #[error(
        "{} is a directory, not a link; it was left alone. Move it to upgrades/<name> and link to that",
        link.display()
    )]
    Directory {
        /// The path of the link.
        link: PathBuf,
    },
    /// A file lies in its place.
    #[error("{} is a file, not a link; it was left alone. Move it away and make the link", link.display())]
    File {
        /// The path of the link.
        link: PathBuf,
    },
    /// It points to an absolute path, which breaks when the home is moved.
    #[error(
        "{} points to the absolute path {}; it must be relative: genesis or upgrades/<name>",
        link.display(), to.display()
    )]
    Absolute {
        /// The link.
        link: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// It points to something that is no installed program's directory.
    #[error("{} points to {}, which is neither genesis nor upgrades/<name>", link.display(), to.display())]
    Elsewhere {
        /// The link.
        link: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
    /// The program to switch to is not installed.
    #[error("cannot switch to {target}: there is no {}; the link is unchanged", program.display())]
    NotInstalled {
        /// What was to run.
        target: Target,
        /// Its program file.
        program: PathBuf,
    },
    /// The program is gone, or not there under this name.
    #[error("there is no program at {}", program.display())]
    NoProgram {
        /// Its program file.
        program: PathBuf,
    },
    /// The link, a program or the directory of the upgrades cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The link could not be replaced.
    #[error("cannot switch to {target}")]
    NotSwitched {
        /// What was to run.
        target: Target,
        /// What failed, and what is there now.
        source: DurableError,
    },
}

/// What `current` points to.
///
/// # Errors
/// Everything but a relative link to an existing `genesis` or `upgrades/<name>`.
pub fn current(home: &Home) -> Result<Target, LinkError> {
    let link = home.current();
    let Some(to) = read(&link)? else { return Err(LinkError::Missing { link }) };
    if to.is_absolute() {
        return Err(LinkError::Absolute { link, to });
    }
    let Some(target) = parse(&to) else { return Err(LinkError::Elsewhere { link, to }) };
    match fs::metadata(home.directory(&target)) {
        Ok(data) if data.is_dir() => Ok(target),
        Ok(_) => Err(LinkError::NotToADirectory { link, to }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LinkError::Dangling { link, to }),
        Err(source) => Err(LinkError::Unreadable { path: home.directory(&target), source }),
    }
}

/// The program file of a target, which is there.
///
/// # Errors
/// [`LinkError::NoProgram`], also where something else than a file is in its place; [`LinkError::Unreadable`].
pub fn program(home: &Home, target: &Target) -> Result<PathBuf, LinkError> {
    let program = home.program(target);
    match fs::metadata(&program) {
        Ok(data) if data.is_file() => Ok(program),
        Err(source) if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(LinkError::Unreadable { path: program, source })
        }
        _ => Err(LinkError::NoProgram { program }),
    }
}

/// Makes `current` point to an installed program, durably. To the same again is fine.
///
/// # Errors
/// As [`switch_unforced`].
pub fn switch(home: &Home, target: &Target) -> Result<(), LinkError> {
    switch_unforced(home, target)?;
    force(home).map_err(|source| LinkError::NotSwitched { target: target.clone(), source })
}

/// Forces the last [`switch_unforced`] to the disk.
///
/// # Errors
/// [`DurableError::NotForced`].
pub fn force(home: &Home) -> Result<(), DurableError> {
    durable::force(&home.current())
}

/// Makes `current` point to an installed program: at once for every process, but until [`force`] a power failure
/// may bring the old link back. To the same again is fine.
///
/// # Errors
/// [`LinkError::NotInstalled`], or a directory or file in the place of the link, which stays; or
/// [`LinkError::NotSwitched`].
pub fn switch_unforced(home: &Home, target: &Target) -> Result<(), LinkError> {
    let program = home.program(target);
    if !program.is_file() {
        return Err(LinkError::NotInstalled { target: target.clone(), program });
    }
    let link = home.current();
    read(&link)?;
    durable::replace_link(&link, &relative(target))
        .map_err(|source| LinkError::NotSwitched { target: target.clone(), source })
}

/// The installed upgrades in the order of their names: directories with a valid name that hold a program.
///
/// # Errors
/// [`LinkError::Unreadable`]. A home without the directory has none.
pub fn programs(home: &Home) -> Result<Vec<PlanName>, LinkError> {
    let path = home.upgrades();
    let unreadable = |source| LinkError::Unreadable { path: path.clone(), source };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let name: Option<PlanName> = name.to_str().and_then(|name| name.parse().ok());
        names.extend(name.filter(|name| home.program(&Target::Upgrade(name.clone())).is_file()));
    }
    names.sort();
    Ok(names)
}

/// What the link holds for a target.
pub(crate) fn relative(target: &Target) -> PathBuf {
    match target {
        Target::Genesis => "genesis".into(),
        Target::Upgrade(name) => Path::new("upgrades").join(name.as_str()),
    }
}

/// Where the link points; `None` when there is nothing in its place.
fn read(link: &Path) -> Result<Option<PathBuf>, LinkError> {
    match fs::read_link(link) {
        Ok(to) => Ok(Some(to)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // EINVAL: there is something, but not a link.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => match link.is_dir() {
            true => Err(LinkError::Directory { link: link.into() }),
            false => Err(LinkError::File { link: link.into() }),
        },
        Err(source) => Err(LinkError::Unreadable { path: link.into(), source }),
    }
}

fn parse(to: &Path) -> Option<Target> {
    let mut parts = to.components().filter(|part| *part != Component::CurDir);
    let mut next = || match parts.next() {
        Some(Component::Normal(part)) => part.to_str().map(Some),
        Some(_) => None,
        None => Some(None),
    };
    match (next()?, next()?, next()?) {
        (Some("genesis"), None, None) => Some(Target::Genesis),
        (Some("upgrades"), Some(name), None) => name.parse().ok().map(Target::Upgrade),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Plain files will do for what a test lays out.
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    fn home(dir: &tempfile::TempDir) -> Home {
        let home = Home::new(dir.path(), None, None, "node").unwrap();
        for target in [Target::Genesis, v2()] {
            durable::create_dirs(&home.directory(&target).join("bin")).unwrap();
            fs::write(home.program(&target), "x").unwrap();
        }
        home
    }

    fn v2() -> Target {
        Target::Upgrade("v2.0.0".parse().unwrap())
    }

    #[test]
    fn what_is_switched_to_is_current() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        for target in [Target::Genesis, v2(), v2(), Target::Genesis] {
            switch(&home, &target).unwrap();
            assert_eq!(current(&home).unwrap(), target);
        }
        assert_eq!(programs(&home).unwrap(), ["v2.0.0".parse().unwrap()]);
    }

    #[test]
    fn every_wrong_link_has_its_own_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let link = home.current();
        type Expected = fn(&LinkError) -> bool;
        let cases: [(&str, Expected); 10] = [
            ("upgrades/v3", |e| matches!(e, LinkError::Dangling { .. })),
            ("genesis/bin/node", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("upgrades", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("..", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("../other/genesis", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("upgrades/../genesis", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("upgrades/.x", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("current", |e| matches!(e, LinkError::Elsewhere { .. })),
            ("/somewhere/genesis", |e| matches!(e, LinkError::Absolute { .. })),
            ("upgrades/file", |e| matches!(e, LinkError::NotToADirectory { .. })),
        ];
        fs::write(home.upgrades().join("file"), "").unwrap();
        assert!(matches!(current(&home), Err(LinkError::Missing { .. })));
        for (to, expected) in cases {
            symlink(to, &link).unwrap();
            let error = current(&home).unwrap_err();
            assert!(expected(&error), "{to}: {error}");
            assert!(error.to_string().contains("current"), "{error}");
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(to));
            fs::remove_file(&link).unwrap();
        }
        fs::write(&link, "precious").unwrap();
        assert!(matches!(current(&home), Err(LinkError::File { .. })));
        assert!(matches!(switch(&home, &v2()), Err(LinkError::File { .. })));
        assert_eq!(fs::read(&link).unwrap(), b"precious");
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        fs::write(link.join("precious"), "").unwrap();
        assert!(matches!(current(&home), Err(LinkError::Directory { .. })));
        assert!(matches!(switch(&home, &v2()), Err(LinkError::Directory { .. })));
        assert!(link.join("precious").exists());
    }

    #[test]
    fn what_cannot_be_read_is_named_and_nothing_is_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        let unreadable = |error: LinkError, at: &Path| {
            assert!(matches!(&error, LinkError::Unreadable { path, .. } if path == at), "{error}");
        };
        // A directory that leads to itself.
        symlink("v3", home.upgrades().join("v3")).unwrap();
        symlink("upgrades/v3", home.current()).unwrap();
        unreadable(current(&home).unwrap_err(), &home.upgrades().join("v3"));
        fs::remove_dir_all(home.upgrades()).unwrap();
        assert!(programs(&home).unwrap().is_empty());
        fs::write(home.upgrades(), "").unwrap();
        unreadable(programs(&home).unwrap_err(), &home.upgrades());
        fs::remove_dir_all(home.wemixvisor()).unwrap();
        fs::write(home.wemixvisor(), "").unwrap();
        unreadable(current(&home).unwrap_err(), &home.current());
    }

    #[test]
    fn a_program_that_is_gone_is_told_while_the_link_still_leads_to_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        switch(&home, &v2()).unwrap();
        let file = home.program(&v2());
        assert_eq!(program(&home, &v2()).unwrap(), file);
        let gone = |error: LinkError| {
            assert!(matches!(&error, LinkError::NoProgram { program } if *program == file), "{error}");
        };
        fs::remove_file(&file).unwrap();
        gone(program(&home, &v2()).unwrap_err());
        fs::create_dir(&file).unwrap();
        gone(program(&home, &v2()).unwrap_err());
        fs::remove_dir_all(home.directory(&v2()).join("bin")).unwrap();
        gone(program(&home, &v2()).unwrap_err());
        fs::write(home.directory(&v2()).join("bin"), "").unwrap();
        gone(program(&home, &v2()).unwrap_err());
        assert_eq!(current(&home).unwrap(), v2());
        let renamed = Home::new(dir.path(), None, None, "gwemix").unwrap();
        let error = program(&renamed, &Target::Genesis).unwrap_err().to_string();
        assert!(error.ends_with("genesis/bin/gwemix"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_installed_is_not_switched_to() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(&dir);
        switch(&home, &v2()).unwrap();
        let v3 = Target::Upgrade("v3".parse().unwrap());
        assert!(matches!(switch(&home, &v3), Err(LinkError::NotInstalled { .. })));
        assert_eq!(current(&home).unwrap(), v2());
    }

    #[test]
    fn a_moved_home_still_points_to_its_program() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::new(&dir.path().join("a"), None, None, "node").unwrap();
        durable::create_dirs(&first.directory(&v2()).join("bin")).unwrap();
        fs::write(first.program(&v2()), "x").unwrap();
        switch(&first, &v2()).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let moved = Home::new(&dir.path().join("b"), None, None, "node").unwrap();
        assert_eq!(current(&moved).unwrap(), v2());
    }

    proptest! {
        #[test]
        fn every_target_reads_back_from_its_link(name in "[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,127}") {
            let target = Target::Upgrade(name.parse().unwrap());
            prop_assert_eq!(parse(&relative(&target)), Some(target));
        }

        #[test]
        fn no_link_text_leads_outside(text in "[a-z./]{0,20}") {
            if let Some(target) = parse(Path::new(&text)) {
                let normal: PathBuf = Path::new(&text).components().filter(|c| *c != Component::CurDir).collect();
                prop_assert_eq!(normal, relative(&target));
            }
        }
    }
}
