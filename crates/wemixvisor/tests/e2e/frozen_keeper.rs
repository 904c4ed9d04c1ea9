//! The keeper stands still (SIGSTOP) while the node is to be stopped.

use serde_json::json;
use testkit::{Program, Signal, TestHome, processes};

use crate::{empty_home, home};

/// The grace passes, and SIGKILL would be next.
fn restarts_under_a_keeper_that_stands_still(home: &TestHome, keeper: u32) {
    assert!(processes::signal(keeper, home.root(), Signal::STOP));
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    home.wait("the supervisor says what it waits for", || {
        home.supervisor_said().contains("the keeper has not confirmed SIGTERM").then_some(())
    });
}

#[test]
fn a_keeper_that_stands_still_costs_the_node_neither_its_sigterm_nor_its_grace() {
    let home = empty_home();
    home.set("node.shutdown_grace", "6s");
    // It writes for 3 s after its SIGTERM, without any sign of work.
    home.init(&Program::practice("1.0.0").with("--stop-takes=3s").with("--block-time=100ms"));
    let supervisor = home.start();
    home.sees_head(1);
    let (node, keeper) = (home.node(), home.keeper());
    restarts_under_a_keeper_that_stands_still(&home, keeper);
    let said = home.supervisor_said();
    assert!(said.contains("SIGTERM was not delivered to the node"), "{said}");
    assert!(node.runs() && home.signals(node.pid, "SIGTERM") == 0);
    assert_eq!((home.nodes(), home.started().len()), (vec![node.pid], 1), "no second node");
    assert_eq!(home.status().unwrap()["node"]["state"], "stopping");

    assert!(processes::signal(keeper, home.root(), Signal::CONT));
    home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    let stop = home.facts("stop").into_iter().find(|fact| fact["pid"] == node.pid);
    assert_eq!(stop.expect("it stopped in order and was not killed")["exit"], json!(0));
    assert_eq!((home.signals(node.pid, "SIGTERM"), home.started().len()), (1, 2));
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
}

#[test]
fn an_order_to_stop_that_comes_late_finds_no_other_node() {
    let home = empty_home();
    home.set("node.shutdown_grace", "3s");
    home.init(&Program::practice("1.0.0").with("--block-time=100ms"));
    let supervisor = home.start();
    home.sees_head(1);
    let (node, keeper) = (home.node(), home.keeper());
    // The order is given again and again, to a keeper that takes all of them when it goes on.
    restarts_under_a_keeper_that_stands_still(&home, keeper);
    assert!(processes::signal(keeper, home.root(), Signal::CONT));
    let next = home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    let begun = home.sees("it makes blocks", |status| {
        status["node"]["pid"] == next.pid && status["chain"]["head"].as_u64() >= Some(1)
    });
    home.sees_head(begun["chain"]["head"].as_u64().unwrap() + 40);
    assert_eq!((home.signals(node.pid, "SIGTERM"), home.signals(next.pid, "SIGTERM")), (1, 0));
    assert_eq!((home.nodes(), home.started().len()), (vec![next.pid], 2));
    assert_eq!(supervisor.stop(), 0);
    home.is_deserted();
}

#[test]
fn a_keeper_that_stands_still_is_told_until_it_goes_on() {
    let home = home();
    let supervisor = home.start();
    home.sees_head(1);
    let (node, keeper) = (home.node(), home.keeper());
    let told = |what: &str, wanted: bool| {
        home.sees(what, |status| {
            let alerts = status["alerts"].as_array().into_iter().flatten();
            alerts.into_iter().any(|alert| alert["kind"] == "keeper") == wanted
        })
    };
    assert!(processes::signal(keeper, home.root(), Signal::STOP));
    let status = told("the keeper is named", true);
    assert_eq!(status["verdict"], "attention", "{status:#}");
    let said = home.cli(&["status"]).expect(0).out;
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("its keeper is stopped") || words.contains("2 things need you"), "{said}");
    let cause = format!("keeper (pid {keeper}) is stopped (SIGSTOP)");
    assert!(words.contains(&cause) && words.contains(&format!("kill -CONT {keeper}")), "{said}");
    // It goes on being told while an order waits for the keeper.
    let (code, _) = home.ask("POST", "/api/v1/node/restart", None).unwrap();
    assert_eq!(code, 202);
    let status = home.sees("the stop", |status| status["node"]["state"] == "stopping");
    assert!(status["alerts"].to_string().contains(&cause), "{status:#}");
    assert!(processes::signal(keeper, home.root(), Signal::CONT));
    home.wait("the next node", || home.node_now().filter(|next| next.pid != node.pid));
    told("it goes on", false);
    // Nor does an end that it holds up go without the cause.
    assert!(processes::signal(keeper, home.root(), Signal::STOP));
    supervisor.signal(Signal::TERM);
    home.sees("the end is under way", |status| status["shutting_down"] == true);
    told("the keeper is named again", true);
    assert!(processes::signal(keeper, home.root(), Signal::CONT));
    let mut supervisor = supervisor;
    assert_eq!(supervisor.ends(), 0);
    home.is_deserted();
}
