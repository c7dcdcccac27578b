//! The host as hostctl will build it: every name, address, MAC and port
//! fixed. Pure and deterministic: the same spec gives the same topology on
//! every machine and at every apply.

mod address;
mod allocation;
mod app;
mod compile;
mod difference;
mod fold;
#[cfg(test)]
mod fold_tests;
mod guest;
mod identity;
#[cfg(test)]
mod keep_tests;
mod limits;
mod moves;
mod namespace;
mod policy;
#[cfg(test)]
mod policy_tests;
mod resolved;
mod taken;
#[cfg(test)]
pub(crate) mod test_topology;
#[cfg(test)]
mod tests;
mod way_out;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use crate::spec::{
    Accel, Action, AppLimits, AppRestart, AppUser, AppWebserver, Arch, Direction, DiskFormat, FirewallMode,
    GuestLimits, HostPort, IfName, Imds, MacAddr, Machine, MarkMask, Name, NameError, NamespaceName,
    NamespaceNameError, Nat, Offload, PolicyProtocol, PortRange, SubnetKind, Supervisor, Transport,
};
pub use allocation::{Allocation, Allocations};
pub use app::{App, Fault, Workload};
pub use compile::{compile, compile_keeping, given};
pub use difference::Scope;
pub use identity::link_local;
pub use moves::{Given, Move, moves};
pub use policy::{Policy, Rule, RuleList};
pub use resolved::resolved;

/// Everything that one host spec asks for, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Interfaces that lead to the internet.
    pub uplink: Uplink,
    /// How far the firewall reaches.
    pub firewall: FirewallMode,
    /// Host services open to everyone; only with [`FirewallMode::Full`].
    pub allow_input: Vec<HostPort>,
    /// What each guest may take of what all share.
    pub limits: GuestLimits,
    /// The same of guests that have limits of their own, by their port's
    /// interface.
    pub own_limits: BTreeMap<IfName, GuestLimits>,
    /// Room that the kernel's table of tracked flows is to have at least.
    pub conntrack_max: Option<u32>,
    /// The bits of flows' marks by which those that were judged are known.
    pub mark_mask: MarkMask,
    /// What no guest reaches by an uplink, whatever its network says.
    pub deny: Vec<IpNet>,
    /// The interface of the tailnet, where the host has one.
    pub tailscale: Option<IfName>,
    /// Resolvers handed to guests.
    pub dns: Vec<IpAddr>,
    /// The isolated networks, by name.
    pub networks: Vec<Network>,
    /// Pairs of networks that may talk to each other; each pair is in order.
    pub peerings: Vec<(Name, Name)>,
    /// The virtual machines, by name.
    pub vms: Vec<Vm>,
    /// The subnets' network namespaces, by name.
    pub namespaces: Vec<Namespace>,
    /// The programs in them, by name.
    pub apps: Vec<App>,
    /// What guests are attached to of the spec's policies, by id.
    pub policies: Vec<Policy>,
    /// The id of a port's policy, by the port's interface.
    pub policed: BTreeMap<IfName, String>,
    /// The IPv6 address of a port whose network has none now: it is the
    /// guest's again once the network has.
    pub retained6: BTreeMap<IfName, Ipv6Addr>,
}

/// Which interfaces lead to the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// Those that hold a default route when the spec is applied.
    Auto,
    /// The ones named.
    Named(Vec<IfName>),
}

/// An isolated network: one bridge, one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name in the spec.
    pub name: Name,
    /// `br-<name>`, shortened where it is longer than 15 bytes.
    pub bridge: IfName,
    /// The full `br-<name>` where `bridge` had to be shortened.
    pub altname: Option<String>,
    /// The bridge's MAC, which is the gateway's.
    pub mac: MacAddr,
    /// The IPv4 prefix.
    pub cidr: Ipv4Net,
    /// First host address of `cidr`, on the bridge.
    pub gateway: Ipv4Addr,
    /// The IPv6 prefix, where there is one.
    pub cidr6: Option<Ipv6Net>,
    /// First host address of `cidr6`, on the bridge.
    pub gateway6: Option<Ipv6Addr>,
    /// What guests see at 169.254.169.254 and its twins.
    pub imds: Imds,
    /// Whether the tailnet may open flows to this network's guests.
    pub tailscale: bool,
    /// Where its public subnets go out.
    pub nat: Nat,
    /// What they reach there beside the public internet.
    pub lan: Vec<IpNet>,
    /// At least one; a network that names none has one that covers it.
    pub subnets: Vec<Subnet>,
}

