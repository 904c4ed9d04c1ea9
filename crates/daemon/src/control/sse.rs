//! Server-sent events as bytes: a reader that takes what comes in pieces, cut anywhere, and gives whole messages.
//!
//! The format is that of the HTML standard, section 9.2: fields in lines, a blank line ends a message, a line that
//! begins with a colon says nothing. What an unknown server sends is bounded: a message holds at most [`MAX`] bytes.

use crate::api::frame::MAX_FRAME;

/// The longest message, in bytes, its field names included: the longest frame fits in.
pub(super) const MAX: usize = MAX_FRAME + 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    /// The number to go on from, where it has one of its own.
    pub(super) id: Option<String>,
    /// What it says. Its lines are joined by line feeds.
    pub(super) data: String,
}

/// A message is longer than [`MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of its stream is longer than {MAX} bytes")]
pub(super) struct TooLong;

/// What has come and is not yet a whole message.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed behind it ends no further line.
    after_return: bool,
    message: Message,
    has_data: bool,
    /// The bytes of the message so far.
    length: usize,
}

impl Reader {
    /// Takes the next bytes; whole messages are added to `found`.
    ///
    /// # Errors
    /// [`TooLong`]; the stream is of no use then.
    pub(super) fn take(&mut self, bytes: &[u8], found: &mut impl Extend<Message>) -> Result<(), TooLong> {
        for &byte in bytes {
            let second_half = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => found.extend(self.end_of_line()),
                _ => {
                    self.length += 1;
                    if self.length > MAX {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.length = 0;
            let message = std::mem::take(&mut self.message);
            return std::mem::take(&mut self.has_data).then_some(message);
        }
        let text = String::from_utf8_lossy(&line);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            "id" => self.message.id = Some(value.to_owned()),
            // A comment, which keeps the connection alive, counts for no message.
            "" => self.length -= line.len(),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 7\nevent: node_started\ndata: {\"a\":\ndata:  1}\n\n:keep-alive\r\n\r\n\
                          event: height\rdata: ä\r\rid: 8\n\ndata\n\nretry: 5\nother: x\ndata:last\n\n";

    fn message(id: Option<&str>, data: &str) -> Message {
        Message { id: id.map(str::to_owned), data: data.into() }
    }

    fn expected() -> Vec<Message> {
        vec![message(Some("7"), "{\"a\":\n 1}"), message(None, "ä"), message(None, ""), message(None, "last")]
    }

    #[test]
    fn messages_are_the_same_wherever_the_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        for size in 1..=bytes.len() {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for piece in bytes.chunks(size) {
                reader.take(piece, &mut found).unwrap();
            }
            assert_eq!(found, expected(), "in pieces of {size}");
        }
        for at in 0..bytes.len() {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            reader.take(&bytes[..at], &mut found).unwrap();
            reader.take(&bytes[at..], &mut found).unwrap();
            assert_eq!(found, expected(), "cut at {at}");
        }
    }

    #[test]
    fn a_message_that_is_not_ended_is_none() {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        reader.take(b"data: half\n", &mut found).unwrap();
        assert_eq!(found, []);
    }

    #[test]
    fn what_never_ends_is_given_up_and_comments_may_go_on_for_ever() {
        let piece = vec![b'x'; 64 * 1024];
        let mut reader = Reader::default();
        let pieces = (0..).take_while(|_| reader.take(&piece, &mut Vec::new()).is_ok()).count();
        assert_eq!(pieces, MAX / piece.len());
        let mut lines = Reader::default();
        let long = format!("data: {}\n", "x".repeat(64 * 1024));
        assert!(
            (0..100).any(|_| lines.take(long.as_bytes(), &mut Vec::new()).is_err()),
            "many lines are as many"
        );
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        let comment = format!(":{}\n", "x".repeat(64 * 1024));
        for _ in 0..100 {
            reader.take(comment.as_bytes(), &mut found).unwrap();
        }
        reader.take(b"data: x\n\n", &mut found).unwrap();
        assert_eq!(found, [message(None, "x")]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        reader.take(b"data: \xff\n\n", &mut found).unwrap();
        assert_eq!(found, [message(None, "\u{fffd}")]);
    }
}
