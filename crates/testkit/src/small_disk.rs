//! A real file system that is soon full.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own in the place of a directory, in memory, with room for very little. It is gone when this
/// is dropped, with all that is in it.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `mib` MiB over the directory `place`, which is made if it is missing. `None`: mounting is not
    /// permitted here, which is said in one line on standard error.
    pub fn over(place: &Path, mib: u32) -> Option<Self> {
        fs::create_dir_all(place).expect("a directory");
        let said = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(place)
            .output();
        match said {
            Ok(said) if said.status.success() => Some(Self { place: place.to_owned() }),
            _ => {
                // Not by `eprintln!`: the test runner keeps that to itself when a test passes.
                let _ = writeln!(std::io::stderr(), "skipped: mounting a small disk is not permitted here");
                None
            }
        }
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap_or_else(|error| panic!("the filling: {error}"));
        for size in [64 << 10, 4 << 10, 1] {
            let bytes = vec![b'x'; size];
            while file.write(&bytes).is_ok_and(|written| written > 0) {}
        }
    }

    /// Whether not one more byte can be written.
    pub fn is_full(&self) -> bool {
        let probe = self.place.join("probe");
        let written = File::create(&probe).and_then(|mut file| file.write_all(b"x"));
        let _ = fs::remove_file(probe);
        written.is_err()
    }

    /// Gives the room back.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).expect("the filling");
    }

    fn filler(&self) -> PathBuf {
        self.place.join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once, even while something of it is still open.
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}
