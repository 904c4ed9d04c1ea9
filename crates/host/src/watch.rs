//! Noticing that a file changed: the plan file, the settings.
//!
//! inotify on the file's *directory* gives the speed: a file that is replaced by rename, made or removed is
//! seen at once. A poll gives the certainty, for what inotify cannot see: network file systems, links into
//! other directories, a writer that keeps the file open, a directory that is not there yet or was made again.
//! A poll is a `stat`; the content is read only when the identity (with the ctime, which nobody can set back)
//! differs, or is too young to be trusted. A change is a change of *content*: the same bytes again, or another
//! time stamp, are none. What a file held before is what the one who was told of it has read, which may be another
//! thing than what the watch itself had seen a moment earlier.
//!
//! One thread of its own: a file system that hangs holds up nobody else. It sleeps in one `poll(2)` call.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};

use crate::digest::Digest;
use crate::durable;
use crate::program::FileIdentity;

/// With inotify on every directory the poll is only the net under it: every two seconds is enough, and keeps the
/// idle supervisor asleep.
const SAFETY_POLL: Duration = Duration::from_secs(2);

/// The longest file that is compared, in bytes: twice what a plan file may have.
pub(crate) const COMPARED: u64 = 2 * 1024 * 1024;

/// What is asked of inotify: not every write (the database lies in a watched directory, too), but the end of
/// writing, and everything about names.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A watch that could not begin.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gave no descriptor.
    #[error("cannot watch files: no {what}")]
    NoDescriptor {
        /// What kind of descriptor.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The thread did not start.
    #[error("cannot watch files: no thread")]
    NoThread(#[source] io::Error),
}

/// A watch at work; it ends when this is dropped.
#[derive(Debug)]
pub struct FileWatch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// A file to be watched.
#[derive(Debug)]
pub struct WatchedFile {
    /// Where it is; it need not be there.
    pub path: PathBuf,
    /// A change is told when the file has held the same for so long: half of what is written in place can make sense
    /// by itself.
    pub settles_in: Duration,
}

impl FileWatch {
    /// Watches files, each of which may be there or not. `on_change` is called, on the watch's thread, with
    /// the path of every file whose content differs from what it was: made, changed, removed, become unreadable
    /// or readable. It answers with the sum of what it read itself, also where that makes no sense, and `None` where
    /// it could not be read: when that is not what the file holds, it is called again. What the files hold when this returns is the beginning: read them after it,
    /// and nothing is missed.
    ///
    /// A directory that inotify covers is polled every two seconds (or every `poll_every`, if that is longer); one
    /// that it does not cover, every `poll_every`.
    ///
    /// # Errors
    /// [`WatchError`]. Files and directories that cannot be watched are no error: they are polled.
    pub fn start(
        files: Vec<WatchedFile>,
        poll_every: Duration,
        on_change: impl FnMut(&Path) -> Option<Digest> + Send + 'static,
    ) -> Result<Self, WatchError> {
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| WatchError::NoDescriptor { what: "eventfd", source: error.into() })?;
        let stop = Arc::new(stop);
        // Without inotify (its instances are few on some machines) the poll does it alone.
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let mut watch = Watch {
            files: files.into_iter().map(Watched::new).collect(),
            directories: Vec::new(),
            inotify,
            poll_every,
            on_change,
        };
        watch.cover();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch.run(&stopped))
            .map_err(WatchError::NoThread)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        // An eventfd takes a number of 8 bytes; the first one always fits.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watch<F> {
    files: Vec<Watched>,
    directories: Vec<Directory>,
    inotify: Option<OwnedFd>,
    poll_every: Duration,
    on_change: F,
}

/// A directory that inotify covers.
struct Directory {
    path: PathBuf,
    /// Which directory it was: another one may have taken its name.
    dev_and_ino: (u64, u64),
    watch: i32,
}

impl<F: FnMut(&Path) -> Option<Digest>> Watch<F> {
    fn run(mut self, stop: &OwnedFd) {
        while !self.wait(stop) {
            // First cover, then look: what happens in between wakes us again.
            self.cover();
            for file in &mut self.files {
                if file.has_changed() {
                    let read = (self.on_change)(&file.file.path);
                    file.was_told(read);
                }
            }
        }
    }

