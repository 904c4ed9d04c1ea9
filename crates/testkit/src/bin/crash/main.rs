//! The crash driver: kills the built program at named points and at random moments, lets its calls to the system
//! fail, takes the power away, and judges from outside what became of it. docs/reliability.md says what it shows.
//!
//! ```text
//! cargo run -p testkit --bin crash -- --points              every crash point, every combination of victims
//!                                     --random N [--seed S] at random moments
//!                                     --faults              every call that can fail, its n-th time
//!                                     --power               a power failure at every crash point
//!                                     [--only TEXT]         only the runs whose names hold the text, or the one
//!                                                           of exactly this name
//!                                     [--sample N]          so many of them, drawn by the seed
//!                                     [--seconds N]         none is begun later than this, counted without the
//!                                                           build; their order is drawn by the seed
//!                                     [--jobs N] [--program FILE]
//! ```
//!
//! The pieces: `world` (a home under orders), `cycle` (kinds of upgrade), `plans` (which runs), `trial` (one run),
//! `watch` and `judge` (the verdict), `faults`, `power`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A driver that cannot go on has failed.
#![allow(clippy::disallowed_methods)] // It has its own clock, files and processes.

mod clock;
mod cycle;
mod faults;
mod judge;
mod plans;
mod power;
mod trial;
mod watch;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cycle::Cycle;
use trial::{Deed, Report, Run};

/// As many as the reference machine has processors.
const JOBS: usize = 2;

/// What is to be done.
struct Task {
    points: bool,
    random: u64,
    faults: bool,
    power: bool,
    seed: u64,
    only: Option<String>,
    sample: Option<usize>,
    limit: Option<Duration>,
    jobs: usize,
    program: Option<PathBuf>,
}

fn main() -> ExitCode {
    let task = match read(std::env::args().skip(1)) {
        Ok(task) => task,
        Err(problem) => {
            eprintln!("crash: {problem}; see the head of crates/testkit/src/bin/crash/main.rs");
            return ExitCode::from(2);
        }
    };
    let root =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().expect("the workspace");
    let target = root.join("target/crash");
    let program = task.program.clone().unwrap_or_else(|| build(&root, &target));
    let program = program.canonicalize().expect("the program is there");
    let evidence = target.join("evidence").join(std::process::id().to_string());
    // Everything that goes wrong in a run is caught and told with the run's name.
    std::panic::set_hook(Box::new(|_| {}));
    println!("seed {} (to do it again: --seed {0})", task.seed);

    let until = task.limit.map(|limit| Instant::now() + limit);
    let passed = match as_it_is(&program, &evidence, task.jobs) {
        Ok(passed) => passed,
        Err(report) => {
            println!("the cycle itself fails, with nothing done to it: {report:#?}");
            return ExitCode::FAILURE;
        }
    };
    let runs = runs(&task, &program, &evidence, &passed);
    let reports = make(&runs, &program, &evidence, task.jobs, until);
    if reports.len() < runs.len() {
        println!("time is up: {} of {} runs were made", reports.len(), runs.len());
    }
    if summary(&task, &reports, &evidence) && !reports.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn read(args: impl Iterator<Item = String>) -> Result<Task, String> {
    let mut task = Task {
        points: false,
        random: 0,
        faults: false,
        power: false,
        seed: clock::now_ns() % 1_000_000_000,
        only: None,
        sample: None,
        limit: None,
        jobs: JOBS,
        program: None,
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--points" => task.points = true,
            "--faults" => task.faults = true,
            "--power" => task.power = true,
            "--random" => task.random = number(value()?)?,
            "--seed" => task.seed = number(value()?)?,
            "--only" => task.only = Some(value()?),
            "--sample" => task.sample = Some(number(value()?)? as usize),
            "--seconds" => task.limit = Some(Duration::from_secs(number(value()?)?)),
            "--jobs" => task.jobs = number(value()?)?.max(1) as usize,
            "--program" => task.program = Some(value()?.into()),
            other => return Err(format!("{other} is not known")),
        }
    }
    if !(task.points || task.faults || task.power || task.random > 0) {
        return Err("nothing to do".into());
    }
    Ok(task)
}

/// Builds the program with its crash points, apart from every other build.
fn build(root: &Path, target: &Path) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--locked", "-p", "wemixvisor", "--features", "testing", "--target-dir"])
        .arg(target)
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the program cannot be built");
    target.join("debug/wemixvisor")
}

