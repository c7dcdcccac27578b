//! What a change would come to, for who asks before.

use crate::spec::HostSpec;
use crate::topology::{self, Move, Topology};

use super::{Host, HostError, Step, generation};

/// What [`Host::apply`] would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The steps.
    pub steps: Vec<Step>,
    /// Addresses that are new, and whatever a guest doesn't keep.
    pub moves: Vec<Move>,
}

impl Host {
    /// What [`Host::apply`] would do, with what it gives to guests.
    ///
    /// # Errors
    /// As [`Host::plan`].
    pub async fn preview(&self, spec: &HostSpec, topology: &Topology) -> Result<Preview, HostError> {
        let moves = topology::moves(&generation::kept(&self.root).allocations, spec, topology);
        Ok(Preview { steps: self.plan(topology).await?, moves })
    }
}
