//! The live view in the terminal.
//!
//! ```text
//!  keyboard (a thread of its own) ──┐
//!  pictures, events, log (streams) ─┼──> View (state) ──> draw, on changes and once a second
//!  answers to orders ───────────────┘       │
//!        ^                                  │ a key and a typed word
//!        └────────── supervisor <───────────┘
//! ```
//!
//! Everything that is shown is the supervisor's own picture and its own words; nothing is decided here.

mod draw;
mod keys;
mod lines;
mod log;
mod pace;
mod panels;
mod prompt;
mod state;
mod streams;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::keys::Deed;
pub(crate) use self::panels::Setting;
use self::prompt::Order;
use self::state::{Said, View};
use crate::failure::Failure;
use crate::live::Live;

/// How often the clock and the countdown go on.
const CLOCK: Duration = Duration::from_secs(1);

/// The least time between two drawings for what comes from outside; a key is shown at once.
const DRAW_AT_MOST: Duration = Duration::from_millis(50);

/// So much news may wait to be taken in.
const WAITING: usize = 256;

/// How the view was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// By `q`.
    Quit,
    /// By Ctrl-C or a signal.
    Interrupted,
}

/// The terminal; dropped, also by a panic, it is as it was before.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        // A panic has put it back already, before it said why; once more would write over that.
        if !std::thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// Shows the view until it is left.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) async fn show(live: Live, setting: Setting) -> Result<Left, Failure> {
    let unusable = |error: io::Error| Failure::failed(format!("cannot use the terminal: {error}"));
    let signals = Signals::new().map_err(unusable)?;
    let mut screen = Screen::open().map_err(unusable)?;
    watch(live, &setting, &mut screen.0, signals).await.map_err(unusable)
}

async fn watch(
    live: Live,
    setting: &Setting,
    terminal: &mut DefaultTerminal,
    mut signals: Signals,
) -> io::Result<Left> {
    let mut keys = keyboard();
    let (told, mut news) = mpsc::channel(WAITING);
    let wake = Arc::new(Notify::new());
    // They end with this function.
    let mut tasks = JoinSet::new();
    tasks.spawn(streams::pictures(live.clone(), wake.clone(), told.clone()));
    tasks.spawn(streams::events(live.clone(), wake.clone(), told.clone()));
    tasks.spawn(streams::log(live.clone(), told));
    let mut orders: JoinSet<Said> = JoinSet::new();
    let mut clock = interval(CLOCK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut view = View::new();
    let (mut changed, mut next_drawing) = (true, Instant::now());
    loop {
        if changed && Instant::now() >= next_drawing {
            terminal.draw(|frame| draw::draw(frame, &view, setting, Instant::now()))?;
            (changed, next_drawing) = (false, Instant::now() + DRAW_AT_MOST);
        }
        tokio::select! {
            biased;
            key = keys.recv() => {
                let Some(event) = key.transpose()? else { return Ok(Left::Interrupted) };
                (changed, next_drawing) = (true, Instant::now());
                let deed = if let Event::Key(key) = event { view.key(key) } else { Deed::Show };
                match deed {
                    Deed::Show => {}
                    Deed::DrawAnew => terminal.clear()?,
                    Deed::Quit => return Ok(Left::Quit),
                    Deed::Interrupt => return Ok(Left::Interrupted),
                    Deed::Send(order) => drop(orders.spawn(send(live.clone(), order))),
                }
            }
            () = signals.any() => return Ok(Left::Interrupted),
            Some(answer) = orders.join_next() => {
                view.said = Some(answer.map_err(io::Error::other)?);
                wake.notify_one();
                changed = true;
            }
            Some(first) = news.recv() => {
                view.learn(first, Instant::now());
                while let Ok(more) = news.try_recv() {
                    view.learn(more, Instant::now());
                }
                changed = true;
            }
            _ = clock.tick() => changed = true,
            () = sleep_until(next_drawing), if changed => {}
        }
    }
}

/// Sends an order; what is said to it.
async fn send(live: Live, order: Order) -> Said {
    match live.order(order.method, &order.path).await {
        Ok(words) => Said::Accepted(format!("{}: {words}", order.what)),
        Err(failure) => Said::Refused(format!("{}: {}", order.what, failure.message)),
    }
}

/// What is typed. The thread that reads it cannot be interrupted and ends with the process.
fn keyboard() -> mpsc::UnboundedReceiver<io::Result<Event>> {
    let (hit, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let over = event.is_err();
            if hit.send(event).is_err() || over {
                return;
            }
        }
    });
    keys
}

/// Signals on which the view is left; the terminal is put in order as after `q`.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        let of = |kind| signal(kind);
        Ok(Self([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hang_up] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
