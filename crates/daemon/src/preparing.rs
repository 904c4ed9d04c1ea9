//! Is the new program there, whole, and the right one? Long before the height, and once more at it.
//!
//! What was found out about a program file is kept with the file's identity. At the height a `stat` is then
//! enough to know that it is still the verified file (invariant I4).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha512};
use wemixvisor_core::engine::port::Verified;
use wemixvisor_core::plan::{Plan, PlanName};
use wemixvisor_core::readiness::{Check, State, version_in};
use wemixvisor_core::target::Target;
use wemixvisor_core::upgrade::Hooks;
use wemixvisor_host::home::{Home, Hook};
use wemixvisor_host::link::LinkError;
use wemixvisor_host::program::{ProgramFile, inspect};
use wemixvisor_host::{disk, hooks, link, program};

/// Less free space than this (1 GiB) is no base for an upgrade: geth itself stops below 512 MiB, and a
/// database migration writes much at once.
const LOW_SPACE: u64 = 1 << 30;

/// This platform, as plans name it (Go's names).
const PLATFORM: &str = match (cfg!(target_arch = "x86_64"), cfg!(target_arch = "aarch64")) {
    (true, _) => "linux/amd64",
    (_, true) => "linux/arm64",
    _ => "linux/other",
};

/// A file whose last change is younger cannot be vouched for by its times alone: it is looked at again then.
const SETTLES_AFTER: Duration = Duration::from_millis(2_100);

/// Whether the node can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rpc {
    /// It answers.
    Answers,
    /// No source does, for these reasons.
    Silent(String),
    /// None of the sources is the node itself.
    NotOwn,
}

/// What is known about the installed programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    home: Arc<Home>,
    environment: Arc<Vec<(OsString, OsString)>>,
    custom_pre_upgrade: Option<PathBuf>,
    version_limit: Duration,
    known: Arc<Mutex<BTreeMap<Target, Known>>>,
}

#[derive(Debug, Clone)]
struct Known {
    file: ProgramFile,
    version: Option<String>,
    /// The checksum of the plan that this very file was found to have.
    checksum: Option<String>,
    /// Why it cannot run on this machine, as its `version` showed.
    unfit: Option<String>,
}

impl Programs {
    pub(crate) fn new(
        home: Arc<Home>,
        environment: Arc<Vec<(OsString, OsString)>>,
        custom_pre_upgrade: Option<PathBuf>,
        version_limit: Duration,
    ) -> Self {
        Self { home, environment, custom_pre_upgrade, version_limit, known: Arc::default() }
    }

    /// The settings changed.
    pub(crate) fn set(&mut self, custom_pre_upgrade: Option<PathBuf>, version_limit: Duration) {
        self.custom_pre_upgrade = custom_pre_upgrade;
        self.version_limit = version_limit;
    }

    /// The verified file of a program, if it was verified.
    pub(crate) fn verified(&self, target: &Target) -> Option<ProgramFile> {
        lock(&self.known).get(target).map(|known| known.file.clone())
    }

    /// The upgrades whose file is no longer the one that was looked at. A `stat` each.
    pub(crate) fn replaced(&self) -> Vec<PlanName> {
        let known = lock(&self.known);
        let replaced = known.iter().filter(|(_, known)| !known.file.is_in_place());
        replaced
            .filter_map(|(target, _)| match target {
                Target::Upgrade(name) => Some(name.clone()),
                Target::Genesis => None,
            })
            .collect()
    }

    /// Prepares a plan: everything that can be found out before its height.
    pub(crate) async fn prepare(&self, plan: &Plan, present: &Target, rpc: Rpc) -> Check {
        let mut check = Check::default();
        let target = Target::Upgrade(plan.name.clone());
        match self.inspect(&target, plan).await {
            Ok(file) => {
                check.sha256 = Some(file.sha256.to_string());
                check.add("binary", State::Ok, format!("{} (sha256 {})", file.path.display(), file.sha256));
                match checksum_of(plan) {
                    Some(_) => check.add("checksum", State::Ok, "as the plan says"),
                    None => {
                        check.add("checksum", State::Warning, "the plan names no checksum for this platform")
                    }
                }
                self.ask_version(&target, &mut check, plan).await;
            }
            Err(problem) => check.add("binary", State::Failed, problem),
        }
        // Compared with what the running node says of itself, to know whether the two can be compared at all.
        if self.verified(present).is_none() {
            let mut ignored = Check::default();
            if self.look(present).await.is_ok() {
                self.ask_version(present, &mut ignored, plan).await;
            }
        }
        self.check_surroundings(plan, &mut check);
        match rpc {
            Rpc::Answers => check.add("rpc", State::Ok, "the node answers"),
            Rpc::Silent(problem) => check.add("rpc", State::Warning, problem),
            Rpc::NotOwn => check.add(
                "rpc",
                State::Failed,
                "no address of heights.rpc_addresses is the node's own (a socket, or a loopback address): a new \
                 program could not be proven",
            ),
        }
        check
    }

