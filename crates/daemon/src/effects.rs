//! Carries out what the engine has decided: the only place where effects meet the disk, the processes and the
//! nodes. What takes time runs on its own and reports back through the mailbox.

use std::ffi::OsString;
use std::iter;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use wemixvisor_core::command_line::CommandLine;
use wemixvisor_core::engine::port::{Effect, Input, Launch, PlanEdit, ProbeFor, Source, Surroundings, Work};
use wemixvisor_core::head::Height;
use wemixvisor_core::plan::Plan;
use wemixvisor_core::settings::{Settings, value_of_flag};
use wemixvisor_core::target::Target;
use wemixvisor_core::upgrade::Step;
use wemixvisor_host::durable::DurableError;
use wemixvisor_host::home::{Home, Hook};
use wemixvisor_host::keeper::{self, DATA_DIR_LOCK, FileIdentity, LogPolicy, SpawnError};
use wemixvisor_host::trial::crash_point;
use wemixvisor_host::{durable, link, process};

use crate::handle::Message;
use crate::hook_runs::{HookJob, HookRuns};
use crate::keeping::{Keeping, words};
use crate::log_look::LogLook;
use crate::preparing::{Programs, said};
use crate::recorded;
use crate::sources;
use crate::watching::Watching;

/// A finished plan that cannot be taken off the file now is tried again so much later.
const TAKE_OFF_AGAIN: std::time::Duration = std::time::Duration::from_secs(15);

/// How it stood when an effect was decided on.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The program that `current` points to.
    pub(crate) target: Target,
    /// The process id of the node, if it runs.
    pub(crate) pid: Option<u32>,
    /// The head.
    pub(crate) head: Option<Height>,
    /// Why the store is not the file under its name any more, if so. Looked at with the surroundings only.
    pub(crate) store: Result<(), String>,
}

/// Everything that effects need.
pub(crate) struct Effects {
    pub(crate) home: Arc<Home>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) environment: Arc<Vec<(OsString, OsString)>>,
    pub(crate) log: LogPolicy,
    pub(crate) keeping: Keeping,
    pub(crate) programs: Programs,
    pub(crate) mailbox: mpsc::Sender<Message>,
    pub(crate) watch: Watching,
    /// What the node runs with: says where it answers.
    line: CommandLine,
    hooks: HookRuns,
    log_look: LogLook,
    /// The link was switched and may still be taken back by a power failure.
    link_unforced: bool,
    /// Seals above this height are the present node's own.
    seals_after: Height,
}

impl Effects {
    #[expect(clippy::too_many_arguments, reason = "all of it is found at the start, once")]
    pub(crate) fn new(
        home: Arc<Home>,
        settings: Arc<Settings>,
        environment: Arc<Vec<(OsString, OsString)>>,
        log: LogPolicy,
        keeping: Keeping,
        programs: Programs,
        mailbox: mpsc::Sender<Message>,
        watch: Watching,
        line: CommandLine,
    ) -> Self {
        Self {
            home,
            settings,
            environment,
            log,
            keeping,
            programs,
            mailbox,
            watch,
            line,
            hooks: HookRuns::default(),
            log_look: LogLook::new(),
            link_unforced: false,
            seals_after: 0,
        }
    }

