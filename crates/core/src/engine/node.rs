//! The life of the node's process: at most one, stopped once, started after a floor.

use std::time::Duration;

use super::port::{Decision, Effect, Launch, Work};
use crate::observation::Answer;
use crate::settings::{Kill, Settings};
use crate::target::Target;
use crate::time::MonoMs;

/// A head that was seen at most so long ago is fresh: the whole of the block interval is still ahead.
const FRESH: Duration = Duration::from_millis(100);

/// On go-wemix a SIGTERM within this time after a block can hang the node for ever (NODES.md section 6).
const SEALING_PAUSE: Duration = Duration::from_millis(100);

/// A stopping process that has not worked for so long, and is past its grace, hangs.
const IDLE: Duration = Duration::from_secs(5);

/// Time between two looks at the work of a stopping process.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Less processor time than this between two looks (3 %) is idling, not working.
const IDLE_TICKS: u64 = 3;

/// How the moment of a stop is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// Right after a new head: a BFT validator is back before the next block.
    FreshHead,
    /// When another node seals, and not within 100 ms after a block.
    NotSealing,
}

/// Where the process is.
#[derive(Debug, Clone, PartialEq)]
pub enum Process {
    /// There is none.
    Down,
    /// There is none, and one is to be started then.
    Waiting {
        /// When.
        until: MonoMs,
        /// What.
        launch: Launch,
    },
    /// It is being started.
    Launching(Launch),
    /// It runs.
    Up(Up),
    /// It was told to stop.
    Stopping {
        /// What runs.
        up: Up,
        /// How its stop stands.
        stop: Stop,
    },
}

/// A running process.
#[derive(Debug, Clone, PartialEq)]
pub struct Up {
    /// Which start.
    pub launch: u64,
    /// Its process id.
    pub pid: u32,
    /// Which program; `None` for one that is not of this home.
    pub target: Option<Target>,
    /// Since when.
    pub since: MonoMs,
    /// It ran before this supervisor did.
    pub adopted: bool,
    /// A stop that waits for its moment.
    pub stop_wanted: Option<StopWanted>,
}

/// A stop that waits for its moment.
#[derive(Debug, Clone, PartialEq)]
pub struct StopWanted {
    moment: Moment,
    until: MonoMs,
    asked_at_head: Option<MonoMs>,
}

/// A stop under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// When SIGTERM was sent.
    pub since: MonoMs,
    /// When SIGKILL was sent, if it was.
    pub killed: Option<MonoMs>,
    /// It should have been killed, but that is forbidden.
    pub overdue: bool,
    worked_at: MonoMs,
    work: Option<Work>,
    sample_at: MonoMs,
}

/// The node and what is wanted of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where its process is.
    pub process: Process,
    /// Whether it should run.
    pub wanted: bool,
    /// When its last process ended.
    pub ended_at: Option<MonoMs>,
    /// The newest head, for the moment of a stop.
    fresh_at: Option<MonoMs>,
}

impl Default for Node {
    /// No process, but one wanted.
    fn default() -> Self {
        Self { process: Process::Down, wanted: true, ended_at: None, fresh_at: None }
    }
}

impl Node {
    /// The running process, stopping or not.
    pub fn up(&self) -> Option<&Up> {
        match &self.process {
            Process::Up(up) | Process::Stopping { up, .. } => Some(up),
            _ => None,
        }
    }

    /// Whether there is, or is about to be, a process.
    pub fn has_process(&self) -> bool {
        !matches!(self.process, Process::Down | Process::Waiting { .. })
    }

    /// Whether the process runs and was not told to stop.
    pub fn is_serving(&self) -> bool {
        matches!(self.process, Process::Up(_))
    }

    /// Starts the program after `delay`, but not before the floor after the last end.
    ///
    /// Only a node that is down can be started: a second process is not to be had from here.
    pub fn start(
        &mut self,
        launch: Launch,
        delay: Duration,
        floor: Duration,
        now: MonoMs,
        out: &mut Decision,
    ) {
        if self.has_process() {
            return;
        }
        let floor_over = self.ended_at.map_or(now, |ended| ended.after(floor));
        let until = now.after(delay).max(floor_over);
        self.process = Process::Waiting { until, launch };
        self.tick_waiting(now, out);
    }