    /// Looks at the program once more, at the height. A `stat` when it was prepared; else all of it.
    pub(crate) async fn verify(
        &self,
        target: &Target,
        plan: Option<&Plan>,
        present: &Target,
    ) -> Result<Verified, String> {
        self.check_link(plan.is_none())?;
        let known = lock(&self.known).get(target).cloned();
        let wanted = plan.and_then(checksum_of);
        let known = match known.filter(|known| known.checksum == wanted && known.file.unchanged()) {
            Some(known) => known,
            None => {
                match plan {
                    Some(plan) => {
                        self.inspect(target, plan).await?;
                        // Nobody has seen it run: it may be for another machine.
                        self.ask_version(target, &mut Check::default(), plan).await;
                    }
                    None => drop(self.look(target).await.map_err(|error| said(&error))?),
                }
                lock(&self.known).get(target).cloned().ok_or("it vanished while it was looked at")?
            }
        };
        if let Some(unfit) = known.unfit {
            return Err(unfit);
        }
        if let Some(plan) = plan {
            self.check_hooks(plan)?;
        }
        let present_version = lock(&self.known).get(present).and_then(|known| known.version.clone());
        Ok(Verified {
            sha256: known.file.sha256.to_string(),
            version: known.version,
            present_version,
            hooks: plan.map(|plan| self.which_hooks(plan)).unwrap_or_default(),
        })
    }

    /// A link that is not what it must be bars an upgrade: there would be no way back. It does not bar the way back
    /// itself, as long as it is only the present program that is gone.
    fn check_link(&self, back: bool) -> Result<(), String> {
        match link::current(&self.home) {
            Err(
                LinkError::Missing { .. } | LinkError::Dangling { .. } | LinkError::NotToADirectory { .. },
            ) if back => Ok(()),
            Err(error) => Err(said(&error)),
            Ok(_) => Ok(()),
        }
    }

    /// The hooks of a step of a plan's upgrade, in the order in which they run: the operator's own for all
    /// upgrades, which must be there when it is set, then the upgrade's, if there is one.
    pub(crate) fn hooks(&self, plan: &PlanName, hook: Hook) -> Vec<PathBuf> {
        let general = self.custom_pre_upgrade.clone().filter(|_| hook == Hook::PreUpgrade);
        let own = Some(self.home.hook(plan, hook)).filter(|path| path.symlink_metadata().is_ok());
        general.into_iter().chain(own).collect()
    }

    fn which_hooks(&self, plan: &Plan) -> Hooks {
        let any = |hook| !self.hooks(&plan.name, hook).is_empty();
        Hooks {
            pre_stop: any(Hook::PreStop),
            pre_upgrade: any(Hook::PreUpgrade),
            post_upgrade: any(Hook::PostUpgrade),
        }
    }

    /// Looks at the program of a plan, its checksum included.
    async fn inspect(&self, target: &Target, plan: &Plan) -> Result<ProgramFile, String> {
        let file = self.look(target).await.map_err(|error| {
            let hint = match &error {
                program::ProgramError::Missing { .. } => ": put the program there",
                _ => "",
            };
            format!("{}{hint}", said(&error))
        })?;
        if let Some(wanted) = checksum_of(plan) {
            let looked_at = file.clone();
            let expected = wanted.clone();
            blocking(move || has_checksum(&looked_at, &expected)).await??;
            if let Some(known) = lock(&self.known).get_mut(target) {
                known.checksum = Some(wanted);
            }
        }
        Ok(file)
    }

