//! Limits on a guest → the numbers of the rules that hold it to them.

use serde::{Deserialize, Serialize};

use crate::topology::GuestLimits;

/// Rates are a second; a burst is what may come at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    new_flows: u32,
    /// What a guest may begin after it began none for 16 seconds.
    new_flows_burst: u32,
    connections: u32,
    fragments: u32,
    /// IPv6's incomplete packets are kept for a minute, IPv4's for half of one.
    fragments6: u32,
    fragments_burst: u32,
    broadcasts: u32,
    broadcasts_burst: u32,
}

impl From<GuestLimits> for Bounds {
    fn from(limits: GuestLimits) -> Self {
        let GuestLimits { new_flows, connections, fragments, broadcasts } = limits;
        Self {
            new_flows,
            new_flows_burst: new_flows.saturating_mul(16),
            connections,
            fragments,
            fragments6: (fragments / 2).max(1),
            fragments_burst: fragments.saturating_mul(2),
            broadcasts,
            broadcasts_burst: broadcasts.saturating_mul(2),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        GuestLimits::default().into()
    }
}
