//! What a change would come to, for who asks before.

use std::fmt;

use serde::Serialize;

use crate::ownership::vm_unit;
use crate::spec::HostSpec;
use crate::topology::{self, Move, Name, Supervisor, Topology};
use crate::vm::Pending;

use super::current::Current;
use super::goal::Restart;
use super::observe::observe;
use super::plan::waiting;
use crate::host::kept::generation;
use crate::host::{Host, HostError, Step};

/// What [`Host::apply`] would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The steps.
    pub steps: Vec<Step>,
    /// Addresses that are new, and whatever a guest doesn't keep.
    pub moves: Vec<Move>,
    /// What waits for a guest's next start.
    pub pending: Vec<Waiting>,
}

/// What waits for a guest's next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The guest.
    pub vm: Name,
    /// What, by key.
    pub pending: Vec<Pending>,
    /// The command that starts it again.
    pub command: String,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.pending.iter().map(ToString::to_string).collect();
        write!(f, "{}: {} ({})", self.vm, texts.join("; "), self.command)
    }
}

/// What waits for guests' next starts, once `steps` are done.
pub(in crate::host) fn pending(topology: &Topology, current: &Current, steps: &[Step]) -> Vec<Waiting> {
    let waiting = waiting(topology, current, steps).into_iter();
    let one = |(name, pending): (&Name, &[Pending])| Waiting {
        vm: name.clone(),
        pending: pending.to_vec(),
        command: restart_command(topology, name),
    };
    waiting.map(one).collect()
}

/// What starts a guest again.
pub(in crate::host) fn restart_command(topology: &Topology, name: &Name) -> String {
    match topology.vm(name.as_str()).map(|vm| vm.supervisor) {
        Some(Supervisor::Unit) => format!("systemctl restart {}", vm_unit(name.as_str())),
        _ => format!("hostctl vm restart {name}"),
    }
}

impl Host {
    /// What [`Host::apply`] would do, with what it gives to guests; `whole` has it
    /// look at the whole host.
    ///
    /// # Errors
    /// As [`Host::plan`].
    pub async fn preview(
        &self,
        spec: &HostSpec,
        topology: &Topology,
        whole: bool,
    ) -> Result<Preview, HostError> {
        Self::check_root()?;
        let part = if whole { None } else { self.part_or_why(topology).await };
        let seen;
        let (current, steps) = match &part {
            Some(part) => (&part.current, self.plan_part(part, topology)?.0),
            None => {
                seen = observe(&self.root, topology).await?;
                (&seen, self.plan_from(topology, &seen, &Restart::No)?.0)
            }
        };
        let moves = topology::moves(&generation::kept(&self.root).allocations, spec, topology);
        let pending = pending(topology, current, &steps);
        Ok(Preview { steps, moves, pending })
    }
}
