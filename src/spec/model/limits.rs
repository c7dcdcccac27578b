//! What one guest may take of what all share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What each guest may take of what all share: a hostile one can't starve the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuestLimits {
    /// Flows a second that the host begins to track for a guest, 1 to 1000000;
    /// sixteen times as many at once.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 500), example = 500)]
    pub new_flows: u32,
    /// Flows of a guest's that the host tracks at a time, of every protocol,
    /// over IPv4 and IPv6 together, 16 to 32768. The host looks them all through
    /// for a new one. Also written `connections`.
    #[serde(alias = "connections")]
    #[schemars(range(min = 16, max = 32768), extend("default" = 4096), example = 4096)]
    pub flows: u32,
    /// Fragments of IPv4 packets a second that a guest may send, and half as
    /// many of IPv6's, 2 to 65535. Until a packet is complete its fragments lie
    /// in memory that all share.
    #[schemars(range(min = 2, max = 65535), extend("default" = 50), example = 50)]
    pub fragments: u32,
    /// Frames a second that a guest may send to everybody or to a group, and
    /// as many of ARP and neighbour discovery, 10 to 65535.
    #[schemars(range(min = 10, max = 65535), extend("default" = 1000), example = 1000)]
    pub broadcasts: u32,
}

/// Limits of a guest, or of all of a subnet's or network's, where they are
/// others than those around them: a VM's go before its subnet's, then its
/// network's, then the host's. What they mean is said at `host.limits`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitOverrides {
    /// Flows a second that the host begins to track for the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000), example = 500)]
    pub new_flows: Option<u32>,
    /// Flows of the guest's that the host tracks at a time.
    #[serde(alias = "connections", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 32768), example = 4096)]
    pub flows: Option<u32>,
    /// Fragments of IPv4 packets a second that the guest may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 65535), example = 50)]
    pub fragments: Option<u32>,
    /// Frames a second that the guest may send to everybody or to a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 65535), example = 1000)]
    pub broadcasts: Option<u32>,
}

impl GuestLimits {
    /// Each with its key, and the least and the most that it may be.
    pub const fn checked(&self) -> [(&'static str, u32, u32, u32); 4] {
        [
            ("new_flows", self.new_flows, 1, 1_000_000),
            ("flows", self.flows, 16, 32768),
            ("fragments", self.fragments, 2, 65535),
            ("broadcasts", self.broadcasts, 10, 65535),
        ]
    }

    /// These, but for what `overrides` says otherwise.
    pub fn with(self, overrides: &LimitOverrides) -> Self {
        Self {
            new_flows: overrides.new_flows.unwrap_or(self.new_flows),
            flows: overrides.flows.unwrap_or(self.flows),
            fragments: overrides.fragments.unwrap_or(self.fragments),
            broadcasts: overrides.broadcasts.unwrap_or(self.broadcasts),
        }
    }
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self { new_flows: 500, flows: 4096, fragments: 50, broadcasts: 1000 }
    }
}
