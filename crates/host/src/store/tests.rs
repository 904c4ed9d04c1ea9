use super::*;
use crate::digest::Digest;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("state.db")
}

#[test]
fn what_is_written_together_is_read_back_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let sum = Digest::of_bytes(b"bad");
    {
        let mut store = Store::open(&path(&dir)).unwrap();
        let seq = store
            .write(|batch| {
                batch.journal("v2", &json!({"step": "triggered"}))?;
                batch.set_fact("head", &json!(7))?;
                batch.pin("v2", &sum, "no block")?;
                batch.history(&json!("entry"))?;
                batch.event("upgrades", "upgrade_triggered", &json!({"height": 9}))
            })
            .unwrap();
        assert_eq!(seq, 1);
    }
    let mut store = Store::open(&path(&dir)).unwrap();
    assert_eq!(store.journal().unwrap()[0].record, json!({"step": "triggered"}));
    assert_eq!(store.fact::<u64>("head").unwrap(), Some(7));
    assert_eq!(store.fact::<u64>("none").unwrap(), None);
    assert!(matches!(store.fact::<String>("head"), Err(StoreError::BadFact { .. })));
    assert_eq!(store.pins().unwrap()[0].sha256, sum.to_string());
    assert_eq!(store.history(9).unwrap()[0].entry, json!("entry"));
    let event = &store.events_since(0, 9).unwrap()[0];
    assert_eq!((event.seq, event.topic.as_str(), event.kind.as_str()), (1, "upgrades", "upgrade_triggered"));
    assert!(event.at.0 > 1_600_000_000_000);
    assert!(store.write(|batch| batch.unpin("v2")).unwrap());
    assert!(store.pins().unwrap().is_empty());
}

#[test]
fn an_unforced_batch_is_read_at_once_and_kept_with_the_next_forced_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    store.write_unforced(|batch| batch.journal("v2", &1)).unwrap();
    let reader = Store::open_read_only(&path(&dir)).unwrap();
    assert_eq!(reader.journal().unwrap().len(), 1);
    store.write(|batch| batch.journal("v2", &2)).unwrap();
    let mode: i64 = store.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    assert_eq!((mode, reader.journal().unwrap().len()), (2, 2));
}

#[test]
fn a_failed_batch_leaves_nothing_and_burns_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    let unwritable: BTreeMap<Vec<u8>, u8> = [(vec![1], 1)].into();
    let result = store.write(|batch| {
        batch.event("upgrades", "one", &1)?;
        batch.journal("v2", &"record")?;
        batch.set_fact("bad", &unwritable)
    });
    assert!(matches!(result, Err(StoreError::NotJson { .. })));
    assert!(store.journal().unwrap().is_empty());
    assert_eq!(store.event_range().unwrap(), None);
    assert_eq!(store.write(|batch| batch.event("upgrades", "two", &2)).unwrap(), 1);
}

#[test]
fn an_ended_upgrade_leaves_the_journal_and_old_ones_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    let upgrades = KEPT_UPGRADES + 3;
    for n in 0..upgrades {
        let name = format!("v{n}");
        store
            .write(|batch| {
                batch.journal(&name, &"begun")?;
                batch.journal(&name, &"done")?;
                batch.clear_journal(&name)
            })
            .unwrap();
    }
    store.write(|batch| batch.journal("going on", &"begun")).unwrap();
    let open = store.journal().unwrap();
    assert_eq!(open.iter().map(|row| row.upgrade.as_str()).collect::<Vec<_>>(), ["going on"]);
    for n in 0..upgrades {
        let kept = if n < 3 { 0 } else { 2 };
        assert_eq!(store.journal_of(&format!("v{n}")).unwrap().len(), kept, "v{n}");
    }
}

#[test]
fn a_retry_of_an_upgrade_has_a_journal_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    store
        .write(|batch| {
            batch.journal("v2", &"first")?;
            batch.clear_journal("v2")?;
            batch.journal("v2", &"second")
        })
        .unwrap();
    assert_eq!(store.journal().unwrap().len(), 1);
    assert_eq!(store.journal_of("v2").unwrap().len(), 2);
}

#[test]
fn events_beyond_the_limit_are_dropped_and_the_range_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    for _ in 0..11 {
        store
            .write(|batch| (0..1000).try_for_each(|n| batch.event("heights", "head", &n).map(drop)))
            .unwrap();
    }
    assert_eq!(store.event_range().unwrap(), Some((1001, 11_000)));
    let some: Vec<u64> = store.events_since(1500, 3).unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(some, [1501, 1502, 1503]);
}

#[test]
fn a_reader_sees_what_the_supervisor_writes_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    let reader = Store::open_read_only(&path(&dir)).unwrap();
    for n in 1..20 {
        store.write(|batch| batch.event("heights", "head", &n)).unwrap();
        assert_eq!(reader.event_range().unwrap(), Some((1, n)));
    }
    store.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    drop(store);
    assert_eq!(reader.event_range().unwrap(), Some((1, 19)));
    drop(reader);
    assert_eq!(Store::open_read_only(&path(&dir)).unwrap().event_range().unwrap(), Some((1, 19)));
}

#[test]
fn only_the_owner_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    store.write(|batch| batch.set_fact("a", &1)).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn a_missing_database_is_made_by_the_supervisor_only() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_read_only(&path(&dir)), Err(StoreError::Missing { .. })));
    assert!(!path(&dir).exists());
    drop(Store::open(&path(&dir)).unwrap());
    fs::rename(path(&dir), dir.path().join("moved")).unwrap();
    fs::File::create(dir.path().join("state.db-wal")).unwrap();
    assert!(matches!(Store::open(&path(&dir)), Err(StoreError::Damaged { .. })));
    assert!(!path(&dir).exists());
}