    /// Sleeps until something happened or the time has come; the answer is whether to stop.
    fn wait(&mut self, stop: &OwnedFd) -> bool {
        let covered = self.files.iter().all(|watched| self.covers(durable::parent(&watched.file.path)));
        let limit = if covered { self.poll_every.max(SAFETY_POLL) } else { self.poll_every };
        let settles = self.files.iter().filter_map(Watched::settles_in).min();
        let limit = settles.map_or(limit, |settles| settles.min(limit));
        let limit = Timespec::try_from(limit).ok();
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        // Interrupted or not: what follows is right at any time.
        let _ = rustix::event::poll(&mut fds, limit.as_ref());
        if !fds[0].revents().is_empty() {
            return true;
        }
        self.take_events();
        false
    }

    /// Empties the queue. What happened to which file does not matter, every one is looked at; only the end of
    /// a directory does, since another one can take its name and even its inode number.
    fn take_events(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::IGNORED) {
                let ended = event.wd();
                self.directories.retain(|directory| directory.watch != ended);
            }
        }
    }

    fn covers(&self, directory: &Path) -> bool {
        self.directories.iter().any(|covered| covered.path == directory)
    }

    /// Puts inotify on every directory that it is not on: not yet, or because it was made again.
    fn cover(&mut self) {
        use std::os::unix::fs::MetadataExt as _;
        let Some(inotify) = &self.inotify else { return };
        let identity = |path: &Path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
        self.directories.retain(|directory| {
            let same = identity(&directory.path) == Some(directory.dev_and_ino);
            if !same {
                // Gone already, when the directory is.
                let _ = inotify::remove_watch(inotify, directory.watch);
            }
            same
        });
        for watched in &self.files {
            let path = durable::parent(&watched.file.path);
            if self.directories.iter().any(|directory| directory.path == path) {
                continue;
            }
            let before = identity(path);
            if let (Some(dev_and_ino), Ok(watch)) = (before, inotify::add_watch(inotify, path, EVENTS)) {
                self.directories.push(Directory { path: path.into(), dev_and_ino, watch });
            }
        }
    }
}

/// One file and what it held when it was last told of.
struct Watched {
    file: WatchedFile,
    content: Content,
    /// The identity that vouches for the content; `None` when nothing does, so that it is read again.
    identity: Option<FileIdentity>,
    /// What it holds now, and since when, as long as that is too young to be told.
    settling: Option<(Content, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Absent,
    /// Or too long.
    Unreadable,
    Bytes(Digest),
}

impl Watched {
    fn new(file: WatchedFile) -> Self {
        let mut watched = Self { file, content: Content::Absent, identity: None, settling: None };
        watched.content = watched.look().unwrap_or(Content::Absent);
        watched
    }

    /// What the file holds; `None` where it is certain that nothing changed.
    fn look(&mut self) -> Option<Content> {
        let identity = fs::metadata(&self.file.path).map(|data| FileIdentity::of(&data));
        if identity.as_ref().is_ok_and(|identity| self.identity == Some(*identity)) {
            return None;
        }
        self.identity = identity.ok().filter(FileIdentity::is_settled);
        Some(read(&self.file.path))
    }

    #[allow(clippy::disallowed_methods)] // A time to wait, measured where one waits.
    fn has_changed(&mut self) -> bool {
        let settling = self.settling.take();
        let Some(content) = self.look().or(settling.map(|(content, _)| content)) else { return false };
        if content == self.content {
            return false;
        }
        let since =
            settling.filter(|(before, _)| *before == content).map_or_else(Instant::now, |(_, since)| since);
        if since.elapsed() < self.file.settles_in {
            self.settling = Some((content, since));
            return false;
        }
        self.content = content;
        true
    }

    /// How long it takes until what it holds can be told.
    fn settles_in(&self) -> Option<Duration> {
        self.settling.map(|(_, since)| self.file.settles_in.saturating_sub(since.elapsed()))
    }

