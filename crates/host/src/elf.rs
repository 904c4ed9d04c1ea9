//! What an ELF file says about itself: whether it is whole, whether it is made for this machine, and which
//! loader it needs. Only the headers are read.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

pub(crate) const MAGIC: &[u8; 4] = b"\x7fELF";

/// The machine number of this build, with the name people use.
const HOST: (u16, &str) = if cfg!(target_arch = "x86_64") {
    (62, "x86-64")
} else if cfg!(target_arch = "aarch64") {
    (183, "arm64")
} else if cfg!(target_arch = "riscv64") {
    (243, "riscv64")
} else {
    panic!("an architecture that wemixvisor does not know")
};

const HEADER_SIZE: usize = 64;
const SEGMENT_HEADER_SIZE: u64 = 56;
const SECTION_HEADER_SIZE: u64 = 64;
/// A path on Linux is no longer.
const MAX_LOADER_PATH: u64 = 4096;
const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;
const EXECUTABLE: u16 = 2;
const POSITION_INDEPENDENT: u16 = 3;

/// Why an ELF file cannot be the program.
#[derive(Debug)]
pub(crate) enum ElfProblem {
    /// It says that it goes on to this byte, but the file ends before.
    Truncated {
        needed: u64,
    },
    /// Made for another machine: what it is made for, and what this machine is.
    OtherMachine {
        found: String,
        host: &'static str,
    },
    /// An object file, a core dump or other thing that cannot be executed.
    NotExecutable,
    Read(io::Error),
}

impl From<io::Error> for ElfProblem {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Checks the headers of a file of `size` bytes that begins with [`MAGIC`]; the answer is the dynamic loader
/// that it needs, if any.
pub(crate) fn check(file: &File, size: u64) -> Result<Option<PathBuf>, ElfProblem> {
    let mut header = [0; HEADER_SIZE];
    read_at(file, size, 0, &mut header)?;
    machine(&header)?;
    if ![EXECUTABLE, POSITION_INDEPENDENT].contains(&u16_at(&header, 16)) {
        return Err(ElfProblem::NotExecutable);
    }
    let sections = u64_at(&header, 40);
    if sections != 0 {
        let count = u64::from(u16_at(&header, 60).max(1));
        within(size, sections, count * SECTION_HEADER_SIZE)?;
    }
    let (segments, count) = (u64_at(&header, 32), u64::from(u16_at(&header, 56)));
    within(size, segments, count * SEGMENT_HEADER_SIZE)?;
    let mut loader = None;
    let mut has_code = false;
    for index in 0..count {
        let mut segment = [0; SEGMENT_HEADER_SIZE as usize];
        read_at(file, size, segments + index * SEGMENT_HEADER_SIZE, &mut segment)?;
        let (kind, offset, length) = (u32_at(&segment, 0), u64_at(&segment, 8), u64_at(&segment, 32));
        match kind {
            LOAD => {
                within(size, offset, length)?;
                has_code = true;
            }
            INTERPRETER => loader = Some(loader_at(file, size, offset, length)?),
            _ => {}
        }
    }
    if has_code { Ok(loader) } else { Err(ElfProblem::NotExecutable) }
}

fn machine(header: &[u8; HEADER_SIZE]) -> Result<(), ElfProblem> {
    let (class, order) = (header[4], header[5]);
    let number = if order == 2 { u16_at(header, 18).swap_bytes() } else { u16_at(header, 18) };
    if (class, order, number) == (2, 1, HOST.0) {
        return Ok(());
    }
    let name = match number {
        3 => "x86".into(),
        40 => "arm".into(),
        62 => "x86-64".into(),
        183 => "arm64".into(),
        243 => "riscv".into(),
        other => format!("machine number {other}"),
    };
    let width = if class == 1 { ", 32 bits" } else { "" };
    let order = if order == 2 { ", big-endian" } else { "" };
    Err(ElfProblem::OtherMachine { found: format!("{name}{width}{order}"), host: HOST.1 })
}

fn loader_at(file: &File, size: u64, offset: u64, length: u64) -> Result<PathBuf, ElfProblem> {
    if length > MAX_LOADER_PATH {
        return Err(ElfProblem::NotExecutable);
    }
    let mut path = vec![0; length as usize];
    read_at(file, size, offset, &mut path)?;
    path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
    Ok(OsString::from_vec(path).into())
}

fn read_at(file: &File, size: u64, offset: u64, into: &mut [u8]) -> Result<(), ElfProblem> {
    within(size, offset, into.len() as u64)?;
    Ok(file.read_exact_at(into, offset)?)
}

fn within(size: u64, offset: u64, length: u64) -> Result<(), ElfProblem> {
    let needed = offset.saturating_add(length);
    if needed > size { Err(ElfProblem::Truncated { needed }) } else { Ok(()) }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn check_bytes(bytes: &[u8]) -> Result<Option<PathBuf>, ElfProblem> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check(&file, bytes.len() as u64)
    }

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn this_very_program_is_whole_and_made_for_this_machine() {
        let loader = check_bytes(&own()).unwrap();
        assert!(loader.is_none_or(|path| path.exists()));
    }

    #[test]
    fn every_shorter_file_is_truncated() {
        let own = own();
        for length in [4, 63, 64, 1000, own.len() / 2, own.len() - 1] {
            let result = check_bytes(&own[..length]);
            assert!(matches!(result, Err(ElfProblem::Truncated { .. })), "{length}: {result:?}");
        }
    }

    #[test]
    fn another_machine_is_named() {
        let mut bytes = own();
        bytes[18..20].copy_from_slice(&40u16.to_le_bytes());
        bytes[4] = 1;
        match check_bytes(&bytes) {
            Err(ElfProblem::OtherMachine { found, .. }) => assert_eq!(found, "arm, 32 bits"),
            other => panic!("{other:?}"),
        }
        let mut object = own();
        object[16] = 1;
        assert!(matches!(check_bytes(&object), Err(ElfProblem::NotExecutable)));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(mut header in proptest::collection::vec(any::<u8>(), 64..400)) {
            header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
            header[16..20].copy_from_slice(&[2, 0, HOST.0 as u8, (HOST.0 >> 8) as u8]);
            let _ = check_bytes(&header);
        }
    }
}
