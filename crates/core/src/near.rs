//! Near matches: what somebody probably meant who wrote a name that does not exist.

/// The most suggestions that are offered: more would be a list, not a hint.
pub const MAX_SUGGESTIONS: usize = 3;

/// Texts longer than this (in characters) are not compared: no name or key is that long.
const MAX_COMPARED: usize = 200;

/// The `known` texts that are close to `wanted`, the closest first, at most [`MAX_SUGGESTIONS`].
///
/// Close means: the same but for case, or reached with at most one edit for each three characters (at least
/// one, at most three edits), where an edit inserts, removes or replaces a character or swaps two neighbours;
/// and not more than one edit further away than the closest.
pub fn near<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = folded(wanted);
    if wanted.is_empty() || wanted.len() > MAX_COMPARED {
        return Vec::new();
    }
    let allowed = (wanted.len() / 3).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let other = folded(candidate);
            let hopeless = other.len().abs_diff(wanted.len()) > allowed;
            let edits = if hopeless { usize::MAX } else { distance(&wanted, &other) };
            (edits <= allowed && edits < wanted.len()).then_some((edits, candidate))
        })
        .collect();
    found.sort();
    found.dedup();
    let enough = found.first().map_or(0, |(edits, _)| edits + 1);
    let close = found.into_iter().take_while(|(edits, _)| *edits <= enough);
    close.take(MAX_SUGGESTIONS).map(|(_, candidate)| candidate).collect()
}

/// The end of an error message that offers `near` matches: ` (did you mean a, b or c?)`; empty for none.
pub fn did_you_mean<T: AsRef<str>>(near: &[T]) -> String {
    match near {
        [] => String::new(),
        [only] => format!(" (did you mean {}?)", only.as_ref()),
        [rest @ .., last] => {
            let rest: Vec<&str> = rest.iter().map(AsRef::as_ref).collect();
            format!(" (did you mean {} or {}?)", rest.join(", "), last.as_ref())
        }
    }
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The number of edits between two texts, by optimal string alignment (no part is edited twice).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edits(a: &str, b: &str) -> usize {
        distance(&folded(a), &folded(b))
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "abcd", 1),
            ("abc", "acb", 1),
            ("ca", "abc", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_closest_come_first_and_strangers_not_at_all() {
        let known = ["v2.0.0", "v2.1.0", "v2.0.1", "v2.0.10", "croissant"];
        assert_eq!(near("V2.0.0", known), ["v2.0.0", "v2.0.1", "v2.0.10"]);
        assert_eq!(near("crossaint", known), ["croissant"]);
        assert_eq!(near("DAEMON_HOEM", ["DAEMON_NAME", "DAEMON_HOME"]), ["DAEMON_HOME"]);
        assert_eq!(near("brioche", known), Vec::<&str>::new());
        assert_eq!(near("", known), Vec::<&str>::new());
        assert_eq!(near("x", ["a", "b"]), Vec::<&str>::new());
        assert_eq!(near(&"v".repeat(201), [&*"v".repeat(201)]), Vec::<&str>::new());
    }

    #[test]
    fn the_hint_reads_well() {
        assert_eq!(did_you_mean::<&str>(&[]), "");
        assert_eq!(did_you_mean(&["a"]), " (did you mean a?)");
        assert_eq!(did_you_mean(&["a", "b"]), " (did you mean a or b?)");
        assert_eq!(did_you_mean(&["a", "b", "c"]), " (did you mean a, b or c?)");
    }

    proptest! {
        #[test]
        fn the_distance_is_symmetric_and_bounded(a in ".{0,20}", b in ".{0,20}") {
            let (a, b) = (folded(&a), folded(&b));
            let there = distance(&a, &b);
            prop_assert_eq!(there, distance(&b, &a));
            prop_assert!(there <= a.len().max(b.len()) && there >= a.len().abs_diff(b.len()));
            prop_assert_eq!(there == 0, a == b);
        }

        #[test]
        fn one_slip_is_always_found(name in "[a-z]{3,20}", at in 0usize..20) {
            let mut slipped = name.clone();
            slipped.remove(at % name.len());
            prop_assert_eq!(near(&slipped, [name.as_str()]), vec![name.as_str()]);
        }
    }
}
