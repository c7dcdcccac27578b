//! Carries out a change of a part of the host, and writes down that the host is
//! settled after any change.

use crate::firewall::{Difference, Stamp, Statics};
use crate::kill_point::kill_point;
use crate::topology::Topology;

use super::carry_out::{transactions, verified};
use super::current::Current;
use super::goal::{Goal, Restart};
use super::part::Part;
use super::plan::{conflicts, plan};
use super::watch::Watch;
use crate::host::kept::generation::Origin;
use crate::host::kept::loaded;
use crate::host::kept::settled::{self, Settled};
use crate::host::{Host, HostError, Step};

impl Host {
    /// The steps of a change of a part.
    pub(in crate::host) fn plan_part<'t>(
        &self,
        part: &'t Part,
        whole: &'t Topology,
    ) -> Result<(Vec<Step>, Goal<'t>), HostError> {
        let conflicts = conflicts(&part.new, &part.current);
        if !conflicts.is_empty() {
            return Err(HostError::Conflicts(conflicts));
        }
        let goal = part.goal(whole)?;
        let steps = plan(&goal, &part.current);
        self.check_startable(&part.new, &part.current, &steps)?;
        Ok((steps, goal))
    }

    /// As [`Host::carry_out`], of a part: what is turned on, and loaded, is what it
    /// was.
    pub(super) async fn carry_out_part(
        &self,
        steps: &[Step],
        goal: &Goal<'_>,
        part: &Part,
        watch: &mut dyn Watch,
    ) -> Result<(), HostError> {
        loaded::begin_change(&self.root)?;
        if steps.is_empty() {
            return Ok(());
        }
        self.execute(steps, watch).await?;
        kill_point("executed, not verified");
        let same = |before: &Stamp| Stamp::read().is_ok_and(|now| now.has_tables_of(before));
        if !part.current.stamp.as_ref().is_some_and(same) {
            let steps = vec!["hostctl render | nft -f -    # somebody replaced the tables meanwhile".into()];
            return Err(HostError::Unverified { steps, consequence: String::new() });
        }
        for step in steps {
            if let Step::ChangeFirewall(delta) = step {
                delta.verify().map_err(|error| {
                    let steps = vec![format!("{}    # {error}", step.commands().join("\n"))];
                    HostError::Unverified { steps, consequence: String::new() }
                })?;
            }
        }
        let goal = Goal { difference: Difference::None, ..goal.clone() };
        verified(&plan(&goal, &self.part_again(part).await?))?;
        kill_point("verified, not kept");
        Ok(())
    }

    /// The part of the host that a change touches; none where all of it has to be
    /// looked at.
    pub(super) async fn part_unless_all(
        &self,
        topology: &Topology,
        origin: &Origin,
        restart: &Restart,
        watch: &dyn Watch,
    ) -> Option<Part> {
        if watch.looks_at_all() || origin.from.is_some() || *restart != Restart::No {
            return None;
        }
        self.part_or_why(topology).await
    }

    /// Writes down that the host is what a generation says.
    pub(super) fn note_settled(
        &self,
        generation: u64,
        (steps, goal): (&[Step], &Goal<'_>),
        current: &Current,
        part: Option<&Part>,
    ) {
        let now = Stamp::read().ok().filter(|now| !now.is_bare());
        let settled = now.zip(current.stamp.as_ref()).and_then(|(stamp, before)| {
            let alone = stamp.is_after(before, transactions(steps));
            let known = part.and_then(|part| part.settled.statics.clone());
            let statics = match (part, alone) {
                // Others' transactions came between.
                (None, false) => return None,
                (Some(_), false) => Some(Statics::read().ok().filter(|now| known.as_ref() == Some(now))?),
                (Some(_), true) if !changes_chains(steps) => known,
                (_, true) => Statics::read().ok(),
            };
            let untouched = alone && part.is_none_or(|part| part.settled.untouched);
            let surroundings = current.surroundings.clone();
            let judgement = goal.ruleset.judgement;
            Some(Settled { generation, surroundings, judgement, stamp, untouched, statics })
        });
        match settled {
            Some(settled) => settled::write(&self.root, &settled),
            None => settled::forget(&self.root),
        }
    }
}

/// Whether steps make or remove chains, as policies that come and go.
fn changes_chains(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::ChangeFirewall(delta) if !delta.is_elements()))
}
