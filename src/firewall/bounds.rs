//! Limits on a guest → the numbers of the rules that hold it to them.

use serde::{Deserialize, Serialize};

use crate::topology::GuestLimits;

/// Rates are a second; a burst is what may come at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Flows of an address that are tracked at a time.
    flows: u16,
    /// Flows that an address begins. A flow that is over counts no more, and
    /// stays in the table for two minutes: this bounds those.
    new_flows: u16,
    fragments: u16,
    fragments_burst: u32,
    /// IPv6's incomplete packets are kept for a minute, IPv4's for half of one.
    fragments6: u16,
    broadcasts: u16,
    broadcasts_burst: u32,
}

impl From<GuestLimits> for Bounds {
    fn from(limits: GuestLimits) -> Self {
        let GuestLimits { flows, fragments, broadcasts } = limits;
        Self {
            flows,
            new_flows: (flows / 16).max(1),
            fragments,
            fragments_burst: u32::from(fragments) * 2,
            fragments6: (fragments / 2).max(1),
            broadcasts,
            broadcasts_burst: u32::from(broadcasts) * 2,
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        GuestLimits::default().into()
    }
}
