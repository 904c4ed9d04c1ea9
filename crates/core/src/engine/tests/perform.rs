//! Carries out effects in the simulated world. Results come back as inputs, a little later.

use super::chain::hash;
use super::program::OnTerm;
use super::timeline::Due;
use super::world::World;
use crate::engine::port::{
    Decision, Effect, Entry, ExitWith, Input, PlanEdit, ProbeFor, Surroundings, Verified, Work,
};
use crate::observation::{Answer, Observation};
use crate::plan::Plan;
use crate::readiness::{Check, State};
use crate::target::Target;
use crate::trigger::{Why, firing_height};
use crate::upgrade::{Record, Step};

impl World {
    /// An upgrade begins only with a program that was verified just before.
    pub fn check_triggers(&mut self, decision: &Decision) {
        for entry in &decision.entries {
            if let Entry::Journal { record: Record::Triggered(order), .. } = entry {
                let looked_at = Some((order.to.clone(), order.sha256.clone()));
                assert_eq!(self.verified.take(), looked_at, "fired without a look at the program");
                let by_height = matches!(order.why, Why::Reached | Why::Late);
                let firing = order.plan.as_ref().and_then(|plan| firing_height(plan, self.stagger));
                assert!(!by_height || firing.is_some_and(|at| at <= self.highest), "too early: {order:?}");
                assert_eq!(order.from, self.disk.link, "what it goes back to is what ran");
            }
        }
    }

    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Launch(launch) => {
                assert_eq!(launch.target, self.disk.link, "only what the link says is started");
                assert!(self.node.is_none(), "a second process: {launch:?}");
                let program = &self.programs[&launch.target];
                let changed = launch.sha256.as_ref().is_some_and(|sha| *sha != program.sha256);
                let refused =
                    program.unstartable.or(changed.then_some("it is not the program that was verified"));
                match refused {
                    Some(reason) => {
                        self.hear(3, Input::LaunchFailed { launch: launch.launch, reason: reason.into() });
                    }
                    None => self.spawn(launch.launch, launch.target, launch.line),
                }
            }
            Effect::Terminate => {
                self.check_stop_for_upgrade();
                if self.node.is_some() {
                    self.sigterm();
                }
            }
            Effect::Kill if self.node.is_some() => self.sigkill(),
            // It ended a moment ago; the news is on its way.
            Effect::Kill => {}
            Effect::SampleWork => self.sample_work(),
            Effect::SwitchLink(target) => self.switch_link(target),
            Effect::RunHook { run, step, .. } => self.run_hook(run, step),
            Effect::EndHook { run } => {
                assert_eq!(self.hook.take(), Some((self.life, run)), "a hook is ended that does not run");
            }
            Effect::Probe(probe) => self.probe(probe),
            Effect::AskSealing => {
                let answer =
                    if self.answers() { Answer::Known(self.we_seal) } else { Answer::Failed("no".into()) };
                self.hear(2, Input::Sealing(answer));
            }
            Effect::Prepare(plan) => self.prepare(&plan),
            Effect::Verify { target, plan } => {
                assert!(plan.is_none_or(|plan| Target::Upgrade(plan.name) == target));
                self.soon(self.verify_ms, Due::Looked(self.life, target));
            }
            Effect::LookAround => {
                let replaced = self.prepared.iter().filter(|(name, sha256)| {
                    let program = self.programs.get(&Target::Upgrade((*name).clone()));
                    program.is_none_or(|program| program.sha256 != **sha256)
                });
                let replaced = replaced.map(|(name, _)| name.clone()).collect();
                let link = Ok(self.disk.link.clone());
                let store = if self.store_gone { Err("moved".into()) } else { Ok(()) };
                let keeper_stopped = self.keeper_stopped;
                let found =
                    Surroundings { link, program: Ok(()), replaced, store, log: Ok(()), keeper_stopped };
                self.hear(0, Input::Surroundings(found));
            }
            Effect::EditPlans { ticket, edit } => self.edit_plans(ticket, edit),
            Effect::PollEvery(every) => self.set_pace(every),
            Effect::SourcesUp => self.sources_up = true,
            Effect::SourcesDown => self.sources_up = false,
            Effect::Reply { ticket, result } => {
                assert!(self.replies.insert(ticket, result).is_none(), "answered twice");
            }
            Effect::Exit(with) => {
                self.exit = Some(with);
                self.engine = None;
                self.life += 1;
                if with == ExitWith::Successor {
                    self.soon(20, Due::Boot);
                } else if std::mem::take(&mut self.comes_back) {
                    self.soon(1000, Due::Boot);
                }
            }
        }
    }

    /// The node is never stopped in the name of an upgrade whose program is not in place.
    fn check_stop_for_upgrade(&self) {
        if let Some(upgrade) = self.disk.open().filter(|upgrade| upgrade.step <= Step::Stop) {
            assert!(self.programs.contains_key(&upgrade.switchover.to));
        }
    }

    pub fn looked(&mut self, target: Target) {
        let present = self.programs[&self.disk.link].version;
        let found = self.programs.get(&target).map(|program| (program.unfit, program.clone()));
        let result = match found {
            None => Err(format!("there is no program for {target}")),
            Some((Some(unfit), _)) => Err(unfit.into()),
            Some((None, program)) => {
                self.verified = Some((target.clone(), program.sha256.clone()));
                Ok(Verified {
                    sha256: program.sha256.clone(),
                    version: Some(program.version.into()),
                    present_version: Some(present.into()),
                    hooks: self.hooks,
                })
            }
        };
        self.tell(Input::Verified { target, result });
    }

    fn prepare(&mut self, plan: &Plan) {
        let program = self.programs.get(&Target::Upgrade(plan.name.clone()));
        self.prepared.remove(&plan.name);
        if let Some(program) = program {
            self.prepared.insert(plan.name.clone(), program.sha256.clone());
        }
        let mut check = Check { sha256: program.map(|program| program.sha256.clone()), ..Check::default() };
        match program.map(|program| program.unfit) {
            Some(None) => check.add("binary", State::Ok, "in place"),
            Some(Some(unfit)) => check.add("binary", State::Failed, unfit),
            None => check.add("binary", State::Failed, "missing"),
        }
        self.hear(10, Input::Checked { name: plan.name.clone(), check });
    }

    fn switch_link(&mut self, target: Target) {
        assert!(self.node.is_none(), "the link is switched under a running node");
        let result = if self.link_fails > 0 {
            self.link_fails -= 1;
            Err("read-only file system".into())
        } else {
            self.disk.link = target.clone();
            Ok(())
        };
        self.hear(1, Input::Switched { target, result });
    }

    /// One that is ended says so in the end, too: what the engine makes of that is its own affair.
    fn run_hook(&mut self, run: u64, step: Step) {
        let before = self.hook.replace((self.life, run));
        assert!(before.is_none_or(|(life, _)| life != self.life), "a hook beside another one");
        self.hooks_run.push(step);
        let (ms, results) = self.hook_runs.entry(step).or_insert_with(|| (20, [Ok("")].into()));
        let result = if results.len() > 1 { results.pop_front() } else { results.front().cloned() };
        let ms = *ms;
        let result = result.unwrap().map(str::to_owned).map_err(str::to_owned);
        self.hear(ms, Input::HookEnded { run, result });
    }

    fn sample_work(&mut self) {
        let Some(node) = &self.node else { return };
        let flushes = matches!(self.programs[&node.target].on_term, OnTerm::Flushes(_));
        let work = Work { cpu_ticks: self.now / 1000, written_bytes: if flushes { self.now } else { 7 } };
        self.hear(1, Input::Work(Some(work)));
    }

    fn edit_plans(&mut self, ticket: Option<u64>, edit: PlanEdit) {
        let before = self.disk.plans.clone();
        let edited = if self.edit_fails > 0 {
            self.edit_fails -= 1;
            Err("no space left on the device".into())
        } else {
            before.clone().map(|mut plans| {
                match edit {
                    PlanEdit::Put(plan) => {
                        plans.retain(|old| old.name != plan.name);
                        plans.push(*plan);
                    }
                    PlanEdit::Remove(name) => plans.retain(|old| old.name != name),
                    PlanEdit::RemoveFinished { name, height } => {
                        plans.retain(|old| old.name != name || old.height != height);
                    }
                }
                plans
            })
        };
        if let Ok(plans) = &edited {
            self.disk.plans = Ok(plans.clone());
            if before.as_ref() != Ok(plans) {
                self.soon(self.edit_ms + 3, Due::Read(self.life));
            }
        }
        if let Some(ticket) = ticket {
            let message = "the plan file is edited".into();
            self.hear(self.edit_ms, Input::PlansEdited { ticket, result: edited, message });
        }
    }

    fn probe(&mut self, probe: ProbeFor) {
        let Some((node, head)) = self.node.as_ref().zip(self.head()) else {
            let round =
                Observation { head: Answer::Failed("connection refused".into()), ..Observation::default() };
            self.hear(5, Input::Observed { launch: probe.launch, round: Box::new(round) });
            return;
        };
        let program = &self.programs[&node.target];
        let has = |height: u64| (height <= self.database).then(|| hash(height, program));
        let round = Observation {
            client_version: Answer::Known(format!("Gwemix/v{}/linux", program.version)),
            chain_id: Answer::Known(program.chain_id),
            genesis: Answer::Known(hash(0, program)),
            pinned: probe.pinned.map_or(Answer::NotAsked, |height| Answer::Known(has(height))),
            head: Answer::Known(head),
            peers: Answer::Known(program.peers),
            own_seal: match (probe.own_seal, program.istanbul) {
                (false, _) => Answer::NotAsked,
                (true, false) => Answer::Unsupported,
                (true, true) => Answer::Known(program.seals),
            },
        };
        self.hear(5, Input::Observed { launch: probe.launch, round: Box::new(round) });
    }
}
