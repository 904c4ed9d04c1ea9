//! The last lines of the log, across its parts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{open_to_read, part};

/// How much is read back at a time.
const BLOCK: u64 = 64 << 10;
/// How far back is read at most: one line can be as long as the whole log.
const MAX_BACK: usize = 16 << 20;

/// The last `lines` lines of the log at `log` and its older parts, with their line ends (the last may have none).
/// At most 16 MiB: of a longer stretch the end. An absent log is an empty one.
pub fn tail(log: &Path, lines: usize) -> io::Result<Vec<u8>> {
    let mut back = Back { lines, blocks: Vec::new(), bytes: 0, line_ends: 0 };
    for number in 0.. {
        if back.is_enough() {
            break;
        }
        match open_to_read(&part(log, number)) {
            Ok(mut file) => back.read(&mut file)?,
            // The live file may be gone for the moment between two steps of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    let mut text: Vec<u8> = back.blocks.into_iter().rev().flatten().collect();
    let start = start_of(&text, lines).unwrap_or(0).max(text.len().saturating_sub(MAX_BACK));
    Ok(text.split_off(start))
}

/// What was read so far, from the end backwards.
struct Back {
    lines: usize,
    /// The last block first.
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    line_ends: usize,
}

impl Back {
    /// One line end more than lines: the last may end the text.
    fn is_enough(&self) -> bool {
        self.line_ends > self.lines || self.bytes >= MAX_BACK
    }

    fn read(&mut self, file: &mut File) -> io::Result<()> {
        let mut end = file.seek(SeekFrom::End(0))?;
        while end > 0 && !self.is_enough() {
            let start = end.saturating_sub(BLOCK);
            file.seek(SeekFrom::Start(start))?;
            let mut block = Vec::new();
            file.take(end - start).read_to_end(&mut block)?;
            self.bytes += block.len();
            self.line_ends += block.iter().filter(|byte| **byte == b'\n').count();
            self.blocks.push(block);
            end = start;
        }
        Ok(())
    }
}

/// Where the last `lines` lines begin, if there is a line before them.
fn start_of(text: &[u8], lines: usize) -> Option<usize> {
    let Some(lines_before_last) = lines.checked_sub(1) else { return Some(text.len()) };
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.nth(lines_before_last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(path: &Path, text: &[u8]) {
        File::create(path).unwrap().write_all(text).unwrap();
    }

    #[test]
    fn lines_are_counted_across_the_parts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("node.log");
        assert_eq!(tail(&log, 3).unwrap(), b"");
        write(&part(&log, 2), b"1\n2\n");
        write(&part(&log, 1), b"3\n4\n");
        write(&log, b"5\nsix");
        assert_eq!(tail(&log, 0).unwrap(), b"");
        assert_eq!(tail(&log, 1).unwrap(), b"six");
        assert_eq!(tail(&log, 2).unwrap(), b"5\nsix");
        assert_eq!(tail(&log, 3).unwrap(), b"4\n5\nsix");
        assert_eq!(tail(&log, 5).unwrap(), b"2\n3\n4\n5\nsix");
        assert_eq!(tail(&log, 500).unwrap(), b"1\n2\n3\n4\n5\nsix");
        std::fs::remove_file(&log).unwrap();
        assert_eq!(tail(&log, 1).unwrap(), b"4\n");
    }

    #[test]
    fn blocks_are_put_together_and_an_endless_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("node.log");
        let text: Vec<u8> = (0..40_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        write(&log, &text);
        assert_eq!(tail(&log, 30_000).unwrap().split(|&byte| byte == b'\n').next().unwrap(), b"line 10000");
        write(&log, &vec![b'x'; MAX_BACK + 100]);
        assert_eq!(tail(&log, 1).unwrap().len(), MAX_BACK);
    }
}
