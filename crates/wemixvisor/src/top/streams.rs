//! The tasks that bring the news: pictures, events, the log. Each tries again by itself for as long as the view is
//! looked at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;
use wemixvisor_daemon::control::Frame;

use super::state::News;
use crate::failure::{Failure, Kind};
use crate::live::Live;

/// A picture is asked for at least so often: most of what it shows is told by no event.
const PICTURE_EVERY: Duration = Duration::from_secs(2);

/// And at most so often, however much happens.
const PICTURE_AT_MOST: Duration = Duration::from_millis(200);

/// How long is waited before the next try where nobody answers.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What happens; the kinds of frames that are only told to those who ask for them are not asked for.
const EVENTS: &str = "/api/v1/events?topics=heights,upgrades,node,alerts,system";

/// The node's log, with as much of its end as is kept here.
const LOG: &str = "/api/v1/logs/stream?tail=1000";

/// Asks for pictures, at once when `wake` says that something happened. Returns when nobody takes the news.
pub(super) async fn pictures(live: Live, wake: Arc<Notify>, news: Sender<News>) {
    loop {
        let answer = live.status().await;
        let pause = if matches!(answer, Ok(Some(_))) { PICTURE_EVERY } else { AGAIN_AFTER };
        if news.send(News::Picture(Box::new(answer))).await.is_err() {
            return;
        }
        sleep(PICTURE_AT_MOST).await;
        tokio::select! {
            () = wake.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Follows what happens.
pub(super) async fn events(live: Live, wake: Arc<Notify>, news: Sender<News>) {
    let happened = |frame| {
        wake.notify_one();
        News::Happened(frame)
    };
    loop {
        let over = follow(&live, EVENTS, &news, || News::Open, happened).await;
        // Whether the supervisor is still there is told by the next picture.
        wake.notify_one();
        if news.send(News::Closed(over)).await.is_err() {
            return;
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Follows the node's log.
pub(super) async fn log(live: Live, news: Sender<News>) {
    loop {
        let over = follow(&live, LOG, &news, || News::LogOpen, |frame| News::Lines(lines(&frame))).await;
        if news.send(News::LogClosed(over)).await.is_err() {
            return;
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// Passes a stream on to its end; why there was none, or why it broke, unless nobody answered at all.
async fn follow(
    live: &Live,
    path: &str,
    news: &Sender<News>,
    open: impl FnOnce() -> News,
    as_news: impl Fn(Frame) -> News,
) -> Option<String> {
    let followed = async {
        let mut stream = live.stream(path).await?;
        if news.send(open()).await.is_err() {
            return Ok(());
        }
        while let Some(frame) = stream.next().await? {
            if news.send(as_news(frame)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    match followed.await {
        // A supervisor that ends breaks off; then the next picture says so.
        Err(Failure { kind: Kind::NotRunning, .. }) | Ok(()) => None,
        Err(failure) if failure.is_broken_off() => None,
        Err(failure) => Some(failure.message),
    }
}

fn lines(frame: &Frame) -> Vec<String> {
    let data = &frame.event.data;
    let left_out = data["skipped"].as_u64().filter(|lines| *lines > 0);
    let lines = data["lines"].as_array().into_iter().flatten();
    let lines = lines.filter_map(|line| line.as_str().map(str::to_owned));
    left_out
        .map(|lines| format!("... {lines} lines came too fast to be shown"))
        .into_iter()
        .chain(lines)
        .collect()
}
