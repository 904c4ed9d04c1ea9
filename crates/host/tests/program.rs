//! Program files of every bad kind (SCENARIOS.md D25), on a real disk and as real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::ffi::OsString;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wemixvisor_host::digest::Digest;
use wemixvisor_host::program::{ProgramError, ProgramKind, VERSION_LIMIT, VERSION_OUTPUT, inspect, version};

fn file(dir: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join("gwemix");
    let _ = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn own() -> Vec<u8> {
    fs::read("/proc/self/exe").unwrap()
}

#[test]
fn good_programs_are_recognised() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &own(), 0o755);
    let program = inspect(&path).unwrap();
    assert!(matches!(program.kind, ProgramKind::Elf { .. }));
    assert_eq!(program.sha256, Digest::of_bytes(&own()));
    let script = inspect(&file(&dir, b"#! /bin/sh -e\nexit 0\n", 0o700)).unwrap();
    assert_eq!(script.kind, ProgramKind::Script { interpreter: "/bin/sh".into() });
}

#[test]
fn every_bad_file_has_its_own_error() {
    type Expected = fn(&ProgramError) -> bool;
    // Short: a socket is among the bad files.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let own = own();
    let loaderless = without_loader(&own);
    let mut arm = own.clone();
    arm[18..20].copy_from_slice(&40u16.to_le_bytes());
    let mut cases: Vec<(&[u8], u32, Expected)> = vec![
        (b"", 0o755, |e| matches!(e, ProgramError::Empty { .. })),
        (&own, 0o644, |e| matches!(e, ProgramError::NotExecutable { mode: 0o644, .. })),
        (&own[..own.len() / 2], 0o755, |e| matches!(e, ProgramError::Truncated { .. })),
        (&own[..20], 0o755, |e| matches!(e, ProgramError::Truncated { .. })),
        (&arm, 0o755, |e| matches!(e, ProgramError::OtherMachine { .. })),
        (b"\n <!doctype html>", 0o755, |e| matches!(e, ProgramError::WebPage { .. })),
        (b"Not Found", 0o755, |e| matches!(e, ProgramError::NotAProgram { .. })),
        (b"#!/no/such/shell\n", 0o755, |e| matches!(e, ProgramError::NoInterpreter { .. })),
        (b"#!/bin/sh\r\n", 0o755, |e| matches!(e, ProgramError::NoInterpreter { .. })),
        (b"#!", 0o755, |e| matches!(e, ProgramError::NoInterpreter { .. })),
    ];
    if let Some(loaderless) = &loaderless {
        cases.push((loaderless, 0o755, |e| matches!(e, ProgramError::NoLoader { .. })));
    }
    for (content, mode, expected) in cases {
        let path = file(&dir, content, mode);
        let error = inspect(&path).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert_eq!(error.path(), path);
    }
    let path = dir.path().join("gwemix");
    fs::remove_file(&path).unwrap();
    assert!(matches!(inspect(&path), Err(ProgramError::Missing { .. })));
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    assert!(matches!(inspect(&path), Err(ProgramError::NotRegular { .. })));
    assert!(matches!(inspect(dir.path()), Err(ProgramError::IsDirectory { .. })));
    fs::remove_file(&path).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(inspect(&path), Err(ProgramError::NotRegular { .. })));
    let circle = dir.path().join("circle");
    std::os::unix::fs::symlink("circle", &circle).unwrap();
    let error = inspect(&circle).unwrap_err();
    assert!(matches!(error, ProgramError::Unreadable { .. }), "{error}");
    assert_eq!(error.path(), circle);
}

/// The same program with a loader that is nowhere; `None` when it has none.
fn without_loader(own: &[u8]) -> Option<Vec<u8>> {
    let at = own.windows(8).position(|bytes| bytes == b"/lib64/l")?;
    let mut changed = own.to_vec();
    changed[at..at + 6].copy_from_slice(b"/nolib");
    Some(changed)
}

#[test]
fn a_changed_file_is_noticed_even_with_its_old_time_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, b"#!/bin/sh\nexit 0\n", 0o755);
    let program = inspect(&path).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    assert!(program.unchanged());

    let mut open = fs::File::options().write(true).open(&path).unwrap();
    open.write_all(b"#!/bin/sh\nexit 1\n").unwrap();
    open.set_modified(time).unwrap();
    assert!(!program.unchanged());
    open.rewind().unwrap();
    open.write_all(b"#!/bin/sh\nexit 0\n").unwrap();
    drop(open);
    assert!(program.unchanged(), "touched, but the same bytes");
    fs::remove_file(&path).unwrap();
    assert!(!program.unchanged());
}

fn ask(path: &Path, limit: Duration) -> Result<(String, i32), ProgramError> {
    let env = [(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cwd = path.parent().unwrap();
    runtime.block_on(version(path, cwd, &env, limit)).map(|answer| (answer.text, answer.exit))
}

#[test]
fn a_program_says_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, b"#!/bin/sh\n[ \"$*\" = version ] && echo Version: 1.2.3\n", 0o755);
    assert_eq!(ask(&path, VERSION_LIMIT).unwrap(), ("Version: 1.2.3\n".into(), 0));
    let path = file(&dir, b"#!/bin/sh\necho broken >&2\nexit 127\n", 0o755);
    assert_eq!(ask(&path, VERSION_LIMIT).unwrap(), ("broken\n".into(), 127));
    let path = file(&dir, b"#!/bin/sh\nkill -11 $$\n", 0o755);
    assert_eq!(ask(&path, VERSION_LIMIT).unwrap().1, 139);
}

#[test]
fn what_a_program_asked_for_its_version_leaves_running_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let escape = "#!/bin/sh\n(setsid sh -c 'echo $$ > child.new; mv child.new child; exec sleep 1000' \
        </dev/null >/dev/null 2>&1 &)\nwhile ! [ -e child ]; do sleep 0.01; done\n";
    let child = || -> u32 {
        let pid = fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
        fs::remove_file(dir.path().join("child")).unwrap();
        pid
    };
    let runs = |pid: u32| wemixvisor_host::process::ProcessStat::of(pid).is_ok_and(|stat| !stat.ended());
    let path = file(&dir, format!("{escape}echo 1.2.3\n").as_bytes(), 0o755);
    assert_eq!(ask(&path, VERSION_LIMIT).unwrap(), ("1.2.3\n".into(), 0));
    assert!(!runs(child()));
    let path = file(&dir, format!("{escape}sleep 1000\n").as_bytes(), 0o755);
    assert!(matches!(ask(&path, Duration::from_secs(1)), Err(ProgramError::VersionLate { .. })));
    assert!(!runs(child()));
}

#[test]
fn a_program_that_does_not_end_is_killed_and_its_flood_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, b"#!/bin/sh\nsleep 1000\n", 0o755);
    let begun = Instant::now();
    assert!(matches!(ask(&path, Duration::from_millis(300)), Err(ProgramError::VersionLate { .. })));
    assert!(begun.elapsed() < Duration::from_secs(60));
    let path = file(&dir, b"#!/bin/sh\nexec yes\n", 0o755);
    assert!(matches!(ask(&path, Duration::from_millis(300)), Err(ProgramError::VersionLate { .. })));
    let path = file(&dir, b"#!/bin/sh\nhead -c 1000000 /dev/zero\n", 0o755);
    assert_eq!(ask(&path, VERSION_LIMIT).unwrap().0.len(), VERSION_OUTPUT);
    let missing = dir.path().join("missing");
    assert!(matches!(ask(&missing, VERSION_LIMIT), Err(ProgramError::NotRun { .. })));
}