    /// Who was told has read this; it is what the next look is compared with.
    fn was_told(&mut self, read: Option<Digest>) {
        let found = match (read, self.content) {
            (Some(sum), _) => Content::Bytes(sum),
            (None, Content::Bytes(_)) => Content::Unreadable,
            (None, nothing) => nothing,
        };
        if found != self.content {
            self.content = found;
            self.identity = None;
        }
    }
}

fn read(path: &Path) -> Content {
    match read_whole(path) {
        Ok(bytes) => Content::Bytes(Digest::of_bytes(&bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Content::Absent
        }
        Err(_) => Content::Unreadable,
    }
}

/// What a file holds, as the watch sees it. Never waits on a pipe.
///
/// # Errors
/// A file that is not there, not to be read, not a file, or longer than 2 MiB.
pub fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(COMPARED + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > COMPARED {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // Files written in place are just what is to be noticed.
mod tests {
    use super::*;
    use crate::plan_file;
    use std::io::Write as _;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::SystemTime;

    const LIMIT: Duration = Duration::from_secs(10);
    /// The product's own interval; with inotify it becomes a poll every two seconds.
    const RARELY: Duration = Duration::from_millis(300);

    fn watch(paths: &[&Path], poll_every: Duration) -> (FileWatch, Receiver<PathBuf>) {
        let (tell, told) = channel();
        let at_once = |path: &&Path| WatchedFile { path: path.to_path_buf(), settles_in: Duration::ZERO };
        let on_change = move |path: &Path| {
            let read = Digest::of_file(path).ok();
            drop(tell.send(path.into()));
            read
        };
        let watch = FileWatch::start(paths.iter().map(at_once).collect(), poll_every, on_change).unwrap();
        (watch, told)
    }

    #[test]
    fn what_was_read_in_the_middle_of_a_change_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let (tell, told) = channel();
        let mut halves = 1;
        let on_change = move |path: &Path| {
            // Saved a second time, with the same content, and read in the middle of that.
            let whole = fs::read(path).unwrap();
            if halves > 0 {
                halves -= 1;
                fs::write(path, "").unwrap();
            }
            let read = fs::read(path).unwrap();
            fs::write(path, whole).unwrap();
            tell.send(read.clone()).unwrap();
            Some(Digest::of_bytes(&read))
        };
        let file = WatchedFile { path: path.clone(), settles_in: Duration::ZERO };
        let _watch = FileWatch::start(vec![file], RARELY, on_change).unwrap();
        durable::write_atomic(&path, b"saved", 0o600).unwrap();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), b"");
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), b"saved");
    }

    #[test]
    fn what_is_not_whole_yet_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("config.toml"), dir.path().join("plan.json"));
        fs::write(&path, "old").unwrap();
        let (tell, told) = channel();
        let on_change = move |path: &Path| {
            let read = fs::read(path).unwrap();
            tell.send(read.clone()).unwrap();
            Some(Digest::of_bytes(&read))
        };
        let settles = |path: &Path, settles_in| WatchedFile { path: path.into(), settles_in };
        let files = vec![settles(&path, Duration::from_secs(3)), settles(&other, Duration::ZERO)];
        let _watch = FileWatch::start(files, RARELY, on_change).unwrap();
        let mut file = File::create(&path).unwrap();
        // The empty file is looked at now: this one is told of at once.
        fs::write(&other, "a plan").unwrap();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), b"a plan");
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), b"new");
        fs::write(&path, "new").unwrap();
        fs::write(&other, "the end").unwrap();
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), b"the end");
    }

    #[test]
    fn every_way_to_change_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        let (_watch, told) = watch(&[&path], RARELY);
        let noticed = |what: &str| assert_eq!(told.recv_timeout(LIMIT).as_ref(), Ok(&path), "{what}");
        fs::write(&path, "one").unwrap();
        noticed("made");
        durable::write_atomic(&path, b"two", 0o600).unwrap();
        noticed("replaced by rename");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b" and a half").unwrap();
        noticed("written by somebody who keeps it open");
        drop(file);
        fs::write(&path, "TWO AND A HALF").unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        noticed("another content of the same length, with an older time");
        fs::remove_file(&path).unwrap();
        noticed("removed");
        fs::create_dir(&path).unwrap();
        noticed("a directory in its place");
    }

    #[test]
    fn what_changes_no_content_is_not_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("plan.json"), dir.path().join("other"));
        fs::write(&path, "same").unwrap();
        let (_watch, told) = watch(&[&path, &other], RARELY);
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        durable::write_atomic(&path, b"same", 0o644).unwrap();
        fs::write(dir.path().join("unrelated"), "x").unwrap();
        durable::write_atomic(&other, b"the end", 0o644).unwrap();
        // Files are looked at in order: a report on the first one would have come first.
        assert_eq!(told.recv_timeout(LIMIT), Ok(other));
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_plan_file_that_cannot_be_used_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = crate::home::Home::new(dir.path(), None, Some(dir.path()), "node").unwrap();
        let (path, other) = (home.plan_file(), dir.path().join("other"));
        let (tell, told) = channel();
        let on_change = move |path: &Path| {
            drop(tell.send(path.to_path_buf()));
            if path != home.plan_file() {
                return Digest::of_file(path).ok();
            }
            plan_file::read(&home).map_or_else(|error| error.digest(), |found| Some(found?.digest))
        };
        let at_once = |path: &PathBuf| WatchedFile { path: path.clone(), settles_in: Duration::ZERO };
        let _watch = FileWatch::start(vec![at_once(&path), at_once(&other)], RARELY, on_change).unwrap();
        let (between, too_long) = (plan_file::MAX_SIZE + 1, COMPARED + 1);
        for bytes in [vec![0xff], vec![b' '; between as usize], vec![b' '; too_long as usize]] {
            durable::write_atomic(&path, &bytes, 0o644).unwrap();
            assert_eq!(told.recv_timeout(LIMIT).as_ref(), Ok(&path));
            durable::write_atomic(&other, bytes.len().to_string().as_bytes(), 0o644).unwrap();
            // Files are looked at in order: a second report on the first one would come first.
            assert_eq!(told.recv_timeout(LIMIT).as_ref(), Ok(&other), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_directory_may_come_go_and_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/plan.json");
        let (_watch, told) = watch(&[&path], Duration::from_millis(20));
        for _ in 0..5 {
            fs::create_dir(dir.path().join("data")).unwrap();
            fs::write(&path, "x").unwrap();
            assert_eq!(told.recv_timeout(LIMIT).as_ref(), Ok(&path), "made with its directory");
            fs::remove_dir_all(dir.path().join("data")).unwrap();
            assert_eq!(told.recv_timeout(LIMIT).as_ref(), Ok(&path), "removed with its directory");
        }
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(&path, "x").unwrap();
        assert!(told.recv_timeout(LIMIT).is_ok());
        fs::rename(dir.path().join("data"), dir.path().join("away")).unwrap();
        assert!(told.recv_timeout(LIMIT).is_ok(), "moved away with its directory");
    }

    #[test]
    fn a_change_behind_a_link_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (path, real) = (dir.path().join("plan.json"), elsewhere.path().join("real"));
        fs::write(&real, "one").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let (_watch, told) = watch(&[&path], RARELY);
        fs::write(&real, "two").unwrap();
        assert_eq!(told.recv_timeout(LIMIT), Ok(path));
    }

    #[test]
    fn a_rename_is_noticed_long_before_the_next_poll() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        let (_watch, told) = watch(&[&path], Duration::from_secs(3600));
        for n in 0..50 {
            durable::write_atomic(&path, format!("{n}").as_bytes(), 0o600).unwrap();
            assert_eq!(told.recv_timeout(LIMIT).as_ref(), Ok(&path));
        }
    }

    #[test]
    fn it_ends_at_once_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (watch, told) = watch(&[&dir.path().join("x")], Duration::from_secs(3600));
        drop(watch);
        assert!(told.recv().is_err());
    }
}
