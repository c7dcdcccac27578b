//! What each guest may take of what all share: the host's limits, and those of
//! networks, subnets and VMs that say otherwise.

use std::collections::BTreeMap;

use crate::spec::{self, GuestLimits, LimitOverrides, SpecPath};

use super::compile::Compiler;
use super::{IfName, Namespace, Port, Vm};

impl Compiler<'_> {
    /// The host's own.
    pub(super) fn limits(&mut self) -> GuestLimits {
        let limits = self.spec.host.limits;
        self.check_limits(&SpecPath::keys(["host", "limits"]), limits);
        limits
    }

    /// Those of guests to which something nearer than the host gives others.
    pub(super) fn own_limits(
        &mut self,
        vms: &[Vm],
        namespaces: &[Namespace],
    ) -> BTreeMap<IfName, GuestLimits> {
        let spec = self.spec;
        for (name, network) in &spec.networks {
            self.check_overrides(SpecPath::keys(["networks", name]), &network.limits);
            for (subnet, written) in &network.subnets {
                self.check_overrides(SpecPath::keys(["networks", name, "subnets", subnet]), &written.limits);
            }
        }
        for (name, vm) in &spec.vms {
            self.check_overrides(SpecPath::keys(["vms", name]), &vm.limits);
        }
        let vms = vms.iter().map(|vm| (&vm.port, spec.vms.get(vm.name.as_str()).map(|vm| &vm.limits)));
        let namespaces = namespaces.iter().map(|namespace| (&namespace.port, None));
        let limits = vms.chain(namespaces).map(|(port, own)| {
            let around = around(spec, port);
            (port.interface.clone(), own.map_or(around, |own| around.with(own)))
        });
        limits.filter(|(_, limits)| *limits != spec.host.limits).collect()
    }

    pub(super) fn conntrack_max(&mut self) -> Option<u32> {
        let wanted = self.spec.host.conntrack_max?;
        if !(1024..=100_000_000).contains(&wanted) {
            let path = SpecPath::keys(["host", "conntrack_max"]);
            self.issue(path, format!("{wanted} is out of range"), "between 1024 and 100000000");
        }
        Some(wanted)
    }

    fn check_overrides(&mut self, path: SpecPath, overrides: &LimitOverrides) {
        self.check_limits(&path.key("limits"), GuestLimits::default().with(overrides));
    }

    fn check_limits(&mut self, path: &SpecPath, limits: GuestLimits) {
        for (key, value, least, most) in limits.checked() {
            if !(least..=most).contains(&value) {
                let path = path.clone().key(key);
                self.issue(path, format!("{value} is out of range"), format!("between {least} and {most}"));
            }
        }
    }
}

/// What holds for whoever is at a port and says nothing else.
fn around(spec: &spec::HostSpec, port: &Port) -> GuestLimits {
    let network = spec.networks.get(port.network.as_str());
    let subnet = network.and_then(|network| network.subnets.get(port.subnet.as_str()));
    let of_network = network.map_or(spec.host.limits, |network| spec.host.limits.with(&network.limits));
    subnet.map_or(of_network, |subnet| of_network.with(&subnet.limits))
}
