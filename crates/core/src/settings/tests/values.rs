use super::super::value::{Given, Value};
use super::*;

fn read<T: Value>(text: &str) -> Option<T> {
    T::read(&Given::Text(text.into())).ok()
}

#[test]
fn booleans() {
    for text in ["true", "TRUE", "1", "yes", "Yes"] {
        assert_eq!(read(text), Some(true), "{text}");
    }
    for text in ["false", "False", "0", "no", "NO"] {
        assert_eq!(read(text), Some(false), "{text}");
    }
    for text in ["", " true", "on", "off", "y", "2", "t"] {
        assert_eq!(read::<bool>(text), None, "{text:?}");
    }
    assert_eq!(bool::read(&Given::Boolean(true)), Ok(true));
    assert_eq!(bool::read(&Given::Whole(0)), Ok(false));
    assert!(bool::read(&Given::List(vec!["true".into()])).is_err());
}

#[test]
fn numbers() {
    assert_eq!(read("007"), Some(7u64));
    assert_eq!(read("4294967295"), Some(u32::MAX));
    assert_eq!(read::<u32>("4294967296"), None);
    for text in ["", "+1", "-1", "1.0", "0x1", " 1", "1k", "18446744073709551616"] {
        assert_eq!(read::<u64>(text), None, "{text:?}");
    }
    assert!(u64::read(&Given::Boolean(true)).is_err());
}

#[test]
fn durations() {
    assert_eq!(read("300ms"), Some(Duration::from_millis(300)));
    assert_eq!(read::<Duration>("1h30m"), None);
    assert_eq!(Duration::read(&Given::Whole(0)), Ok(Duration::ZERO));
    assert!(Duration::read(&Given::Whole(5)).unwrap_err().contains("5s"));
    assert!(Duration::read(&Given::Boolean(true)).is_err());
}

#[test]
fn texts_paths_and_choices() {
    assert_eq!(read("x y"), Some("x y".to_owned()));
    assert_eq!(read::<String>("").or(read("a\0")), None);
    assert_eq!(read::<PathBuf>(""), None);
    assert!(PathBuf::read(&Given::Whole(1)).unwrap_err().contains("path"));
    assert_eq!(
        (read("mainnet"), read("devnet"), read("none")),
        (Some(Network::Mainnet), Some(Network::Devnet), Some(Network::None))
    );
    assert_eq!(read::<Network>("MAINNET"), None);
    assert_eq!(Kill::read(&Given::Boolean(true)), Err("not one of allowed, never".into()));
}

#[test]
fn lists() {
    assert_eq!(read(" a , b"), Some(vec!["a".to_owned(), "b".into()]));
    assert_eq!(read(" "), Some(Vec::<String>::new()));
    assert_eq!(read::<Vec<String>>("a,,b").or(read(",")), None);
    assert!(Vec::<String>::read(&Given::List(vec!["a".into(), " ".into()])).is_err());
    assert!(Vec::<String>::read(&Given::Whole(1)).unwrap_err().contains("list"));
}

#[test]
fn auto_leaves_it_to_the_program() {
    assert_eq!(read("auto"), Some(None::<u64>));
    assert_eq!(read("5"), Some(Some(5u64)));
    assert!(Option::<u64>::read(&Given::Text("AUTO".into())).unwrap_err().ends_with("and not auto"));
    assert_eq!((None::<u64>.show(), Some(5u64).show()), ("auto".into(), "5".into()));
}

#[test]
fn every_kind_has_a_name() {
    let kinds: BTreeSet<String> = TABLE.iter().map(|setting| setting.kind().to_string()).collect();
    for name in ["duration", "boolean", "integer", "text", "path", "list", "allowed, never"] {
        assert!(kinds.contains(name), "{name}");
    }
}
