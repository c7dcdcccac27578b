//! What a compile gave that guests didn't have before: addresses that are new,
//! and whatever moves, with the reason.

use std::fmt;

use crate::spec::{self, HostSpec};

use super::address::{unusable4, unusable6};
use super::{Allocation, Allocations, Network, Port, Subnet, Topology};

/// Something that a guest hasn't had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which guest: `vm NAME` or `namespace NAME`.
    pub guest: String,
    /// What of it.
    pub what: Given,
    /// What it was; none where the guest, or its IPv6, is new.
    pub from: Option<String>,
    /// What it is.
    pub to: String,
    /// Why it doesn't stay what it was; empty where it is new.
    pub why: String,
}

/// What a guest is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// An IPv4 address.
    Address,
    /// An IPv6 address.
    Address6,
    /// A MAC.
    Mac,
    /// An interface on the host.
    Interface,
    /// The user that its QEMU runs as.
    User,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Given::Address | Given::Address6 => "",
            Given::Mac => "MAC ",
            Given::Interface => "interface ",
            Given::User => "user ",
        };
        match &self.from {
            None => write!(f, "{}: {what}{} (new)", self.guest, self.to),
            Some(from) => write!(f, "{}: {what}{from} -> {} ({})", self.guest, self.to, self.why),
        }
    }
}

/// What the guests of `topology`, which is what `spec` says, have that they
/// didn't have `before`.
pub fn moves(before: &Allocations, spec: &HostSpec, topology: &Topology) -> Vec<Move> {
    let vms = topology.vms.iter().map(|vm| Guest {
        name: format!("vm {}", vm.name),
        port: &vm.port,
        uid: Some(vm.uid),
        had: before.vms.get(vm.name.as_str()),
        named: spec
            .vms
            .get(vm.name.as_str())
            .map_or([false; 3], |vm| [vm.address.is_some(), vm.address6.is_some(), vm.mac.is_some()]),
    });
    let namespaces = topology.namespaces.iter().map(|one| Guest {
        name: format!("namespace {}", one.name),
        port: &one.port,
        uid: None,
        had: before.namespaces.get(one.name.as_str()),
        named: subnet(spec, &one.port)
            .map_or([false; 3], |subnet| [subnet.address.is_some(), subnet.address6.is_some(), false]),
    });
    vms.chain(namespaces).flat_map(|guest| guest.moves(topology)).collect()
}

struct Guest<'a> {
    name: String,
    port: &'a Port,
    uid: Option<u32>,
    had: Option<&'a Allocation>,
    /// Whether the spec names its address, IPv6 address and MAC.
    named: [bool; 3],
}

const NAMED: &str = "the spec names it";
/// Of a rollback: nothing else is in the way of what a guest has.
const EARLIER: &str = "it had it then";

impl Guest<'_> {
    fn moves(&self, topology: &Topology) -> Vec<Move> {
        let (port, none) = (self.port, Allocation::default());
        let had = self.had.unwrap_or(&none);
        let [named4, named6, named_mac] = self.named;
        let address = self.moved(Given::Address, had.address, port.address, |old| {
            let unusable = || {
                let (network, subnet) = place(topology, port)?;
                unusable4(old, network.cidr, network.gateway)
                    .or_else(|| unusable4(old, subnet.cidr, network.gateway))
            };
            why(topology, named4, |port| port.address == old, unusable)
        });
        let address6 = port.v6.as_ref().and_then(|v6| {
            self.moved(Given::Address6, had.address6, v6.address, |old| {
                let unusable = || {
                    let (network, subnet) = place(topology, port)?;
                    unusable6(old, subnet.cidr6?, network.gateway6?)
                };
                let has = |port: &Port| port.v6.as_ref().is_some_and(|v6| v6.address == old);
                why(topology, named6, has, unusable)
            })
        });
        // What follows from its name is nothing new.
        let mac = had.mac.and_then(|mac| {
            self.moved(Given::Mac, Some(mac), port.mac, |old| {
                why(topology, named_mac, |port| port.mac == old, || None)
            })
        });
        let interface = had.interface.as_ref().and_then(|interface| {
            self.moved(Given::Interface, Some(interface), &port.interface, |old| {
                why(topology, false, |port| port.interface == *old, || None)
            })
        });
        let user = had.uid.zip(self.uid).and_then(|(from, to)| {
            self.moved(Given::User, Some(from), to, |_| "it is another's now, or no guest's".into())
        });
        [address, address6, mac, interface, user].into_iter().flatten().collect()
    }

    /// From what to what, where that isn't the same, and why it doesn't stay.
    fn moved<T: PartialEq + Clone + fmt::Display>(
        &self,
        what: Given,
        from: Option<T>,
        to: T,
        why: impl FnOnce(T) -> String,
    ) -> Option<Move> {
        if from.as_ref() == Some(&to) {
            return None;
        }
        let why = from.clone().map(why).unwrap_or_default();
        let from = from.map(|from| from.to_string());
        Some(Move { guest: self.name.clone(), what, from, to: to.to_string(), why })
    }
}

fn subnet<'s>(spec: &'s HostSpec, port: &Port) -> Option<&'s spec::Subnet> {
    spec.networks.get(port.network.as_str())?.subnets.get(port.subnet.as_str())
}

/// Why a guest doesn't have what it had.
fn why(
    topology: &Topology,
    named: bool,
    has: impl Fn(&Port) -> bool,
    unusable: impl FnOnce() -> Option<String>,
) -> String {
    if named {
        return NAMED.into();
    }
    let owner = owner(topology, has).map(|owner| format!("that is {owner}'s now"));
    owner.or_else(unusable).unwrap_or_else(|| EARLIER.into())
}

/// Whose port that is, as `vm NAME` or `namespace NAME`.
fn owner(topology: &Topology, is: impl Fn(&Port) -> bool) -> Option<String> {
    let vm = topology.vms.iter().find(|vm| is(&vm.port)).map(|vm| format!("vm {}", vm.name));
    vm.or_else(|| {
        let namespace = topology.namespaces.iter().find(|one| is(&one.port));
        namespace.map(|one| format!("namespace {}", one.name))
    })
}

fn place<'t>(topology: &'t Topology, port: &Port) -> Option<(&'t Network, &'t Subnet)> {
    let network = topology.network(&port.network)?;
    Some((network, network.subnets.iter().find(|subnet| subnet.name == port.subnet)?))
}
