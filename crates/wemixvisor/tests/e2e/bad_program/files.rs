//! The file of the new program cannot be the one that was meant: said long before the height, and at the height the
//! old node is left alone.

use serde_json::{Value, json};
use testkit::{Program, TestHome};

use super::{alerts, practice};
use crate::{home, home_by_order};

const UPGRADE: &str = "v2";

/// So far away that nobody is in a hurry.
const HEIGHT: u64 = 10_000;

/// The status once the plan was found not to be ready.
fn not_ready(home: &TestHome) -> Value {
    home.sees("the upgrade is not ready", |status| status["upgrades"][0]["ready"] == false)
}

fn problems(upgrade: &Value) -> String {
    let findings = upgrade["findings"].as_array().expect("a list");
    let failed = findings.iter().filter(|finding| finding["state"] == "failed");
    failed.filter_map(|finding| finding["detail"].as_str()).collect::<Vec<_>>().join("; ")
}

/// The height passes, and the old node goes on as if nothing had been.
fn height_passes_without_a_stop(home: &TestHome, word: &str) {
    let node = home.node();
    node.set_head(HEIGHT + 1);
    let status = home.sees("the upgrade is blocked", |status| status["upgrades"][0]["blocked"].is_string());
    let why = status["upgrades"][0]["blocked"].as_str().expect("a reason");
    assert!(why.contains(word), "{why}");
    assert_eq!(alerts(home, "blocked").len(), 1);
    node.mine(2);
    home.sees_head(HEIGHT + 3);
    assert!(node.runs() && home.facts("signal").is_empty());
    assert_eq!((home.started(), home.current().as_deref()), (vec!["1.0.0".to_owned()], Some("genesis")));
    assert!(home.history().is_empty() && home.plans().len() == 1);
}

fn height_passes_in_vain(unfit: &Program, word: &str) {
    let home = home_by_order();
    home.install(UPGRADE, unfit);
    stays(&home, word);
}

fn stays(home: &TestHome, word: &str) {
    home.plan(UPGRADE, HEIGHT);
    let _supervisor = home.start();
    let status = not_ready(home);
    let said = problems(&status["upgrades"][0]);
    assert!(said.contains(word), "{said}");
    assert_eq!(alerts(home, "not_ready").len(), 1);
    assert_eq!(status["chain"]["head"].as_u64().unwrap_or(0), 0, "long before the height");
    height_passes_without_a_stop(home, word);
}

#[test]
fn d25_a_missing_program() {
    let home = home_by_order();
    std::fs::remove_file(home.program(UPGRADE)).unwrap();
    home.plan(UPGRADE, HEIGHT);
    let _supervisor = home.start();
    let said = problems(&not_ready(&home)["upgrades"][0]);
    assert!(said.contains("there is no program at"), "{said}");
    height_passes_without_a_stop(&home, "there is no program at");
    // Late is better than never: it happens as soon as the program is there.
    home.install(UPGRADE, &practice("2.0.0"));
    home.committed(UPGRADE);
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
    let status = home.sees("all is well again", |status| status["verdict"] == "ok");
    assert_eq!(status["alerts"], json!([]));
}

#[test]
fn d25_a_program_that_is_not_executable() {
    height_passes_in_vain(&practice("2.0.0").mode(0o644), "is not executable");
}

#[test]
fn d25_a_truncated_program() {
    let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    height_passes_in_vain(&Program::bytes(&whole[..whole.len() / 2]), "is truncated");
}

#[test]
fn d25_an_empty_program() {
    height_passes_in_vain(&Program::bytes(""), "is empty");
}

#[test]
fn d25_a_web_page_saved_under_its_name() {
    let page = "\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n";
    height_passes_in_vain(&Program::bytes(page), "is a web page");
}

#[test]
fn d25_a_script_without_interpreter() {
    height_passes_in_vain(
        &Program::bytes("#!/opt/no/such/shell -e\nexec true\n"),
        "is a script for /opt/no/such/shell",
    );
}

#[test]
fn d25_text_that_is_no_script() {
    height_passes_in_vain(&Program::bytes("exec gwemix \"$@\"\n"), "is neither an executable");
}

fn sha256(file: &std::path::Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

fn plan_with_checksum(home: &TestHome, sum: &str) {
    let plan =
        json!({"name": UPGRADE, "height": HEIGHT, "info": {"checksums": {"any": format!("sha256:{sum}")}}});
    home.write_plans(&plan.to_string());
}

#[test]
fn d25_a_wrong_checksum() {
    let home = home_by_order();
    plan_with_checksum(&home, &"ab".repeat(32));
    let _supervisor = home.start();
    let said = problems(&not_ready(&home)["upgrades"][0]);
    assert!(said.contains("is not the program that the plan names"), "{said}");
    height_passes_without_a_stop(&home, "is not the program that the plan names");
    plan_with_checksum(&home, &sha256(&home.program(UPGRADE)));
    home.committed(UPGRADE);
}

#[test]
fn d25_a_program_changed_after_it_was_verified() {
    let home = home_by_order();
    plan_with_checksum(&home, &sha256(&home.program(UPGRADE)));
    let _supervisor = home.start();
    home.sees("the upgrade is ready", |status| status["upgrades"][0]["ready"] == true);
    home.install(UPGRADE, &practice("2.0.1"));
    height_passes_without_a_stop(&home, "is not the program that the plan names");
    home.install(UPGRADE, &Program::practice("2.0.0").with("--block-time=100ms"));
    home.committed(UPGRADE);
    assert_eq!(home.started(), ["1.0.0", "2.0.0"]);
}

/// The last moment at which it can change: the old node is stopped already, the new one not yet started.
#[test]
fn d25_a_program_changed_between_the_stop_and_the_start_is_never_run() {
    let home = home();
    home.hook(
        UPGRADE,
        "pre-upgrade",
        "#!/bin/sh\necho '# one more line' >>\"$DAEMON_HOME/wemixvisor/upgrades/v2/bin/gwemix\"\n",
    );
    home.plan(UPGRADE, 8);
    let _supervisor = home.start();
    let entry = home.finished(UPGRADE);
    assert_eq!((&entry["outcome"], &entry["trouble"]), (&json!("rolled_back"), &Value::Null), "{entry:#}");
    assert!(entry["reason"].as_str().unwrap().contains("was changed after it was verified"), "{entry:#}");
    assert_eq!(
        (home.started().as_slice(), home.current().as_deref()),
        (["1.0.0".to_owned(), "1.0.0".to_owned()].as_slice(), Some("genesis"))
    );
}
