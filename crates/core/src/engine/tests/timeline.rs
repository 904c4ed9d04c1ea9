//! What is going to happen in the world, and the time that passes until it does: a queue in the order of time, and
//! the wakes that the engine asks for.

use super::program::Program;
use super::world::{AT_BOOT, Crash, World};
use crate::engine::port::{Input, Order, RefusalCode, Refused};
use crate::exit::WaitStatus;
use crate::head::Height;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::target::Target;

/// More steps than this within one millisecond are a loop that never rests.
const BUSY: u32 = 2_000;

/// Something that is going to happen.
#[derive(Debug, Clone)]
pub enum Due {
    /// The engine of this life hears it.
    Hear(u64, Input),
    /// The network makes a block.
    Block,
    /// The sources are polled, in this series.
    Poll(u64),
    /// The process of this launch ends, unless it has.
    Dies(u64, WaitStatus),
    /// The supervisor of this life has looked at the program.
    Looked(u64, Target),
    /// The watcher of this life reads the plan file.
    Read(u64),
    /// The supervisor is started again, unless it runs.
    Boot,
    /// A scripted happening.
    Act(Act),
}

/// What people and machines do to the home.
#[derive(Debug, Clone)]
pub enum Act {
    Order(Order),
    /// The plan file is written by hand.
    Write(Result<Vec<Plan>, String>),
    /// The node is ended by somebody else.
    NodeEnds(WaitStatus),
    /// The supervisor is killed and comes back.
    Crash(Crash),
    /// The supervisor is told to end, and comes back.
    Restart,
    /// The RPC of the node falls silent or answers again.
    Rpc(bool),
    /// The chain loses its tip: so many blocks.
    Reorg(u64),
    /// The wall clock is set.
    WallJump(i64),
    /// The engine hears something that never happened.
    Nonsense(Box<Input>),
    /// A program is replaced.
    Install(Target, Box<Program>),
    /// The network makes no block beyond this one.
    HaltAt(Height),
    /// The next writes of the link fail.
    LinkFails(u32),
    /// The next writes of the journal fail.
    StoreFails(u32),
    /// The next edits of the plan file fail.
    EditFails(u32),
    Settings(Box<Settings>),
    /// The supervisor is stopped, and goes on after so many milliseconds.
    Freeze(u64),
}

impl World {
    pub fn soon(&mut self, in_ms: u64, due: Due) {
        self.seq += 1;
        self.queue.insert((self.now + in_ms, self.seq), due);
    }

    pub fn at(&mut self, when: u64, act: Act) {
        let in_ms = when.checked_sub(self.now).expect("the script is in order");
        self.soon(in_ms, Due::Act(act));
    }

