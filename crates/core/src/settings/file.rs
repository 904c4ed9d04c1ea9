//! `config.toml`, taken apart into entries with their lines.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::TABLE;
use super::value::Given;

/// One key with its value.
pub struct Entry {
    /// The whole key, such as `node.kill`; not necessarily one of the table.
    pub key: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its value.
    pub given: Given,
}

/// A place where the text is not TOML.
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What the parser says.
    pub what: String,
}

/// Takes the text apart, in the order of the text. Tables are followed only where settings have such a
/// group: another one is one unknown key, not many.
pub fn entries(text: &str) -> Result<Vec<Entry>, Vec<Fault>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| fault(text, error)).collect());
    }
    let mut found = Vec::new();
    collect(document.get_ref(), "", &mut found);
    found.sort_by_key(|(at, ..)| *at);
    Ok(found.into_iter().map(|(at, key, given)| Entry { key, line: place(text, at).0, given }).collect())
}

fn collect(table: &DeTable<'_>, group: &str, found: &mut Vec<(usize, String, Given)>) {
    for (name, value) in table {
        let key = format!("{group}{}", name.get_ref());
        let inner = format!("{key}.");
        match value.get_ref() {
            DeValue::Table(table) if TABLE.iter().any(|setting| setting.key.starts_with(&inner)) => {
                collect(table, &inner, found);
            }
            value => found.push((name.span().start, key, given(value))),
        }
    }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Boolean(flag) => Given::Boolean(*flag),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(whole) => Given::Whole(whole),
            Err(_) => Given::Other(number.to_string()),
        },
        DeValue::Float(number) => Given::Other(number.as_str().to_owned()),
        DeValue::Datetime(moment) => Given::Other(moment.to_string()),
        DeValue::Table(_) => Given::Other("a table".into()),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
            match items.iter().map(text).collect() {
                Some(texts) => Given::List(texts),
                None => Given::Other("an array that holds other than texts".into()),
            }
        }
    }
}

fn fault(text: &str, error: &toml::de::Error) -> Fault {
    let (line, column) = place(text, error.span().map_or(0, |span| span.start));
    Fault { line, column, what: error.message().lines().collect::<Vec<_>>().join("; ") }
}

/// The line and the column, from 1, of a place in a text.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
