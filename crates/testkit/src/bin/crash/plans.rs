//! Which runs are made: every place that a cycle passes, or moments drawn by a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use testkit::Signal;

use crate::cycle::Cycle;
use crate::faults;
use crate::trial::{Blow, Deed, Moment, Run, Strike};
use crate::world::Victims;

/// Of a place that is passed more often than this, the first passages, a middle one and the last are taken.
const FIRST: u64 = 3;

/// Kills come up to so many tenths of a cycle after a start: issue 4.
const TENTHS: u32 = 11;

/// The last moment of a first blow is this much of all of them: of 100 blows so many are SIGKILL.
const KILLS_OF_100: u8 = 85;

/// Kills during the recovery, one after the other: at most so many.
const DEEPEST: u8 = 5;

/// What a cycle passed when nothing was done to it: process and place, in order.
pub type Passages = Vec<(u32, String)>;

const EVERYBODY: Victims = Victims { supervisor: true, keeper: true, node: true };
const NOBODY: Victims = Victims { supervisor: false, keeper: false, node: false };

/// The combinations for a place: whoever passes it, alone and with others.
fn combinations(place: &str) -> [Victims; 4] {
    let all = EVERYBODY;
    let (s, k, n) = (
        Victims { supervisor: true, ..NOBODY },
        Victims { keeper: true, ..NOBODY },
        Victims { node: true, ..NOBODY },
    );
    let and = |a: Victims, b: Victims| Victims {
        supervisor: a.supervisor || b.supervisor,
        keeper: a.keeper || b.keeper,
        node: a.node || b.node,
    };
    match place {
        "keeper.spawn.forked" => [n, and(n, k), and(n, s), all],
        place if place.starts_with("keeper.") => [k, and(k, s), and(k, n), all],
        _ => [s, and(s, k), and(s, n), all],
    }
}

/// The passages worth a run: per place, the numbers. A process that is started anew counts anew; the orders are
/// obeyed by the first one, so only its passages count.
pub fn chosen(passages: &Passages) -> BTreeMap<String, BTreeSet<u64>> {
    let mut counts: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    for (pid, place) in passages {
        *counts.entry(place.clone()).or_default().entry(*pid).or_default() += 1;
    }
    let pick = |most: u64| (1..=most.min(FIRST)).chain([most.div_ceil(2), most]).collect();
    counts.into_iter().map(|(place, by)| (place, pick(by.into_values().max().unwrap_or(1)))).collect()
}

/// Every crash point with every combination, in every cycle; in the others only what the good one does not pass.
pub fn points(passed: &BTreeMap<Cycle, Passages>) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut seen: BTreeSet<(String, u64)> = BTreeSet::new();
    for (cycle, passages) in passed {
        for (place, numbers) in chosen(passages) {
            if place.starts_with("call:") {
                continue;
            }
            for nth in numbers {
                if !seen.insert((place.clone(), nth)) {
                    continue;
                }
                for victims in combinations(&place) {
                    let deed = Deed::Strikes(vec![Strike { point: place.clone(), nth, victims }]);
                    runs.push(Run { name: format!("{cycle}/{place}#{nth}/{victims}"), cycle: *cycle, deed });
                }
            }
        }
    }
    runs
}

/// Where the first blow falls when the recovery is to be struck: before the stop, in the downtime, in probation, and
/// on the way back.
const FIRST_BLOWS: [(Cycle, &str); 5] = [
    (Cycle::Good, "effect.terminate.after"),
    (Cycle::Good, "batch.switch-the-link-begun.after"),
    (Cycle::Good, "launch.asked"),
    (Cycle::Good, "batch.prove-the-new-program-begun.after"),
    (Cycle::Bad, "batch.start-the-old-program-begun.after"),
];

/// The first blow of each kind of recovery: supervisor and keeper together, so that a new keeper takes the node over.
fn first_blow(point: &str) -> Strike {
    let nth = if point == "launch.asked" { 2 } else { 1 };
    Strike { point: point.to_owned(), nth, victims: Victims { supervisor: true, keeper: true, ..NOBODY } }
}

/// The first blows alone: what is passed after them is what a recovery passes.
pub fn first_blows() -> Vec<Run> {
    let run = |(cycle, point): (Cycle, &str)| {
        let name = format!("{cycle}/{point}/recovery-as-it-is");
        Run { name, cycle, deed: Deed::Strikes(vec![first_blow(point)]) }
    };
    FIRST_BLOWS.into_iter().map(run).collect()
}

/// Every crash point of a recovery with every combination, after the first blow. `passed` is in the order of
/// [`first_blows`].
pub fn recoveries(passed: &[Passages]) -> Vec<Run> {
    let mut runs = Vec::new();
    for ((cycle, first), passages) in FIRST_BLOWS.into_iter().zip(passed) {
        let struck = passages.iter().position(|(_, place)| place.ends_with(" stop")).unwrap_or_default();
        let after = passages[struck + 1..].to_vec();
        for (place, numbers) in chosen(&after) {
            // Passages before the first blow are struck by another plan; here the first one of each place will do.
            if place.starts_with("call:") || !numbers.contains(&1) {
                continue;
            }
            for victims in combinations(&place) {
                let second = Strike { point: place.clone(), nth: 1, victims };
                let name = format!("{cycle}/{first}#SK/{place}#1/{victims}");
                runs.push(Run { name, cycle, deed: Deed::Strikes(vec![first_blow(first), second]) });
            }
        }
    }
    runs
}

