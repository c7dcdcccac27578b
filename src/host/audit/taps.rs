//! TAPs that aren't as they were made, and who can have done that. Whoever
//! holds a TAP's descriptor could change its MAC, owner and the like; QEMU may
//! not ([`crate::confine`]), so one that did wasn't confined. Pure.

use std::collections::BTreeMap;

use crate::firewall::Severity;
use crate::guard::{Attached, Tag};
use crate::link::{self, Tap};
use crate::topology::{MacAddr, Topology, Vm};

use super::{Finding, Kind};

/// What is wrong with the TAPs of `topology`'s VMs.
pub(super) fn taps(topology: &Topology, links: &link::Observed, guard: Option<Tag>) -> Vec<Finding> {
    let guard = guard.map(Attached::Program);
    let desired = link::Desired::new(topology, &[]);
    let macs: BTreeMap<&str, MacAddr> =
        desired.ports.iter().filter_map(|port| Some((port.name.as_str(), port.mac?))).collect();
    let mut findings = Vec::new();
    for vm in &topology.vms {
        let name = vm.port.interface.as_str();
        let Some(link) = links.links.get(name).filter(|link| link.is_ours()) else { continue };
        let Some(tap) = &link.tap else { continue };
        let mut add = |what: &str, found: String, expected: String, live: Option<String>| {
            findings.push(finding(vm, tap, what, found, expected, live));
        };
        if let (Some(found), Some(wanted)) = (link.mac, macs.get(name))
            && found != wanted.octets()
        {
            let live = format!("ip link set {name} address {wanted}");
            add("MAC", owner_of_mac(topology, found), format!("{wanted}, its bridge's"), Some(live));
        }
        if tap.owner != Some(0) {
            let found = tap.owner.map_or_else(|| "anybody".into(), |uid| owner_of_uid(topology, uid));
            add("owner", found, "root".into(), None);
        }
        if let Some(gid) = tap.group.filter(|gid| *gid != 0) {
            add("group", owner_of_uid(topology, gid), "none".into(), None);
        }
        if !tap.persistent {
            let found = "gone with whoever holds it".into();
            add("persistence", found, "there until hostctl removes it".into(), None);
        }
        // One that ends with the guest that has it is the guard's affair until then.
        let judged = guard.is_some() && link.guard == guard;
        if tap.vnet_header && !vm.offload.is_on(guard.is_some()) && !judged {
            let found = "frames carry a virtio header".into();
            add("mode", found, "plain frames".into(), None);
        }
        if tap.several_queues {
            add("mode", "several queues are open".into(), "one queue".into(), None);
        }
    }
    findings
}

fn finding(vm: &Vm, tap: &Tap, what: &str, found: String, expected: String, live: Option<String>) -> Finding {
    let name = vm.port.interface.as_str();
    let who = if tap.attached {
        format!("by root, or by the QEMU of VM {}, user {}, which holds the TAP", vm.name, vm.uid)
    } else {
        "by root, or by who held the TAP last".into()
    };
    let restart = format!("hostctl vm down {} && hostctl apply", vm.name);
    let (remedy, command) = match live {
        Some(command) => ("hostctl audit --repair".into(), command),
        // Only its holder could change it: the next one begins anew.
        None if tap.attached => (format!("{restart}: its QEMU may be in the guest's hands"), restart),
        None => (
            "hostctl audit --repair".into(),
            format!("ip link del {name} && ip tuntap add {name} mode tap user 0"),
        ),
    };
    Finding {
        severity: Severity::Critical,
        kind: Kind::Drift,
        object: format!("{what} of {name}"),
        found: format!("{found}; changed {who}"),
        expected,
        remedy,
        commands: vec![command],
    }
}

fn owner_of_mac(topology: &Topology, mac: [u8; 6]) -> String {
    let text = mac.map(|byte| format!("{byte:02x}")).join(":");
    let ports = topology.vms.iter().map(|vm| (format!("VM {}", vm.name), vm.port.mac));
    let namespaces =
        topology.namespaces.iter().map(|space| (format!("namespace {}", space.name), space.port.mac));
    match ports.chain(namespaces).find(|(_, theirs)| theirs.octets() == mac) {
        Some((whose, _)) => format!("{text}, that of {whose}, whose frames it then gets"),
        None => text,
    }
}

fn owner_of_uid(topology: &Topology, uid: u32) -> String {
    match topology.vms.iter().find(|vm| vm.uid == uid) {
        Some(vm) => format!("{uid}, the user of VM {}", vm.name),
        None => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Link;
    use crate::ownership::LINK_GROUP;
    use crate::topology::test_topology::topology;

    const SPEC: &str = r#"
        [networks.a]
        cidr = "10.1.0.0/24"
        [vms.x]
        network = "a"
        image = "probe"
        [vms.y]
        network = "a"
        image = "probe"
    "#;

    fn findings(mac: Option<[u8; 6]>, tap: Tap) -> Vec<(String, String, String)> {
        let topology = topology(SPEC);
        let bridge = topology.networks[0].mac.octets();
        let mac = mac.map(|mac| if mac == [0; 6] { topology.vms[1].port.mac.octets() } else { mac });
        let link = Link {
            group: LINK_GROUP,
            kind: "tun".into(),
            mac: mac.or(Some(bridge)),
            tap: Some(tap),
            ..Link::default()
        };
        let mut links = link::Observed::default();
        links.links.insert("vm-x".into(), link);
        let found = taps(&topology, &links, None);
        found.into_iter().map(|finding| (finding.object, finding.found, finding.remedy)).collect()
    }

    #[test]
    fn a_neighbours_mac_is_told_with_the_neighbour_and_the_culprit() {
        let held = Tap { attached: true, ..Tap::default() };
        let found = findings(Some([0; 6]), held);
        let [(object, found, remedy)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((object.as_str(), remedy.as_str()), ("MAC of vm-x", "hostctl audit --repair"));
        assert!(found.contains("that of VM y") && found.contains("the QEMU of VM x, user "), "{found}");
    }

    #[test]
    fn what_only_its_holder_can_put_right_needs_another_holder() {
        let bad =
            Tap { owner: Some(5), group: Some(6), persistent: false, vnet_header: true, ..Tap::default() };
        let objects = |tap: &Tap| {
            findings(None, tap.clone())
                .into_iter()
                .map(|(object, _, remedy)| (object, remedy))
                .collect::<Vec<_>>()
        };
        let held = objects(&Tap { attached: true, ..bad.clone() });
        assert_eq!(held.len(), 4);
        assert!(held.iter().all(|(_, remedy)| remedy.starts_with("hostctl vm down x")), "{held:?}");
        assert!(objects(&bad).iter().all(|(_, remedy)| remedy == "hostctl audit --repair"));
        assert_eq!(findings(None, Tap::default()), []);
    }
}