    /// Carries one effect out. What is known at once comes back as an input; `Reply` and `Exit` are the loop's.
    pub(crate) fn perform(&mut self, effect: Effect, standing: &Standing) -> Option<Input> {
        match effect {
            Effect::Launch(launch) => self.launch(launch, standing),
            Effect::Terminate => {
                self.signal(|keeping, launch| async move { keeping.terminate(launch).await });
            }
            Effect::Kill => {
                let grace = self.settings.node.shutdown_grace;
                self.signal(move |keeping, launch| async move { keeping.kill(launch, grace).await });
            }
            Effect::SampleWork => return Some(Input::Work(standing.pid.and_then(sample))),
            Effect::SwitchLink(target) => {
                let result = link::switch_unforced(&self.home, &target).map_err(|error| said(&error));
                self.link_unforced |= result.is_ok();
                return Some(Input::Switched { target, result });
            }
            Effect::RunHook { run, step, name, height, info, target } => {
                self.run_hook(run, step, &name, height, info, &target)
            }
            Effect::EndHook { run } => self.hooks.call_off(run),
            Effect::Probe(what) => self.probe(what),
            Effect::AskSealing => self.ask_sealing(),
            Effect::Prepare(plan) => self.prepare(*plan, standing.target.clone()),
            Effect::Verify { target, plan } => {
                self.verify(target, plan.map(|plan| *plan), standing.target.clone())
            }
            Effect::EditPlans { ticket, edit } => self.edit_plans(ticket, edit),
            Effect::LookAround => {
                let link = link::current(&self.home).map_err(|error| said(&error));
                return Some(Input::Surroundings(Surroundings {
                    link,
                    program: self.can_start(&standing.target),
                    replaced: self.programs.replaced(),
                    store: standing.store.clone(),
                    log: self.log_look.last_and_next(&self.log.path),
                    keeper_stopped: keeper::stopped(self.home.wemixvisor()),
                }));
            }
            Effect::PollEvery(every) => self.watch.poll_every(every),
            Effect::SourcesUp => self.watch.node_up(),
            Effect::SourcesDown => self.watch.node_down(),
            Effect::Reply { .. } | Effect::Exit(_) => {}
        }
        None
    }

    /// Whether there is a program to be started.
    pub(crate) fn can_start(&self, target: &Target) -> Result<(), String> {
        link::program(&self.home, target).map(drop).map_err(|error| said(&error))
    }

    /// Forces a switched link to the disk. No record that is forced may speak of a switch that is not.
    pub(crate) fn force_link(&mut self) -> Result<(), DurableError> {
        if self.link_unforced {
            link::force(&self.home)?;
            self.link_unforced = false;
        }
        Ok(())
    }

    /// Where the node answers may have changed: it was started with other arguments, or its socket has
    /// appeared under another name. Returns the new sources if so.
    pub(crate) fn sources_now(&mut self) -> Option<Vec<Source>> {
        let found = sources::endpoints(&self.settings, self.home.root(), &self.line);
        if found == self.watch.endpoints() {
            return None;
        }
        let described = sources::described(&found);
        self.watch = Watching::new(found, &self.settings, self.mailbox.clone());
        self.watch.node_up();
        Some(described)
    }

    /// What is wrong with where the data lies: the node's arguments name another directory than the settings, or
    /// plans wait where nobody looks, put there by a command that did not know the arguments.
    pub(crate) fn other_data_dir(&self) -> Option<String> {
        let usual = self.settings.data_dir_for::<&str>(&[]);
        let named_twice = self.settings.other_data_dir(&words(&self.line));
        named_twice.or_else(|| recorded::plans_elsewhere(&self.home, &usual))
    }

    /// New settings are in force. Those of the node's log hold from its next start on.
    pub(crate) fn set_settings(&mut self, settings: Settings) {
        self.log = log_policy(&settings);
        self.programs.set(settings.pre_upgrade_hook(), settings.upgrade.version_limit);
        let heights_changed = settings.heights != self.settings.heights;
        self.settings = Arc::new(settings);
        if heights_changed {
            self.watch.start(&self.settings);
            self.watch.node_up();
        }
    }

    /// Ends a hook that runs: its step is done again by the next supervisor.
    pub(crate) fn end(&mut self) {
        self.hooks.end();
    }

    fn launch(&mut self, launch: Launch, standing: &Standing) {
        self.seals_after = standing.head.unwrap_or(0);
        let known = self.other_data_dir();
        self.line = launch.line.clone();
        if let Some(other) = self.other_data_dir().filter(|other| known.as_ref() != Some(other)) {
            tracing::warn!("{other}");
        }
        let id = launch.launch;
        let order = match self.order(&launch) {
            Ok(order) => order,
            Err(reason) => {
                self.report(async move { Input::LaunchFailed { launch: id, reason } });
                return;
            }
        };
        let keeping = self.keeping.clone();
        let program = self.home.program(&launch.target);
        let verified = launch.sha256.is_some();
        self.report(async move {
            crash_point("launch.asked");
            let mut outcome = keeping.spawn(order.clone()).await;
            if let (Err(SpawnError::Changed { .. }), false) = (&outcome, verified)
                && let Ok(identity) = FileIdentity::at(&program)
            {
                // Touched between the look and the start. Without a verified sum there is nothing it could
                // differ from.
                outcome = keeping.spawn(keeper::Launch { identity, ..order }).await;
            }
            crash_point("launch.answered");
            match outcome {
                Ok(pid) => Input::NodeUp { launch: id, pid },
                Err(error) => Input::LaunchFailed { launch: id, reason: said(&error) },
            }
        });
    }