/// Every cycle with nothing done to it: what it passes.
fn as_it_is(
    program: &Path,
    evidence: &Path,
    jobs: usize,
) -> Result<BTreeMap<Cycle, plans::Passages>, Box<Report>> {
    let cycles =
        Cycle::ALL.map(|cycle| Run { name: format!("{cycle}/as-it-is"), cycle, deed: Deed::Nothing });
    let mut passed = BTreeMap::new();
    for (run, report) in cycles.iter().zip(make(&cycles, program, evidence, jobs, None)) {
        if report.verdict.is_err() {
            return Err(Box::new(report));
        }
        println!("{}: settled after {:.1} s", run.name, report.settled.as_secs_f64());
        passed.insert(run.cycle, report.passages);
    }
    Ok(passed)
}

fn runs(task: &Task, program: &Path, evidence: &Path, passed: &BTreeMap<Cycle, plans::Passages>) -> Vec<Run> {
    let mut runs = Vec::new();
    if task.points {
        unmet(program, passed);
        runs.extend(plans::points(passed));
        let recovered = make(&plans::first_blows(), program, evidence, task.jobs, None);
        let passed: Vec<plans::Passages> = recovered.into_iter().map(|report| report.passages).collect();
        runs.extend(plans::recoveries(&passed));
    }
    if task.power {
        runs.extend(plans::power(passed));
    }
    if task.faults {
        runs.extend(plans::faulty(passed));
    }
    let mut draw = fastrand::Rng::with_seed(task.seed);
    if task.sample.is_some() || task.limit.is_some() {
        draw.shuffle(&mut runs);
        runs.truncate(task.sample.unwrap_or(usize::MAX));
    }
    runs.extend(plans::random(task.random, task.seed, Duration::from_secs(3)));
    if let Some(only) = &task.only {
        match plans::named(only) {
            Some(run) => runs = vec![run],
            None => runs.retain(|run| run.name.contains(only)),
        }
    }
    runs
}

/// Says which crash points no cycle passes by itself.
fn unmet(program: &Path, passed: &BTreeMap<Cycle, plans::Passages>) {
    let listed = Command::new(program).arg("crash-points").output().expect("the program starts").stdout;
    let met: BTreeSet<&str> = passed.values().flatten().map(|(_, place)| place.as_str()).collect();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let all: Vec<&str> = listed.lines().filter(|place| !place.starts_with("call:")).collect();
    let unmet: Vec<&str> = all.iter().copied().filter(|place| !met.contains(place)).collect();
    println!("{} crash points; not passed by an undisturbed cycle: {}", all.len(), unmet.join(", "));
}

/// Makes all runs that can be begun in time, so many at a time; the reports are in the order of the runs.
fn make(runs: &[Run], program: &Path, evidence: &Path, jobs: usize, until: Option<Instant>) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<(usize, Report)>> = Mutex::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(index) else { return };
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return;
                    }
                    let report = run.make(program, evidence);
                    tell(&report, index, runs.len(), begun);
                    reports.lock().expect("nobody panics with it").push((index, report));
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("nobody panics with it");
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// A violation at once, everything else now and then.
fn tell(report: &Report, index: usize, of: usize, begun: Instant) {
    if let Err(wrong) = &report.verdict {
        println!("VIOLATION {}: {}", report.name, wrong.join("; "));
    } else if index % 50 == 49 {
        println!("{} of {of} after {} s", index + 1, begun.elapsed().as_secs());
    }
}

/// Prints the figures; the answer is whether nothing was wrong.
fn summary(task: &Task, reports: &[Report], evidence: &Path) -> bool {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in reports.iter().filter_map(|report| report.verdict.as_ref().ok()) {
        *outcomes.entry(outcome).or_default() += 1;
    }
    let bad: Vec<&Report> = reports.iter().filter(|report| report.verdict.is_err()).collect();
    let reached = reports.iter().filter(|report| report.reached).count();
    let slowest = reports.iter().max_by_key(|report| report.settled);
    println!("\n{} runs, {reached} reached their place, ended as {outcomes:?}", reports.len());
    if let Some(slowest) = slowest {
        println!("slowest to settle: {:.1} s ({})", slowest.settled.as_secs_f64(), slowest.name);
    }
    let silent: Vec<&str> =
        reports.iter().filter(|report| !report.told).map(|report| report.name.as_str()).collect();
    if !silent.is_empty() {
        println!("{} faults were met but told to nobody: {}", silent.len(), silent.join(", "));
    }
    println!("{} violations", bad.len());
    for report in &bad {
        println!("  {}", report.name);
    }
    if !bad.is_empty() {
        println!(
            "what is left of them: {}; to do one again: --seed {} --only NAME",
            evidence.display(),
            task.seed
        );
    }
    bad.is_empty()
}
