//! The sets of hostctl's tables: what each is called, where it is, what its
//! elements are, and what one more or less of them opens. The template defines
//! exactly these.

use std::collections::BTreeMap;

use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};

use crate::ownership::{BRIDGE, INET};

/// A set, or a map to verdicts, that every host's tables have; its name is the
/// variant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the template has a comment on each")]
pub enum Set {
    Ports,
    Guarded,
    PortMac,
    PortMacIp4,
    PortMacIp6,
    PortTarget,
    GroupRate,
    NeighbourRate,
    FragmentRate4,
    FragmentRate6,
    Bridges,
    Uplinks,
    Opened,
    Closed,
    Tailnet,
    Pairs,
    Tailscale,
    ImdsHost,
    Guest4,
    Guest6,
    Own4,
    Own6,
    Gateway4,
    Gateway6,
    Net4,
    Net6,
    Public4,
    Public6,
    Exits,
    Closed4,
    Closed6,
    Denied4,
    Denied6,
    Lan4,
    Lan6,
    Resolvers4,
    Resolvers6,
    Metadata4,
    Metadata6,
    Imds4,
    Imds6,
    Ingress4,
    Ingress6,
    Egress4,
    Egress6,
    Receivers,
    OpenPorts,
    OpenPorts4,
    OpenPorts6,
    NewFlows,
    Flows,
    PortShare,
    PortShare6,
    LogRate,
}

/// Which direction of a difference of a set's elements opens something. The
/// other one breaks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum Opens {
    /// An element more is somebody who may.
    Added,
    /// An element less is somebody who isn't judged any more.
    Removed,
    /// Both.
    Either,
    /// None: it only breaks something.
    Neither,
}

/// Where a set's elements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum FilledBy {
    /// From the topology: a [`Ruleset`](super::ruleset::Ruleset) has them.
    Topology,
    /// From the template: they are the same on every host.
    Template,
    /// From packets, as they pass.
    Packets,
}

/// How a set is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) struct Definition {
    /// The families whose table has one.
    pub families: &'static [&'static str],
    /// `set`, or `map`.
    pub keyword: &'static str,
    /// The statement that says what its elements are.
    pub kind: &'static str,
    /// The other statements, in order.
    pub properties: &'static [&'static str],
    /// Where its elements come from.
    pub filled_by: FilledBy,
    /// Whether only a table has it that guards the whole host.
    pub full: bool,
    /// What one element more or less opens.
    pub opens: Opens,
}

const INTERVAL: &[&str] = &["flags interval"];

impl Definition {
    const fn new(families: &'static [&'static str], kind: &'static str, opens: Opens) -> Self {
        let (keyword, properties, filled_by) = ("set", [].as_slice(), FilledBy::Topology);
        Self { families, keyword, kind, properties, filled_by, full: false, opens }
    }

    const fn bridge(kind: &'static str, opens: Opens) -> Self {
        Self::new(&[BRIDGE], kind, opens)
    }

    const fn inet(kind: &'static str, opens: Opens) -> Self {
        Self::new(&[INET], kind, opens)
    }

    const fn map(kind: &'static str, opens: Opens) -> Self {
        Self { keyword: "map", ..Self::inet(kind, opens) }
    }

    const fn with(self, properties: &'static [&'static str]) -> Self {
        Self { properties, ..self }
    }

    const fn filled_by(self, filled_by: FilledBy) -> Self {
        Self { filled_by, ..self }
    }

    const fn in_full(self) -> Self {
        Self { full: true, ..self }
    }
}

/// The most elements of a set that one command has.
///
/// nft 1.0.6 puts 64 KiB of elements into a message; the one that doesn't fit any
/// more it encodes a second time, and the kernel's number of a link in a
/// concatenation then has its bytes in the other order: the guests of that subnet
/// would go nowhere. 256 elements are at most 40 KiB.
pub(in crate::firewall) fn most_at_once(set: &str) -> usize {
    let has_index = |set: Set| set.definition().kind.contains("iface_index .");
    if set.parse::<Set>().is_ok_and(has_index) { 256 } else { usize::MAX }
}

