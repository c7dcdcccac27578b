//! What guests were given, and keep: addresses, MACs, interfaces and users
//! stay a guest's as long as it is in the spec, whatever comes and goes
//! around it. A compile takes what the one before gave; what the spec names
//! wins over it, and what doesn't fit any more is given anew.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{IfName, MacAddr, Name, Port, Topology};

/// What the guests of a host have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Of VMs, by name.
    pub vms: BTreeMap<String, Allocation>,
    /// Of subnets' namespaces, by name.
    pub namespaces: BTreeMap<String, Allocation>,
}

/// What one guest has; what isn't known of it is given as to a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The network that it is in.
    pub network: Option<Name>,
    /// Its IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address; also the one that it had before its network's IPv6
    /// was turned off.
    pub address6: Option<Ipv6Addr>,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Its interface on the host.
    pub interface: Option<IfName>,
    /// The user of a VM's QEMU.
    pub uid: Option<u32>,
}

impl Allocation {
    fn of(port: &Port, retained6: Option<Ipv6Addr>, uid: Option<u32>) -> Self {
        Self {
            network: Some(port.network.clone()),
            address: Some(port.address),
            address6: port.v6.as_ref().map(|v6| v6.address).or(retained6),
            mac: Some(port.mac),
            interface: Some(port.interface.clone()),
            uid,
        }
    }

    /// The IPv6 address of before, for a guest in `network`, which has none
    /// now.
    pub(super) fn retained6(&self, network: &Name) -> Option<Ipv6Addr> {
        self.address6.filter(|_| self.network.as_ref() == Some(network))
    }
}

impl Topology {
    /// What its guests have: what the next compile keeps.
    pub fn allocations(&self) -> Allocations {
        let retained = |port: &Port| self.retained6.get(&port.interface).copied();
        let vms = self
            .vms
            .iter()
            .map(|vm| (vm.name.to_string(), Allocation::of(&vm.port, retained(&vm.port), Some(vm.uid))));
        let namespaces = self
            .namespaces
            .iter()
            .map(|one| (one.name.to_string(), Allocation::of(&one.port, retained(&one.port), None)));
        Allocations { vms: vms.collect(), namespaces: namespaces.collect() }
    }
}
