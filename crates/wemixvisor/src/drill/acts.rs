//! The three acts: what is done to the supervisor, and what is waited for. Every wait is for a fact that the
//! supervisor or the practice node tells, and has a limit.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use wemixvisor_daemon::api::wire::{Event, Events, History, Moment, Status};
use wemixvisor_daemon::control::{Client, ClientError, Method};

use super::Broken;
use super::checks::{Act, Played, Survival};
use super::show::Show;
use super::stage::{BLOCK_TIME, MUST_ADVANCE_WITHIN, Stage};
use super::story::{Mark, Told, begins, ends, of_event};
use crate::render::span;

/// How often the supervisor is asked. Short against a block, so that a kill hits the step it is meant for.
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// The longest wait for anything that takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most events asked for at once; more come the next time.
const EVENTS_AT_ONCE: usize = 500;

/// So many blocks are needed before the first act: enough for an estimate of the block time.
const FIRST_BLOCKS: u64 = 3;

/// So many blocks lie between the announcement and the height: long enough to see the countdown.
const BLOCKS_AHEAD: u64 = 8;

/// So many blocks the node has to make while there is no supervisor.
const BLOCKS_ALONE: u64 = 2;

/// For how long the head may stand in an upgrade that goes well: two starts of a program and some blocks, on a
/// machine that is busy.
const MAY_STAND: Duration = Duration::from_secs(3);

/// The good upgrade, the bad one, and the one in which the supervisor is killed.
const GOOD: &str = "v2.0.0";
const BAD: &str = "v3.0.0";
const INTERRUPTED: &str = "v4.0.0";

/// A drill under way.
#[derive(Debug)]
pub struct Play<'a, 'b> {
    stage: &'a mut Stage,
    show: &'a mut Show<'b>,
    client: Client,
    /// The number of the last event that was told.
    seen: u64,
    /// The next upgrade is ready: the blocks until it are counted.
    counting: bool,
    /// What the last countdown said.
    counted: Option<u64>,
    node_pid: Option<u32>,
    acts: Vec<Act>,
    survival: Survival,
}

impl<'a, 'b> Play<'a, 'b> {
    /// A drill that has not begun.
    pub fn new(stage: &'a mut Stage, show: &'a mut Show<'b>) -> Self {
        Self {
            client: stage.client(),
            stage,
            show,
            seen: 0,
            counting: false,
            counted: None,
            node_pid: None,
            acts: Vec::new(),
            survival: Survival::default(),
        }
    }

    /// Plays all of it, from the first start to the end of the last process.
    pub async fn through(mut self) -> Result<Played, Broken> {
        self.begin().await?;
        self.good_upgrade().await?;
        self.bad_upgrade().await?;
        self.killed_supervisor().await?;
        self.end().await
    }

    async fn begin(&mut self) -> Result<(), Broken> {
        let pid = self.stage.start_supervisor()?;
        self.say(Mark::Plain, format!("$ wemixvisor run   (the supervisor, pid {pid})"))?;
        let status = self.until_status("the practice node's first blocks", |status| {
            let chain = &status.chain;
            chain.head >= Some(FIRST_BLOCKS)
                && chain.block_time_ms.is_some()
                && status.node.client_version.is_some()
        });
        let status = status.await?;
        let (head, every) = (status.chain.head.unwrap_or_default(), BLOCK_TIME.as_millis());
        self.say(Mark::Good, format!("the chain lives: head {head}, a block every {every} ms"))
    }

    async fn good_upgrade(&mut self) -> Result<(), Broken> {
        self.act(
            "A good upgrade",
            "A chain announces that from some block on it needs a new program. Nobody has to be awake for it: the \
             supervisor stops the old program at exactly that block, starts the new one, and keeps it only if it \
             proves itself.",
        )?;
        self.schedule(GOOD, "committed", MAY_STAND).await?;
        self.follow("the end of the good upgrade", |event| ends(event, GOOD)).await?;
        self.measured(GOOD).await
    }

