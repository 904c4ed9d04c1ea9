//! Following the log while it is written: what `logs -f` and `run` show.
//!
//! The kernel says when something happens in the log's directory (inotify), so nothing is read while nothing is
//! written. A rotated file is read to its end and then the parts that came after it, in order; a removed one is
//! read to its end and then the one that takes its place.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::{open_to_read, part};

/// How much is read at a time.
const CHUNK: usize = 64 << 10;
/// How often a log directory that is not there is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long nothing is looked at while the kernel says that nothing happens: for file systems that do not tell.
const SILENCE: Duration = Duration::from_secs(10);
/// How many parts a rotated file is looked for in.
const MAX_PARTS: u32 = 1000;
/// How many parts in a row may be missing.
const MAX_GAPS: u32 = 3;
/// How often a file that exists but is not among the parts is looked for, before it is taken for moved elsewhere.
const TRIES: u32 = 3;

/// A reader of the log that never comes to its end.
#[derive(Debug)]
pub struct Follow {
    log: PathBuf,
    current: Option<File>,
    /// There was no log at all at the beginning: then every part that comes is to be read.
    all_is_new: bool,
    watch: Option<AsyncFd<OwnedFd>>,
}

impl Follow {
    /// Follows the log at `log` from its present end. It need not exist yet; then it is followed from its beginning.
    /// To be called within a tokio runtime.
    pub fn from_end(log: &Path) -> io::Result<Self> {
        let mut follow = Self::from_start(log);
        if let Ok(mut file) = open_to_read(log) {
            file.seek(SeekFrom::End(0))?;
            follow.current = Some(file);
        }
        Ok(follow)
    }

    /// Follows the log at `log` from the beginning of the live file. To be called within a tokio runtime.
    pub fn from_start(log: &Path) -> Self {
        // The watch comes before the first look, so nothing falls between the two.
        let watch = watch(log).ok();
        let current = open_to_read(log).ok();
        let all_is_new = current.is_none() && !part(log, 1).exists();
        Self { log: log.to_owned(), current, all_is_new, watch }
    }

