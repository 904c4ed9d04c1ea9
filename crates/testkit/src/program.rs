//! What is installed as the node's program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program to be installed.
#[derive(Debug, Clone)]
pub struct Program {
    kind: Kind,
    mode: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    Practice { version: String, flags: Vec<String> },
    Bytes(Vec<u8>),
    CopyOf(PathBuf),
}

impl Program {
    /// A practice node of this version: a script that runs the one inside the shipped program.
    pub fn practice(version: &str) -> Self {
        let (version, flags) = (version.to_owned(), Vec::new());
        Self { kind: Kind::Practice { version, flags }, mode: 0o755 }
    }

    /// A file with this content.
    pub fn bytes(content: impl Into<Vec<u8>>) -> Self {
        Self { kind: Kind::Bytes(content.into()), mode: 0o755 }
    }

    /// A copy of another file, such as a real node's program.
    pub fn copy_of(program: &Path) -> Self {
        Self { kind: Kind::CopyOf(program.to_owned()), mode: 0o755 }
    }

    /// A practice node with this flag of its own, which comes before the arguments it is given.
    #[must_use]
    pub fn with(mut self, flag: &str) -> Self {
        match &mut self.kind {
            Kind::Practice { flags, .. } => flags.push(flag.to_owned()),
            other => panic!("{other:?} takes no flags"),
        }
        self
    }

    /// With these permission bits instead of 755.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Puts the program in place, by rename. Another process writes it: a file that this one had open for writing
    /// could not be executed while another test is forking (ETXTBSY).
    pub(crate) fn install(&self, wemixvisor: &Path, place: &Path) {
        let content = match &self.kind {
            Kind::Practice { version, flags } => script(wemixvisor, version, flags).into_bytes(),
            Kind::Bytes(content) => content.clone(),
            Kind::CopyOf(_) => Vec::new(),
        };
        let source = match &self.kind {
            Kind::CopyOf(path) => path.as_path(),
            _ => Path::new("-"),
        };
        let write = "mkdir -p \"$(dirname \"$1\")\" && cat \"$3\" >\"$1.new\" && chmod \"$2\" \"$1.new\" && mv \"$1.new\" \"$1\"";
        let mut child = Command::new("/bin/sh")
            .args(["-c", write, "install"])
            .arg(place)
            .arg(format!("{:o}", self.mode))
            .arg(source)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        child.stdin.take().expect("it was asked for").write_all(&content).expect("the shell reads");
        assert!(child.wait().expect("the shell ends").success(), "cannot install {}", place.display());
    }
}

fn script(wemixvisor: &Path, version: &str, flags: &[String]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut line = format!(
        "exec {} practice-node --as-version {}",
        quoted(&wemixvisor.to_string_lossy()),
        quoted(version)
    );
    for flag in flags {
        line.push(' ');
        line.push_str(&quoted(flag));
    }
    format!("#!/bin/sh\n{line} \"$@\"\n")
}
