//! Taking back what failed half-way, and saying what the host is like then.

use super::carry_out::Host;
use super::goal::Restart;
use super::observe::observe;
use super::watch::{Silent, Watch};
use crate::host::kept::generation::{self, Generation};
use crate::host::{HostError, Step};

const CLOSED: &str = "What the firewall doesn't allow stays closed; run apply again to repair it";

impl Host {
    /// Returns to the last generation, and says how that went.
    pub(in crate::host) async fn roll_back(&self, watch: &mut dyn Watch) -> String {
        let last = match generation::last(&self.root) {
            Ok(Some(last)) => last,
            Ok(None) => return format!("There is no earlier generation to return to. {CLOSED}."),
            Err(error) => return format!("The last generation can't be read ({error}). {CLOSED}."),
        };
        watch.rolling_back(last.number);
        match self.restore(&last).await {
            Ok(_) => format!("The host is back at generation {}.", last.number),
            Err(error) => format!("Returning to generation {} failed too ({error}). {CLOSED}.", last.number),
        }
    }

    /// As [`Host::roll_back`], of an apply that was done and can't be kept;
    /// `was_bare` where nothing of hostctl's was there before.
    pub(in crate::host) async fn take_back(&self, was_bare: bool, watch: &mut dyn Watch) -> String {
        if !(was_bare && matches!(generation::last(&self.root), Ok(None))) {
            return self.roll_back(watch).await;
        }
        let removed = match self.removal().await {
            Ok(steps) => self.execute(&steps, &mut Silent).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => "The host is back at what it was before hostctl.".into(),
            Err(error) => format!("Taking it down again failed too ({error}). {CLOSED}."),
        }
    }

    /// Makes the host what a generation says, without a way back.
    pub(in crate::host) async fn restore(&self, generation: &Generation) -> Result<Vec<Step>, HostError> {
        let topology = generation.compile()?;
        let current = observe(&self.root, &topology).await?;
        // Guests that can't start any more are no reason to leave the rest.
        let (steps, goal) = Self::plan_network(&topology, &current, &Restart::No)?;
        self.carry_out_back(&steps, &goal, &current).await?;
        self.forget_guests(&topology, &current)?;
        self.tell_supervisors(&topology, &current)?;
        Ok(steps)
    }
}

pub(in crate::host) fn with_consequence(error: HostError, consequence: String) -> HostError {
    match error {
        HostError::Step { number, total, step, source, .. } => {
            HostError::Step { number, total, step, source, consequence }
        }
        HostError::Unverified { steps, .. } => HostError::Unverified { steps, consequence },
        cause => HostError::TakenBack { cause: Box::new(cause), consequence },
    }
}