    pub fn hear(&mut self, in_ms: u64, input: Input) {
        self.soon(in_ms, Due::Hear(self.life, input));
    }

    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        self.run_while(until, |_| true);
        self.now = until;
    }

    /// Runs until it holds.
    pub fn run_to(&mut self, what: &str, within: u64, holds: impl Fn(&Self) -> bool) {
        let until = self.now + within;
        self.run_while(until, |world| !holds(world));
        assert!(
            holds(self),
            "{what}: not within {within} ms; {:#?}",
            self.engine.as_ref().map(|_| self.snapshot())
        );
    }

    pub fn run_to_head(&mut self, height: Height) {
        self.run_to("the head", 1_000_000, |world| world.database >= height);
    }

    /// Runs until no upgrade is under way and the node serves.
    pub fn settle(&mut self, within: u64) {
        self.run_to("settled", within, Self::is_settled);
    }

    pub fn is_settled(&self) -> bool {
        let serves = self.node.as_ref().is_some_and(|node| node.term_at.is_none());
        self.engine.is_some() && serves && self.disk.open().is_none()
    }

    fn run_while(&mut self, until: u64, goes_on: impl Fn(&Self) -> bool) {
        let (mut busy, mut since) = (0, self.now);
        while goes_on(self) {
            let wake = self.engine.as_ref().and_then(|engine| engine.next_wake(self.moment()));
            let wake = wake.map(|at| {
                let held = self.now.max(self.paused_until).max(self.frozen_until);
                (self.booted_at + at.0.saturating_sub(AT_BOOT)).max(held)
            });
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = wake.into_iter().chain(due).min().filter(|next| *next <= until) else { return };
            busy = if next == since { busy + 1 } else { 0 };
            since = next;
            assert!(busy < BUSY, "it never rests: {:?} {:?}", self.queue.first_key_value(), self.engine);
            self.now = next;
            if due == Some(next) {
                let (_, due) = self.queue.pop_first().unwrap();
                self.happens(due);
            } else {
                self.tell(Input::Tick);
                let wake = self.engine.as_ref().and_then(|engine| engine.next_wake(self.moment()));
                let rests = wake.is_none_or(|at| at > self.moment().mono) || self.paused_until > self.now;
                assert!(rests, "nothing to do at its own wake {wake:?}: {:#?}", self.snapshot());
            }
        }
    }

    fn happens(&mut self, due: Due) {
        match due {
            due @ (Due::Hear(..)
            | Due::Looked(..)
            | Due::Poll(_)
            | Due::Read(_)
            | Due::Act(Act::Order(_)))
                if self.now < self.frozen_until =>
            {
                self.soon(self.frozen_until - self.now, due);
            }
            Due::Hear(life, input) if life == self.life => self.tell(input),
            Due::Looked(life, target) if life == self.life => self.looked(target),
            Due::Poll(series) if series == self.poll_series && self.engine.is_some() => self.poll(),
            Due::Read(life) if life == self.life => self.tell(Input::Plans(self.disk.plans.clone())),
            Due::Read(_) | Due::Hear(..) | Due::Looked(..) | Due::Poll(_) => {}
            Due::Block => self.block(),
            Due::Dies(launch, status) => self.dies(launch, status),
            Due::Boot if self.engine.is_none() => self.boot(),
            Due::Boot => {}
            Due::Act(act) => self.act(act),
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Order(order) if self.engine.is_some() => {
                self.order(order);
            }
            // Without a supervisor the command works on the file.
            Act::Order(Order::Cancel(name)) => {
                if let Ok(plans) = &mut self.disk.plans {
                    plans.retain(|plan| plan.name != name);
                }
            }
            Act::Order(_) => {}
            Act::Write(plans) => {
                self.disk.plans = plans;
                self.soon(5, Due::Read(self.life));
            }
            Act::NodeEnds(status) => {
                if let Some(launch) = self.node.as_ref().map(|node| node.launch) {
                    self.dies(launch, status);
                }
            }
            Act::Crash(crash) => self.crash(crash),
            Act::Restart => {
                self.comes_back = true;
                self.hear(0, Input::Shutdown);
            }
            Act::Rpc(on) => self.rpc = on,
            Act::Reorg(blocks) => {
                self.database = self.database.saturating_sub(blocks).max(1);
                self.report_head(2);
            }
            Act::WallJump(by) => self.wall_shift += by,
            Act::Install(target, program) => {
                self.programs.insert(target, *program);
            }
            Act::Nonsense(input) => self.tell(*input),
            Act::HaltAt(height) => self.chain.halts_at = height,
            Act::LinkFails(times) => self.link_fails = times,
            Act::StoreFails(times) => self.store_fails = times,
            Act::EditFails(times) => self.edit_fails = times,
            Act::Freeze(ms) if self.engine.is_some() => self.frozen_until = self.now + ms,
            Act::Freeze(_) => {}
            Act::Settings(settings) => {
                self.settings = (*settings).clone();
                if let Some(engine) = &mut self.engine {
                    engine.set_settings(*settings);
                }
            }
        }
    }

    /// Gives an order now; the answer is found under the ticket.
    pub fn order(&mut self, order: Order) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.tell(Input::Order { ticket, order });
        ticket
    }

    /// Gives an order and runs until it is answered.
    pub fn ask(&mut self, order: Order) -> Result<String, Refused> {
        let ticket = self.order(order);
        self.run_to("an answer", 60_000, |world| world.replies.contains_key(&ticket));
        self.replies[&ticket].clone()
    }

    pub fn refusal(&mut self, order: Order) -> RefusalCode {
        let refused = self.ask(order).unwrap_err();
        assert!(refused.to_string().len() > 20, "a refusal says why: {refused:?}");
        refused.code
    }
}