    async fn bad_upgrade(&mut self) -> Result<(), Broken> {
        self.act(
            "A bad upgrade",
            "v3.0.0 is the worst kind of broken: it starts, it answers, it looks healthy - and makes no block. The \
             supervisor must notice, put the old program back and never fall for this one again.",
        )?;
        self.schedule(BAD, "rolled_back", MUST_ADVANCE_WITHIN + MAY_STAND).await?;
        self.follow("the end of the bad upgrade", |event| ends(event, BAD)).await?;
        self.measured(BAD).await?;
        let head = self.stage.journal().head();
        let status = self.until_status("the head to go on", |status| {
            status.installed == GOOD && status.chain.head > Some(head)
        });
        let status = status.await?;
        let pinned = status.pinned.iter().any(|pin| pin.name == BAD);
        let (mark, pin) = match pinned {
            true => (Mark::Good, "v3.0.0 is pinned: not tried again unless you insist (--force)"),
            false => (Mark::Bad, "v3.0.0 is not pinned"),
        };
        let head = status.chain.head.unwrap_or_default();
        self.say(mark, format!("{} runs again, the head goes on ({head}); {pin}", status.installed))
    }

    async fn killed_supervisor(&mut self) -> Result<(), Broken> {
        self.act(
            "The supervisor is killed, twice, in the middle of an upgrade",
            "Power, memory, a slip of the hand: a supervisor can die at any moment. The next one must find out what \
             was under way and finish it - and a node that runs must not even notice.",
        )?;
        self.stage.hold_before_switch(INTERRUPTED)?;
        self.schedule(INTERRUPTED, "committed", MAY_STAND + MAY_STAND).await?;
        let reached = self.follow("the old program's stop", |event| {
            begins(event, INTERRUPTED, "pre_upgrade") || ends(event, INTERRUPTED)
        });
        reached.await?;
        self.kill("the old program is stopped, the new one not yet started: nothing runs now").await?;
        self.stage.let_go()?;
        self.start_again()?;
        let reached = self.follow("the new program's start", |event| {
            begins(event, INTERRUPTED, "probation") || ends(event, INTERRUPTED)
        });
        reached.await?;
        let head = self.stage.journal().head();
        self.kill("the new program is on probation, and there is nobody to judge it").await?;
        self.alone_since(head).await?;
        self.start_again()?;
        let status =
            self.until_status("the node to be taken over", |status| status.node.pid.is_some()).await?;
        self.survival.pids = self.node_pid.zip(status.node.pid);
        if let Some(pid) = status.node.pid.filter(|_| status.node.adopted) {
            self.say(Mark::Good, format!("the node that runs is taken over as it is (pid {pid})"))?;
        }
        self.follow("the end of the upgrade", |event| ends(event, INTERRUPTED)).await?;
        self.measured(INTERRUPTED).await
    }

    /// Ends everything in order and gathers the evidence.
    async fn end(mut self) -> Result<Played, Broken> {
        let status = self.until_status("the last picture", |status| status.upgrade.is_none()).await?;
        let history: History = self.client.get("/api/v1/history").await?;
        self.say(Mark::Plain, "the end: the supervisor is told to stop the node and to go")?;
        let left_over = self.stage.end().await?;
        Ok(Played {
            acts: self.acts,
            history: history.history,
            journal: self.stage.journal(),
            pinned: status.pinned.into_iter().map(|pin| pin.name).collect(),
            link: self.stage.link(),
            waiting: status.upgrades.len(),
            survival: self.survival,
            left_over,
        })
    }

    fn act(&mut self, title: &str, why: &str) -> Result<(), Broken> {
        let number = self.acts.len() + 1;
        self.show.tell(&Told::Act { number, title: title.into(), why: why.into() })
    }

    fn say(&mut self, mark: Mark, text: impl Into<String>) -> Result<(), Broken> {
        self.show.tell(&Told::step(mark, text))
    }

    async fn schedule(
        &mut self,
        name: &'static str,
        outcome: &'static str,
        may_stand: Duration,
    ) -> Result<(), Broken> {
        let status = self.until_status("a head", |status| status.chain.head.is_some()).await?;
        let height = status.chain.head.unwrap_or_default() + BLOCKS_AHEAD;
        (self.counting, self.counted) = (false, None);
        self.say(Mark::Plain, format!("$ wemixvisor upgrade schedule {name} {height}"))?;
        let plan = json!({ "name": name, "height": height });
        self.client.order(Method::POST, "/api/v1/upgrades", Some(&plan)).await?;
        let may_stand_ms = u64::try_from(may_stand.as_millis()).unwrap_or(u64::MAX);
        self.acts.push(Act { name, height, outcome, may_stand_ms });
        Ok(())
    }

