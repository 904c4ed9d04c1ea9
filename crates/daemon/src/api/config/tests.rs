//! Settings changed over the API: what becomes of the file, and what is refused.

use serde_json::json;

use super::*;
use crate::configuration::tests::{defaults, told};

fn with(text: &str, changes: &[(&str, Value)]) -> String {
    let mut document: DocumentMut = text.parse().unwrap();
    for (key, value) in changes {
        put(&mut document, key, item(key, value).unwrap());
    }
    document.to_string()
}

#[test]
fn a_change_leaves_everything_else_as_it_is() {
    let text = "# mine\nvalidator = true # yes\n\n[node]\n# few\nmax_restarts = 3 # three\nkill = 'never'\n";
    let changed = with(text, &[("node.max_restarts", json!(7)), ("validator", json!(false))]);
    assert_eq!(changed, text.replace("= 3", "= 7").replace("= true", "= false"));
    let removed = with(text, &[("node.kill", Value::Null), ("upgrade.late", json!("refuse"))]);
    assert!(removed.ends_with("[upgrade]\nlate = \"refuse\"\n") && !removed.contains("kill"), "{removed}");
    assert_eq!(with("", &[("debug", Value::Null)]), "");
    assert_eq!(
        with("node.kill = 'never'\n", &[("node.kill", json!("allowed"))]),
        "node.kill = \"allowed\"\n"
    );
}

#[test]
fn a_file_that_is_lost_is_not_made_anew_and_one_without_settings_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let (lost, fresh) = (defaults(&file, true), defaults(&file, false));
    let set = Map::from_iter([("validator".to_owned(), json!(true))]);
    let refused = |set| prepare(&lost, set).err().map(|error| error.body());
    let is_refused = |with: &str| {
        let body = refused(&set).unwrap();
        assert_eq!(body.code, "conflict");
        assert!(body.error.starts_with("nothing was changed") && body.error.contains(with), "{body:?}");
    };
    is_refused("is gone");
    assert_eq!(prepare(&fresh, &set).ok().unwrap().text, "validator = true\n");
    durable::write_atomic(&file, b"\n", 0o600).unwrap();
    is_refused("is empty");
    durable::write_atomic(&file, b"node.kill = 'never'", 0o600).unwrap();
    let unset = Map::from_iter([("node.kill".to_owned(), Value::Null)]);
    assert_eq!(prepare(&lost, &unset).ok().unwrap().text, NOTHING_SET);
    durable::write_atomic(&file, NOTHING_SET.as_bytes(), 0o600).unwrap();
    assert_eq!(prepare(&lost, &set).ok().unwrap().text, format!("validator = true\n{NOTHING_SET}"));
}

#[test]
fn a_change_is_not_put_into_half_of_what_somebody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let whole = "[node]\nmax_restarts = 7\n";
    durable::write_atomic(&file, whole.as_bytes(), 0o600).unwrap();
    let configuration = defaults(&file, true);
    assert_eq!(told(&configuration), None);
    let set = Map::from_iter([("validator".to_owned(), json!(true))]);
    assert!(prepare(&configuration, &set).ok().unwrap().text.contains(whole));
    durable::write_atomic(&file, b"[node]\n", 0o600).unwrap();
    let refused = prepare(&configuration, &set).err().unwrap().body();
    assert!(refused.code == "conflict" && refused.error.contains("was changed just now"), "{refused:?}");
    // Whoever wrote it meant it: it has stood, and is in force.
    assert_eq!(told(&configuration), None);
    assert!(prepare(&configuration, &set).is_ok());
}

#[test]
fn what_guards_and_what_runs_is_not_changed() {
    for key in ["api.listen", "hooks.pre_upgrade", "home", "logs.file", "heights.rpc_addresses"] {
        assert!(changeable(key).unwrap_err().contains("not changed over the API"), "{key}");
    }
    assert!(changeable("node.kil").unwrap_err().contains("did you mean node.kill?"));
    assert!(changeable("node.kill").is_ok());
    for value in [json!(-1), json!(1.5), json!({}), json!([1])] {
        assert!(item("node.max_restarts", &value).is_err(), "{value}");
    }
}

#[test]
fn what_is_changed_is_not_said_to_be_unchanged() {
    let error = |kind: io::ErrorKind| (Path::new("/c.toml").to_owned(), io::Error::from(kind));
    let (path, source) = error(io::ErrorKind::StorageFull);
    match written(Err(DurableError::NotForced { path, source })).unwrap() {
        Written::NotForced(why) => assert!(why.starts_with("/c.toml is changed, but"), "{why}"),
        other => panic!("{other:?}"),
    }
    let (path, source) = error(io::ErrorKind::StorageFull);
    let said = written(Err(DurableError::NotChanged { doing: "write", path, source })).unwrap_err().body();
    assert!(said.error.starts_with("nothing was changed: cannot write /c.toml"), "{said:?}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let read = |text: &'static str| read(Ok(Bytes::from_static(text.as_bytes())));
    assert_eq!(read(r#"{"settings": {"a": 1, "b": null}}"#).unwrap().len(), 2);
    for text in [r#"{"settings": {"a": 1, "a": 2}}"#, r#"{"settings": {"a": 1}, "settings": {}}"#] {
        assert_eq!(read(text).unwrap_err().body().code, "invalid", "{text}");
    }
    let said = read(r#"{"settings": {"a": 1, "a": 1}}"#).unwrap_err().body().error;
    assert!(said.contains(r#"the key "a" stands twice"#), "{said}");
}

#[test]
fn a_file_that_is_a_link_stays_one_and_what_others_write_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (file, real) = (dir.path().join("config.toml"), dir.path().join("c.toml"));
    let prepared = |before: Option<&str>, text: &str| {
        let changed = wire::Changed { file: String::new(), changes: Vec::new() };
        Prepared { before: before.map(str::to_owned), text: text.into(), changed }
    };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(replace(&file, &prepared(None, "a")).unwrap(), Written::Replaced);
    assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o600, "a"));
    fs::rename(&file, &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("c.toml", &file).unwrap();
    assert_eq!(replace(&file, &prepared(Some("a"), "b")).unwrap(), Written::Replaced);
    assert!(file.is_symlink());
    assert_eq!((mode(&real), fs::read_to_string(&real).unwrap().as_str()), (0o640, "b"));
    for before in [None, Some("a")] {
        assert_eq!(replace(&file, &prepared(before, "c")).unwrap(), Written::Left, "it holds something else");
    }
    fs::remove_file(&real).unwrap();
    assert!(text_of(&file).is_err(), "a link to nothing is not taken for no file");
}
