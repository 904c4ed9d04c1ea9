//! The connection's task on the supervisor's side: orders out, answers to those who wait for them, events on.

use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::client::KeeperEvent;
use super::protocol::{Answer, Ask, MAX_LINE, Message, Request, VERSION, line};

/// One order and where its answer goes.
#[derive(Debug)]
pub(super) struct Order {
    pub what: Ask,
    pub reply: oneshot::Sender<Answer>,
}

/// Runs until the keeper or all who hold its handle are gone. Whoever still waits for an answer then sees their
/// channel closed.
pub(super) async fn serve(
    stream: UnixStream,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<KeeperEvent>,
) {
    if exchange(stream, orders, &events).await.is_err() {
        let _ = events.send(KeeperEvent::Lost).await;
    }
}

/// `Ok`: nobody needs the connection any more. `Err`: it broke.
async fn exchange(
    mut stream: UnixStream,
    mut orders: mpsc::Receiver<Order>,
    events: &mpsc::Sender<KeeperEvent>,
) -> io::Result<()> {
    let (mut input, mut output) = stream.split();
    let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut inbox = Vec::new();
    let mut next_id = 1;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(Order { what, reply }) = order else { return Ok(()) };
                let request = line(&Request { v: VERSION, id: next_id, what });
                waiting.insert(next_id, reply);
                next_id += 1;
                output.write_all(&request).await?;
            }
            read = input.read_buf(&mut inbox) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                for message in take_lines(&mut inbox)? {
                    deliver(message, &mut waiting, events).await;
                }
            }
        }
    }
}

/// Takes the whole lines out of the inbox. A line that makes no sense is of a later version and is passed over.
fn take_lines(inbox: &mut Vec<u8>) -> io::Result<Vec<Message>> {
    let Some(end) = inbox.iter().rposition(|&byte| byte == b'\n') else {
        if inbox.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
        }
        return Ok(Vec::new());
    };
    let whole: Vec<u8> = inbox.drain(..=end).collect();
    Ok(whole.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

async fn deliver(
    message: Message,
    waiting: &mut HashMap<u64, oneshot::Sender<Answer>>,
    events: &mpsc::Sender<KeeperEvent>,
) {
    match (message.id, message.what) {
        // Whoever asked may have stopped waiting.
        (Some(id), answer) => drop(waiting.remove(&id).map(|reply| reply.send(answer))),
        (None, Answer::Exited { exit }) => drop(events.send(KeeperEvent::Exited(exit)).await),
        (None, _) => {}
    }
}
