//! The ways in which the node ends other than by being told to stop.

use std::process::{Command, Stdio, exit};
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use signal_hook::consts::SIGKILL;
use signal_hook::low_level::{emulate_default_handler, raise};

use crate::faults::{Faults, Span};
use crate::journal::now_ms;
use crate::log;
use crate::node::{Node, sleep};

/// How long a child that was left behind sleeps at most, in seconds.
const CHILD_SLEEPS: &str = "600";
/// The exit code of a failure when no fault says another.
const FAILURE: u8 = 1;

/// An end that comes from the node itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// By exit, with this code.
    Exit(u8),
    /// By this signal's default action.
    Signal(i32),
}

/// What the faults say about exits: with which code.
pub(crate) fn exit_code(faults: &Faults) -> u8 {
    faults.exit_code.unwrap_or(FAILURE)
}

fn signal(faults: &Faults) -> i32 {
    faults.signal.unwrap_or(SIGKILL)
}

/// Ends the process. What was not flushed is lost, except with exit code 0: that is a stop in order.
pub(crate) fn end(node: &Node, end: End) -> ! {
    leave_child(node);
    let head = node.chain().head;
    match end {
        End::Exit(code) => {
            match code {
                0 => {
                    log::warn("Low disk space. Gracefully shutting down...");
                    node.flush(true);
                }
                2 => panic_text("runtime error: invalid memory address or nil pointer dereference"),
                _ => log::fatal("the practice node was told to fail"),
            }
            node.journal.fact("stop", json!({"exit": code, "head": head, "by": "itself"}));
            exit(i32::from(code))
        }
        End::Signal(number) => {
            node.journal.fact("stop", json!({"signal": number, "head": head, "by": "itself"}));
            if number == SIGKILL {
                let _ = raise(number);
            }
            let _ = emulate_default_handler(number);
            log::fatal(&format!("signal {number} does not end a process"));
            exit(i32::from(FAILURE))
        }
    }
}

/// What a Go program prints when it panics.
pub(crate) fn panic_text(reason: &str) {
    log::raw(
        format!("panic: {reason}\n\ngoroutine 1 [running]:\nmain.main()\n\t/testnode/main.go:1\n").as_bytes(),
    );
}

/// Starts the child that outlives the node, if the faults ask for one.
pub(crate) fn leave_child(node: &Node) {
    if !node.faults().leave_child {
        return;
    }
    match Command::new("sleep").arg(CHILD_SLEEPS).stdin(Stdio::null()).spawn() {
        Ok(child) => node.journal.fact("child", json!({"child": child.id()})),
        Err(error) => log::warn(&format!("Failed to start a child err={error}")),
    }
}

/// Ends the process if the faults say so for this head.
pub(crate) fn at_height(node: &Node, head: u64) {
    let (exits, dies) = {
        let faults = node.faults();
        let reached = |height: Option<u64>| height.is_some_and(|height| head >= height);
        (
            reached(faults.exit_at_height).then(|| exit_code(&faults)),
            reached(faults.signal_at_height).then(|| signal(&faults)),
        )
    };
    if let Some(code) = exits {
        end(node, End::Exit(code));
    }
    if let Some(number) = dies {
        end(node, End::Signal(number));
    }
}

/// Ends the process when the time has come that the faults say.
pub(crate) async fn in_time(node: Rc<Node>) {
    let mut changes = node.changes();
    loop {
        let left = |span: Option<Span>| {
            let at = span.map(|span| node.around.started_ms.saturating_add(span.ms()));
            at.map(|at| Duration::from_millis(at.saturating_sub(now_ms())))
        };
        let (exits, dies) = (left(node.faults().exit_after), left(node.faults().signal_after));
        tokio::select! {
            _ = changes.changed() => {}
            () = sleep(exits) => {
                let code = exit_code(&node.faults());
                end(&node, End::Exit(code))
            }
            () = sleep(dies) => {
                let number = signal(&node.faults());
                end(&node, End::Signal(number))
            }
        }
    }
}
