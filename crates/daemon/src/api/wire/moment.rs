//! A moment as it goes over the wire: `2026-01-31T12:00:00.123Z`.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use wemixvisor_core::time::WallMs;

/// Milliseconds since 1970-01-01 UTC; written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl From<WallMs> for Moment {
    fn from(at: WallMs) -> Self {
        Self(at.0)
    }
}

impl Moment {
    /// Now.
    #[allow(clippy::disallowed_methods)] // Said to people; nothing is decided by it.
    pub(crate) fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// The same for the calendar; a moment beyond the year 9999 is its end.
    pub fn timestamp(self) -> jiff::Timestamp {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(format))
            .description(Some("A moment in UTC, with milliseconds."))
            .examples([Self(1_769_860_800_123).to_string()])
            .into()
    }
}

impl ToSchema for Moment {}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let at = jiff::Timestamp::from_str(&text).map_err(D::Error::custom)?;
        Ok(Self(u64::try_from(at.as_millisecond()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc_3339_and_read_back() {
        for (ms, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_769_860_800_123, "2026-01-31T12:00:00.123Z")] {
            assert_eq!(Moment(ms).to_string(), text);
            let json = serde_json::to_string(&Moment(ms)).unwrap();
            assert_eq!(serde_json::from_str::<Moment>(&json).unwrap(), Moment(ms));
        }
        assert_eq!(&Moment(u64::MAX).to_string()[..4], "9999");
    }
}
