//! What is somebody's already, while a spec is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::ownership::{FOREIGN_UIDS, UIDS};
use crate::spec::SpecPath;

use super::address::{first_free4, first_free6, unusable4, unusable6};
use super::allocation::Allocation;
use super::identity::hash;
use super::{IfName, MacAddr, Name, Network, Subnet};

/// What is somebody's already.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) v4: BTreeSet<Ipv4Addr>,
    pub(super) v6: BTreeSet<Ipv6Addr>,
    pub(super) macs: BTreeSet<MacAddr>,
    uids: BTreeSet<u32>,
    /// What the spec gives away by name: whose it is, and the key that says so.
    pub(super) given: BTreeMap<String, (String, SpecPath)>,
    /// What guests keep, which is nobody else's: VMs by name.
    pub(super) vms: BTreeMap<String, Allocation>,
    /// Namespaces by name.
    pub(super) namespaces: BTreeMap<String, Allocation>,
    /// IPv6 addresses of guests whose network has no IPv6 now, by interface.
    pub(super) retained6: BTreeMap<IfName, Ipv6Addr>,
    /// Below these, a prefix has no free address any more.
    next4: BTreeMap<Ipv4Net, Ipv4Addr>,
    next6: BTreeMap<Ipv6Net, Ipv6Addr>,
}

impl Taken {
    /// The key that gives away this address or MAC.
    pub(super) fn given(&self, value: &str) -> Option<&SpecPath> {
        self.given.get(value).map(|(_, path)| path)
    }

    /// Whether `address` was nobody's until now.
    pub(super) fn claim4(&mut self, address: Ipv4Addr) -> bool {
        self.v4.insert(address)
    }

    /// Whether `address` was nobody's until now.
    pub(super) fn claim6(&mut self, address: Ipv6Addr) -> bool {
        self.v6.insert(address)
    }

    /// Whether `mac` was nobody's until now.
    pub(super) fn claim_mac(&mut self, mac: MacAddr) -> bool {
        self.macs.insert(mac)
    }

    /// Takes what a guest had before, as far as it fits where the guest is
    /// now and nobody else has it; `named` is what the spec gives it.
    pub(super) fn keep(
        &mut self,
        before: &Allocation,
        (network, subnet): (&Network, &Subnet),
        named: &Allocation,
    ) -> Allocation {
        let usable4 = |address: &Ipv4Addr| {
            unusable4(*address, network.cidr, network.gateway).is_none()
                && unusable4(*address, subnet.cidr, network.gateway).is_none()
        };
        let usable6 = |address: &Ipv6Addr| match (subnet.cidr6, network.gateway6) {
            (Some(net), Some(gateway)) => unusable6(*address, net, gateway).is_none(),
            _ => false,
        };
        let uid = before.uid.filter(|uid| is_guests(*uid));
        Allocation {
            network: before.network.clone(),
            address: before
                .address
                .filter(|address| named.address.is_none() && usable4(address) && self.v4.insert(*address)),
            address6: match subnet.cidr6 {
                Some(_) => before.address6.filter(|address| {
                    named.address6.is_none() && usable6(address) && self.v6.insert(*address)
                }),
                None => before.retained6(&network.name),
            },
            mac: before.mac.filter(|mac| named.mac.is_none() && self.macs.insert(*mac)),
            interface: before.interface.clone(),
            uid: uid.filter(|uid| self.uids.insert(*uid)),
        }
    }

    pub(super) fn free4(&mut self, net: Ipv4Net, gateway: Ipv4Addr) -> Option<Ipv4Addr> {
        self.v4.insert(gateway);
        let from = self.next4.get(&net).copied().unwrap_or(net.network());
        let free = first_free4(net, from, &self.v4)?;
        self.v4.insert(free);
        self.next4.insert(net, free);
        Some(free)
    }

    pub(super) fn free6(&mut self, net: Ipv6Net, gateway: Ipv6Addr) -> Option<Ipv6Addr> {
        self.v6.insert(gateway);
        let from = self.next6.get(&net).copied().unwrap_or(net.network());
        let free = first_free6(net, from, &self.v6)?;
        self.v6.insert(free);
        self.next6.insert(net, free);
        Some(free)
    }

    /// A user of the VM's own: the one that it keeps; else the name decides,
    /// unless another name's hash took the same one.
    pub(super) fn uid(&mut self, name: &Name) -> u32 {
        if let Some(kept) = self.vms.get(name.as_str()).and_then(|kept| kept.uid) {
            return kept;
        }
        // The range begins at a multiple of its size, a power of two.
        let first = *UIDS.start();
        let mut seed = hash(name.as_str());
        loop {
            let [.., a, b, c, d] = seed.to_be_bytes();
            let uid = first | (u32::from_be_bytes([a, b, c, d]) & (UIDS.end() - first));
            if is_guests(uid) && self.uids.insert(uid) {
                return uid;
            }
            seed = hash(&format!("{name}:{seed}"));
        }
    }
}

/// Whether a user id is one that a guest may have.
fn is_guests(uid: u32) -> bool {
    UIDS.contains(&uid) && !FOREIGN_UIDS.contains(&uid)
}
