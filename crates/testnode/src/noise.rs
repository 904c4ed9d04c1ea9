//! Output that is too much: many lines, a burst, a line without end.

use std::time::Duration;

use crate::log;

const LINE: &str =
    "DEBUG[practice] Reached a state that is worth a long line of no interest to anybody who reads it\n";

/// Writes as many lines as `rate` a second makes in `pause`, at least one.
pub(crate) fn lines(rate: u64, pause: Duration) {
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let count = (rate.saturating_mul(millis) / 1000).max(1);
    log::raw(LINE.repeat(usize::try_from(count).unwrap_or(1)).as_bytes());
}

/// Writes `burst` bytes of lines and then `long` bytes without a newline, on a thread of its own.
pub(crate) fn burst(burst: Option<u64>, long: Option<u64>) {
    if burst.is_none() && long.is_none() {
        return;
    }
    std::thread::spawn(move || {
        write(LINE.repeat(64 * 1024 / LINE.len()).as_bytes(), burst.unwrap_or(0));
        if let Some(long) = long {
            // Nothing may come in between, or the line would end there.
            let _alone = std::io::stderr().lock();
            write(&[b'x'; 64 * 1024], long);
            log::raw(b"\n");
        }
    });
}

fn write(block: &[u8], bytes: u64) {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let part = left.min(block.len());
        log::raw(&block[..part]);
        left -= part;
    }
}
