//! The documentation of the settings is made from their table.

use wemixvisor_core::settings::docs_table;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

/// With `UPDATE_DOCS=1` in the environment, writes the file anew instead.
#[test]
#[allow(clippy::disallowed_methods)] // A test may look at its environment and write a document.
fn the_documented_settings_are_the_settings_there_are() {
    let text = std::fs::read_to_string(PATH).unwrap();
    let (introduction, table) = text.split_at(text.find("\n## General").unwrap());
    let current = docs_table();
    if std::env::var("UPDATE_DOCS").is_ok() {
        std::fs::write(PATH, format!("{introduction}{current}")).unwrap();
    } else {
        assert!(
            table == current,
            "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test -p wemixvisor-core --test documentation"
        );
    }
}
