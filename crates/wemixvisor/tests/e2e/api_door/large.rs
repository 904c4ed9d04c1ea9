//! Frames as large as they can be.

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::json;

use super::{home, started, with_door};

#[test]
fn g44_the_largest_frames_reach_every_client() {
    let home = home();
    let door = with_door(&home);
    let supervisor = started(&home, door);
    let mut before = door.websocket(&[]).unwrap();
    before.say(json!({"action": "subscribe", "topics": ["upgrades", "logs"]}).to_string());
    before.until("snapshot");
    let plan = json!({"name": "v8", "height": 900_000, "info": {"description": "d".repeat(900_000)}});
    let answer = door.ask("POST", "/api/v1/upgrades", &[], &plan.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(before.until("upgrade_scheduled")["data"]["name"], "v8");
    let mut log = OpenOptions::new().append(true).open(home.wemixvisor().join("logs/node.log")).unwrap();
    for byte in [1, 0xff, b'"'] {
        let mut lines = [byte; 4000].repeat(150);
        lines.chunks_mut(4000).for_each(|line| line[3999] = b'\n');
        log.write_all(&lines).unwrap();
        // The node's own lines come in frames of theirs.
        let frame =
            std::iter::from_fn(|| Some(before.until("lines"))).find(|frame| frame["data"]["skipped"] != 0);
        assert!(frame.unwrap().to_string().len() < 80 * 1024);
    }
    let mut after = door.websocket(&[]).unwrap();
    after.say(json!({"action": "subscribe", "topics": ["upgrades", "logs"]}).to_string());
    assert!(after.until("snapshot").to_string().len() > 1_800_000, "the description is in it twice");
    log.write_all(b"and on\n").unwrap();
    after.until("lines");
    let mut stream = door.stream("/api/v1/events?topics=upgrades,logs", &[]);
    assert!(stream.until("snapshot").to_string().len() > 1_800_000);
    assert!(stream.until("snapshot").to_string().len() < 80 * 1024);
    assert_eq!(supervisor.stop(), 0);
}