#[test]
fn a_damaged_database_is_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    let filler = "x".repeat(3000);
    for _ in 0..20 {
        store.write(|batch| batch.journal("v2", &filler)).unwrap();
    }
    drop(store);
    let whole = fs::read(path(&dir)).unwrap();
    let mut scribbled = whole.clone();
    // Every page but the first, which holds the header and the schema.
    scribbled[4096..].fill(0x55);
    for damage in
        [&b""[..], &b"not a database, but long enough to be taken for one"[..], &whole[..9000], &scribbled]
    {
        fs::write(path(&dir), damage).unwrap();
        let error = Store::open(&path(&dir)).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(path(&dir)).unwrap().len(), damage.len());
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&path(&dir)).unwrap());
    Connection::open(path(&dir)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for error in [Store::open(&path(&dir)).unwrap_err(), Store::open_read_only(&path(&dir)).unwrap_err()] {
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    }
}

#[test]
fn an_older_format_is_brought_up_to_date_by_the_supervisor_only() {
    let dir = tempfile::tempdir().unwrap();
    Connection::open(path(&dir)).unwrap().execute_batch("CREATE TABLE x (y); DROP TABLE x;").unwrap();
    let error = Store::open_read_only(&path(&dir)).unwrap_err();
    assert!(matches!(error, StoreError::Older { found: 0, .. }), "{error}");
    drop(Store::open(&path(&dir)).unwrap());
    assert!(Store::open_read_only(&path(&dir)).unwrap().journal().unwrap().is_empty());
}

#[test]
fn another_writer_is_waited_for_and_then_named_as_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    store.connection.busy_timeout(Duration::from_millis(50)).unwrap();
    let other = Connection::open(path(&dir)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.write(|batch| batch.set_fact("head", &7)).unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    store.write(|batch| batch.set_fact("head", &7)).unwrap();
}

#[test]
fn a_place_that_cannot_hold_a_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::File::create(&file).unwrap();
    let error = Store::open(&file.join("state.db")).unwrap_err();
    assert!(matches!(error, StoreError::NotMade { .. }), "{error}");
    let error = Store::open(&dir.path().join("gone/state.db")).unwrap_err();
    assert!(matches!(error, StoreError::NotMade { .. }), "{error}");
    fs::create_dir(path(&dir)).unwrap();
    let error = Store::open(&path(&dir)).unwrap_err();
    assert!(error.to_string().contains("state.db"), "{error}");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn what_sqlite_says_becomes_what_it_means() {
    let meant =
        |number: i32| error(Path::new("x"), "write to", sqlite(&std::io::Error::from_raw_os_error(number)));
    assert!(matches!(meant(libc::ENOSPC), StoreError::NotWritten { .. }));
    assert!(matches!(meant(libc::EROFS), StoreError::NotWritten { .. }));
    for number in [libc::EMFILE, libc::EIO] {
        assert!(matches!(meant(number), StoreError::Failed { doing: "write to", .. }));
    }
}

#[test]
fn a_record_that_is_not_json_is_an_error_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&path(&dir)).unwrap();
    store.write(|batch| batch.journal("v2", &"good")).unwrap();
    store.reader.connection.execute("UPDATE journal SET record = '{half'", []).unwrap();
    assert!(matches!(store.journal(), Err(StoreError::BadRow { seq: 1, .. })));
}

#[test]
fn two_processes_may_make_it_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(&dir);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let path = &path;
            scope.spawn(move || Store::open(path).unwrap().write(|batch| batch.set_fact(name, &1)).unwrap());
        }
    });
    let store = Store::open(&path).unwrap();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(store.fact::<u8>(name).unwrap(), Some(1));
    }
}

/// The environment variable that makes the test below the writer that is going to be killed.
const VICTIM: &str = "WEMIXVISOR_STORE_TEST_VICTIM";

#[test]
fn a_killed_writer_leaves_whole_batches() {
    if let Some(path) = std::env::var_os(VICTIM) {
        let mut store = Store::open(Path::new(&path)).unwrap();
        for n in 0u64.. {
            store
                .write(|batch| {
                    batch.set_fact("n", &n)?;
                    batch.journal("v2", &n)?;
                    batch.event("heights", "head", &n)
                })
                .unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = path(&dir);
    let mut last = 0;
    for round in 1..=10 {
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::a_killed_writer_leaves_whole_batches", "--nocapture"])
            .env(VICTIM, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        let written = loop {
            let written = Store::open_read_only(&path).ok().and_then(|reader| reader.event_range().ok()?);
            match written {
                Some((_, newest)) if newest > last + round => break newest,
                _ => assert!(begun.elapsed() < Duration::from_secs(20), "the writer does not write"),
            }
        };
        victim.kill().unwrap();
        victim.wait().unwrap();
        let store = Store::open(&path).unwrap();
        let (_, newest) = store.event_range().unwrap().unwrap();
        assert!(newest >= written);
        assert_eq!(store.journal().unwrap().len() as u64, newest);
        let event = store.events_since(newest - 1, 1).unwrap().remove(0);
        assert_eq!(event.data, json!(store.fact::<u64>("n").unwrap().unwrap()));
        last = newest;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_text_is_read_back(name in ".{0,40}", text in ".{0,200}") {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&path(&dir)).unwrap();
        store.write(|batch| {
            batch.journal(&name, &text)?;
            batch.set_fact(&name, &text)?;
            batch.event(&name, &text, &text)
        }).unwrap();
        let row = store.journal().unwrap().remove(0);
        prop_assert_eq!((row.upgrade, row.record), (name.clone(), json!(&text)));
        prop_assert_eq!(store.fact::<String>(&name).unwrap(), Some(text));
    }
}