    async fn look(&self, target: &Target) -> Result<ProgramFile, program::ProgramError> {
        let path = self.home.program(target);
        let looked_at = path.clone();
        let result = blocking(move || inspect(&looked_at)).await;
        let file = result.unwrap_or_else(|problem| {
            Err(program::ProgramError::Unreadable { path, source: std::io::Error::other(problem) })
        });
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                lock(&self.known).remove(target);
                return Err(error);
            }
        };
        let mut known = lock(&self.known);
        let same = known.get(target).filter(|known| known.file.sha256 == file.sha256);
        let version = same.and_then(|known| known.version.clone());
        let checksum = same.and_then(|known| known.checksum.clone());
        let unfit = same.and_then(|known| known.unfit.clone());
        known.insert(target.clone(), Known { file: file.clone(), version, checksum, unfit });
        drop(known);
        if !file.identity.is_settled() {
            self.look_again_later(target.clone());
        }
        Ok(file)
    }

    /// A file that was written a moment ago is looked at again when its times can vouch for it, so that at the
    /// height a `stat` is enough.
    fn look_again_later(&self, target: Target) {
        let programs = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SETTLES_AFTER).await;
            let path = programs.home.program(&target);
            let Ok(Ok(file)) = blocking(move || inspect(&path)).await else { return };
            if let Some(known) = lock(&programs.known).get_mut(&target)
                && known.file.sha256 == file.sha256
            {
                known.file = file;
            }
        });
    }

    async fn ask_version(&self, target: &Target, check: &mut Check, plan: &Plan) {
        let path = self.home.program(target);
        match program::version(&path, self.home.root(), &self.environment, self.version_limit).await {
            Ok(said) if said.exit == 0 => {
                let version = version_in(&said.text);
                let first = said.text.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
                let text = version.clone().unwrap_or_else(|| first.trim().to_owned());
                let unexpected = plan.expect_version.as_ref().filter(|expected| {
                    version.as_ref().is_some_and(|version| !version.contains(expected.as_str()))
                        && !said.text.contains(expected.as_str())
                });
                match unexpected {
                    Some(expected) => check.add(
                        "version",
                        State::Warning,
                        format!("it says {text}, which does not contain the expected {expected:?}"),
                    ),
                    None => check.add("version", State::Ok, text),
                }
                check.version.clone_from(&version);
                if let Some(known) = lock(&self.known).get_mut(target) {
                    known.version = version;
                    known.unfit = None;
                }
            }
            Ok(said) if matches!(said.exit, 126 | 127) || said.exit >= 128 => {
                let last = said.text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                let text = with_words(format!("{} version: exit code {}", path.display(), said.exit), last);
                let unfit = format!("it does not run on this machine: {text}");
                if let Some(known) = lock(&self.known).get_mut(target) {
                    known.unfit = Some(unfit.clone());
                }
                check.add("version", State::Failed, unfit);
            }
            // A program that has no such command is not bad for that.
            Ok(said) => check.add(
                "version",
                State::Warning,
                format!("`version` is not supported (exit code {})", said.exit),
            ),
            Err(error) => check.add("version", State::Failed, said(&error)),
        }
    }

    /// A hook that is there but cannot be run would fail with the old node already stopped.
    fn check_hooks(&self, plan: &Plan) -> Result<(), String> {
        let all = [Hook::PreStop, Hook::PreUpgrade, Hook::PostUpgrade];
        all.into_iter()
            .flat_map(|hook| self.hooks(&plan.name, hook))
            .try_for_each(|path| hooks::check_hook(&path).map_err(|error| said(&error)))
    }

    fn check_surroundings(&self, plan: &Plan, check: &mut Check) {
        match link::current(&self.home) {
            Ok(current) => check.add("link", State::Ok, format!("current -> {current}")),
            Err(error) => check.add("link", State::Failed, said(&error)),
        }
        if let Err(error) = disk::writable(self.home.wemixvisor()) {
            check.add("link", State::Failed, said(&error));
        }
        if let Err(problem) = self.check_hooks(plan) {
            check.add("hooks", State::Failed, problem);
        }
        for place in [self.home.data(), self.home.wemixvisor()] {
            match disk::space(place) {
                Ok(space) if space.free < LOW_SPACE => check.add(
                    "disk",
                    State::Warning,
                    format!("only {} MiB are free at {}", space.free >> 20, place.display()),
                ),
                Ok(space) => check.add(
                    "disk",
                    State::Ok,
                    format!("{} GiB free at {}", space.free >> 30, place.display()),
                ),
                Err(error) => check.add("disk", State::Warning, said(&error)),
            }
        }
    }
}

/// The checksum that a plan names for this platform.
fn checksum_of(plan: &Plan) -> Option<String> {
    let sums = &plan.info.checksums;
    sums.get(PLATFORM).or_else(|| sums.get("any")).map(|sum| sum.to_ascii_lowercase())
}

/// Whether the file has the sum `wanted` (`sha256:<hex>`, `sha512:<hex>`).
fn has_checksum(file: &ProgramFile, wanted: &str) -> Result<(), String> {
    let path = file.path.display();
    let found = match wanted.split_once(':') {
        Some(("sha256", _)) => format!("sha256:{}", file.sha256),
        Some(("sha512", _)) => {
            let mut hasher = Sha512::new();
            let mut from =
                std::fs::File::open(&file.path).map_err(|error| format!("cannot read {path}: {error}"))?;
            std::io::copy(&mut from, &mut hasher).map_err(|error| format!("cannot read {path}: {error}"))?;
            let sum = hasher.finalize();
            format!("sha512:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        _ => return Err(format!("the plan's checksum {wanted:?} is none (sha256:<hex> or sha512:<hex>)")),
    };
    if found == *wanted {
        return Ok(());
    }
    Err(format!(
        "{path} is not the program that the plan names: its checksum is {found}, the plan says {wanted}"
    ))
}

/// What happened, with the last words of the program it happened to, if it had any.
pub(crate) fn with_words(what: String, words: &str) -> String {
    match words.trim() {
        "" => what,
        words => format!("{what}: {words}"),
    }
}

/// An error with its causes, in one line.
pub(crate) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the work was broken off: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_word_leaves_no_hole() {
        assert_eq!(with_words("it was killed".into(), " \n"), "it was killed");
        assert_eq!(with_words("it failed".into(), "no disk\n"), "it failed: no disk");
    }
}
