//! The keeper's side of the connection to the supervisor: lines in, lines out, never waiting.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::protocol::MAX_LINE;

/// How much may wait for a supervisor that does not read. One that is further behind is cut off; it connects again.
const MAX_WAITING: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket, inbox: Vec::new(), outbox: Vec::new() })
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends now what can be sent now and keeps the rest. `Err` means: the connection is of no use any more.
    pub(super) fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if self.outbox.len() + line.len() > MAX_WAITING {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.outbox.extend_from_slice(line);
        self.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A long answer must not stay in memory for the keeper's whole life.
        self.outbox = Vec::new();
        Ok(())
    }

    /// Waits for the first whole line.
    pub(super) fn wait_for_line(&mut self, limit: Duration) -> io::Result<Vec<u8>> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(limit))?;
        let mut line = Vec::new();
        BufReader::new(&self.socket).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// Reads what is there and returns the whole lines in it, without their ends. `Err` means: the connection is
    /// of no use any more, `UnexpectedEof` that the other side left.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Vec<Vec<u8>>> {
        let read = match self.socket.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        let mut lines = Vec::new();
        for piece in buffer[..read].split_inclusive(|&byte| byte == b'\n') {
            self.inbox.extend_from_slice(piece);
            if self.inbox.last() == Some(&b'\n') {
                self.inbox.pop();
                lines.push(std::mem::take(&mut self.inbox));
            }
        }
        if self.inbox.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
        }
        Ok(lines)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