impl Set {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// How it is defined.
    pub(in crate::firewall) const fn definition(self) -> Definition {
        use FilledBy::{Packets, Template};
        use Opens::{Added, Either, Neither, Removed};
        match self {
            Self::Ports => Definition::new(&[BRIDGE, INET], "type ifname", Removed),
            Self::Guarded => Definition::bridge("type ifname", Removed),
            Self::PortMac => Definition::bridge("type ifname . ether_addr", Added),
            Self::PortMacIp4 => Definition::bridge("type ifname . ether_addr . ipv4_addr", Added),
            Self::PortMacIp6 => Definition::bridge("type ifname . ether_addr . ipv6_addr", Added),
            Self::PortTarget => Definition::bridge("typeof iifname . @th,64,128", Added),
            Self::GroupRate | Self::NeighbourRate => {
                Definition::bridge("type ifname", Removed).with(&["limit rate over 1000/second"])
            }
            Self::FragmentRate4 => {
                Definition::bridge("type ifname", Removed).with(&["limit rate over 50/second"])
            }
            Self::FragmentRate6 => {
                Definition::bridge("type ifname", Removed).with(&["limit rate over 25/second"])
            }
            Self::Bridges | Self::Opened | Self::Receivers => Definition::inet("type ifname", Removed),
            Self::Uplinks => Definition::inet("type ifname", Neither),
            Self::Closed => Definition::inet("type nf_proto", Removed),
            Self::Tailnet | Self::Tailscale | Self::ImdsHost => Definition::inet("type ifname", Added),
            Self::Pairs => Definition::inet("type ifname . ifname", Added),
            Self::Guest4 | Self::Gateway4 => Definition::inet("type ifname . ipv4_addr", Added),
            Self::Guest6 | Self::Gateway6 => Definition::inet("type ifname . ipv6_addr", Added),
            Self::Own4 => Definition::inet("type ipv4_addr . ipv4_addr", Added),
            Self::Own6 => Definition::inet("type ipv6_addr . ipv6_addr", Added),
            Self::Net4 | Self::Closed4 | Self::Denied4 => {
                Definition::inet("type ipv4_addr", Removed).with(INTERVAL)
            }
            Self::Net6 | Self::Closed6 | Self::Denied6 => {
                Definition::inet("type ipv6_addr", Removed).with(INTERVAL)
            }
            Self::Public4 => Definition::inet("type ifname . iface_index . ipv4_addr", Added).with(INTERVAL),
            Self::Public6 => Definition::inet("type ifname . iface_index . ipv6_addr", Added).with(INTERVAL),
            Self::Exits => Definition::inet("type iface_index", Added),
            Self::Lan4 => Definition::inet("type ifname . ipv4_addr", Added).with(INTERVAL),
            Self::Lan6 => Definition::inet("type ifname . ipv6_addr", Added).with(INTERVAL),
            Self::Resolvers4 => Definition::inet("type ipv4_addr", Added),
            Self::Resolvers6 => Definition::inet("type ipv6_addr", Added),
            Self::Metadata4 => Definition::inet("type ipv4_addr", Removed).with(INTERVAL).filled_by(Template),
            Self::Metadata6 => Definition::inet("type ipv6_addr", Removed).with(INTERVAL).filled_by(Template),
            Self::Imds4 => Definition::inet("type ipv4_addr", Added).filled_by(Template),
            Self::Imds6 => Definition::inet("type ipv6_addr", Added).filled_by(Template),
            // What a policy's chain allows, or what it denies.
            Self::Ingress4 | Self::Egress4 => Definition::map("type ifname . ipv4_addr : verdict", Either),
            Self::Ingress6 | Self::Egress6 => Definition::map("type ifname . ipv6_addr : verdict", Either),
            Self::OpenPorts => Definition::inet("type inet_proto . inet_service", Added).in_full(),
            Self::OpenPorts4 => {
                Definition::inet("type inet_proto . inet_service . ipv4_addr", Added).with(INTERVAL).in_full()
            }
            Self::OpenPorts6 => {
                Definition::inet("type inet_proto . inet_service . ipv6_addr", Added).with(INTERVAL).in_full()
            }
            Self::NewFlows => {
                Definition::inet("type ifname . ether_addr", Added).with(&["limit rate 500/second"])
            }
            Self::Flows => Definition::inet("type ifname . ether_addr", Added).with(&["ct count 4096"]),
            Self::PortShare => Definition::map("type ipv4_addr : verdict", Removed),
            Self::PortShare6 => Definition::map("type ipv6_addr : verdict", Removed),
            Self::LogRate => Definition::inet("type ifname . ether_addr", Neither)
                .with(&["size 16384", "flags dynamic, timeout", "timeout 1m"])
                .filled_by(Packets),
        }
    }
}

/// A set of one direction of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(in crate::firewall) enum PolicySet {
    Ports4,
    Ports6,
    Protocols4,
    Protocols6,
}

impl PolicySet {
    /// Its name, of a policy's chain.
    pub fn name(self, chain: &str) -> String {
        let suffix: &str = self.into();
        format!("{chain}_{suffix}")
    }

    /// The chain that a set of this name is of.
    pub fn chain(name: &str) -> Option<&str> {
        let (chain, suffix) = name.rsplit_once('_')?;
        suffix.parse::<Self>().is_ok().then_some(chain)
    }

    /// Which one of some chain's a set of this name is.
    pub fn named(name: &str) -> Option<Self> {
        name.rsplit_once('_')?.1.parse().ok()
    }

    /// The statement that says what its elements are; all are intervals.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Ports4 => "type ipv4_addr . inet_proto . inet_service",
            Self::Ports6 => "type ipv6_addr . inet_proto . inet_service",
            Self::Protocols4 => "type ipv4_addr . inet_proto",
            Self::Protocols6 => "type ipv6_addr . inet_proto",
        }
    }
}

/// A set's elements, in nft's notation.
pub(in crate::firewall) type Elements = Vec<String>;

/// The elements of each set that has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firewall) struct ElementsBySet<S: Ord>(BTreeMap<S, Elements>);

impl<S: Ord> Default for ElementsBySet<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S: Ord> From<BTreeMap<S, Elements>> for ElementsBySet<S> {
    fn from(mut sets: BTreeMap<S, Elements>) -> Self {
        sets.retain(|_, elements| !elements.is_empty());
        Self(sets)
    }
}

impl<S: Ord + Copy + IntoEnumIterator + Into<&'static str>> ElementsBySet<S> {
    /// Every set's name and elements, where it has none too.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        S::iter().map(|set| (set.into(), self.of(&set)))
    }
}

impl<S: Ord> ElementsBySet<S> {
    /// A set's elements.
    pub fn of(&self, set: &S) -> &[String] {
        self.0.get(set).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds an element to a set.
    pub fn add(&mut self, set: S, element: String) {
        self.0.entry(set).or_default().push(element);
    }

    /// Adds elements to a set.
    pub fn extend(&mut self, set: S, elements: impl IntoIterator<Item = String>) {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_some() {
            self.0.entry(set).or_default().extend(elements);
        }
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