    /// What the finished upgrade has cost, by the nodes' own record.
    async fn measured(&mut self, name: &str) -> Result<(), Broken> {
        let history: History = self.client.get("/api/v1/history").await?;
        let Some(entry) = history.history.into_iter().find(|entry| entry.name == name) else { return Ok(()) };
        let (Moment(from), Moment(to)) = (entry.fired_at, entry.finished_at);
        let journal = self.stage.journal();
        let shown = |ms: Option<u64>| ms.map_or_else(|| "an unknown time".into(), span);
        let pause = shown(journal.downtime_after(from));
        let still = shown(journal.longest_standstill(from, to));
        let took = span(to.saturating_sub(from));
        self.say(
            Mark::Plain,
            format!(
                "by the nodes' own record: {pause} from one's last word to the next one's first; the head stood for \
                 {still}. In all it took {took}"
            ),
        )
    }

    async fn kill(&mut self, moment: &str) -> Result<(), Broken> {
        self.stage.kill_supervisor().await?;
        self.survival.kills += 1;
        self.say(Mark::Bad, format!("kill -9 for the supervisor: {moment}"))
    }

    fn start_again(&mut self) -> Result<(), Broken> {
        let pid = self.stage.start_supervisor()?;
        self.say(Mark::Plain, format!("a new supervisor starts (pid {pid})"))
    }

    /// Waits until the node has made blocks since `head` without a supervisor.
    async fn alone_since(&mut self, head: u64) -> Result<(), Broken> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.survival.blocks_alone = self.stage.journal().head().saturating_sub(head);
            let made = self.survival.blocks_alone;
            if made >= BLOCKS_ALONE {
                let pid = self.node_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                return self
                    .say(Mark::Good, format!("the node{pid} lives on and has made {made} more blocks"));
            }
            if Instant::now() >= deadline {
                return Err(Broken::TooLong {
                    what: "blocks of a node without a supervisor",
                    limit: PATIENCE,
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Tells what happens until an event comes that is waited for.
    async fn follow(&mut self, what: &'static str, reached: impl Fn(&Event) -> bool) -> Result<(), Broken> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (events, _) = self.look().await?;
            if events.iter().any(&reached) {
                return Ok(());
            }
            self.wait(what, deadline).await?;
        }
    }

    /// Tells what happens until the supervisor's picture is as waited for.
    async fn until_status(
        &mut self,
        what: &'static str,
        reached: impl Fn(&Status) -> bool,
    ) -> Result<Status, Broken> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, status) = self.look().await?;
            if let Some(status) = status.filter(&reached) {
                return Ok(status);
            }
            self.wait(what, deadline).await?;
        }
    }

    async fn wait(&mut self, what: &'static str, deadline: Instant) -> Result<(), Broken> {
        if let Some(status) = self.stage.supervisor_ended() {
            return Err(Broken::SupervisorEnded { status });
        }
        if Instant::now() >= deadline {
            return Err(Broken::TooLong { what, limit: PATIENCE });
        }
        sleep(LOOK_EVERY).await;
        Ok(())
    }

    /// Asks the supervisor once and tells what is new. One that does not listen yet has nothing to say.
    async fn look(&mut self) -> Result<(Vec<Event>, Option<Status>), Broken> {
        let path = format!("/api/v1/events?since={}&limit={EVENTS_AT_ONCE}", self.seen);
        let page: Option<Events> = if_there(self.client.get(&path).await)?;
        let events = page.map(|page| page.events).unwrap_or_default();
        // Asked after the events: a countdown never follows the event that ends it.
        let status: Option<Status> = if_there(self.client.get("/api/v1/status").await)?;
        for event in &events {
            self.seen = event.seq;
            if event.kind == "node_started" {
                self.node_pid = event.data["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            }
            self.counting |= event.kind == "upgrade_ready";
            if let Some(told) = of_event(event) {
                self.show.tell(&told)?;
            }
        }
        if let Some(status) = &status {
            self.count_down(status)?;
        }
        Ok((events, status))
    }

    fn count_down(&mut self, status: &Status) -> Result<(), Broken> {
        let next = status.upgrades.first().filter(|_| self.counting && status.upgrade.is_none());
        let Some((name, left)) = next.and_then(|next| Some((next.name.clone(), next.blocks_left?))) else {
            return Ok(());
        };
        if left == 0 || self.counted == Some(left) {
            return Ok(());
        }
        self.counted = Some(left);
        let head = status.chain.head.unwrap_or_default();
        self.show.tell(&Told::Countdown { name, head, blocks_left: left })
    }
}

/// The answer, or none of a supervisor that does not listen yet.
fn if_there<T>(answer: Result<T, ClientError>) -> Result<Option<T>, Broken> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::NotRunning { .. } | ClientError::BrokenOff(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
