//! What one guest may take of what all share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What each guest may take of what all share: a hostile one can't starve the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuestLimits {
    /// Flows a second that the host begins to track for each of a guest's
    /// addresses, 1 to 1000000; sixteen times as many at once.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 500))]
    pub new_flows: u32,
    /// Flows that each of a guest's addresses may have open at a time, 16 to
    /// 32768: TCP connections, and whatever is neither UDP nor ICMP. The host
    /// looks them all through for a new one.
    #[schemars(range(min = 16, max = 32768), extend("default" = 4096))]
    pub connections: u32,
    /// Fragments of IPv4 packets a second that a guest may send, and half as
    /// many of IPv6's, 2 to 65535. Until a packet is complete its fragments lie
    /// in memory that all share.
    #[schemars(range(min = 2, max = 65535), extend("default" = 50))]
    pub fragments: u32,
    /// Frames a second that a guest may send to everybody or to a group, and
    /// as many of ARP and neighbour discovery, 10 to 65535.
    #[schemars(range(min = 10, max = 65535), extend("default" = 1000))]
    pub broadcasts: u32,
}

impl GuestLimits {
    /// Each with its key, and the least and the most that it may be.
    pub const fn checked(&self) -> [(&'static str, u32, u32, u32); 4] {
        [
            ("new_flows", self.new_flows, 1, 1_000_000),
            ("connections", self.connections, 16, 32768),
            ("fragments", self.fragments, 2, 65535),
            ("broadcasts", self.broadcasts, 10, 65535),
        ]
    }
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self { new_flows: 500, connections: 4096, fragments: 50, broadcasts: 1000 }
    }
}