    /// Stops the process at its moment, at the latest `limit` from now. A start that is waited for is given
    /// up.
    pub fn stop(&mut self, moment: Moment, limit: Duration, now: MonoMs, out: &mut Decision) {
        match &mut self.process {
            Process::Waiting { .. } => self.process = Process::Down,
            Process::Up(up) => {
                let until = now.after(limit);
                // A stop that may not wait overtakes one that does.
                if up.stop_wanted.is_none() || moment == Moment::Now {
                    up.stop_wanted = Some(StopWanted { moment, until, asked_at_head: None });
                }
                self.tick_stop_wanted(now, out);
            }
            Process::Down | Process::Launching(_) | Process::Stopping { .. } => {}
        }
    }

    /// Gives up a stop that still waits for its moment.
    pub fn forget_stop(&mut self) {
        if let Process::Up(up) = &mut self.process {
            up.stop_wanted = None;
        }
    }

    /// A new block was seen.
    pub fn head_moved(&mut self, now: MonoMs, out: &mut Decision) {
        self.fresh_at = Some(now);
        self.tick_stop_wanted(now, out);
    }

    /// Whether this node seals now, as it was asked to say.
    pub fn sealing(&mut self, answer: &Answer<bool>, now: MonoMs, out: &mut Decision) {
        let Process::Up(Up { stop_wanted: Some(wanted), .. }) = &self.process else { return };
        // Only a clear "no" is a good moment; without an answer the limit decides.
        // What was asked before the newest block says nothing about the next one.
        let current = wanted.asked_at_head == self.fresh_at;
        if wanted.moment == Moment::NotSealing && current && *answer == Answer::Known(false) {
            self.terminate(now, out);
        }
    }

    /// The process of `launch` runs. `true` if that was news.
    pub fn is_up(&mut self, launch: u64, pid: u32, now: MonoMs) -> bool {
        match &self.process {
            Process::Launching(started) if started.launch == launch => {
                let target = Some(started.target.clone());
                self.adopt(Up { launch, pid, target, since: now, adopted: false, stop_wanted: None });
                true
            }
            _ => false,
        }
    }

    /// Takes over a process that runs already.
    pub fn adopt(&mut self, up: Up) {
        self.fresh_at = None;
        self.process = Process::Up(up);
    }

    /// Whether the process of `launch` is being started.
    pub fn is_launching(&self, launch: u64) -> bool {
        matches!(&self.process, Process::Launching(started) if started.launch == launch)
    }

    /// The process of `launch` could not be started, or has ended. Returns how long it ran (`None`: it never
    /// did), or nothing at all if this is not about the present process.
    pub fn is_down(&mut self, launch: u64, now: MonoMs) -> Option<Option<Duration>> {
        let uptime = match &self.process {
            Process::Launching(started) if started.launch == launch => None,
            Process::Up(up) | Process::Stopping { up, .. } if up.launch == launch => {
                Some(now.since(up.since))
            }
            _ => return None,
        };
        self.process = Process::Down;
        self.ended_at = Some(now);
        Some(uptime)
    }

