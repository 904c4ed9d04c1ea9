//! The kinds of values: how each is read, what is said when it cannot be, and how it is shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::duration;

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `300ms`, `30s`, `5m`, `1h`, `0`.
    Duration,
    /// true/false, 1/0, yes/no in any case.
    Boolean,
    /// A whole number, not negative.
    Integer,
    /// Any text that is not empty.
    Text,
    /// A path; a leading `~/` is the user's own directory.
    Path,
    /// Texts: an array in `config.toml`, separated by commas elsewhere.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration => f.write_str("duration"),
            Self::Boolean => f.write_str("boolean"),
            Self::Integer => f.write_str("integer"),
            Self::Text => f.write_str("text"),
            Self::Path => f.write_str("path"),
            Self::List => f.write_str("list"),
            Self::Choice(words) => f.write_str(&words.join(", ")),
        }
    }
}

/// A value as a layer gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A text: from the environment, a flag, or a string of `config.toml`.
    Text(String),
    /// A number of `config.toml`, in decimal digits.
    Whole(u64),
    /// A boolean of `config.toml`.
    Boolean(bool),
    /// An array of strings of `config.toml`.
    List(Vec<String>),
    /// Anything else that `config.toml` can hold, as a person would name it.
    Other(String),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{:?}", redacted(text)),
            Self::Whole(number) => number.fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| redacted(item)).collect();
                write!(f, "{items:?}")
            }
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// The word that leaves an optional setting to the program.
const AUTO: &str = "auto";

/// A type that a setting can have.
pub trait Value: Sized {
    /// Its kind.
    fn kind() -> Kind;
    /// Reads it; the error says what was expected instead.
    fn read(given: &Given) -> Result<Self, String>;
    /// Writes it so that [`Value::read`] reads the same back, but for secrets.
    fn show(&self) -> String;
}

impl Value for Duration {
    fn kind() -> Kind {
        Kind::Duration
    }

    fn read(given: &Given) -> Result<Self, String> {
        let text = match given {
            Given::Text(text) => text.clone(),
            Given::Whole(number) => number.to_string(),
            _ => return Err(duration::BadDuration::Form.to_string()),
        };
        duration::parse(&text).map_err(|bad| bad.to_string())
    }

    fn show(&self) -> String {
        duration::show(*self)
    }
}

impl Value for bool {
    fn kind() -> Kind {
        Kind::Boolean
    }

    fn read(given: &Given) -> Result<Self, String> {
        let text = match given {
            Given::Boolean(flag) => return Ok(*flag),
            Given::Text(text) => text.to_ascii_lowercase(),
            Given::Whole(number) => number.to_string(),
            _ => String::new(),
        };
        match text.as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err("not a boolean: true, false, yes, no, 1 or 0".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    fn kind() -> Kind {
        Kind::Integer
    }

    fn read(given: &Given) -> Result<Self, String> {
        match given {
            Given::Whole(number) => Some(*number),
            // A sign would be read by `parse` as well.
            Given::Text(text) if text.bytes().all(|c| c.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| format!("not a whole number from 0 to {}", u64::MAX))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn kind() -> Kind {
        Kind::Integer
    }

    fn read(given: &Given) -> Result<Self, String> {
        let number = u64::read(given).ok().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| format!("not a whole number from 0 to {}", u32::MAX))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn kind() -> Kind {
        Kind::Text
    }

    fn read(given: &Given) -> Result<Self, String> {
        match given {
            Given::Text(text) if !text.is_empty() && !text.contains('\0') => Ok(text.clone()),
            _ => Err("not a text, or an empty one".into()),
        }
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn kind() -> Kind {
        Kind::Path
    }

    fn read(given: &Given) -> Result<Self, String> {
        String::read(given).map(Self::from).map_err(|_| "not a path, or an empty one".into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Vec<String> {
    fn kind() -> Kind {
        Kind::List
    }

    fn read(given: &Given) -> Result<Self, String> {
        let items: Vec<String> = match given {
            Given::List(items) => items.iter().map(|item| item.trim().to_owned()).collect(),
            Given::Text(text) if text.trim().is_empty() => Vec::new(),
            Given::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            _ => return Err("not a list of texts".into()),
        };
        if items.iter().any(String::is_empty) { Err("a list with an empty item".into()) } else { Ok(items) }
    }

    fn show(&self) -> String {
        self.iter().map(|item| redacted(item)).collect::<Vec<_>>().join(",")
    }
}

impl<T: Value> Value for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }

    fn read(given: &Given) -> Result<Self, String> {
        match given {
            Given::Text(text) if text == AUTO => Ok(None),
            _ => T::read(given).map(Some).map_err(|why| format!("{why}, and not {AUTO}")),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or(AUTO.into(), T::show)
    }
}

/// Reads one of several words; the error names them.
pub fn read_choice<T: Copy>(given: &Given, choices: &[(&str, T)]) -> Result<T, String> {
    let found = match given {
        Given::Text(text) => choices.iter().find(|(word, _)| word == text),
        _ => None,
    };
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("not one of {}", words.join(", "))
    })
}

/// An enum whose variants are the words of a setting.
macro_rules! choices {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word that stands for it in a setting.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::settings::value::Value for $name {
            fn kind() -> $crate::settings::Kind {
                $crate::settings::Kind::Choice(&[$($word),+])
            }

            fn read(given: &$crate::settings::value::Given) -> Result<Self, String> {
                $crate::settings::value::read_choice(given, &[$(($word, Self::$variant)),+])
            }

            fn show(&self) -> String {
                self.as_str().into()
            }
        }
    };
}
pub(super) use choices;

/// An address without the name and password it may carry: `http://***@host`. Other texts stay as they are.
pub fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.rsplit_once('@') {
        Some((secret, _)) => format!("{scheme}://***{}", &rest[secret.len()..]),
        None => text.into(),
    }
}
