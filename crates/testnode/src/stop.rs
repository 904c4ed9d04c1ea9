//! Signals, and the stop in order.
//!
//! Every delivery of a signal is counted: each writes a byte into a pipe of its own, so that none is merged with
//! another after the kernel has delivered it.

use std::io;
use std::process::exit;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::node::Node;
use crate::{death, log, serve};

/// After this many further signals a stopping node panics (go-ethereum cmd/utils/cmd.go, `StartNode`).
const PATIENCE: u64 = 10;
/// A working stop works for `BUSY` in each `TURN` and writes `WRITTEN` bytes.
const TURN: Duration = Duration::from_millis(50);
const BUSY: Duration = Duration::from_millis(10);
const WRITTEN: usize = 64 * 1024;

/// The signals that the node catches.
#[derive(Debug)]
pub(crate) struct Signals {
    term: UnixStream,
    int: UnixStream,
    quit: UnixStream,
}

impl Signals {
    /// Installs the handlers.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { term: pipe(SIGTERM)?, int: pipe(SIGINT)?, quit: pipe(SIGQUIT)? })
    }

    /// The next signal's name and how often it came.
    async fn next(&mut self) -> (&'static str, usize) {
        let (mut term, mut int, mut quit) = ([0; 16], [0; 16], [0; 16]);
        tokio::select! {
            count = self.term.read(&mut term) => ("SIGTERM", count.unwrap_or(0)),
            count = self.int.read(&mut int) => ("SIGINT", count.unwrap_or(0)),
            count = self.quit.read(&mut quit) => ("SIGQUIT", count.unwrap_or(0)),
        }
    }
}

fn pipe(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal, write)?;
    read.set_nonblocking(true)?;
    UnixStream::from_std(read)
}

/// Obeys signals, for ever.
pub(crate) async fn obey(node: Rc<Node>, mut signals: Signals) {
    let mut count = 0;
    let mut stopping = false;
    let mut further = 0;
    loop {
        let (name, times) = signals.next().await;
        for _ in 0..times {
            count += 1;
            node.journal.fact("signal", json!({"name": name, "count": count, "head": node.chain().head}));
            if name == "SIGQUIT" {
                dump(&node);
            }
            if stopping {
                further += 1;
                one_more(&node, further);
            } else if node.faults().ignore_sigterm {
                log::warn(&format!("Got {name}, ignored as told"));
            } else {
                stopping = true;
                tokio::task::spawn_local(stop(Rc::clone(&node)));
            }
        }
    }
}

fn one_more(node: &Node, further: u64) {
    if further < PATIENCE {
        log::warn(&format!("Already shutting down, interrupt more to panic. times={}", PATIENCE - further));
        return;
    }
    death::panic_text("boom");
    node.journal.fact("stop", json!({"exit": 2, "head": node.chain().head, "by": "too many signals"}));
    exit(2)
}

fn dump(node: &Node) -> ! {
    log::raw(b"SIGQUIT: quit\nPC=0x0 m=0 sigcode=0\n\ngoroutine 0 [idle]:\nruntime.futex()\n\t/testnode/sys.go:1\n");
    node.journal.fact("stop", json!({"exit": 2, "head": node.chain().head, "by": "SIGQUIT"}));
    exit(2)
}

/// Stops in order: closes the RPC, finishes what is on its way, flushes, exits 0.
async fn stop(node: Rc<Node>) {
    log::info("Got interrupt, shutting down...");
    node.stopping.cancel();
    serve::close(&node).await;
    let faults = node.faults().clone();
    if faults.seal_after_term {
        node.seal_one_more();
    }
    if faults.stop_hangs {
        std::future::pending::<()>().await;
    }
    if let Some(span) = faults.stop_works {
        work(&node, span.0).await;
    }
    if let Some(span) = faults.stop_takes {
        tokio::time::sleep(span.0).await;
    }
    death::leave_child(&node);
    node.flush(true);
    log::info("Blockchain stopped");
    node.journal.fact("stop", json!({"exit": 0, "head": node.chain().head, "by": "signal"}));
    exit(0)
}

/// Uses the processor and writes bytes, as a long flush does.
async fn work(node: &Node, span: Duration) {
    use std::io::{Seek, Write};
    let begin = Instant::now();
    let mut file = node.store.scratch().ok();
    let bytes = vec![0_u8; WRITTEN];
    while begin.elapsed() < span {
        let turn = Instant::now();
        while turn.elapsed() < BUSY {
            std::hint::spin_loop();
        }
        if let Some(file) = &mut file {
            let _ = file.rewind().and_then(|()| file.write_all(&bytes));
        }
        tokio::time::sleep(TURN - BUSY).await;
    }
}
