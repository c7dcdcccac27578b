//! From a spec to what the host is: each whole change, and its way back.

use std::path::PathBuf;

use crate::app;
use crate::ownership::vm_unit;
use crate::private;
use crate::root_dir::RootDir;
use crate::spec::HostSpec;
use crate::topology::{self, Offload, Topology};
use crate::vm;

use super::current::Current;
use super::goal::{Goal, Restart, goal};
use super::part::Part;
use super::plan::{conflicts, left_to_units, plan, removal, waiting};
use super::prove_first::prove_first;
use super::take_back::with_consequence;
use super::watch::{Silent, Watch};
use super::{observe::observe, preview};
use crate::host::confirm::unconfirmed;
use crate::host::kept::claim::claim;
use crate::host::kept::generation::Origin;
use crate::host::kept::settled;
use crate::host::kept::{action_log, drop_in, forwarding, generation, loaded};
use crate::host::look::reliance;
use crate::host::{HostError, Lock, Loss, Step, flow_shortage};
use crate::kill_point::kill_point;

/// The machine, for everything that changes it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where hostctl's files are.
    pub root: RootDir,
    /// The hostctl program, which each VM's supervisor runs.
    pub program: PathBuf,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The steps, all of which were done.
    pub steps: Vec<Step>,
    /// What an operator should know besides.
    pub notes: Vec<String>,
    /// The number of the generation that the host is now.
    pub generation: Option<u64>,
}

impl Host {
    pub(in crate::host) fn check_root() -> Result<(), HostError> {
        if rustix::process::geteuid().is_root() { Ok(()) } else { Err(HostError::NotRoot) }
    }

    /// The steps that [`Host::apply`] would do.
    ///
    /// # Errors
    /// Where the host can't be read, or something is in the way.
    pub async fn plan(&self, topology: &Topology) -> Result<Vec<Step>, HostError> {
        Self::check_root()?;
        let current = observe(&self.root, topology).await?;
        Ok(self.plan_from(topology, &current, &Restart::No)?.0)
    }

