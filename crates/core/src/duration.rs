//! Lengths of time as people write them: `300ms`, `30s`, `5m`, `1h`, `0`.

use std::time::Duration;

use crate::time::millis;

/// The longest length of time that can be set: a year. It keeps every sum of a moment and a length far from
/// any overflow, and catches a slip of the unit.
pub const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// The units, the greatest first, with their milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A text that is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// Not a whole number and a unit.
    #[error("not a duration: a whole number with ms, s, m or h, or 0")]
    Form,
    /// A number, other than 0, without a unit.
    #[error("a duration needs a unit: {0}ms, {0}s, {0}m or {0}h")]
    NoUnit(String),
    /// More than [`MAX_DURATION`].
    #[error("longer than the longest duration, 8760h")]
    TooLong,
}

/// Reads a length of time: a whole number directly followed by `ms`, `s`, `m` or `h`; or `0`.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(BadDuration::Form);
    }
    if unit.is_empty() {
        let zero = number.bytes().all(|digit| digit == b'0');
        return if zero { Ok(Duration::ZERO) } else { Err(BadDuration::NoUnit(number.into())) };
    }
    let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(BadDuration::Form)?;
    let number: u64 = number.parse().map_err(|_| BadDuration::TooLong)?;
    let length = Duration::from_millis(number.checked_mul(unit).ok_or(BadDuration::TooLong)?);
    if length > MAX_DURATION { Err(BadDuration::TooLong) } else { Ok(length) }
}

/// Writes a length of time with the greatest unit that keeps it whole; [`parse`] reads it back. Parts of a
/// millisecond are left out.
pub fn show(length: Duration) -> String {
    match millis(length) {
        0 => "0".into(),
        ms => {
            let unit = UNITS.into_iter().find(|(_, unit)| ms.is_multiple_of(*unit));
            let (name, unit) = unit.unwrap_or(("ms", 1));
            format!("{}{name}", ms / unit)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, ms) in [
            ("0", 0),
            ("00", 0),
            ("0s", 0),
            ("300ms", 300),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("007s", 7_000),
            ("8760h", 8760 * 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", " ", "s", "-1s", "+1s", "1.5s", "1 s", " 1s", "1s ", "1S", "1d", "1h30m", "1us", "٣s", "inf"]
        {
            assert_eq!(parse(text), Err(BadDuration::Form), "{text:?}");
        }
        assert_eq!(parse("30"), Err(BadDuration::NoUnit("30".into())));
        for text in ["8761h", "31536000001ms", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(text), Err(BadDuration::TooLong), "{text}");
        }
        assert!(BadDuration::TooLong.to_string().contains(&show(MAX_DURATION)));
    }

    #[test]
    fn the_greatest_whole_unit_is_shown() {
        for text in ["0", "1ms", "999ms", "1s", "1001ms", "90s", "2m", "90m", "1h", "25h"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(show(Duration::from_secs(60)), "1m");
        assert_eq!(show(Duration::from_micros(1500)), "1ms");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0u64..=365 * 24 * 3_600_000) {
            let length = Duration::from_millis(ms);
            prop_assert_eq!(parse(&show(length)), Ok(length));
        }

        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = parse(&text);
        }
    }
}
