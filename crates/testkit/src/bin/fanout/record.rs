//! Which frames were heard, and how long after they were made each client had them.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What is told to one client only.
const PRIVATE: [&str; 5] = ["hello", "subscribed", "snapshot", "gap", "error"];

/// Now, in nanoseconds since 1970: the clock that the server stamps with.
pub(crate) fn now_ns() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since_1970.as_nanos()).expect("a clock before 2500")
}

/// What one client heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The frames, as the record numbers them.
    pub(crate) frames: Vec<usize>,
    /// Why it is not connected any more.
    pub(crate) ended: Option<String>,
}

struct Frame {
    kind: String,
    height: Option<u64>,
    /// The server's stamp. It is cut to milliseconds: what is measured from it is up to 1 ms too long.
    made_ns: u64,
    /// When each client had it, in the order of their hearing it.
    had_ns: Vec<u64>,
}

struct Phase {
    name: String,
    from_ns: u64,
}

/// All frames of the run.
#[derive(Default)]
pub(crate) struct Record {
    numbers: HashMap<String, Option<usize>>,
    frames: Vec<Frame>,
    phases: Vec<Phase>,
    all_from_ns: u64,
    until_ns: u64,
}

impl Record {
    /// From now on every frame is for every client.
    pub(crate) fn all_are_there(&mut self) {
        self.all_from_ns = now_ns();
    }

    pub(crate) fn begin(&mut self, name: String) {
        self.phases.push(Phase { name, from_ns: now_ns() });
    }

    pub(crate) fn end(&mut self) {
        self.until_ns = now_ns();
    }

    /// A client has this text; the answer is the frame's number if it is for all.
    pub(crate) fn heard(&mut self, text: &str, at_ns: u64) -> Option<usize> {
        let number = match self.numbers.get(text) {
            Some(number) => *number,
            None => {
                let frame = read(text);
                let number = frame.map(|frame| {
                    self.frames.push(frame);
                    self.frames.len() - 1
                });
                self.numbers.insert(text.to_owned(), number);
                number
            }
        };
        number.inspect(|number| self.frames[*number].had_ns.push(at_ns))
    }

    /// Whether every client has to have it.
    fn is_for_all(&self, frame: &Frame) -> bool {
        frame.made_ns > self.all_from_ns && frame.made_ns < self.until_ns
    }

    pub(crate) fn report(&self, clients: &[Heard]) -> Value {
        let judged = |client: &Heard| -> Vec<usize> {
            client.frames.iter().copied().filter(|frame| self.is_for_all(&self.frames[*frame])).collect()
        };
        let all = self.frames.iter().filter(|frame| self.is_for_all(frame)).count();
        let first = judged(&clients[0]);
        let incomplete = clients.iter().filter(|client| judged(client) != first).count();
        let heights: Vec<u64> = first.iter().filter_map(|frame| self.frames[*frame].height).collect();
        let skipped = heights.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        let ended: Vec<&String> = clients.iter().filter_map(|client| client.ended.as_ref()).collect();
        json!({
            "clients": clients.len(),
            "frames": all,
            // All clients have the same frames in the same order, and that is every frame.
            "incomplete": if first.len() == all { incomplete } else { clients.len() },
            "ended": ended,
            "heights": heights.len(),
            "heights_skipped": skipped,
            "phases": (0..self.phases.len()).map(|phase| self.phase(phase)).collect::<Vec<_>>(),
        })
    }

    fn phase(&self, number: usize) -> Value {
        let phase = &self.phases[number];
        let until = self.phases.get(number + 1).map_or(self.until_ns, |next| next.from_ns);
        let mut frames: Vec<&Frame> = self.frames.iter().collect();
        frames.retain(|frame| frame.made_ns >= phase.from_ns && frame.made_ns < until);
        let spans = |from: fn(&Frame) -> u64| -> Value {
            let of = |frame: &&Frame| -> Vec<u64> {
                let from = from(frame);
                frame.had_ns.iter().map(|had| had.saturating_sub(from)).collect()
            };
            figures(frames.iter().flat_map(of).collect())
        };
        let told: Vec<Value> = frames
            .iter()
            .filter(|frame| frame.height.is_some())
            .map(|frame| json!({"height": frame.height, "made_ns": frame.made_ns, "first_ns": frame.had_ns[0]}))
            .collect();
        json!({
            "name": phase.name,
            "seconds": (until - phase.from_ns) as f64 / 1e9,
            "frames": frames.len(),
            "kinds": kinds(&frames),
            "from_the_stamp": spans(|frame| frame.made_ns),
            "from_the_first": spans(|frame| frame.had_ns[0]),
            "told": told,
        })
    }
}

fn kinds(frames: &[&Frame]) -> Value {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    frames.iter().for_each(|frame| *counts.entry(&frame.kind).or_default() += 1);
    json!(counts)
}

/// The frame in a text, if it is for all.
fn read(text: &str) -> Option<Frame> {
    let value: Value = serde_json::from_str(text).expect("a frame is JSON");
    let kind = value["type"].as_str().expect("a frame has a type");
    if PRIVATE.contains(&kind) {
        return None;
    }
    let stamp: jiff::Timestamp =
        value["timestamp"].as_str().and_then(|stamp| stamp.parse().ok()).expect("a frame has a timestamp");
    let height = (kind == "height").then(|| value["data"]["height"].as_u64()).flatten();
    let made_ns = u64::try_from(stamp.as_nanosecond()).expect("a stamp after 1970");
    Some(Frame { kind: kind.to_owned(), height, made_ns, had_ns: Vec::new() })
}

/// Percentiles by nearest rank, in milliseconds.
fn figures(mut spans: Vec<u64>) -> Value {
    spans.sort_unstable();
    let at = |share: f64| {
        let rank = (share * spans.len() as f64).ceil() as usize;
        spans.get(rank.saturating_sub(1)).map(|ns| *ns as f64 / 1e6)
    };
    json!({"n": spans.len(), "p50": at(0.50), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)})
}
