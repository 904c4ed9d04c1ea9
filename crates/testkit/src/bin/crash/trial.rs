//! One run: what is done to the world, and its verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::Signal;

use crate::cycle::Cycle;
use crate::judge::{self, Expected};
use crate::world::{SETTLED_WITHIN, Victims, World};

/// Until an order is obeyed. An order that nobody obeys is found out by everything being settled.
const REACHED_WITHIN: Duration = Duration::from_secs(60);

/// What is done to the world.
#[derive(Debug, Clone)]
pub enum Deed {
    /// At crash points, one after the other, whoever is meant dies.
    Strikes(Vec<Strike>),
    /// At random moments somebody dies, or is disturbed; the moments count from the start before.
    Moments(Vec<Moment>),
    /// From the n-th call on, so many calls fail.
    Fault { call: String, nth: u64, times: u64, error: &'static str },
    /// At the n-th passage the power fails.
    Power { point: String, nth: u64, keep_notes: bool },
    /// Nothing: the cycle as it is.
    Nothing,
}

/// At the n-th passage of a crash point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    pub point: String,
    pub nth: u64,
    pub victims: Victims,
}

/// What happens at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub after: Duration,
    pub what: Blow,
}

#[derive(Debug, Clone, Copy)]
pub enum Blow {
    Kill(Victims),
    /// Another signal for the supervisor.
    Signal(Signal),
    /// The supervisor stands still for so long.
    Freeze(Duration),
}

/// One run to be made.
#[derive(Debug, Clone)]
pub struct Run {
    /// By this it is found again.
    pub name: String,
    pub cycle: Cycle,
    pub deed: Deed,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub name: String,
    /// How the upgrade ended, or everything that was wrong.
    pub verdict: Result<String, Vec<String>>,
    /// Whether the place was reached.
    pub reached: bool,
    /// From the last start to settled.
    pub settled: Duration,
    /// What was passed, as pairs of process and place, in order.
    pub passages: Vec<(u32, String)>,
    /// Whether a fault that was met was told to somebody.
    pub told: bool,
}

impl Run {
    /// Makes the run. What is left of a bad one is kept under `evidence`.
    pub fn make(&self, program: &Path, evidence: &Path) -> Report {
        let mut report = Report {
            name: self.name.clone(),
            verdict: Err(vec!["the driver itself failed".into()]),
            reached: false,
            settled: Duration::ZERO,
            passages: Vec::new(),
            told: true,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(program, self.cycle);
            self.in_world(&mut world, &mut report);
            if report.verdict.is_err() {
                keep(&world, evidence, &report);
            }
        }));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            report.verdict = Err(vec![format!("the driver failed: {}", text.unwrap_or_default())]);
        }
        report
    }

    fn in_world(&self, world: &mut World, report: &mut Report) {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let begun = self.play(world)?;
            report.settled = begun.elapsed();
            world.stop()
        }));
        let done = done.unwrap_or_else(|panic| {
            Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "the driver panicked".into()))
        });
        report.reached = match self.deed {
            Deed::Fault { .. } => {
                world.passages().iter().any(|(_, place)| place.starts_with("call:") && place.contains(' '))
            }
            _ => world.crashed(),
        };
        report.passages = world.passages();
        let expected =
            if matches!(self.deed, Deed::Fault { .. }) { Expected::Either } else { Expected::Cycle };
        report.verdict = done.map_err(|error| vec![error]).and_then(|()| judge::verdict(world, expected));
        if let (Deed::Fault { .. }, true, Ok(_)) = (&self.deed, report.reached, &report.verdict) {
            crate::faults::judge(self, world, report);
        }
    }

    /// The answer is when it was started for the last time.
    fn play(&self, world: &mut World) -> Result<Instant, String> {
        let mut begun = Instant::now();
        match &self.deed {
            Deed::Nothing => world.start()?,
            Deed::Strikes(strikes) => {
                for (place, Strike { point, nth, victims }) in strikes.iter().enumerate() {
                    // Who dies alone kills itself; several die together from outside, while the one stands still there.
                    let alone = victims.to_string().len() == 1;
                    world.forget_crash();
                    world.order("crash", &format!("{point}#{nth} {}", if alone { "kill" } else { "stop" }));
                    if place == 0 {
                        world.start()?;
                    }
                    let settled = world.go_on(REACHED_WITHIN, World::crashed)?;
                    if settled && !world.crashed() {
                        // What is not passed before is passed while it ends, or not at all.
                        world.told_to_end(World::crashed)?;
                    }
                    begun = Instant::now();
                    if !world.crashed() {
                        return Ok(begun);
                    }
                    world.term_in_doubt |= point == "keeper.term.sent" && victims.keeper && !victims.node;
                    world.struck(*victims, alone);
                }
            }
            Deed::Power { point, nth, keep_notes } => {
                world.order("crash", &format!("{point}#{nth} stop"));
                world.start()?;
                let settled = world.go_on(REACHED_WITHIN, World::crashed)?;
                if settled && !world.crashed() {
                    world.told_to_end(World::crashed)?;
                }
                begun = Instant::now();
                if !world.crashed() {
                    return Ok(begun);
                }
                world.power_failure(*keep_notes);
            }
            Deed::Moments(moments) => {
                world.start()?;
                for Moment { after, what } in moments {
                    let moment = Instant::now() + *after;
                    world.go_on(*after + SETTLED_WITHIN, |_| Instant::now() >= moment)?;
                    world.wait_until(moment);
                    begun = Instant::now();
                    match *what {
                        Blow::Kill(victims) => world.kill(victims),
                        Blow::Signal(signal) => world.signal(signal),
                        Blow::Freeze(time) => {
                            world.signal(Signal::STOP);
                            world.wait_until(Instant::now() + time);
                            world.signal(Signal::CONT);
                        }
                    }
                }
            }
            Deed::Fault { call, nth, times, error } => {
                world.order("fault", &format!("{call}#{nth}*{times} {error}"));
                world.start()?;
                crate::faults::lift(world)?;
                begun = Instant::now();
            }
        }
        world.go_on(SETTLED_WITHIN, |_| false)?;
        Ok(begun)
    }
}

/// Copies what is left of a home, with the verdict.
fn keep(world: &World, evidence: &Path, report: &Report) {
    let place: PathBuf = evidence.join(report.name.replace(['/', '#', '*', ' '], "_"));
    let _ = std::fs::create_dir_all(&place);
    let text = format!("{}\n{:#?}\n{}\n", report.name, report.verdict, world.standing());
    let _ = std::fs::write(place.join("verdict.txt"), text);
    let _ = Command::new("cp").arg("-a").arg(world.home.root()).arg(place.join("home")).status();
}
