//! Taking the node's output out of its pipe, always and at any rate, so that the node never waits for us.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How much of the end of the output is kept for the exit report: a few screens of a panic.
const TAIL_BYTES: usize = 4096;
/// How many lines of it are told.
const TAIL_LINES: usize = 20;

/// The reading end of one launch's output, and the last of what came through it.
#[derive(Debug)]
pub(super) struct Drain {
    pub launch_id: u64,
    pipe: OwnedFd,
    open: bool,
    tail: VecDeque<u8>,
}

/// What one look into the pipe brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// This many bytes, now in the buffer.
    Bytes(usize),
    /// Nothing for now.
    Empty,
    /// Nobody can write to it any more.
    Closed,
}

impl Drain {
    pub(super) fn new(launch_id: u64, pipe: OwnedFd) -> Self {
        Self { launch_id, pipe, open: true, tail: VecDeque::new() }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Drained {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.pipe, &mut *buffer)) {
            Ok(0) => self.close(),
            Ok(read) => {
                self.remember(&buffer[..read]);
                Drained::Bytes(read)
            }
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::WouldBlock => Drained::Empty,
            Err(_) => self.close(),
        }
    }

    fn close(&mut self) -> Drained {
        self.open = false;
        Drained::Closed
    }

    /// Whether anybody can still write to it. The last lines of a closed one are still there.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    fn remember(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let too_many = (self.tail.len() + new.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..too_many);
        self.tail.extend(new);
    }

    /// The last lines that came through.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|&line| line.to_owned()).collect()
    }
}

impl AsFd for Drain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_few_and_short() {
        let (pipe, _input) = rustix::pipe::pipe().unwrap();
        let mut drain = Drain::new(1, pipe);
        for n in 0..1000 {
            drain.remember(format!("line {n}\n").as_bytes());
        }
        let lines = drain.last_lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 980", "line 999"));
        drain.remember(&[b'x'; 1 << 20]);
        assert_eq!(drain.last_lines(), ["x".repeat(TAIL_BYTES)]);
    }
}