    fn order(&self, launch: &Launch) -> Result<keeper::Launch, String> {
        let program = self.home.program(&launch.target);
        let verified = self.programs.verified(&launch.target);
        let identity = match (&launch.sha256, verified) {
            // What was verified is what is started, byte for byte.
            (Some(sha256), Some(file)) if file.sha256.to_string() == *sha256 => file.identity,
            (Some(_), _) => {
                let file = wemixvisor_host::program::inspect(&program).map_err(|error| said(&error))?;
                if launch.sha256.as_deref() != Some(file.sha256.to_string().as_str()) {
                    return Err(format!("{} was changed after it was verified", program.display()));
                }
                file.identity
            }
            (None, _) => {
                FileIdentity::at(&program).map_err(|error| format!("{}: {error}", program.display()))?
            }
        };
        let args = words(&launch.line);
        let set = self.home.root().join(self.settings.data_dir_for(&args));
        // What the node itself is told wins over the setting, for the node.
        let told = value_of_flag(&args, "datadir").map(|dir| self.home.root().join(dir));
        let data_dirs: Vec<_> = iter::once(set.clone()).chain(told.filter(|told| *told != set)).collect();
        // It was there when the supervisor began. In an empty one a node would begin anew, from block 0.
        if !self.home.data().is_dir() {
            return Err(format!(
                "the data directory {} is not there any more: a node would begin anew in an empty one. Bring it back \
                 (is a disk not mounted?), or make it: mkdir",
                self.home.data().display()
            ));
        }
        // Made now, so that they can be locked from the first start on.
        for dir in &data_dirs {
            durable::create_dirs(dir).map_err(|error| said(&error))?;
        }
        Ok(keeper::Launch {
            launch_id: launch.launch,
            program,
            identity,
            args,
            env: sources::environment(&self.environment, self.home.root(), &self.settings, &launch.line),
            cwd: self.home.root().to_owned(),
            locks: data_dirs.iter().map(|dir| dir.join(DATA_DIR_LOCK)).collect(),
            log: self.log.clone(),
        })
    }