/// A slice of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its name within the network.
    pub name: Name,
    /// The IPv4 prefix, within the network's.
    pub cidr: Ipv4Net,
    /// The IPv6 prefix, within the network's.
    pub cidr6: Option<Ipv6Net>,
    /// Whether its guests may go out.
    pub kind: SubnetKind,
}

/// Where a guest meets its bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `vm-<name>`, shortened where it is longer than 15 bytes.
    pub interface: IfName,
    /// The full `vm-<name>` where `interface` had to be shortened.
    pub altname: Option<String>,
    /// The network it belongs to.
    pub network: Name,
    /// The subnet it belongs to.
    pub subnet: Name,
    /// The network's bridge.
    pub bridge: IfName,
    /// The only source MAC that the port lets in.
    pub mac: MacAddr,
    /// The only IPv4 source that the port lets in.
    pub address: Ipv4Addr,
    /// Prefix length that the guest configures with `address`, in bits.
    pub prefix: u8,
    /// The guest's default gateway.
    pub gateway: Ipv4Addr,
    /// IPv6, where the network has it.
    pub v6: Option<PortV6>,
}

/// The IPv6 side of a [`Port`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortV6 {
    /// The only global IPv6 source that the port lets in.
    pub address: Ipv6Addr,
    /// Prefix length that the guest configures with `address`, in bits.
    pub prefix: u8,
    /// The guest's default gateway.
    pub gateway: Ipv6Addr,
    /// The modified EUI-64 address of `mac` (RFC 4291, appendix A): the only
    /// link-local source that the port lets in.
    pub link_local: Ipv6Addr,
}

/// A subnet's network namespace on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `<network>-<subnet>`, as `ip netns` knows it.
    pub name: NamespaceName,
    /// Where it is attached: the host's end of a veth pair.
    pub port: Port,
    /// Its routes besides the default one.
    pub routes: Vec<NamespaceRoute>,
}

/// A route within a namespace, by its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceRoute {
    /// Where to.
    pub to: IpNet,
    /// The gateway's address.
    pub via: IpAddr,
}

impl NamespaceRoute {
    /// A route to `to` by `via`.
    pub fn new(to: impl Into<IpNet>, via: impl Into<IpAddr>) -> Self {
        Self { to: to.into(), via: via.into() }
    }
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its name in the spec; as a label ([`Name::label`]) the guest's host name.
    pub name: Name,
    /// Where it is attached.
    pub port: Port,
    /// Resolvers handed to it at boot.
    pub dns: Vec<IpAddr>,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// Memory in MiB.
    pub memory: u32,
    /// What it boots.
    pub image: Image,
    /// Its disks besides the one that it boots, in order.
    pub volumes: Vec<Disk>,
    /// Whether its QEMU may use io_uring.
    pub io_uring: bool,
    /// The guest's processor architecture.
    pub arch: Arch,
    /// QEMU's machine type.
    pub machine: Machine,
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// Whether its frames carry a virtio header.
    pub offload: Offload,
    /// Words added to the guest kernel's command line.
    pub cmdline: String,
    /// Whether `apply` starts it.
    pub autostart: bool,
    /// Whether a crash is followed by a new start.
    pub restart: bool,
    /// Who starts and watches it.
    pub supervisor: Supervisor,
    /// The unprivileged user and group that its QEMU runs as.
    pub uid: u32,
}

/// What a VM boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// A directory of that name among the host's images.
    Named(Name),
    /// Files of the operator's.
    Files(ImageFiles),
}

