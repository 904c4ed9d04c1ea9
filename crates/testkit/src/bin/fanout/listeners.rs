//! The clients that listen as they should.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::connect::{SUBSCRIBE, connect, say};
use crate::record::{Heard, Record, now_ns};

/// So many come at a time.
const AT_A_TIME: usize = 50;

/// Starts them; each one says on the channel when it is subscribed.
pub(crate) fn start(
    address: SocketAddr,
    clients: usize,
    record: &Rc<RefCell<Record>>,
    over: &watch::Receiver<bool>,
    into: &mut JoinSet<Heard>,
) -> mpsc::UnboundedReceiver<()> {
    let door = Arc::new(Semaphore::new(AT_A_TIME));
    let (tell, joined) = mpsc::unbounded_channel();
    for _ in 0..clients {
        into.spawn_local(listen(address, record.clone(), door.clone(), tell.clone(), over.clone()));
    }
    joined
}

async fn listen(
    address: SocketAddr,
    record: Rc<RefCell<Record>>,
    door: Arc<Semaphore>,
    joined: mpsc::UnboundedSender<()>,
    mut over: watch::Receiver<bool>,
) -> Heard {
    let mut place = Some(door.acquire_owned().await.expect("it stays open"));
    let mut socket = connect(address, None).await.expect("the API takes a client");
    say(&mut socket, SUBSCRIBE).await.expect("the API takes a subscription");
    let mut heard = Heard::default();
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = over.changed() => return heard,
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                if let Some(frame) = record.borrow_mut().heard(&text, now_ns()) {
                    heard.frames.push(frame);
                }
                if place.is_some() && text.contains(r#""type":"subscribed""#) {
                    place = None;
                    let _ = joined.send(());
                }
            }
            Some(Ok(Message::Close(said))) => heard.ended = Some(format!("closed: {said:?}")),
            Some(Ok(_)) => {}
            Some(Err(error)) => heard.ended = Some(error.to_string()),
            None => {
                heard.ended.get_or_insert_with(|| "the connection ended".into());
                return heard;
            }
        }
    }
}
