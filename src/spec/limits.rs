//! What one guest may take of what all share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What each guest may take of what all share: a hostile one can't starve the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GuestLimits {
    /// Flows that the host tracks for each of a guest's addresses at a time,
    /// 16 to 32768. As many may begin at once, and then a sixteenth of it each
    /// second.
    #[schemars(range(min = 16, max = 32768), extend("default" = 8192))]
    pub flows: u16,
    /// Fragments of IPv4 packets a second that a guest may send, and half as
    /// many of IPv6's, 2 to 65535. Until a packet is complete its fragments lie
    /// in memory that all share.
    #[schemars(range(min = 2, max = 65535), extend("default" = 50))]
    pub fragments: u16,
    /// Frames a second that a guest may send to everybody or to a group, and
    /// as many of ARP and neighbour discovery, 10 to 65535.
    #[schemars(range(min = 10, max = 65535), extend("default" = 1000))]
    pub broadcasts: u16,
}

impl GuestLimits {
    /// The least and the most of each, by its key.
    pub const RANGES: [(&'static str, u16, u16); 3] =
        [("flows", 16, 32768), ("fragments", 2, u16::MAX), ("broadcasts", 10, u16::MAX)];

    /// Each, in the order of [`GuestLimits::RANGES`].
    pub const fn values(&self) -> [u16; 3] {
        [self.flows, self.fragments, self.broadcasts]
    }
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self { flows: 8192, fragments: 50, broadcasts: 1000 }
    }
}
