//! Memory that only the start, an upgrade or a crowd needed.

use std::fs;
use std::io;

/// Takes the code and constants of the program and its libraries out of this process's resident memory. What runs again
/// comes back page by page from the page cache, where all processes share it; each page costs a microsecond or so then.
///
/// # Errors
/// The system's, when the own memory map cannot be read or a part of it cannot be given back.
pub fn give_back_code() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    maps.lines().filter_map(code_of).try_for_each(|(start, end)| {
        let (address, length) = (start as *mut libc::c_void, end - start);
        // SAFETY: these are whole pages mapped from a file and never written to, so that what the kernel
        // reads in again is what was there.
        #[allow(unsafe_code)]
        let answer = unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Gives the system back what was allocated and is free again: the allocator keeps it, such as the buffers of a
/// thousand listeners that have left.
pub fn give_back_heap() {
    // Other C libraries give back by themselves.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: it takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The addresses of a line of `/proc/self/maps`, if it is code or constants: mapped from the file of the program or of
/// a library, and never written to. Of the parts that are only readable that is sure of the first one alone, with the file's header
/// in it: another one was relocated before it became read-only, and exists nowhere else.
fn code_of(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
    let path = line.splitn(6, ' ').nth(5)?.trim_start();
    let unwritten = rights == "r-xp" || (rights == "r--p" && offset.chars().all(|digit| digit == '0'));
    if !unwritten || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn resident_code() -> u64 {
        let text = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut own = false;
        let mut sum = 0;
        for line in text.lines() {
            if line.contains('-') && !line.starts_with(|first: char| first.is_ascii_uppercase()) {
                own = code_of(line).is_some();
            } else if own && let Some(rest) = line.strip_prefix("Rss:") {
                sum += rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn only_code_that_is_in_a_file_counts() {
        let own = "55d0a000-55d0b000 r-xp 00001000 fe:00 1234      /usr/bin/a program";
        assert_eq!(code_of(own), Some((0x55d0_a000, 0x55d0_b000)));
        let constants = "55d0a000-55d0b000 r--p 00000000 fe:00 1234      /usr/bin/a program";
        assert!(code_of(constants).is_some());
        for other in [
            "55d0a000-55d0b000 r--p 00001000 fe:00 1234      /usr/bin/a program",
            "55d0a000-55d0b000 rw-p 00001000 fe:00 1234      /usr/bin/a program",
            "7fff0000-7fff1000 r-xp 00000000 00:00 0",
            "7fff0000-7fff1000 r-xp 00000000 00:00 0         [vdso]",
            "",
        ] {
            assert_eq!(code_of(other), None, "{other}");
        }
    }

    /// Reads all code and constants of this process, which makes them resident.
    fn read_all() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let memory = fs::File::open("/proc/self/mem").unwrap();
        for (start, end) in maps.lines().filter_map(code_of) {
            memory.read_exact_at(&mut vec![0; end - start], start as u64).unwrap();
        }
    }

    #[test]
    fn code_that_was_given_back_runs_again() {
        read_all();
        let before = resident_code();
        give_back_code().unwrap();
        let after = resident_code();
        assert!(after < before / 2, "{before} kB, then {after} kB");
        assert_eq!(crate::digest::Digest::of_bytes(b"abc").to_string().len(), 64);
    }
}
