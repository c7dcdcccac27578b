//! The questions that the model takes, and the form of its answers.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::topology::IfName;

use super::Key;

/// The first packet of a flow, as it meets the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where it meets the host.
    pub entry: Entry,
    /// Who it says that it is from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// The protocol's number (IANA). ICMP and ICMPv6 are echo requests.
    pub protocol: u8,
    /// The destination's port; 0 where the protocol has none.
    pub port: u16,
}

/// Where a packet meets the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A guest's port, by its interface.
    Guest(IfName),
    /// Nowhere: a program of the host's sends it.
    Host,
    /// Any other link: an uplink, the tailnet's interface, a stranger.
    Interface(IfName),
}

/// What becomes of a flow's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It arrives.
    Allowed,
    /// It doesn't, and nobody is told.
    Dropped,
    /// hostctl has no say: it is neither to, from nor through a guest.
    Untouched,
}

/// An answer, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Whether it leaves with the host's own address for its source.
    pub masqueraded: bool,
    /// Where it comes by, in order; the last stage is where it was decided.
    pub way: Vec<Stage>,
}

/// A place on a packet's way through the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which.
    pub place: Checkpoint,
    /// What is found there, for people.
    pub what: String,
    /// The key of the spec that says so.
    pub decided_by: Option<Key>,
    /// Whether the packet passes.
    pub passes: bool,
}

/// Where on its way a packet may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpoint {
    /// A guest's port of its bridge.
    Port,
    /// Before connection tracking: whose address it is.
    Prerouting,
    /// To the host itself.
    Input,
    /// Through the host.
    Forward,
    /// From the host itself.
    Output,
    /// The policy of the guest that sends.
    Egress,
    /// The policy of the guest that receives.
    Ingress,
    /// Where it leaves.
    Postrouting,
}

impl Checkpoint {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Postrouting => "postrouting",
        }
    }
}

/// What the model has to know of the host besides the topology.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vicinity {
    /// The interfaces that lead to the internet.
    pub uplinks: Vec<IfName>,
    /// The host's own addresses, without those of hostctl's bridges.
    pub addresses: Vec<(IfName, IpAddr)>,
    /// Its routes, without those of hostctl's bridges; the longest prefix wins.
    pub routes: Vec<(IpNet, IfName)>,
    /// The interfaces that IPv4 packets were not forwarded from before hostctl
    /// turned that on.
    pub opened: Vec<IfName>,
    /// Whether the host didn't forward IPv6 before hostctl turned that on.
    pub closed6: bool,
    /// The prefixes of the uplinks themselves.
    pub on_link: Vec<IpNet>,
}