    fn signal<F: Future<Output = ()> + Send + 'static>(&self, send: impl FnOnce(Keeping, u64) -> F) {
        tokio::spawn(send(self.keeping.clone(), self.keeping.launch()));
    }

    fn run_hook(&mut self, run: u64, step: Step, name: &str, height: Height, info: String, target: &Target) {
        let hook = match step {
            Step::PreStop => Hook::PreStop,
            Step::PostUpgrade => Hook::PostUpgrade,
            _ => Hook::PreUpgrade,
        };
        let Target::Upgrade(plan) = target else { return };
        let paths = self.programs.hooks(plan, hook);
        let home = self.home.clone();
        let mut environment = (*self.environment).clone();
        let own = [
            ("DAEMON_HOME", home.root().as_os_str().to_owned()),
            ("DAEMON_NAME", home.name().into()),
            ("UPGRADE_NAME", name.into()),
            ("UPGRADE_HEIGHT", height.to_string().into()),
            ("UPGRADE_INFO", info.into()),
        ];
        environment.retain(|(name, _)| !own.iter().any(|(other, _)| name == other));
        environment.extend(own.map(|(name, value)| (name.into(), value)));
        let job = HookJob {
            paths,
            home: home.root().to_owned(),
            environment,
            limit: self.settings.hooks.time_limit,
        };
        self.hooks.begin(run, job, self.mailbox.clone());
    }

    fn probe(&self, what: ProbeFor) {
        let limit = self.settings.heights.answer_limit;
        let observed = self.watch.observe(what, self.seals_after, limit);
        self.report(async move { Input::Observed { launch: what.launch, round: Box::new(observed.await) } });
    }

    fn ask_sealing(&self) {
        let holds = self.watch.holds_mining_token(self.settings.heights.answer_limit);
        self.report(async move { Input::Sealing(holds.await) });
    }

    fn prepare(&self, plan: Plan, present: Target) {
        let programs = self.programs.clone();
        let rpc = self.watch.reachable();
        self.report(async move {
            let check = programs.prepare(&plan, &present, rpc).await;
            Input::Checked { name: plan.name, check }
        });
    }

    fn verify(&self, target: Target, plan: Option<Plan>, present: Target) {
        let programs = self.programs.clone();
        self.report(async move {
            let result = programs.verify(&target, plan.as_ref(), &present).await;
            Input::Verified { target, result }
        });
    }

    fn edit_plans(&self, ticket: Option<u64>, edit: PlanEdit) {
        let (home, mailbox) = (self.home.clone(), self.mailbox.clone());
        let (again, told) = (home.clone(), mailbox.clone());
        let edit_and_read = move |home: &Home| {
            let message = match &edit {
                PlanEdit::Put(plan) => format!(
                    "upgrade {} is scheduled for height {} (switch {})",
                    plan.name, plan.height, plan.switch
                ),
                PlanEdit::Remove(name) | PlanEdit::RemoveFinished { name, .. } => {
                    format!("upgrade {name} is off the schedule")
                }
            };
            let result = recorded::edit_own_plans(home, &edit);
            let mut failed = false;
            let input = match ticket {
                Some(ticket) => Input::PlansEdited { ticket, result, message },
                None => {
                    if let Err(problem) = &result {
                        failed = true;
                        tracing::warn!(
                            "a finished plan stays in the plan file (it is not run again): {problem}; tried again in {} s",
                            TAKE_OFF_AGAIN.as_secs()
                        );
                    }
                    Input::Plans(result)
                }
            };
            (input, failed)
        };
        tokio::spawn(async move {
            // On a thread of its own: it may wait for the disk and for the mailbox.
            let edited = tokio::task::spawn_blocking(move || tell_plans(&home, &mailbox, edit_and_read));
            if edited.await.unwrap_or_default() {
                tokio::time::sleep(TAKE_OFF_AGAIN).await;
                // The engine sees it in the file and decides anew: it may have been ordered again by now.
                let read = |home: &Home| (Input::Plans(recorded::own_plans(home).0), ());
                tokio::task::spawn_blocking(move || tell_plans(&again, &told, read));
            }
        });
    }

    /// Runs a piece of work on its own; its result lands in the mailbox.
    fn report(&self, work: impl Future<Output = Input> + Send + 'static) {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            let input = work.await;
            // Nobody reads it any more when the supervisor ends.
            let _ = mailbox.send(Message::Happened(input)).await;
        });
    }
}

/// Where the node's output goes, and how much of it is kept: the setting counts the rotated files only.
pub(crate) fn log_policy(settings: &Settings) -> LogPolicy {
    LogPolicy {
        path: settings.node_log(),
        max_bytes: settings.logs.max_bytes,
        keep: settings.logs.keep.saturating_add(1),
    }
}

/// Reads the plan file, or edits and reads it, and tells the engine, one after the other: what was read first is
/// told first, so that an older reading never takes the place of a newer one. Waits for the mailbox.
/// What `read` answers besides is passed on.
pub(crate) fn tell_plans<T>(
    home: &Home,
    mailbox: &mpsc::Sender<Message>,
    read: impl FnOnce(&Home) -> (Input, T),
) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Nobody reads it any more when the supervisor ends.
    let (input, answer) = read(home);
    let _ = mailbox.blocking_send(Message::Happened(input));
    answer
}

fn sample(pid: u32) -> Option<Work> {
    let work = process::Work::of(pid).ok()?;
    Some(Work { cpu_ticks: work.cpu_ticks, written_bytes: work.written_bytes })
}