    pub(in crate::host) fn plan_from<'t>(
        &self,
        topology: &'t Topology,
        current: &Current,
        restart: &Restart,
    ) -> Result<(Vec<Step>, Goal<'t>), HostError> {
        let (steps, goal) = Self::plan_network(topology, current, restart)?;
        self.check_startable(topology, current, &steps)?;
        Ok((steps, goal))
    }

    /// That what is started can be.
    pub(super) fn check_startable(
        &self,
        topology: &Topology,
        current: &Current,
        steps: &[Step],
    ) -> Result<(), HostError> {
        // An image or a QEMU that isn't there is found before anything is touched.
        // So is one that waits: the next start may be one after a crash.
        let started = steps.iter().filter_map(|step| match step {
            Step::StartVm { vm, .. } => Some(&**vm),
            _ => None,
        });
        let waiting = waiting(topology, current, steps).into_iter();
        let waiting = waiting.filter(|(_, pending)| pending.iter().any(vm::Pending::is_other_file));
        let waiting = waiting.filter_map(|(name, _)| topology.vm(name.as_str()));
        let unbootable: Vec<_> = started
            .chain(waiting)
            .filter_map(|vm| Some((vm.name.clone(), vm::can_start(&self.root, vm).err()?)))
            .collect();
        if !unbootable.is_empty() {
            return Err(HostError::Unbootable(unbootable));
        }
        let apps = steps.iter().filter_map(|step| match step {
            Step::StartApp { app } => Some((app.name.clone(), app::can_start(app).err()?)),
            _ => None,
        });
        let unstartable: Vec<_> = apps.collect();
        if !unstartable.is_empty() {
            return Err(HostError::Unstartable(unstartable));
        }
        Ok(())
    }

    /// The steps, whether guests can start or not.
    pub(in crate::host) fn plan_network<'t>(
        topology: &'t Topology,
        current: &Current,
        restart: &Restart,
    ) -> Result<(Vec<Step>, Goal<'t>), HostError> {
        let conflicts = conflicts(topology, current);
        if !conflicts.is_empty() {
            return Err(HostError::Conflicts(conflicts));
        }
        let mut goal = goal(topology, current, None)?;
        goal.restart = restart.clone();
        Ok((plan(&goal, current), goal))
    }

    /// Makes the host what `topology` says, verifies it, and keeps `spec` as
    /// the newest generation. On a failed step the last generation is
    /// restored.
    ///
    /// # Errors
    /// Nothing was changed, or the error says what the host is like now.
    pub async fn apply(
        &self,
        spec: &HostSpec,
        topology: &Topology,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let lock = self.begin_with("apply", watch)?;
        self.apply_under(&lock, spec, topology, watch).await
    }

    /// Takes the lock for a change of the host, and finishes what a killed
    /// command left. A spec is best read after this: nobody changes it then.
    ///
    /// # Errors
    /// Where another hostctl is at it.
    pub fn begin(&self, command: &str) -> Result<Lock, HostError> {
        self.begin_with(command, &mut Silent)
    }

    /// As [`Host::begin`], with the patience of `watch`.
    ///
    /// # Errors
    /// As [`Host::begin`].
    pub fn begin_with(&self, command: &str, watch: &mut dyn Watch) -> Result<Lock, HostError> {
        Self::check_root()?;
        let lock = self.lock(command, watch)?;
        drop_in::recover(&self.root)?;
        Ok(lock)
    }

    /// Takes the lock, and closes to others what an earlier version left open.
    pub(in crate::host) fn lock(&self, command: &str, watch: &mut dyn Watch) -> Result<Lock, HostError> {
        let limit = watch.patience();
        let lock = Lock::wait_and_tell(&self.root, command, limit, &mut |holder| watch.waiting(holder))?;
        let failed = |source| HostError::File { path: self.root.path().into(), source };
        private::tighten(&self.root).map_err(failed)?;
        claim(&self.root)?;
        Ok(lock)
    }

    /// [`Host::apply`] by whoever holds the lock.
    ///
    /// # Errors
    /// Those of [`Host::apply`].
    pub async fn apply_under(
        &self,
        lock: &Lock,
        spec: &HostSpec,
        topology: &Topology,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        self.apply_restarting(lock, (spec, topology), &Restart::No, watch).await
    }

    /// As [`Host::apply_under`], and starts guests again for what waits for it.
    ///
    /// # Errors
    /// Those of [`Host::apply`].
    pub async fn apply_restarting(
        &self,
        lock: &Lock,
        (spec, topology): (&HostSpec, &Topology),
        restart: &Restart,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let before = generation::numbers(&self.root)?.pop();
        let rejected = self.settle(lock).await?;
        let again = self.compile_again(before, spec)?;
        let topology = again.as_ref().unwrap_or(topology);
        if rejected.as_ref() == Some(spec) {
            // At boot there is nothing yet of what was confirmed.
            return Err(self.keep_confirmed().await.err().unwrap_or(self.rejected()?));
        }
        self.ask(spec, watch)?;
        let result = self.make(lock, (spec, topology), &Origin::of("apply"), restart, watch).await;
        action_log::write(&self.root, "apply", &result);
        if result.is_ok() && rejected.is_some() {
            unconfirmed::remove(&self.root)?;
        }
        result
    }

    /// That a spec which takes everything away is meant.
    pub(in crate::host) fn ask(&self, spec: &HostSpec, watch: &mut dyn Watch) -> Result<(), HostError> {
        match Loss::of(&self.root, spec)? {
            Some(loss) if !watch.consents(&loss) => Err(HostError::Unconsented(loss)),
            _ => Ok(()),
        }
    }

    /// The topology of `spec`, where the host has just returned to what was
    /// confirmed, and its guests to what they had: generation `before` isn't
    /// the newest any more.
    pub(in crate::host) fn compile_again(
        &self,
        before: Option<u64>,
        spec: &HostSpec,
    ) -> Result<Option<Topology>, HostError> {
        let returned = generation::numbers(&self.root)?.pop() != before;
        Ok(returned.then(|| generation::compile(&self.root, spec).ok()).flatten())
    }

    /// Makes the host what `topology` says, and keeps it; takes it back where
    /// that fails.
    pub(in crate::host) async fn apply_locked(
        &self,
        lock: &Lock,
        spec: &HostSpec,
        topology: &Topology,
        origin: &Origin,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        self.make(lock, (spec, topology), origin, &Restart::No, watch).await
    }

    async fn make(
        &self,
        _lock: &Lock,
        (spec, topology): (&HostSpec, &Topology),
        origin: &Origin,
        restart: &Restart,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let part = self.part_unless_all(topology, origin, restart, watch).await;
        let seen;
        let (current, (steps, goal)) = match &part {
            Some(part) => (&part.current, self.plan_part(part, topology)?),
            None => {
                seen = observe(&self.root, topology).await?;
                (&seen, self.plan_from(topology, &seen, restart)?)
            }
        };
        prove_first(topology, &current.surroundings, watch)?;
        let moves = topology::moves(&generation::kept(&self.root).allocations, spec, topology);
        // That the drop-in can't be read is no reason to fail now.
        let drop_in = drop_in::read(&self.root).ok().map(Option::unwrap_or_default);
        let given = topology.allocations();
        let prepared = generation::prepare(&self.root, (spec, &given), origin, drop_in)
            .map_err(|error| with_consequence(error, "Nothing was changed.".into()))?;
        match self.carry_out(&steps, &goal, current, part.as_ref(), watch).await {
            Ok(()) => {
                let generation = match prepared.keep(&self.root) {
                    Ok(generation) => generation,
                    Err(error) => {
                        let was_bare = removal(current).is_empty();
                        let consequence = self.take_back(was_bare, watch).await;
                        return Err(with_consequence(error, consequence));
                    }
                };
                kill_point("the generation is kept");
                self.note_settled(generation.number, (&steps, &goal), current, part.as_ref());
                self.forget_guests(topology, current)?;
                // It is done and kept: what can't be told is told by the next apply.
                let untold = self.tell_supervisors(topology, current).err();
                let untold = untold.map(|error| format!("a guest's next start may be as before: {error}"));
                let waiting = preview::pending(topology, current, &steps);
                let waiting = waiting.iter().map(|one| format!("waits for its next start: {one}"));
                let moved = moves.iter().filter(|moved| moved.from.is_some());
                let moved = moved.map(|moved| format!("moved: {moved}"));
                let notes = notes(&goal, current, &steps)
                    .into_iter()
                    .chain(moved)
                    .chain(waiting)
                    .chain(untold)
                    .collect();
                Ok(Outcome { notes, steps, generation: Some(generation.number) })
            }
            Err(error) => {
                drop(prepared);
                let consequence = self.roll_back(watch).await;
                Err(with_consequence(error, consequence))
            }
        }
    }

    /// Executes a plan and verifies what the kernel is then.
    async fn carry_out(
        &self,
        steps: &[Step],
        goal: &Goal<'_>,
        current: &Current,
        part: Option<&Part>,
        watch: &mut dyn Watch,
    ) -> Result<(), HostError> {
        if let Some(part) = part {
            return self.carry_out_part(steps, goal, part, watch).await;
        }
        if steps.is_empty() {
            // The plan has just been the check.
            self.remember(steps, goal, current);
            return Ok(());
        }
        self.record(current)?;
        settled::begin_change(&self.root)?;
        self.carry_out_recorded(steps, goal, current, watch).await
    }

    /// As [`Host::carry_out`], on the way back: what was turned on is written
    /// down already, and a full disk is no reason not to go.
    pub(in crate::host) async fn carry_out_back(
        &self,
        steps: &[Step],
        goal: &Goal<'_>,
        current: &Current,
    ) -> Result<(), HostError> {
        if steps.is_empty() {
            self.remember(steps, goal, current);
            return Ok(());
        }
        if let Err(error) = self.record(current) {
            tracing::warn!("{error}");
        }
        settled::forget(&self.root);
        self.carry_out_recorded(steps, goal, current, &mut Silent).await
    }

    /// Writes down what will be turned on, and beside which bridges of others.
    fn record(&self, current: &Current) -> Result<(), HostError> {
        let now = || reliance::bridges(&current.links).map(|(name, _)| name.clone()).collect();
        let bridges = Some(current.former_bridges.clone().unwrap_or_else(now));
        let surroundings = current.surroundings.clone();
        forwarding::write(&self.root, &forwarding::Forwarding { surroundings, bridges })
    }

    async fn carry_out_recorded(
        &self,
        steps: &[Step],
        goal: &Goal<'_>,
        current: &Current,
        watch: &mut dyn Watch,
    ) -> Result<(), HostError> {
        self.execute(steps, watch).await?;
        self.remember(steps, goal, current);
        kill_point("executed, not verified");
        self.verify(goal).await?;
        kill_point("verified, not kept");
        Ok(())
    }

    /// Writes down what is loaded now.
    pub(in crate::host) fn remember(&self, steps: &[Step], goal: &Goal<'_>, current: &Current) {
        loaded::write(&self.root, current.stamp.as_ref(), transactions(steps), &goal.ruleset);
    }

    /// Writes down what guests that have a supervisor are to be from their next
    /// start on, also where that is one after a crash.
    pub(in crate::host) fn tell_supervisors(
        &self,
        topology: &Topology,
        current: &Current,
    ) -> Result<(), HostError> {
        for guest in current.guests.iter().filter(|guest| guest.running || guest.supervised) {
            if let Some(vm) = topology.vm(guest.name.as_str())
                && vm::read_desired(&self.root, &vm.name).ok().as_ref() != Some(vm)
            {
                vm::write_desired(&self.root, vm)?;
            }
        }
        Ok(())
    }

    /// Removes the files of guests that aren't in the spec any more.
    pub(in crate::host) fn forget_guests(
        &self,
        topology: &Topology,
        current: &Current,
    ) -> Result<(), HostError> {
        for guest in current.guests.iter().filter(|guest| topology.vm(guest.name.as_str()).is_none()) {
            let path = self.root.vm(guest.name.as_str());
            match std::fs::remove_dir_all(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(HostError::File { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads the kernel back: a new plan has to be empty, but for guests that
    /// failed to start, which their supervisors report.
    async fn verify(&self, wanted: &Goal<'_>) -> Result<(), HostError> {
        let current = observe(&self.root, wanted.topology).await?;
        let steps = plan(&goal(wanted.topology, &current, Some(wanted))?, &current);
        verified(&steps)
    }
}

/// That nothing is left to do, but for guests that failed to start.
pub(super) fn verified(left: &[Step]) -> Result<(), HostError> {
    let steps: Vec<String> = left
        .iter()
        .filter(|step| !matches!(step, Step::StartVm { .. } | Step::StartApp { .. }))
        .flat_map(Step::commands)
        .collect();
    if steps.is_empty() { Ok(()) } else { Err(HostError::Unverified { steps, consequence: String::new() }) }
}

/// How many transactions of the kernel's tables steps make.
pub(super) fn transactions(steps: &[Step]) -> u32 {
    let changes = |step: &Step| matches!(step, Step::LoadFirewall { .. } | Step::ChangeFirewall(_));
    u32::from(steps.iter().any(changes))
}

fn notes(goal: &Goal<'_>, current: &Current, steps: &[Step]) -> Vec<String> {
    let (topology, part) = (goal.whole, goal.topology);
    let offline = !topology.networks.is_empty() && current.surroundings.uplinks.is_empty();
    let note = "no interface holds a default route, so guests don't reach the internet; \
                apply again once one does, or name it: [host] uplink = \"…\"";
    let units: Vec<String> =
        left_to_units(part, current, steps).into_iter().map(|name| vm_unit(name.as_str())).collect();
    let units =
        (!units.is_empty()).then(|| format!("left to their units: systemctl start {}", units.join(" ")));
    let trusted: Vec<&str> =
        topology.vms.iter().filter(|vm| vm.offload == Offload::On).map(|vm| vm.name.as_str()).collect();
    let trusted = (!trusted.is_empty() && current.guard.is_none()).then(|| {
        format!(
            "offload = true without a guard, which this kernel doesn't take: what {} has written into its \
             packets after the firewall, nothing judges",
            trusted.join(", ")
        )
    });
    let others = units.into_iter().chain(flow_shortage(topology)).chain(trusted);
    offline.then(|| note.to_string()).into_iter().chain(others).collect()
}
