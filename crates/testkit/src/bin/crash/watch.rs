//! Two judges that look all the time: is the link there, and is there never more than one node?

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use testkit::{NODE_NAME, TestHome, processes};

/// Between two looks at the link.
const LINK_EVERY: Duration = Duration::from_micros(500);

/// So many looks at the link for one at the processes, which is dear.
const PROCESSES_EVERY: u32 = 80;

/// The watcher of one home.
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pause: AtomicBool,
    seen: Mutex<Vec<String>>,
}

impl Watch {
    pub fn over(home: &TestHome) -> Self {
        let shared = Arc::new(Shared::default());
        let (root, link) = (home.root().to_owned(), home.wemixvisor().join("current"));
        let watching = shared.clone();
        let thread = std::thread::spawn(move || watch(&watching, &root, &link));
        Self { shared, thread: Some(thread) }
    }

    /// Whether it looks away: what a disk holds after a power failure is put there by the driver.
    pub fn pause(&self, pause: bool) {
        self.shared.pause.store(pause, Ordering::SeqCst);
        if pause {
            // The look that is under way.
            std::thread::sleep(LINK_EVERY * 10);
        }
    }

    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// What should not have been.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

fn watch(shared: &Shared, root: &Path, link: &Path) {
    let program = link.join("bin").join(NODE_NAME);
    let note = |what: String| {
        // What began before a pause is not told.
        if !shared.pause.load(Ordering::SeqCst) {
            shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }
    };
    let mut looks = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        if !shared.pause.load(Ordering::SeqCst) {
            if let Err(error) = fs::read_link(link).and_then(|_| fs::metadata(&program)) {
                note(format!("the link: {error}"));
            }
            looks += 1;
            if looks % PROCESSES_EVERY == 0 {
                two_nodes(root).into_iter().for_each(&note);
            }
        }
        std::thread::sleep(LINK_EVERY);
    }
}

/// The processes of the home's nodes, by what they execute.
pub fn nodes(root: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| is_node(pid, root)).collect()
}

fn is_node(pid: u32, root: &Path) -> bool {
    let Ok(line) = fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))) else { return false };
    let holds = |part: &[u8]| line.windows(part.len()).any(|window| window == part);
    holds(root.as_os_str().as_bytes())
        && (holds(b"practice-node\0") || holds(b"/bin/gwemix\0"))
        && !line.ends_with(b"\0version\0")
}

/// A look at all processes takes its time, so the first one found must be there still, as the same, after the last.
fn two_nodes(root: &Path) -> Option<String> {
    let found = nodes(root);
    let lines: Vec<String> =
        found.iter().map(|&pid| format!("{pid} {}", processes::command_line(pid))).collect();
    let still: Vec<u32> =
        found.into_iter().filter(|&pid| is_node(pid, root) && processes::runs(pid)).collect();
    let again: Vec<u32> = still.into_iter().filter(|&pid| processes::runs(pid)).collect();
    (again.len() > 1).then(|| format!("{} nodes at once: {lines:?}", again.len()))
}
