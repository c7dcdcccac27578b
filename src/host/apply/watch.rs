//! Who follows an apply.

use std::time::Duration;

use super::loss::Loss;
use super::step::Step;
use crate::host::HostError;
use crate::prove::Extent;

/// Somebody who is told of each step, and may stop before it.
pub trait Watch {
    /// Called before a step, with its number from 1.
    ///
    /// # Errors
    /// Ends the apply as if the step had failed.
    fn before(&mut self, number: usize, total: usize, step: &Step) -> Result<(), HostError>;

    /// Called when a failed apply is being taken back.
    fn rolling_back(&mut self, _to: u64) {}

    /// How long another hostctl that changes the host is waited for.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether an apply may go on that takes all networks or all guests away.
    fn consents(&mut self, _to: &Loss) -> bool {
        true
    }

    /// Whether rules are loaded only where they are proved to do with every packet
    /// what the spec says.
    fn proves(&self) -> bool {
        false
    }

    /// Whether the whole host is looked at, also where it is known what changes.
    fn looks_at_all(&self) -> bool {
        false
    }

    /// Called where they are.
    fn proved(&mut self, _: &Extent, _in: Duration) {}

    /// Called once where another hostctl is waited for, with its command and
    /// pid.
    fn waiting(&mut self, _for: &str) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Watch for Silent {
    fn before(&mut self, _: usize, _: usize, _: &Step) -> Result<(), HostError> {
        Ok(())
    }
}
