//! What must not be shown to everybody who may look: passwords, tokens and keys in arguments and variables.

use std::collections::BTreeMap;

use wemixvisor_core::settings::redacted;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// A flag or variable with one of these in its name has a secret for its value: geth's `--nodekeyhex`,
/// `--metrics.influxdb.password`, `--ethstats name:secret@host` and their like.
const NAMES: [&str; 7] = ["nodekeyhex", "password", "passwd", "secret", "token", "apikey", "ethstats"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    NAMES.iter().any(|secret| name.contains(secret))
}

/// Arguments without the secrets in them.
pub(super) fn args(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut follows = false;
    let shown = |arg: String| {
        let hidden = std::mem::take(&mut follows);
        let is_flag = arg.starts_with('-');
        match arg.split_once('=') {
            Some((name, _)) if is_flag && is_secret(name) => format!("{name}={HIDDEN}"),
            _ if is_flag => {
                follows = is_secret(&arg);
                address(&arg)
            }
            _ if hidden => HIDDEN.into(),
            _ => address(&arg),
        }
    };
    args.into_iter().map(shown).collect()
}

/// Variables without the secrets in them.
pub(super) fn env(env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |(name, value): (String, String)| {
        let value = if is_secret(&name) { HIDDEN.into() } else { address(&value) };
        (name, value)
    };
    env.into_iter().map(shown).collect()
}

/// An address without a password. The name in `enode://name@host` is public.
pub(super) fn address(text: &str) -> String {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| scheme.ends_with("enode")) { text.into() } else { redacted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let line = "--datadir /data --nodekeyhex 1234 --metrics.influxdb.password=abc --ethstats me:abc@host --password \
                    --mine --bootnodes enode://ab@1.2.3.4:1 --x=https://me:abc@h/p node";
        let shown = args(line.split_whitespace().map(str::to_owned)).join(" ");
        let wanted = "--datadir /data --nodekeyhex *** --metrics.influxdb.password=*** --ethstats *** --password \
                      --mine --bootnodes enode://ab@1.2.3.4:1 --x=https://***@h/p node";
        assert_eq!(shown, wanted);
        let vars = [("API_KEY", "abc"), ("DB_PASSWORD", "abc"), ("GOGC", "50"), ("PROXY", "http://a:b@h")];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let values: Vec<String> = env(vars.into()).into_values().collect();
        assert_eq!(values, [HIDDEN, HIDDEN, "50", "http://***@h"]);
    }
}