/// A power failure at every crash point of the supervisor and the keeper, with the keeper's notes kept or lost.
pub fn power(passed: &BTreeMap<Cycle, Passages>) -> Vec<Run> {
    let mut places: Vec<(Cycle, String, u64)> = Vec::new();
    for run in points(passed) {
        if let Deed::Strikes(strikes) = run.deed
            && let [Strike { point, nth, victims }] = &strikes[..]
            && *victims == EVERYBODY
        {
            places.push((run.cycle, point.clone(), *nth));
        }
    }
    let deeds = places.into_iter().flat_map(|(cycle, point, nth)| {
        [true, false].map(|keep_notes| {
            let notes = if keep_notes { "notes" } else { "no-notes" };
            let name = format!("{cycle}/{point}#{nth}/power-{notes}");
            Run { name, cycle, deed: Deed::Power { point: point.clone(), nth, keep_notes } }
        })
    });
    deeds.collect()
}

/// Every call that can fail: its n-th time, once and lasting, with every error that it can give.
pub fn faulty(passed: &BTreeMap<Cycle, Passages>) -> Vec<Run> {
    let mut runs = Vec::new();
    for cycle in [Cycle::Good, Cycle::Bad] {
        for (place, numbers) in passed.get(&cycle).map(chosen).unwrap_or_default() {
            let Some(call) = place.strip_prefix("call:") else { continue };
            // Back is the only part of the bad cycle that the good one has not.
            let new = numbers.into_iter().filter(|nth| cycle == Cycle::Good || *nth > FIRST);
            for nth in new {
                for times in [1, faults::LASTING] {
                    for error in faults::errors(call) {
                        let length = if times == 1 { "once" } else { "lasting" };
                        let name = format!("{cycle}/{call}#{nth}/{error}-{length}");
                        let deed = Deed::Fault { call: call.to_owned(), nth, times, error };
                        runs.push(Run { name, cycle, deed });
                    }
                }
            }
        }
    }
    runs
}

/// The run of this name, whether or not this machine's undisturbed cycle passes its place so often: `good/link.made#2/SK`,
/// `good/effect.terminate.after#SK/boot.store#1/S`, `good/store.commit#3/EIO-once`, `bad/link.made#1/power-no-notes`.
pub fn named(name: &str) -> Option<Run> {
    let parts: Vec<&str> = name.split('/').collect();
    let cycle = Cycle::ALL.into_iter().find(|cycle| cycle.to_string() == parts[0])?;
    let (&last, places) = parts.get(1..)?.split_last()?;
    let (place, nth) = places.last()?.split_once('#')?;
    let (place, nth) = (place.to_owned(), nth.parse().ok()?);
    let deed = if let Some(notes) = last.strip_prefix("power-") {
        Deed::Power { point: place, nth, keep_notes: notes == "notes" }
    } else if let Some((error, length)) = last.split_once('-') {
        let error = faults::errors(&place).iter().find(|known| **known == error)?;
        Deed::Fault { call: place, nth, times: if length == "once" { 1 } else { faults::LASTING }, error }
    } else {
        let dies = |letter| last.contains(letter);
        let victims = Victims { supervisor: dies('S'), keeper: dies('K'), node: dies('N') };
        let first = places.len() == 2;
        let before = first.then(|| first_blow(places[0].trim_end_matches("#SK")));
        Deed::Strikes(before.into_iter().chain([Strike { point: place, nth, victims }]).collect())
    };
    Some(Run { name: name.to_owned(), cycle, deed })
}

/// Random moments: `number` runs, every sixth with further kills during the recovery.
pub fn random(number: u64, seed: u64, length: Duration) -> Vec<Run> {
    (0..number).map(|index| drawn(index, seed, length)).collect()
}

fn drawn(index: u64, seed: u64, length: Duration) -> Run {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let deep = index % 6 == 5;
    let cycle = Cycle::ALL[random.usize(0..Cycle::ALL.len())];
    let blows = if deep { random.u8(2..=DEEPEST) } else { 1 };
    let latest = length * TENTHS / 10;
    let moments =
        (0..blows).map(|_| Moment { after: latest.mul_f64(random.f64()), what: blow(&mut random) }).collect();
    let name = format!("random/{index}/{cycle}{}", if deep { "/deep" } else { "" });
    Run { name, cycle, deed: Deed::Moments(moments) }
}

fn blow(random: &mut fastrand::Rng) -> Blow {
    if random.u8(0..100) < KILLS_OF_100 {
        let mask = random.u8(1..8);
        return Blow::Kill(Victims { supervisor: mask & 1 != 0, keeper: mask & 2 != 0, node: mask & 4 != 0 });
    }
    match random.u8(0..4) {
        0 => Blow::Signal(Signal::TERM),
        1 => Blow::Signal(Signal::ABORT),
        2 => Blow::Signal(Signal::INT),
        _ => Blow::Freeze(Duration::from_millis(random.u64(1..500))),
    }
}
