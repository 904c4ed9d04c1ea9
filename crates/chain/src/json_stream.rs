//! Cuts a stream of bytes into JSON values. A node writes its answers to a Unix socket one after the other;
//! geth puts a newline between them, others do not, and one read may bring half a value or three. So the cut
//! is made by the brackets, and what was looked at once is not looked at again.

use crate::client::MAX_ANSWER_BYTES;
use crate::link::LinkError;

/// Kept between messages; a larger buffer, left by a large answer, is given back.
const RESTING_CAPACITY: usize = 8 * 1024;

/// Bytes that came in, and how far they have been looked through.
#[derive(Default)]
pub(crate) struct JsonStream {
    buffer: Vec<u8>,
    looked_at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonStream {
    /// Adds what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole object or array, if it is there. Never holds more than [`MAX_ANSWER_BYTES`] and one read.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        if self.depth == 0 {
            let blanks = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.drain(..blanks);
        }
        while let Some(&byte) = self.buffer.get(self.looked_at) {
            self.looked_at += 1;
            if self.in_string {
                self.step_in_string(byte);
                continue;
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                _ if self.depth == 0 => return Err(LinkError::malformed(&self.buffer)),
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.cut()));
                    }
                }
                _ => {}
            }
            if self.looked_at > MAX_ANSWER_BYTES {
                return Err(LinkError::TooLarge);
            }
        }
        if self.buffer.len() > MAX_ANSWER_BYTES { Err(LinkError::TooLarge) } else { Ok(None) }
    }

    fn step_in_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    fn cut(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.looked_at);
        let value = std::mem::replace(&mut self.buffer, rest);
        self.looked_at = 0;
        self.buffer.shrink_to(RESTING_CAPACITY);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &mut JsonStream) -> Vec<String> {
        let mut values = Vec::new();
        while let Some(value) = stream.next().unwrap() {
            values.push(String::from_utf8(value).unwrap());
        }
        values
    }

    #[test]
    fn values_are_cut_wherever_the_reads_fall() {
        let values = [r#"{"a":"}]\"{","b":[1,{}]}"#, r#"[{"x":"\\"}]"#, r#"{"é":"\n"}"#];
        for between in ["", "\n", " \r\n\t "] {
            let text = values.join(between) + between;
            for step in 1..text.len() {
                let mut stream = JsonStream::default();
                let mut found = Vec::new();
                for piece in text.as_bytes().chunks(step) {
                    stream.push(piece);
                    found.extend(all(&mut stream));
                }
                assert_eq!(found, values, "{step} bytes a read");
            }
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["<html>", "null", "\"x\"", "}", "12"] {
            let mut stream = JsonStream::default();
            stream.push(text.as_bytes());
            assert!(matches!(stream.next(), Err(LinkError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn an_endless_value_is_refused_and_its_memory_bounded() {
        let mut stream = JsonStream::default();
        stream.push(b"{\"result\":\"");
        let piece = [b'0'; 16 * 1024];
        let refused = (0..100).find_map(|_| {
            stream.push(&piece);
            stream.next().err()
        });
        assert!(matches!(refused, Some(LinkError::TooLarge)));
        assert!(stream.buffer.len() <= MAX_ANSWER_BYTES + piece.len());
    }
}
