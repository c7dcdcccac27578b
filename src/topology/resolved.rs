//! A spec with all that was given written into it: it means the same on a
//! host that has no guests yet.

use crate::spec::HostSpec;

use super::Topology;

/// `spec` with each guest's addresses and MAC, as `topology` has them.
pub fn resolved(spec: &HostSpec, topology: &Topology) -> HostSpec {
    let mut spec = spec.clone();
    for (name, vm) in &mut spec.vms {
        let Some(port) = topology.vm(name).map(|vm| &vm.port) else { continue };
        vm.address = Some(port.address);
        vm.address6 = port.v6.as_ref().map(|v6| v6.address);
        vm.mac = Some(port.mac);
    }
    for namespace in &topology.namespaces {
        let port = &namespace.port;
        let network = spec.networks.get_mut(port.network.as_str());
        let subnet = network.and_then(|network| network.subnets.get_mut(port.subnet.as_str()));
        if let Some(subnet) = subnet {
            subnet.address = Some(port.address);
            subnet.address6 = port.v6.as_ref().map(|v6| v6.address);
        }
    }
    spec
}
