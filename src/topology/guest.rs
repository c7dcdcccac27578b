//! Each VM of the spec → its port and machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::Ipv6Net;

use crate::ownership::TAP_PREFIX;
use crate::spec::{self, SpecPath};

use super::address::{unusable4, unusable6};
use super::allocation::{Allocation, Allocations};
use super::compile::Compiler;
use super::identity::{derive_mac, hash, link_local};
use super::taken::Taken;
use super::{
    Arch, Disk, IfName, Image, ImageFiles, Machine, Name, NamespaceName, Network, Port, PortV6, Subnet,
    VOLUMES_MAX, Vm,
};

impl Compiler<'_> {
    /// What the spec gives away by name.
    pub(super) fn explicit(&mut self, networks: &[Network]) -> Taken {
        let mut all = Taken::default();
        let taken = &mut all;
        for (key, vm) in &self.spec.vms {
            let path = SpecPath::keys(["vms", key]);
            let owner = format!("the VM {key}");
            if let Some(address) = vm.address {
                let fresh = taken.v4.insert(address);
                self.give(taken, (path.clone().key("address"), &owner), address.to_string(), fresh);
            }
            if let Some(address) = vm.address6 {
                let fresh = taken.v6.insert(address);
                self.give(taken, (path.clone().key("address6"), &owner), address.to_string(), fresh);
            }
            if let Some(mac) = vm.mac {
                let fresh = taken.macs.insert(mac);
                self.give(taken, (path.clone().key("mac"), &owner), mac.to_string(), fresh);
            }
        }
        for (network, written) in &self.spec.networks {
            for (key, subnet) in &written.subnets {
                let path = SpecPath::keys(["networks", network, "subnets", key]);
                let owner = format!("the namespace {network}-{key}");
                if let Some(address) = subnet.address {
                    let fresh = taken.v4.insert(address);
                    self.give(taken, (path.clone().key("address"), &owner), address.to_string(), fresh);
                }
                if let Some(address) = subnet.address6 {
                    let fresh = taken.v6.insert(address);
                    self.give(taken, (path.clone().key("address6"), &owner), address.to_string(), fresh);
                }
            }
        }
        // Gateways are nobody else's. After what the spec names: who names one is
        // told so where addresses are checked, in better words than "taken".
        taken.macs.extend(networks.iter().map(|network| network.mac));
        taken.v4.extend(networks.iter().map(|network| network.gateway));
        taken.v6.extend(networks.iter().filter_map(|network| network.gateway6));
        all
    }

    /// Writes down that the key at `place` gives `value` to the owner named; an
    /// issue where it was somebody's already.
    fn give(&mut self, taken: &mut Taken, place: (SpecPath, &str), value: String, fresh: bool) {
        let (path, owner) = place;
        if fresh {
            taken.given.insert(value, (owner.into(), path));
            return;
        }
        let first = taken.given.get(&value).map_or("somebody", |(owner, _)| owner);
        let message = format!("{value} is {first}'s already");
        self.issue(path, message, "give each guest its own");
    }

    /// What guests had before and keep: before anybody new is given anything.
    pub(super) fn keep(&self, networks: &[Network], before: &Allocations, taken: &mut Taken) {
        for (key, vm) in &self.spec.vms {
            let Some(had) = before.vms.get(key) else { continue };
            let network = networks.binary_search_by(|network| network.name.cmp(&vm.network));
            let network = network.ok().and_then(|index| networks.get(index));
            let Some((network, subnet)) = network.and_then(|network| Some((network, place(vm, network)?)))
            else {
                continue;
            };
            let named =
                Allocation { address: vm.address, address6: vm.address6, mac: vm.mac, ..Default::default() };
            let kept = taken.keep(had, (network, subnet), &named);
            taken.vms.insert(key.clone(), kept);
        }
        for network in networks {
            for subnet in &network.subnets {
                let name = String::from(NamespaceName::of(&network.name, &subnet.name));
                if let Some(had) =
                    before.namespaces.get(&name).filter(|_| self.has_namespace(network, subnet))
                {
                    let named = self.namespace_named(network, subnet);
                    let kept = taken.keep(had, (network, subnet), &named);
                    taken.namespaces.insert(name, kept);
                }
            }
        }
    }

    /// Each VM, in the order of names, which is that in which new ones are given
    /// addresses. One that can't be is left out, so that what follows from it
    /// isn't reported too.
    pub(super) fn vms(&mut self, networks: &[Network], dns: &[IpAddr], taken: &mut Taken) -> Vec<Vm> {
        let mut vms = Vec::new();
        for (key, vm) in &self.spec.vms {
            let path = SpecPath::keys(["vms", key]);
            let name = self.name(&path, key);
            let image = self.image(&path, vm);
            let (arch, machine) = self.machine(&path, vm);
            self.check_vm(&path, vm);
            let network_path = path.clone().key("network");
            if !self.reference(network_path, "network", &vm.network, &self.spec.networks) {
                continue;
            }
            let network = networks.binary_search_by(|network| network.name.cmp(&vm.network));
            let network = network.ok().and_then(|index| networks.get(index));
            let (Some(name), Some(network)) = (name, network) else { continue };
            let Some(port) = self.port(&path, &name, vm, network, taken) else { continue };
            let Some(image) = image else { continue };
            vms.push(Vm {
                uid: taken.uid(&name),
                port,
                dns: dns.to_vec(),
                vcpus: vm.vcpus,
                memory: vm.memory.mebibytes(),
                image,
                volumes: vm.volumes.iter().map(disk).collect(),
                io_uring: vm.io_uring,
                arch,
                machine,
                accel: vm.accel,
                offload: vm.offload,
                cmdline: vm.cmdline.clone(),
                autostart: vm.autostart,
                restart: vm.restart,
                supervisor: vm.supervisor,
                name,
            });
        }
        vms
    }

    fn image(&mut self, path: &SpecPath, vm: &spec::Vm) -> Option<Image> {
        let boots = vm.disk.as_ref().map(|disk| disk.path.as_path());
        let files = [("kernel", vm.kernel.as_deref()), ("initrd", vm.initrd.as_deref()), ("disk", boots)];
        let files = files.into_iter().filter_map(|(field, file)| {
            let path = path.clone().key(field);
            Some((if field == "disk" { path.key("path") } else { path }, file?))
        });
        let volumes =
            vm.volumes.iter().enumerate().map(|(index, disk)| {
                (path.clone().key("volumes").index(index).key("path"), disk.path.as_path())
            });
        for (path, file) in files.chain(volumes).collect::<Vec<_>>() {
            if !file.is_absolute() {
                self.issue(path, "the path isn't absolute", "begin it with /");
            } else if has_control(file) {
                self.issue(path, "the path has a control character in it", "rename the file");
            }
        }
        let files = vm.kernel.is_some() || vm.initrd.is_some() || vm.disk.is_some();
        match &vm.image {
            Some(_) if files => {
                let hint = "keep image = \"…\", or kernel, initrd and disk";
                self.issue(path.clone().key("image"), "an image and files of its own: one of them", hint);
                None
            }
            Some(image) => Some(Image::Named(image.clone())),
            None if vm.kernel.is_none() && vm.disk.is_none() => {
                let hint = "name an image = \"…\", a kernel, or a disk";
                self.consequence(path.clone(), "nothing to boot", hint);
                None
            }
            None if vm.initrd.is_some() && vm.kernel.is_none() => {
                let hint = "name the kernel that it belongs to";
                self.consequence(path.clone().key("initrd"), "an initrd without a kernel", hint);
                None
            }
            None => Some(Image::Files(ImageFiles {
                kernel: vm.kernel.clone(),
                initrd: vm.initrd.clone(),
                disk: vm.disk.as_ref().map(disk),
            })),
        }
    }

    fn machine(&mut self, path: &SpecPath, vm: &spec::Vm) -> (Arch, Machine) {
        let arch = vm.arch.unwrap_or(Arch::NATIVE);
        let (default, allowed) = match arch {
            Arch::X86_64 => (Machine::Q35, [Machine::Q35, Machine::Microvm].as_slice()),
            Arch::Aarch64 => (Machine::Virt, [Machine::Virt].as_slice()),
        };
        let machine = vm.machine.unwrap_or(default);
        if !allowed.contains(&machine) {
            let hint = match arch {
                Arch::X86_64 => "x86_64 has q35 and microvm",
                Arch::Aarch64 => "aarch64 has virt",
            };
            self.consequence(path.clone().key("machine"), format!("{arch} has no such machine type"), hint);
        }
        if machine == Machine::Microvm && vm.image.is_none() && vm.kernel.is_none() && vm.disk.is_some() {
            let hint = "name a kernel, or take machine = \"q35\"";
            self.consequence(
                path.clone().key("machine"),
                "a microvm has no firmware to boot a disk with",
                hint,
            );
        }
        (arch, machine)
    }

    fn check_vm(&mut self, path: &SpecPath, vm: &spec::Vm) {
        if !(1..=255).contains(&vm.vcpus) {
            self.issue(path.clone().key("vcpus"), format!("{} virtual CPUs", vm.vcpus), "between 1 and 255");
        }
        // The kernel's own limit on x86_64 and aarch64 is 2048, and hostctl adds words.
        if vm.cmdline.len() > 1024 || vm.cmdline.chars().any(char::is_control) {
            let hint = "at most 1024 bytes of printable text";
            self.issue(path.clone().key("cmdline"), "not a kernel command line", hint);
        }
        if vm.volumes.len() > VOLUMES_MAX {
            let hint = format!("at most {VOLUMES_MAX}");
            self.issue(path.clone().key("volumes"), format!("{} volumes", vm.volumes.len()), &hint);
        }
    }

    fn port(
        &mut self,
        path: &SpecPath,
        name: &Name,
        vm: &spec::Vm,
        network: &Network,
        taken: &mut Taken,
    ) -> Option<Port> {
        let subnet = self.subnet(path, vm, network)?;
        let kept = taken.vms.get(name.as_str()).cloned().unwrap_or_default();
        let address = kept.address.or_else(|| self.address4(path, vm, network, subnet, taken));
        let mac = vm.mac.or(kept.mac).unwrap_or_else(|| derive_mac("vm", name.as_str()));
        if vm.mac.or(kept.mac).is_none() && !taken.claim_mac(mac) {
            let hint = "name a mac for one of the two, or rename it";
            self.issue(path.clone(), format!("its derived MAC {mac} is another's already"), hint);
        } else if vm.mac == Some(network.mac) {
            self.issue(path.clone().key("mac"), format!("{mac} is its gateway's"), "take another one");
        }
        let v6 = match (network.gateway6, subnet.cidr6) {
            (Some(gateway), Some(net)) => {
                let address = kept.address6.or_else(|| self.address6(path, vm, net, gateway, taken))?;
                let prefix = network.cidr6?.prefix_len();
                Some(PortV6 { address, prefix, gateway, link_local: link_local(mac) })
            }
            _ => {
                if vm.address6.is_some() {
                    let hint = "give the network (and the subnet, where it has some) a cidr6";
                    self.consequence(path.clone().key("address6"), "its network has no IPv6 here", hint);
                }
                None
            }
        };
        let (interface, altname) = interface(TAP_PREFIX, name.as_str(), &kept);
        if let (None, Some(address)) = (&v6, kept.address6) {
            taken.retained6.insert(interface.clone(), address);
        }
        Some(Port {
            interface,
            altname,
            network: network.name.clone(),
            subnet: subnet.name.clone(),
            bridge: network.bridge.clone(),
            mac,
            address: address?,
            prefix: network.cidr.prefix_len(),
            gateway: network.gateway,
            v6,
        })
    }

    fn subnet<'n>(&mut self, path: &SpecPath, vm: &spec::Vm, network: &'n Network) -> Option<&'n Subnet> {
        if let Some(found) = place(vm, network) {
            return Some(found);
        }
        let path = path.clone().key("subnet");
        match (&vm.subnet, network.subnets.as_slice()) {
            (None, several) => {
                let names: Vec<_> = several.iter().take(8).map(|subnet| subnet.name.to_string()).collect();
                let message = format!("network {} has several subnets", network.name);
                self.consequence(path, message, format!("name one with subnet = …: {}", names.join(", ")));
                None
            }
            (Some(name), subnets) => {
                let known: BTreeMap<_, _> =
                    subnets.iter().map(|subnet| (subnet.name.to_string(), subnet)).collect();
                self.reference(path, "subnet", name, &known);
                None
            }
        }
    }

    fn address4(
        &mut self,
        path: &SpecPath,
        vm: &spec::Vm,
        network: &Network,
        subnet: &Subnet,
        taken: &mut Taken,
    ) -> Option<Ipv4Addr> {
        let net = subnet.cidr;
        let Some(address) = vm.address else {
            let free = taken.free4(net, network.gateway);
            if free.is_none() {
                self.issue(path.clone(), format!("{net} has no free address"), "take a wider prefix");
            }
            return free;
        };
        // The network's own first and last address are nobody's, whatever the subnet.
        let reason = unusable4(address, network.cidr, network.gateway)
            .or_else(|| unusable4(address, net, network.gateway));
        if let Some(reason) = reason {
            self.issue(path.clone().key("address"), reason, format!("take a host address of {net}"));
            return None;
        }
        Some(address)
    }

    fn address6(
        &mut self,
        path: &SpecPath,
        vm: &spec::Vm,
        net: Ipv6Net,
        gateway: Ipv6Addr,
        taken: &mut Taken,
    ) -> Option<Ipv6Addr> {
        let Some(address) = vm.address6 else {
            let free = taken.free6(net, gateway);
            if free.is_none() {
                self.issue(path.clone(), format!("{net} has no free address"), "take a wider prefix");
            }
            return free;
        };
        if let Some(reason) = unusable6(address, net, gateway) {
            self.issue(path.clone().key("address6"), reason, format!("take a host address of {net}"));
            return None;
        }
        Some(address)
    }
}

/// The subnet that a VM is in, where that is clear.
fn place<'n>(vm: &spec::Vm, network: &'n Network) -> Option<&'n Subnet> {
    match (&vm.subnet, network.subnets.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), subnets) => subnets.iter().find(|subnet| &subnet.name == name),
    }
}

/// The interface that a guest has, or would have as a new one, and its full
/// name where that is longer.
pub(super) fn interface(prefix: &'static str, name: &str, kept: &Allocation) -> (IfName, Option<String>) {
    let (derived, altname) = IfName::derive(prefix, name, hash(name));
    match &kept.interface {
        Some(kept) if *kept != derived => {
            let full = format!("{prefix}{name}");
            (kept.clone(), (full != kept.as_str()).then_some(full))
        }
        _ => (derived, altname),
    }
}

fn disk(disk: &spec::Disk) -> Disk {
    Disk { path: disk.path.clone(), format: disk.format, read_only: disk.read_only }
}

/// No file's name needs one, and NUL can't be in an argument of QEMU's.
fn has_control(path: &Path) -> bool {
    path.to_string_lossy().chars().any(char::is_control)
}
