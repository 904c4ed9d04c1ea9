//! Numbers as JSON-RPC writes them: `0x` and hex digits.

/// A text that is not a number of up to 64 bits in JSON-RPC's writing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number as 0x and hex digits of at most 64 bits")]
pub struct BadQuantity(pub String);

/// Reads `0x` and hex digits. Leading zeros are tolerated, though the specification forbids them; a sign, blanks,
/// decimal digits without `0x`, no digits at all, and more than 64 bits are refused.
pub fn quantity(text: &str) -> Result<u64, BadQuantity> {
    let bad = || BadQuantity(text.chars().take(80).collect());
    let digits = text.strip_prefix("0x").ok_or_else(bad)?;
    // `from_str_radix` alone would let a sign through.
    if !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(bad());
    }
    u64::from_str_radix(digits, 16).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn what_nodes_write_is_read() {
        for (text, number) in [
            ("0x0", 0),
            ("0x457", 1111),
            ("0x330c0d8", 53_526_744),
            ("0xFf", 255),
            ("0x7fffffffffffffff", i64::MAX as u64),
            ("0xffffffffffffffff", u64::MAX),
            ("0x0000000000000000000001", 1),
        ] {
            assert_eq!(quantity(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "0x",
            "0X1",
            "1",
            "0x+1",
            "0x-1",
            "0x 1",
            " 0x1",
            "0x1 ",
            "nonsense",
            "0xzz",
            "0x10000000000000000",
            "0x١",
        ] {
            assert!(quantity(text).is_err(), "{text:?}");
        }
    }
}
