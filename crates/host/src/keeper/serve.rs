//! The keeper process: its beginning, its one loop, its end.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, wait};

use super::adopt::{self, STATUS_WAIT};
use super::connection::Connection;
use super::drain::{Drain, Drained};
use super::facts::{AdoptHint, KeeperState, Launch, NodeExit, NodeProcess, WaitStatus};
use super::place::{Place, say};
use super::protocol::{Answer, Ask, Message, OfLaunch, Request, SpawnFailure, VERSION, line};
use super::running::Running;
use super::{launch, now_ms, oom, records, signals};
use crate::output::NodeLog;
use crate::process::{own_children, trees};
use crate::trial::crash_point;

/// How much output is moved at a time.
const CHUNK: usize = 128 << 10;
/// How much of a dead node's output is taken before its end is told: more than its pipe holds.
const LAST_CHUNKS: usize = 16;
/// How long a keeper that cannot serve waits to say so.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// How often the kernel is asked how an adopted node ended.
const STATUS_POLL: Duration = Duration::from_millis(2);

/// Runs the keeper: `wemixvisor keeper --dir <wemixvisor directory>`, with a Unix stream socket to the supervisor as
/// standard output and what shall be the node's standard input as standard input. Returns when it is not needed any
/// more. To be called before the program has started a thread, opened a file or read its settings.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let [flag, dir] = args.as_slice() else { return usage() };
    if flag != "--dir" || !Path::new(dir).is_absolute() {
        return usage();
    }
    close_inherited();
    let Some(connection) = take_connection() else { return usage() };
    match Server::prepare(PathBuf::from(dir)) {
        Ok(server) => {
            server.run(connection);
            ExitCode::SUCCESS
        }
        Err(why) => {
            say(&why);
            refuse(connection, &why);
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    say("it is started by wemixvisor itself: --dir DIRECTORY, a socket as standard output");
    ExitCode::from(2)
}

/// Closes what whoever started the supervisor left open in it: we, and the node, would keep it open for years.
/// Fails on kernels before 5.9, where it then stays open.
fn close_inherited() {
    // SAFETY: nothing in this program has opened a descriptor yet, so nobody owns one of those from 3 on.
    #[allow(unsafe_code)]
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}

/// Standard output is the socket to the supervisor. It moves to a descriptor that the node does not inherit.
fn take_connection() -> Option<Connection> {
    let stdout = io::stdout();
    rustix::net::getpeername(&stdout).ok()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(&stdout, 3).ok()?;
    let nowhere = OpenOptions::new().write(true).open("/dev/null").ok()?;
    rustix::stdio::dup2_stdout(&nowhere).ok()?;
    Connection::new(socket).ok()
}

/// Answers the first request with the reason why there will be no further answers. It has to be read first: a
/// socket that is closed with something unread in it takes what was sent along.
fn refuse(mut connection: Connection, why: &str) {
    let Ok(request) = connection.wait_for_line(FIRST_REQUEST) else { return };
    let id = serde_json::from_slice::<Request>(&request).ok().map(|request| request.id);
    let _ =
        connection.send(&line(&Message { v: VERSION, id, what: Answer::Refused { why: why.to_owned() } }));
}

struct Server {
    dir: PathBuf,
    /// Held for life.
    place: Place,
    /// Readable when a child has ended.
    children: OwnedFd,
    connection: Option<Connection>,
    node: Option<Running>,
    /// The running node's output, and that of earlier ones as long as something holds it open.
    drains: Vec<Drain>,
    log: Option<NodeLog>,
    last_exit: Option<NodeExit>,
    buffer: Vec<u8>,
}

/// What the poll found.
struct Ready {
    children: bool,
    listener: bool,
    connection: PollFlags,
    adopted_ended: bool,
    /// Indices into the server's drains.
    drains: Vec<usize>,
}

impl Server {
    fn prepare(dir: PathBuf) -> Result<Self, String> {
        let failed = |what: &str| {
            let what = format!("cannot {what} in {}", dir.display());
            move |error: io::Error| format!("{what}: {error}")
        };
        // Fails only when whoever started us has done it already.
        let _ = rustix::process::setsid();
        let children = signals::block_all().map_err(failed("watch children"))?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(io::Error::from)
            .map_err(failed("become a subreaper"))?;
        // A directory that we stand in could not be unmounted.
        rustix::process::chdir("/").map_err(io::Error::from).map_err(failed("change directory"))?;
        let place = Place::take(&dir, now())?;
        let last_exit = records::last_exit(&dir);
        Ok(Self {
            dir,
            place,
            children,
            connection: None,
            node: None,
            drains: Vec::new(),
            log: None,
            last_exit,
            buffer: vec![0; CHUNK],
        })
    }

    fn run(mut self, connection: Connection) {
        self.connection = Some(connection);
        while self.needed() {
            let Ok(ready) = self.wait() else { continue };
            self.place.tend(now());
            if ready.children {
                self.collect();
            }
            if ready.adopted_ended {
                self.adopted_ended();
            }
            self.drain(&ready.drains);
            self.serve(ready.connection);
            if ready.listener {
                self.accept();
            }
        }
    }

    fn needed(&self) -> bool {
        self.node.is_some() || self.connection.is_some() || !own_children().is_empty()
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds =
            vec![PollFd::new(&self.children, PollFlags::IN), PollFd::new(&self.place, PollFlags::IN)];
        let connection = self.connection.as_ref().map(|connection| {
            let write = if connection.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(connection, PollFlags::IN | write));
            fds.len() - 1
        });
        let adopted =
            self.node.as_ref().filter(|node| node.process.adopted && node.end_seen.is_none()).map(|node| {
                fds.push(PollFd::new(&node.pidfd, PollFlags::IN));
                fds.len() - 1
            });
        let first_drain = fds.len();
        // A closed pipe is left out: it would be ready for ever.
        let open: Vec<usize> = (0..self.drains.len()).filter(|&index| self.drains[index].is_open()).collect();
        fds.extend(open.iter().map(|&index| PollFd::new(&self.drains[index], PollFlags::IN)));
        let timeout = self.timeout();
        rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
        let got = |index: usize| fds[index].revents();
        let end_seen = self.node.as_ref().is_some_and(|node| node.end_seen.is_some());
        Ok(Ready {
            children: !got(0).is_empty(),
            listener: !got(1).is_empty(),
            connection: connection.map_or(PollFlags::empty(), got),
            adopted_ended: end_seen || adopted.is_some_and(|index| !got(index).is_empty()),
            drains: open
                .iter()
                .zip(first_drain..)
                .filter(|(_, at)| !got(*at).is_empty())
                .map(|(&index, _)| index)
                .collect(),
        })
    }

    /// The loop sleeps until its place is looked at, unless the log is broken or an adopted node's status is awaited.
    fn timeout(&self) -> Option<Timespec> {
        let mend = self.log.as_ref().and_then(NodeLog::next_mend);
        let moment = mend.into_iter().chain([self.place.next_look()]).min();
        let wait = moment.map(|moment| moment.saturating_duration_since(now()));
        let status = self.node.as_ref().and_then(|node| node.end_seen).map(|_| STATUS_POLL);
        wait.into_iter().chain(status).min().and_then(|wait| Timespec::try_from(wait).ok())
    }

    /// Collects every child that has ended: the node, and orphans that came to us.
    fn collect(&mut self) {
        // Any number of ends is one readable event; what it says does not matter.
        let _ = rustix::io::read(&self.children, &mut self.buffer[..]);
        let mut node_ended = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let own =
                self.node.as_ref().is_some_and(|node| node.process.pid == pid.as_raw_nonzero().get() as u32);
            if own {
                node_ended = Some(WaitStatus::from_raw(status.as_raw()));
            }
        }
        if let Some(status) = node_ended {
            self.node_ended(status, own_children());
        }
    }

    /// An adopted node is not our child: the kernel may tell how it ended, a moment later.
    fn adopted_ended(&mut self) {
        let now = now();
        let Some(node) = self.node.as_mut() else { return };
        let since = *node.end_seen.get_or_insert(now);
        match adopt::exit_status(&node.pidfd) {
            None if now.duration_since(since) < STATUS_WAIT => {}
            status => self.node_ended(status.unwrap_or(WaitStatus::Unknown), adopt::holders(&self.dir)),
        }
    }

    fn node_ended(&mut self, status: WaitStatus, leftovers: Vec<u32>) {
        let Some(node) = self.node.take() else { return };
        crash_point("keeper.exit.seen");
        let last_output = self.last_output(node.process.launch_id);
        let killed = matches!(status, WaitStatus::Signaled { signal: 9, .. }) && !node.process.kill_sent;
        let exit = NodeExit {
            launch_id: node.process.launch_id,
            pid: node.process.pid,
            status,
            exited_at_ms: now_ms(),
            ran_ms: now().duration_since(node.since).as_millis() as u64,
            term_sent: node.process.term_sent,
            kill_sent: node.process.kill_sent,
            oom_killed: killed && oom::kills() > node.memory_kills,
            last_output,
            leftovers,
        };
        // Told first, written afterwards: the downtime runs. If nobody is there to be told, nobody waits.
        self.send(None, Answer::Exited { exit: exit.clone() });
        crash_point("keeper.exit.told");
        if let Err(error) = records::note_exit(&self.dir, &exit) {
            say(&format!("cannot write down how the node ended: {error}"));
        }
        crash_point("keeper.exit.noted");
        self.last_exit = Some(exit);
    }

    /// Takes what the dead node left in its pipe (but no more than that: others may go on writing), then the end
    /// of it all.
    fn last_output(&mut self, launch_id: u64) -> Vec<String> {
        let Some(drain) = self.drains.iter_mut().rfind(|drain| drain.launch_id == launch_id) else {
            return Vec::new();
        };
        for _ in 0..LAST_CHUNKS {
            let Drained::Bytes(read) = drain.read(&mut self.buffer) else { break };
            if let Some(log) = self.log.as_mut() {
                log.write(&self.buffer[..read], now());
            }
        }
        drain.last_lines()
    }

    fn drain(&mut self, ready: &[usize]) {
        let now = now();
        if let Some(log) = self.log.as_mut().filter(|log| log.next_mend().is_some_and(|moment| moment <= now))
        {
            log.mend(now);
        }
        for &index in ready {
            if let Drained::Bytes(read) = self.drains[index].read(&mut self.buffer)
                && let Some(log) = self.log.as_mut()
            {
                log.write(&self.buffer[..read], now);
            }
        }
        let current = self.node.as_ref().map(|node| node.process.launch_id);
        self.drains.retain(|drain| drain.is_open() || Some(drain.launch_id) == current);
    }

    fn accept(&mut self) {
        // A new supervisor takes the place of one that is gone; two at a time the supervisor's lock forbids.
        if let Ok(socket) = self.place.accept() {
            self.connection = Connection::new(socket.into()).ok();
        }
    }

    fn serve(&mut self, ready: PollFlags) {
        let Some(connection) = self.connection.as_mut().filter(|_| !ready.is_empty()) else { return };
        let flushed = if ready.contains(PollFlags::OUT) { connection.flush() } else { Ok(()) };
        match flushed.and_then(|()| connection.receive(&mut self.buffer)) {
            Ok(lines) => lines.iter().for_each(|line| self.answer(line)),
            Err(_) => self.connection = None,
        }
    }

    fn answer(&mut self, request: &[u8]) {
        let Ok(Request { id, what, .. }) = serde_json::from_slice(request) else {
            self.send(None, Answer::Unsupported);
            return;
        };
        let bye = matches!(what, Ask::Bye);
        match what {
            Ask::Spawn { launch } => self.spawn(id, &launch),
            Ask::Terminate { of } => self.terminate(id, of),
            what => {
                let answer = self.carry_out(what);
                self.send(Some(id), answer);
            }
        }
        if bye {
            self.connection = None;
        }
    }

    fn carry_out(&mut self, what: Ask) -> Answer {
        match what {
            Ask::State => Answer::State { state: Box::new(self.state()) },
            Ask::Adopt { hint } => match self.adopt(&hint) {
                Ok(()) => Answer::State { state: Box::new(self.state()) },
                Err(error) => Answer::Failed { why: error.to_string() },
            },
            Ask::Quit => self.with_node(OfLaunch::default(), |node| node.quit()),
            Ask::Kill { of } => self.with_node(of, |node| {
                crash_point("keeper.kill.begun");
                node.kill();
                crash_point("keeper.kill.sent");
            }),
            Ask::ReapRest { gently } => Answer::Rest { pids: self.reap_rest(gently) },
            Ask::Bye => Answer::Done,
            Ask::Spawn { .. } | Ask::Terminate { .. } | Ask::Unknown => Answer::Unsupported,
        }
    }

    fn with_node(&mut self, of: OfLaunch, act: impl FnOnce(&mut Running)) -> Answer {
        match self.node.as_mut().filter(|node| of.is(node.process.launch_id)) {
            Some(node) => {
                act(node);
                Answer::Done
            }
            None => Answer::NoNode,
        }
    }

    fn state(&self) -> KeeperState {
        KeeperState {
            node: self.node.as_ref().map(|node| node.process.clone()),
            last_exit: self.last_exit.clone(),
            leftovers: self.leftovers(),
            keeper_pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What the last node left behind: orphans that came to us and what they started, and whoever holds the lock.
    fn leftovers(&self) -> Vec<u32> {
        if self.node.is_some() {
            return Vec::new();
        }
        let mut roots = adopt::all_holders(&self.dir);
        roots.extend(own_children());
        let mut leftovers = trees(&roots);
        leftovers.sort_unstable();
        leftovers.dedup();
        leftovers
    }

    fn reap_rest(&self, gently: bool) -> Vec<u32> {
        let signal = if gently { Signal::TERM } else { Signal::KILL };
        let open = |pid: u32| Some((pid, pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?));
        let held: Vec<(u32, OwnedFd)> = self.leftovers().into_iter().filter_map(open).collect();
        // With the pidfd held an id cannot pass on: whoever is still a leftover now is the one that was meant.
        let still = self.leftovers();
        for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = pidfd_send_signal(pidfd, signal);
        }
        still
    }

    fn spawn(&mut self, id: u64, launch: &Launch) {
        if let Some(node) = &self.node {
            // Whatever became of its lock and its record.
            let (lock, holders) = (self.dir.join(launch::NODE_LOCK), vec![node.process.pid]);
            let why = SpawnFailure::StillRuns { lock, holders };
            return self.send(Some(id), Answer::SpawnFailed { why });
        }
        if self.log.as_ref().is_none_or(|log| *log.policy() != launch.log) {
            self.log = Some(NodeLog::new(launch.log.clone()));
        }
        let launched = match launch::launch(&self.dir, launch) {
            Ok(launched) => launched,
            Err(why) => return self.send(Some(id), Answer::SpawnFailed { why }),
        };
        let process =
            NodeProcess { pid: launched.pid, start_time: launched.start_time, ..NodeProcess::of(launch) };
        self.drains.push(Drain::new(launch.launch_id, launched.output));
        self.send(Some(id), Answer::Started { node: process.clone() });
        crash_point("keeper.spawn.told");
        self.note(&process);
        crash_point("keeper.spawn.done");
        let memory_kills = oom::kills();
        self.node =
            Some(Running { process, pidfd: launched.pidfd, since: now(), memory_kills, end_seen: None });
    }

    fn note(&self, process: &NodeProcess) {
        if let Err(error) = records::note_node(&self.dir, process) {
            say(&format!("cannot write down what was started: {error}"));
        }
    }

    /// Done, then written down: if the keeper is killed in between, the next one sends a second SIGTERM, which a node
    /// counts and otherwise ignores. The other way round the node would get none, and in the end SIGKILL.
    fn terminate(&mut self, id: u64, of: OfLaunch) {
        let first =
            self.node.as_ref().is_some_and(|node| of.is(node.process.launch_id) && !node.process.term_sent);
        let answer = self.with_node(of, Running::terminate);
        crash_point("keeper.term.sent");
        if let Some(node) = self.node.as_ref().filter(|_| first) {
            self.note(&node.process);
        }
        crash_point("keeper.term.noted");
        self.send(Some(id), answer);
    }

    fn adopt(&mut self, hint: &AdoptHint) -> io::Result<()> {
        if self.node.is_some() {
            return Ok(());
        }
        crash_point("keeper.adopt.begun");
        self.log = Some(NodeLog::new(hint.log.clone()));
        if let Some(adopted) = adopt::adopt(&self.dir, hint, now())? {
            crash_point("keeper.adopt.found");
            let launch_id = adopted.running.process.launch_id;
            self.note(&adopted.running.process);
            self.drains.extend(adopted.output.map(|output| Drain::new(launch_id, output)));
            self.node = Some(adopted.running);
        }
        crash_point("keeper.adopt.done");
        Ok(())
    }

    /// Sends an answer, or an event without a number, if somebody listens.
    fn send(&mut self, id: Option<u64>, what: Answer) {
        let Some(connection) = self.connection.as_mut() else { return };
        if connection.send(&line(&Message { v: VERSION, id, what })).is_err() {
            self.connection = None;
        }
    }
}

/// The forward-only clock.
#[allow(clippy::disallowed_methods)] // The keeper has no other clock to be told by.
fn now() -> Instant {
    Instant::now()
}
