//! The link under many readers, and disks that are full, forbid execution or forbid writing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wemixvisor_core::target::Target;
use wemixvisor_host::home::{Home, HomeError};
use wemixvisor_host::program::{ProgramError, inspect};
use wemixvisor_host::store::{Store, StoreError};
use wemixvisor_host::{disk, durable, link, plan_file};

const PROGRAM: &[u8] = b"#!/bin/sh\nexit 0\n";

fn v2() -> Target {
    Target::Upgrade("v2".parse().unwrap())
}

fn home_in(root: &Path) -> Home {
    let home = Home::new(root, None, None, "node").unwrap();
    for target in [Target::Genesis, v2()] {
        durable::create_dirs(&home.directory(&target).join("bin")).unwrap();
        durable::write_atomic(&home.program(&target), PROGRAM, 0o755).unwrap();
    }
    home
}

/// A tmpfs of its own; `None`, loudly, where this may not be done.
struct Tmpfs {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Tmpfs {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        match Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output() {
            Ok(output) if output.status.success() => Some(Self { _dir: dir, path }),
            other => {
                eprintln!("SKIPPED: cannot mount a tmpfs, so faults of the disk are not tested: {other:?}");
                None
            }
        }
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.path).status();
        assert!(status.unwrap().success());
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.path.join("filler")).unwrap();
        let error = io::copy(&mut io::repeat(1), &mut file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn fifty_thousand_switches_and_no_reader_misses_the_link() {
    // In memory where that can be had: what is tested is the rename, not the speed of a disk.
    let shm = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(shm).or_else(|_| tempfile::tempdir()).unwrap();
    let home = home_in(dir.path());
    link::switch(&home, &Target::Genesis).unwrap();
    let (done, reads, misses) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let found = link::current(&home).is_ok() && home.current().join("bin/node").exists();
                    reads.fetch_add(1, Relaxed);
                    misses.fetch_add(u64::from(!found), Relaxed);
                }
            });
        }
        for n in 0..50_000 {
            let target = if n % 2 == 0 { v2() } else { Target::Genesis };
            link::switch(&home, &target).unwrap();
        }
        done.store(true, Relaxed);
    });
    println!("50,000 switches, {} reads, {} misses", reads.load(Relaxed), misses.load(Relaxed));
    assert_eq!(misses.load(Relaxed), 0);
    assert!(reads.load(Relaxed) > 1000);
    let left: Vec<_> =
        fs::read_dir(home.wemixvisor()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_full_disk_changes_nothing_and_says_so() {
    let Some(tmpfs) = Tmpfs::new("size=4m") else { return };
    let home = home_in(&tmpfs.path);
    link::switch(&home, &v2()).unwrap();
    plan_file::edit(&home, |_| Ok::<_, Infallible>("[]".into())).unwrap();
    let mut store = Store::open(&home.state()).unwrap();
    store.write(|batch| batch.journal("v2", &"kept")).unwrap();
    tmpfs.fill();

    assert!(disk::space(home.data()).unwrap().free < 4096);
    assert!(matches!(disk::writable(home.root()), Err(disk::DiskError::NotWritable { .. })));
    let large = "x".repeat(100_000);
    let error = durable::write_atomic(&home.config(), large.as_bytes(), 0o600).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(plan_file::edit(&home, |_| Ok::<_, Infallible>(large.clone())).is_err());
    assert_eq!(plan_file::read(&home).unwrap().unwrap().text, "[]");
    let error = store.write(|batch| batch.journal("v2", &"x".repeat(2_000_000))).unwrap_err();
    assert!(matches!(error, StoreError::NotWritten { .. }), "{error:?}");
    assert_eq!(store.journal().unwrap().len(), 1);
    assert_eq!(link::current(&home).unwrap(), v2());
    let names: Vec<_> = fs::read_dir(home.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    fs::remove_file(tmpfs.path.join("filler")).unwrap();
    store.write(|batch| batch.journal("v2", &"again")).unwrap();
    assert_eq!(store.journal().unwrap().len(), 2);
}

#[test]
fn a_read_only_disk_changes_nothing_and_can_still_be_read() {
    let Some(tmpfs) = Tmpfs::new("size=4m") else { return };
    let home = home_in(&tmpfs.path);
    link::switch(&home, &Target::Genesis).unwrap();
    let mut store = Store::open(&home.state()).unwrap();
    store.write(|batch| batch.set_fact("a", &1)).unwrap();
    drop(store);
    tmpfs.make_read_only();
    assert!(matches!(link::switch(&home, &v2()), Err(link::LinkError::NotSwitched { .. })));
    assert_eq!(link::current(&home).unwrap(), Target::Genesis);
    assert!(plan_file::edit(&home, |_| Ok::<_, Infallible>("[]".into())).is_err());
    assert!(disk::writable(home.root()).is_err());
    assert!(Store::open(&home.state()).is_err());
    let reader = Store::open_read_only(&home.state()).unwrap();
    assert_eq!(reader.fact::<u8>("a").unwrap(), Some(1));
}

#[test]
fn a_program_on_a_noexec_disk_is_refused() {
    let Some(tmpfs) = Tmpfs::new("size=4m,noexec") else { return };
    let path = tmpfs.path.join("node");
    durable::write_atomic(&path, PROGRAM, 0o755).unwrap();
    assert!(matches!(inspect(&path), Err(ProgramError::NoExecMount { .. })));
}

#[test]
fn an_init_that_ran_out_of_space_can_be_repeated() {
    let Some(tmpfs) = Tmpfs::new("size=1m") else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let binary = elsewhere.path().join("node");
    let mut program = PROGRAM.to_vec();
    program.resize(600_000, b'#');
    durable::write_atomic(&binary, &program, 0o755).unwrap();
    let filler = tmpfs.path.join("filler");
    fs::write(&filler, vec![1; 700_000]).unwrap();
    let home = Home::new(&tmpfs.path.join("home"), None, None, "node").unwrap();
    let error = home.init(&binary).unwrap_err();
    assert!(matches!(&error, HomeError::Durable(error) if error.is_no_space()), "{error:?}");
    assert!(!home.current().exists() && !home.program(&Target::Genesis).exists());
    fs::remove_file(filler).unwrap();
    assert!(!home.init(&binary).unwrap().already_initialised);
    assert_eq!(link::current(&home).unwrap(), Target::Genesis);
}

/// Figures for the report: `cargo test -p wemixvisor-host --release --test disk -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let home = home_in(dir.path());
    let mut store = Store::open(&home.state()).unwrap();
    let record = serde_json::json!({"step": "switch", "from": "genesis", "to": "v2", "height": 1_500_000});
    figures("a batch of 2 records", || {
        store
            .write(|batch| {
                batch.journal("v2", &record)?;
                batch.event("upgrades", "upgrade_step", &record)
            })
            .unwrap();
    });
    let mut even = false;
    figures("a switch", || {
        even = !even;
        link::switch(&home, &if even { v2() } else { Target::Genesis }).unwrap();
    });
    figures("a rename without forcing", || {
        std::os::unix::fs::symlink("genesis", dir.path().join("l")).unwrap();
        fs::rename(dir.path().join("l"), dir.path().join("m")).unwrap();
    });
    let program = inspect(&home.program(&v2())).unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let settled = inspect(&home.program(&v2())).unwrap();
    figures("unchanged, just written", || assert!(program.unchanged()));
    figures("unchanged, settled", || assert!(settled.unchanged()));
    figures("current", || assert!(link::current(&home).is_ok()));
    drop(store);
    figures("open the store", || drop(Store::open(&home.state()).unwrap()));
}

fn figures(what: &str, mut act: impl FnMut()) {
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let begun = Instant::now();
            act();
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("{what}: p50 {:?}, p95 {:?}, max {:?}", times[250], times[475], times[499]);
}