/// The files of an [`Image::Files`]; at least a kernel or a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// A kernel that QEMU loads directly.
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The first disk.
    pub disk: Option<Disk>,
}

/// Most volumes of a VM, beside its disk.
pub const VOLUMES_MAX: usize = 8;

/// A disk image of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its file or block device.
    pub path: PathBuf,
    /// Its format. Always named: a guest that may write a raw disk could
    /// otherwise turn it into one of another format, with a backing file.
    pub format: DiskFormat,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

impl Topology {
    /// A host without networks.
    pub fn empty() -> Self {
        Self {
            uplink: Uplink::Auto,
            firewall: FirewallMode::Guests,
            allow_input: Vec::new(),
            limits: GuestLimits::default(),
            own_limits: BTreeMap::new(),
            deny: Vec::new(),
            conntrack_max: None,
            mark_mask: MarkMask::default(),
            tailscale: None,
            dns: Vec::new(),
            networks: Vec::new(),
            peerings: Vec::new(),
            vms: Vec::new(),
            namespaces: Vec::new(),
            apps: Vec::new(),
            policies: Vec::new(),
            policed: BTreeMap::new(),
            retained6: BTreeMap::new(),
        }
    }

    /// The network of that name.
    pub fn network(&self, name: &Name) -> Option<&Network> {
        let index = self.networks.binary_search_by(|network| network.name.cmp(name)).ok()?;
        self.networks.get(index)
    }

    /// Every interface that packets of guests go out by, where the host's
    /// uplinks are `uplinks`; each once, in order.
    pub fn exits(&self, uplinks: &[IfName]) -> Vec<IfName> {
        let named = self.networks.iter().flat_map(|network| network.exits(uplinks));
        let all: BTreeSet<&IfName> = uplinks.iter().chain(named).collect();
        all.into_iter().cloned().collect()
    }

    /// The VM of that name.
    pub fn vm(&self, name: &str) -> Option<&Vm> {
        let index = self.vms.binary_search_by(|vm| vm.name.as_str().cmp(name)).ok()?;
        self.vms.get(index)
    }

    /// Every port of every guest.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.vms.iter().map(|vm| &vm.port).chain(self.namespaces.iter().map(|namespace| &namespace.port))
    }

    /// The policy that a port is attached to.
    pub fn policy(&self, port: &Port) -> Option<&Policy> {
        let id = self.policed.get(&port.interface)?;
        let index = self.policies.binary_search_by(|policy| policy.id.cmp(id)).ok()?;
        self.policies.get(index)
    }

    /// What the guest at a port may take of what all share.
    pub fn limits(&self, port: &Port) -> GuestLimits {
        self.own_limits.get(&port.interface).copied().unwrap_or(self.limits)
    }

    /// How many flows all guests together may have tracked.
    pub fn tracked_flows(&self) -> u64 {
        self.ports().map(|port| u64::from(self.limits(port).flows)).sum()
    }

    /// The room that the kernel's table has to have for them, and for the host's
    /// own flows.
    pub fn flow_room(&self) -> u64 {
        const HOST: u64 = 16_384;
        self.tracked_flows() + HOST
    }

    /// Whether any network has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.networks.iter().any(|network| network.cidr6.is_some())
    }

    /// Whether guests of `a` and `b` may talk to each other.
    pub fn connected(&self, a: &Name, b: &Name) -> bool {
        a == b || self.peerings.iter().any(|(x, y)| (x == a && y == b) || (x == b && y == a))
    }
}

impl Network {
    /// The interfaces that its public subnets go out by, where the host's
    /// uplinks are `uplinks`.
    pub fn exits<'a>(&'a self, uplinks: &'a [IfName]) -> &'a [IfName] {
        match &self.nat {
            Nat::Uplinks => uplinks,
            Nat::Off => &[],
            Nat::Named(names) => names,
        }
    }

    /// The subnet that an address of the network's lies in.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.cidr.contains(&address))
    }
}
