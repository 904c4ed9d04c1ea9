//! The verdict on one run, by what can be seen from outside: the practice nodes' own record, the link, the store.

use serde_json::Value;
use testkit::Fact;

use crate::cycle::Cycle;
use crate::world::World;

/// How a run may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// As the cycle says; when a node was killed from outside, also by going back.
    Cycle,
    /// Either way: a call that failed may send the upgrade back.
    Either,
}

/// One life of a node, as it wrote it down.
struct Life {
    pid: u64,
    new: bool,
    begun_ns: u64,
    /// When it ended, and whether it said so itself.
    ended: Option<(u64, bool)>,
    by_signal: bool,
    terms: usize,
    /// Something was killed just after its first SIGTERM: perhaps the keeper, before it had written that down.
    struck_at_term: bool,
}

/// A keeper has written down within this time that it sent a SIGTERM.
const TERM_IS_NOTED_NS: u64 = 20_000_000;

/// Everything that is wrong, in words; to be asked after [`World::stop`]. Nothing wrong: how the upgrade ended.
pub fn verdict(world: &World, expected: Expected) -> Result<String, Vec<String>> {
    let mut wrong = world.watch.seen();
    let lives = lives(world, &mut wrong);
    judge_lives(world, &lives, &mut wrong);
    let outcome = judge_history(world, expected, &lives, &mut wrong);
    if wrong.is_empty() { Ok(outcome) } else { Err(wrong) }
}

fn lives(world: &World, wrong: &mut Vec<String>) -> Vec<Life> {
    let home = &world.home;
    let number = |fact: &Fact, name: &str| fact[name].as_u64().unwrap_or_default();
    let met = home.facts("datadir-locked");
    if !met.is_empty() {
        wrong.push(format!("two nodes on one data directory: {met:?}"));
    }
    let (stops, signals) = (home.facts("stop"), home.facts("signal"));
    let life = |start: &Fact| {
        let pid = number(start, "pid");
        let stop = stops.iter().find(|stop| stop["pid"] == pid);
        let killed =
            world.kills.iter().filter(|kill| u64::from(kill.pid) == pid).map(|kill| kill.at_ns).min();
        let terms: Vec<u64> = signals
            .iter()
            .filter(|signal| signal["pid"] == pid && signal["name"] == "SIGTERM")
            .map(|signal| number(signal, "at_ns"))
            .collect();
        let said = stop.map(|stop| (number(stop, "at_ns"), true));
        Life {
            pid,
            new: start["version"].as_str().is_some_and(|version| version.contains("v2.0.0")),
            begun_ns: number(start, "at_ns"),
            ended: said.or(killed.map(|at| (at, false))),
            by_signal: stop.is_some_and(|stop| stop["by"] == "signal"),
            terms: terms.len(),
            struck_at_term: terms.first().is_some_and(|first| {
                let just_then = *first..*first + TERM_IS_NOTED_NS;
                world.kills.iter().any(|kill| just_then.contains(&kill.at_ns))
            }),
        }
    };
    let starts = home.facts("start");
    for start in &starts {
        let env = start["env"].as_object();
        if env.is_some_and(|env| env.contains_key("WEMIXVISOR_TRIAL")) {
            wrong.push("a node has the orders in its environment".into());
        }
    }
    starts.iter().map(life).collect()
}

fn judge_lives(world: &World, lives: &[Life], wrong: &mut Vec<String>) {
    // A node that is stopped in its first milliseconds has no handler yet: SIGTERM itself ends it, unseen by the node.
    let mut early = world.home.supervisor_said().matches("stopped as asked (killed by SIGTERM)").count();
    for (place, life) in lives.iter().enumerate() {
        let Life { pid, terms, .. } = life;
        let most = if world.term_in_doubt || life.struck_at_term { 2 } else { 1 };
        if *terms > most {
            wrong.push(format!("node {pid} was sent {terms} SIGTERM"));
        }
        match life.ended {
            // Whoever hangs after its SIGTERM is to be killed.
            None if world.cycle == Cycle::Hangs && !life.new && *terms > 0 => continue,
            None if early > 0 && *terms == 0 => early -= 1,
            None => wrong.push(format!("node {pid} ended uncleanly, and not by us")),
            Some(_) if life.by_signal && *terms == 0 => {
                wrong.push(format!("node {pid} stopped by a signal that was no SIGTERM"));
            }
            Some((at, _)) => {
                if let Some(next) = lives.get(place + 1).filter(|next| next.begun_ns < at) {
                    wrong.push(format!("node {} was started before node {pid} had ended", next.pid));
                }
            }
        }
    }
    let turns = lives.windows(2).filter(|pair| pair[0].new != pair[1].new).count();
    if turns > 2 || lives.first().is_some_and(|life| life.new) {
        let story: Vec<_> = lives.iter().map(|life| if life.new { "new" } else { "old" }).collect();
        wrong.push(format!("carried out more than once: {story:?}"));
    }
}

fn judge_history(world: &World, expected: Expected, lives: &[Life], wrong: &mut Vec<String>) -> String {
    let history = match world.history() {
        Ok(history) => history,
        Err(error) => {
            wrong.push(error);
            return String::new();
        }
    };
    if history.len() != 1 {
        wrong.push(format!("{} finished upgrades instead of one: {history:?}", history.len()));
    }
    let outcome = history.first().and_then(|entry| entry["outcome"].as_str()).unwrap_or("none").to_owned();
    let may = match (expected, world.node_killed) {
        (Expected::Cycle, false) => outcome == world.cycle.outcome(),
        // The way back's own check may be cut short, too: then the restart policy has the old program running.
        _ => matches!(outcome.as_str(), "committed" | "rolled_back" | "rollback_failed"),
    };
    let never_works = matches!(world.cycle, Cycle::Bad | Cycle::Dies | Cycle::Stands);
    if !may || (never_works && outcome == "committed") {
        wrong.push(format!("it ended as {outcome}: {}", history.first().unwrap_or(&Value::Null)));
    }
    let committed = outcome == "committed";
    let current = world.home.current();
    if current.as_deref() != Some(if committed { "v2" } else { "genesis" }) {
        wrong.push(format!("it ended as {outcome}, but current points to {current:?}"));
    }
    if lives.last().is_some_and(|last| last.new != committed) {
        wrong.push(format!("it ended as {outcome}, but the other program ran last"));
    }
    if !world.home.plans().is_empty() {
        wrong.push(format!("the plan is still in the file: {:?}", world.home.plans()));
    }
    outcome
}