    /// How much the stopping process has worked.
    pub fn worked(&mut self, sample: Option<Work>, now: MonoMs) {
        let Process::Stopping { stop, .. } = &mut self.process else { return };
        let grown = match (stop.work, sample) {
            (Some(before), Some(after)) => {
                after.cpu_ticks.saturating_sub(before.cpu_ticks) >= IDLE_TICKS
                    || after.written_bytes > before.written_bytes
            }
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if grown {
            stop.worked_at = now;
        }
        stop.work = sample.or(stop.work);
    }

    /// Does what is due. Returns whether the process has just been killed or should have been.
    pub fn tick(&mut self, settings: &Settings, now: MonoMs, out: &mut Decision) -> Option<Overdue> {
        self.tick_waiting(now, out);
        self.tick_stop_wanted(now, out);
        self.tick_stopping(settings, now, out)
    }

    /// The next moment at which [`Node::tick`] has something to do.
    pub fn next_wake(&self, settings: &Settings) -> Option<MonoMs> {
        match &self.process {
            Process::Waiting { until, .. } => Some(*until),
            Process::Up(Up { stop_wanted: Some(wanted), .. }) => {
                let pause_over = self
                    .fresh_at
                    .filter(|_| wanted.moment == Moment::NotSealing && wanted.asked_at_head != self.fresh_at)
                    .map(|at| at.after(SEALING_PAUSE));
                Some(pause_over.map_or(wanted.until, |at| at.min(wanted.until)))
            }
            Process::Stopping { stop, .. } if stop.killed.is_none() && !stop.overdue => {
                Some(stop.sample_at.min(stop.since.after(settings.node.stop_hard_limit)))
            }
            _ => None,
        }
    }

    fn tick_waiting(&mut self, now: MonoMs, out: &mut Decision) {
        if let Process::Waiting { until, launch } = &self.process
            && *until <= now
        {
            let launch = launch.clone();
            out.effects.push(Effect::Launch(launch.clone()));
            self.process = Process::Launching(launch);
        }
    }

    fn tick_stop_wanted(&mut self, now: MonoMs, out: &mut Decision) {
        let fresh_at = self.fresh_at;
        let Process::Up(Up { stop_wanted: Some(wanted), .. }) = &mut self.process else { return };
        let head_age = fresh_at.map(|at| now.since(at));
        let go = match wanted.moment {
            _ if now >= wanted.until => true,
            Moment::Now => true,
            Moment::FreshHead => head_age.is_some_and(|age| age <= FRESH),
            Moment::NotSealing => {
                if head_age.is_some_and(|age| age >= SEALING_PAUSE) && wanted.asked_at_head != fresh_at {
                    wanted.asked_at_head = fresh_at;
                    out.effects.push(Effect::AskSealing);
                }
                false
            }
        };
        if go {
            self.terminate(now, out);
        }
    }

    fn terminate(&mut self, now: MonoMs, out: &mut Decision) {
        let Process::Up(up) = &self.process else { return };
        let stop = Stop {
            since: now,
            killed: None,
            overdue: false,
            worked_at: now,
            work: None,
            sample_at: now.after(SAMPLE_EVERY),
        };
        self.process = Process::Stopping { up: Up { stop_wanted: None, ..up.clone() }, stop };
        out.effects.push(Effect::Terminate);
    }

    fn tick_stopping(&mut self, settings: &Settings, now: MonoMs, out: &mut Decision) -> Option<Overdue> {
        let Process::Stopping { stop, .. } = &mut self.process else { return None };
        if stop.killed.is_some() || stop.overdue {
            return None;
        }
        let asked_for = now.since(stop.since);
        if now >= stop.sample_at && asked_for < settings.node.stop_hard_limit {
            // First the look, then the verdict: the answer comes at once, and only an old one could call it idle.
            stop.sample_at = now.after(SAMPLE_EVERY);
            out.effects.push(Effect::SampleWork);
            return None;
        }
        let idle = now.since(stop.worked_at) >= IDLE.min(settings.node.shutdown_grace);
        let hangs = asked_for >= settings.node.shutdown_grace && idle;
        if hangs || asked_for >= settings.node.stop_hard_limit {
            if settings.node.kill == Kill::Never {
                stop.overdue = true;
                return Some(Overdue::NotKilled(asked_for));
            }
            stop.killed = Some(now);
            out.effects.push(Effect::Kill);
            // Past the hard limit nobody has looked any more whether it works.
            let looked = asked_for < settings.node.stop_hard_limit;
            return Some(if hangs && looked {
                Overdue::Hung(asked_for)
            } else {
                Overdue::TooLong(asked_for)
            });
        }
        None
    }
}

/// A stop that did not come to its end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// Killed: past the grace, and no sign of work.
    Hung(Duration),
    /// Killed: past the hard limit.
    TooLong(Duration),
    /// It should have been killed, but the settings forbid it.
    NotKilled(Duration),
}

impl Overdue {
    /// In words.
    pub fn describe(self) -> String {
        match self {
            Self::Hung(after) => format!(
                "the node did not end within {} s of the order to stop (SIGTERM) and showed no work (no processor time, no writes): \
                 it gets SIGKILL; state that it has not written is lost then, and its head may go back",
                after.as_secs()
            ),
            Self::TooLong(after) => format!(
                "the node has not ended {} s after the order to stop (SIGTERM), past the hard limit: it gets SIGKILL; state that \
                 it has not written is lost then, and its head may go back",
                after.as_secs()
            ),
            Self::NotKilled(after) => format!(
                "the node has not ended {} s after SIGTERM, and node.kill = \"never\" forbids to kill it: it is waited \
                 for; end it by hand",
                after.as_secs()
            ),
        }
    }
}