    /// The next bytes, as they come: at most 64 KiB, not cut at line ends. Waits for as long as there are none.
    /// Fails only when a file that was opened cannot be read. Dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(bytes) = self.read()? {
                return Ok(bytes);
            }
            if self.turn()? {
                continue;
            }
            self.something_happens().await;
        }
    }

    /// What the current file has more. A file that became shorter was emptied, and is read from its beginning.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.current.as_mut() else { return Ok(None) };
        if file.metadata()?.len() < file.stream_position()? {
            file.rewind()?;
        }
        let mut bytes = vec![0; CHUNK];
        let read = file.read(&mut bytes)?;
        bytes.truncate(read);
        Ok((read > 0).then_some(bytes))
    }

    /// Turns to the file that comes after the current one, which has been read to its end. Says whether there is one.
    fn turn(&mut self) -> io::Result<bool> {
        let Some(current) = self.current.as_ref() else {
            self.current = self.first();
            return Ok(self.current.is_some());
        };
        let metadata = current.metadata()?;
        let ours = identity(&metadata);
        let is_ours = |number| self.is_at(number, ours);
        let place = if metadata.nlink() == 0 { None } else { (0..TRIES).find_map(|_| self.place(is_ours)) };
        let next = match place {
            Some(0) => return Ok(false),
            Some(number) => part(&self.log, number - 1),
            None => self.log.clone(),
        };
        let Ok(next) = open_to_read(&next) else { return Ok(false) };
        // A rotation moves the older parts first: while ours is where it was, so is the one that comes after it.
        let moved = place.is_some_and(|number| !is_ours(number));
        // And bytes may have come between the last read and the rotation.
        let more = self.read_position()? < current.metadata()?.len();
        if !moved && !more {
            self.current = Some(next);
        }
        Ok(true)
    }

    /// The file to begin with, if there is one by now. Much may have been written before it is first seen.
    fn first(&self) -> Option<File> {
        if !self.all_is_new {
            return open_to_read(&self.log).ok();
        }
        let oldest = self.oldest();
        let file = open_to_read(&part(&self.log, oldest)).ok()?;
        // A rotation in between may have made another one the oldest; its end wakes us again.
        (self.oldest() == oldest && self.is_at(oldest, identity(&file.metadata().ok()?))).then_some(file)
    }

    /// The number of the oldest part; 0 when there is none but the live file.
    fn oldest(&self) -> u32 {
        let mut oldest = 0;
        for number in 1..MAX_PARTS {
            if part(&self.log, number).exists() {
                oldest = number;
            } else if number > oldest + MAX_GAPS {
                break;
            }
        }
        oldest
    }

    fn is_at(&self, number: u32, file: (u64, u64)) -> bool {
        fs::metadata(part(&self.log, number)).is_ok_and(|metadata| identity(&metadata) == file)
    }

    /// The number of the part that is the current file. Parts are looked through in the order against which a
    /// rotation moves them, so that it cannot be missed, and small gaps are passed over: there is one in the middle of
    /// a rotation.
    fn place(&self, is_ours: impl Fn(u32) -> bool) -> Option<u32> {
        let mut gaps = 0;
        for number in 0..MAX_PARTS {
            if is_ours(number) {
                return Some(number);
            }
            gaps = if part(&self.log, number).exists() { 0 } else { gaps + 1 };
            if gaps > MAX_GAPS {
                break;
            }
        }
        None
    }

    fn read_position(&self) -> io::Result<u64> {
        self.current.as_ref().map_or(Ok(0), |mut file| file.stream_position())
    }

    /// Waits until something changed in the log's directory.
    async fn something_happens(&mut self) {
        let Some(watched) = self.watch.as_ref() else {
            sleep(LOOK).await;
            self.watch = watch(&self.log).ok();
            return;
        };
        let gone = timeout(SILENCE, watched.async_io(Interest::READABLE, read_events)).await;
        if let Ok(Ok(true) | Err(_)) = gone {
            self.watch = None;
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Watches the directory: files are replaced, the directory stays.
fn watch(log: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let directory = log.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let what = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, directory, what)?;
    // SAFETY: an OwnedFd returns the same open descriptor for as long as it lives, and nothing takes it out.
    #[allow(unsafe_code)]
    let watch = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(watch?)
}

/// Takes all waiting events; says whether the directory itself is gone.
fn read_events(fd: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(fd, &mut buffer);
    let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
    let mut is_gone = events.next()?.events().intersects(gone);
    while let Ok(event) = events.next() {
        is_gone |= event.events().intersects(gone);
    }
    Ok(is_gone)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test has its own clock.
mod tests {
    use std::io::Write;

    use super::*;
    use crate::keeper::LogPolicy;
    use crate::output::NodeLog;

    async fn next(follow: &mut Follow) -> Vec<u8> {
        timeout(Duration::from_secs(20), follow.next()).await.expect("nothing comes").unwrap()
    }

    #[tokio::test]
    async fn nothing_is_missed_or_told_twice_across_rotations_at_any_speed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let mut log = NodeLog::new(LogPolicy { path: path.clone(), max_bytes: 5000, keep: 900 });
        log.write(b"start\n", std::time::Instant::now());
        let mut follow = Follow::from_start(&path);
        assert_eq!(next(&mut follow).await, b"start\n");
        let wanted: Vec<u8> = (0..200_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let text = wanted.clone();
        let writer = std::thread::spawn(move || {
            // Pieces of many sizes, as fast as it goes.
            let mut rest = &text[..];
            for size in (1..4000).step_by(37).cycle() {
                let (now, later) = rest.split_at(size.min(rest.len()));
                log.write(now, std::time::Instant::now());
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
        });
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            got.extend(next(&mut follow).await);
        }
        writer.join().unwrap();
        assert!(got == wanted);
    }

    #[tokio::test]
    async fn a_removed_an_emptied_and_a_moved_file_are_survived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/node.log");
        let mut follow = Follow::from_end(&path).unwrap();
        fs::create_dir(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().write_all(b"one").unwrap();
        assert_eq!(next(&mut follow).await, b"one");
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap().write_all(b"two").unwrap();
        assert_eq!(next(&mut follow).await, b"two");
        File::create(&path).unwrap().write_all(b"3").unwrap();
        assert_eq!(next(&mut follow).await, b"3");
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        File::create(&path).unwrap().write_all(b"four").unwrap();
        assert_eq!(next(&mut follow).await, b"four");
        let mut late = Follow::from_end(&path).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"five").unwrap();
        assert_eq!(next(&mut late).await, b"five");
    }
}
