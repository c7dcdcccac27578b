//! Which key of the spec decided.

use crate::spec::{HostSpec, SpecPath};
use crate::topology::{Direction, Name};

/// A key of the spec, by what it means: a topology doesn't know the order in
/// which peerings are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A key of `[host]`.
    Host(&'static str),
    /// A key of a network.
    Network(Name, &'static str),
    /// A key of a subnet.
    Subnet(Name, Name, &'static str),
    /// A VM.
    Vm(Name),
    /// The peering of two networks.
    Peering(Name, Name),
    /// A rule of a policy, by its place among those of its direction.
    Rule(Name, Direction, usize),
    /// What a policy says of flows that none of its rules matches.
    Default(Name, Direction),
}

impl Key {
    /// Where `spec` says it. Where it doesn't, because it is the default, the
    /// path is that of a key that isn't written.
    pub fn path(&self, spec: &HostSpec) -> SpecPath {
        match self {
            Self::Host(key) => SpecPath::keys(["host", key]),
            Self::Network(name, key) => SpecPath::keys(["networks", name.as_str(), key]),
            Self::Subnet(network, name, key) => {
                SpecPath::keys(["networks", network.as_str(), "subnets", name.as_str(), key])
            }
            Self::Vm(name) => SpecPath::keys(["vms", name.as_str()]),
            Self::Peering(a, b) => {
                let is = |between: &[Name; 2]| {
                    between == &[a.clone(), b.clone()] || between == &[b.clone(), a.clone()]
                };
                let place = spec.peerings.iter().position(|peering| is(&peering.between));
                let path = SpecPath::keys(["peerings"]);
                place.map_or(path.clone(), |place| path.index(place))
            }
            Self::Rule(policy, direction, index) => {
                SpecPath::keys(["policies", policy.as_str(), direction.as_str()]).index(*index)
            }
            Self::Default(policy, direction) => {
                let explicit =
                    spec.policies.get(policy.as_str()).is_some_and(|policy| policy.default.is_some());
                let key = if explicit { "default" } else { direction.as_str() };
                SpecPath::keys(["policies", policy.as_str(), key])
            }
        }
    }
}
