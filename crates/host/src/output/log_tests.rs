#![allow(clippy::disallowed_methods)] // A test has its own clock.

use std::io::Read;

use super::*;

fn log(dir: &tempfile::TempDir, max_bytes: u64, keep: u32) -> NodeLog {
    NodeLog::new(LogPolicy { path: dir.path().join("node.log"), max_bytes, keep })
}

fn text(dir: &tempfile::TempDir, name: &str) -> String {
    let mut text = String::new();
    File::open(dir.path().join(name)).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn parts_end_at_line_ends_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(&dir, 10, 3);
    let now = Instant::now();
    log.write(b"one\ntwo\nthree\n", now);
    assert_eq!((text(&dir, "node.log.1"), text(&dir, "node.log")), ("one\ntwo\n".into(), "three\n".into()));
    log.write(b"four\nfive\nsix\nseven\n", now);
    assert_eq!(text(&dir, "node.log.2"), "three\n");
    assert_eq!(text(&dir, "node.log.1"), "four\nfive\n");
    assert_eq!(text(&dir, "node.log"), "six\nseven\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn whoever_opens_a_full_log_gets_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let policy = LogPolicy { path: dir.path().join("own.log"), max_bytes: 4, keep: 2 };
    open(&policy).unwrap().write_all(b"one").unwrap();
    open(&policy).unwrap().write_all(b"two").unwrap();
    assert_eq!(text(&dir, "own.log"), "onetwo", "there was room when it was opened");
    open(&policy).unwrap().write_all(b"three").unwrap();
    assert_eq!((text(&dir, "own.log"), text(&dir, "own.log.1")), ("three".into(), "onetwo".into()));
    open(&policy).unwrap();
    assert_eq!((text(&dir, "own.log"), text(&dir, "own.log.1")), (String::new(), "three".into()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    fs::remove_file(&policy.path).unwrap();
    fs::create_dir(&policy.path).unwrap();
    assert!(open(&policy).is_err());
}

#[test]
fn a_line_without_end_is_cut_and_the_bound_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(&dir, 1000, 2);
    let now = Instant::now();
    for _ in 0..100 {
        log.write(&[b'x'; 777], now);
    }
    let total: u64 =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!((1000..=2000).contains(&total), "{total}");
}

#[test]
fn one_part_is_emptied_when_full_and_parts_beyond_the_setting_go() {
    let dir = tempfile::tempdir().unwrap();
    File::create(dir.path().join("node.log.1")).unwrap();
    let mut log = log(&dir, 4, 1);
    log.write(b"abc\ndef\n", Instant::now());
    assert_eq!(text(&dir, "node.log"), "def\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_written_is_counted_and_said_when_it_works_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.log");
    fs::create_dir(&path).unwrap();
    let mut log = log(&dir, 1000, 2);
    let start = Instant::now();
    log.write(b"12345", start);
    assert_eq!(log.next_mend(), Some(start + RETRY));
    log.write(b"678", start);
    fs::remove_dir(&path).unwrap();
    log.write(b"9", start + RETRY / 2);
    log.mend(start + RETRY);
    assert_eq!(log.next_mend(), None);
    log.write(b"back\n", start + RETRY);
    let text = text(&dir, "node.log");
    assert!(
        text.starts_with("[wemixvisor: 9 bytes of the node's output could not be written: Is a directory"),
        "{text}"
    );
    assert!(text.ends_with("]\nback\n"), "{text}");
}

#[test]
fn a_full_disk_costs_bytes_but_no_time() {
    // /dev/full answers every write with ENOSPC.
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("node.log")).unwrap();
    let mut log = log(&dir, 1000, 2);
    let start = Instant::now();
    log.write(&[b'x'; 5000], start);
    log.write(&[b'x'; 5000], start);
    fs::remove_file(dir.path().join("node.log")).unwrap();
    log.mend(start + RETRY);
    assert!(text(&dir, "node.log").contains("10000 bytes"));
}

#[test]
fn a_removed_or_replaced_file_is_begun_anew_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log(&dir, 1000, 2);
    let start = Instant::now();
    log.write(b"before\n", start);
    fs::remove_file(dir.path().join("node.log")).unwrap();
    log.write(b"lost\n", start);
    log.write(b"after\n", start + RETRY);
    assert_eq!(text(&dir, "node.log"), "after\n");
    let foreign = dir.path().join("foreign");
    File::create(&foreign).unwrap();
    fs::rename(&foreign, dir.path().join("node.log")).unwrap();
    log.write(b"again\n", start + 2 * RETRY);
    assert_eq!(text(&dir, "node.log"), "again\n");
}

#[test]
fn a_removed_directory_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let mut log = NodeLog::new(LogPolicy { path: logs.join("node.log"), max_bytes: 1000, keep: 2 });
    let start = Instant::now();
    log.write(b"before\n", start);
    fs::remove_dir_all(&logs).unwrap();
    log.write(b"after\n", start + RETRY);
    assert_eq!(text(&dir, "logs/node.log"), "after\n");
}

#[test]
fn a_pipe_without_reader_in_the_files_place_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.log");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut log = log(&dir, 1000, 2);
    log.write(b"nobody reads this", Instant::now());
    assert!(log.next_mend().is_some());
}
