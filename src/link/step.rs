//! One change of a link, and the command that does it by hand.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::desired::{INSIDE, LLDP_MASK, Sysctl};
use crate::ownership::LINK_GROUP;
use crate::topology::MacAddr;

/// A change that the kernel does whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A new bridge in hostctl's group.
    CreateBridge {
        /// Its name.
        name: String,
        /// Its MAC.
        mac: MacAddr,
    },
    /// A new persistent TAP in hostctl's group.
    CreateTap {
        /// Its name.
        name: String,
        /// Its MAC.
        mac: Option<MacAddr>,
    },
    /// A new named network namespace, marked as hostctl's.
    CreateNamespace {
        /// Its name.
        name: String,
        /// The mark.
        alias: String,
    },
    /// The end of a named network namespace.
    DeleteNamespace {
        /// Its name.
        name: String,
    },
    /// A new veth pair in hostctl's group, one end in a namespace.
    CreateVeth {
        /// The name of the host's end.
        name: String,
        /// Its MAC.
        own: Option<MacAddr>,
        /// The namespace of the other end, [`INSIDE`].
        namespace: String,
        /// The MAC of the other end.
        mac: MacAddr,
    },
    /// A step within a namespace.
    Inside {
        /// The namespace.
        namespace: String,
        /// The step.
        step: Box<Step>,
    },
    /// A new route by a gateway that is on the link.
    AddRoute {
        /// The link's name.
        name: String,
        /// Where to.
        to: IpNet,
        /// The gateway.
        via: IpAddr,
    },
    /// A route that doesn't belong there.
    RemoveRoute {
        /// The link's name.
        name: String,
        /// Where to.
        to: IpNet,
        /// The gateway.
        via: IpAddr,
    },
    /// The bridge answers for a guest's address.
    AddProxy {
        /// The bridge's name.
        name: String,
        /// The guest's address.
        address: Ipv6Addr,
    },
    /// An address that is no guest's any more.
    RemoveProxy {
        /// The bridge's name.
        name: String,
        /// The address.
        address: Ipv6Addr,
    },
    /// A guest's address is behind this MAC.
    AddNeighbour {
        /// The bridge's name.
        name: String,
        /// The guest's address.
        address: IpAddr,
        /// Its MAC.
        mac: MacAddr,
    },
    /// An address that no guest has any more, or another one.
    RemoveNeighbour {
        /// The bridge's name.
        name: String,
        /// The address.
        address: IpAddr,
        /// The MAC that it was behind.
        mac: [u8; 6],
    },
    /// A change of a link.
    Set {
        /// Its name.
        name: String,
        /// What changes.
        setting: Setting,
    },
    /// A new address.
    AddAddress {
        /// The link's name.
        name: String,
        /// The address, with its prefix length.
        address: IpNet,
    },
    /// An address that doesn't belong there.
    RemoveAddress {
        /// The link's name.
        name: String,
        /// The address, with its prefix length.
        address: IpNet,
    },
    /// The guest's MAC is behind this port.
    AddFdb {
        /// The port's name.
        name: String,
        /// The guest's MAC.
        mac: MacAddr,
    },
    /// A MAC that isn't behind this port.
    RemoveFdb {
        /// The port's name.
        name: String,
        /// The MAC.
        mac: [u8; 6],
    },
    /// The end of a link.
    Delete {
        /// Its name.
        name: String,
    },
    /// A kernel setting.
    Sysctl(Sysctl),
}

/// What about a link changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Its MAC.
    Mac(MacAddr),
    /// Its group, which is hostctl's mark.
    Group,
    /// Its alias.
    Alias(String),
    /// Another name for it.
    Altname(String),
    /// No spanning tree protocol.
    NoStp,
    /// Multicast goes to every port.
    NoMulticastSnooping,
    /// LLDP's group goes the way of all frames, by the bridge's rules, which
    /// drop what guests send to it.
    FilterLldp,
    /// The bridge that it becomes a port of.
    Bridge(String),
    /// No port of any bridge any more.
    NoBridge,
    /// The bridge neither learns from the port nor floods to it, and other
    /// such ports can't be reached from it past the host.
    QuietPort,
    /// A TAP that is root's alone; nobody is attached to it.
    Reclaim,
    /// Its checksums are written before the packet leaves it, so that what is
    /// judged is what arrives.
    WholeChecksums,
    /// What comes in by it is judged first by the guard of TAPs whose frames carry
    /// a virtio header.
    Guard,
    /// It has no such guard.
    NoGuard,
    /// It carries packets.
    Up,
    /// It carries none.
    Down,
}

impl Step {
    /// Whether it makes the TAP of that name.
    pub(super) fn is_creation_of(&self, tap: &str) -> bool {
        matches!(self, Self::CreateTap { name, .. } if name == tap)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge { name, mac } => write!(
                f,
                "ip link add {name} address {mac} group {LINK_GROUP} type bridge stp_state 0 mcast_snooping 0 group_fwd_mask {LLDP_MASK:#x}"
            ),
            Self::CreateTap { name, mac } => {
                write!(f, "ip tuntap add {name} mode tap user 0 && ip link set {name} group {LINK_GROUP}")?;
                mac.map_or(Ok(()), |mac| write!(f, " address {mac}"))
            }
            Self::CreateNamespace { name, alias } => {
                write!(f, "ip netns add {name} && ip -n {name} link set lo alias {alias}")
            }
            Self::DeleteNamespace { name } => write!(f, "ip netns del {name}"),
            Self::CreateVeth { name, own, namespace, mac } => {
                write!(f, "ip link add {name} group {LINK_GROUP}")?;
                own.map_or(Ok(()), |own| write!(f, " address {own}"))?;
                write!(f, " type veth peer name {INSIDE} address {mac} netns {namespace}")
            }
            Self::Inside { namespace, step } => {
                let text = step.to_string();
                match text.strip_prefix("ip ") {
                    Some(rest) => write!(f, "ip -n {namespace} {rest}"),
                    None => write!(f, "ip netns exec {namespace} {text}"),
                }
            }
            Self::AddRoute { name, to, via } => write!(f, "ip route add {to} via {via} dev {name} onlink"),
            Self::RemoveRoute { name, to, via } => write!(f, "ip route del {to} via {via} dev {name}"),
            Self::AddProxy { name, address } => write!(f, "ip neigh add proxy {address} dev {name}"),
            Self::RemoveProxy { name, address } => write!(f, "ip neigh del proxy {address} dev {name}"),
            Self::AddNeighbour { name, address, mac } => {
                write!(f, "ip neigh replace {address} lladdr {mac} dev {name} nud permanent")
            }
            Self::RemoveNeighbour { name, address, .. } => write!(f, "ip neigh del {address} dev {name}"),
            Self::Set { name, setting } => match setting {
                Setting::Mac(mac) => write!(f, "ip link set {name} address {mac}"),
                Setting::Group => write!(f, "ip link set {name} group {LINK_GROUP}"),
                Setting::Alias(alias) => write!(f, "ip link set {name} alias {alias}"),
                Setting::Altname(altname) => write!(f, "ip link property add dev {name} altname {altname}"),
                Setting::NoStp => write!(f, "ip link set {name} type bridge stp_state 0"),
                Setting::NoMulticastSnooping => write!(f, "ip link set {name} type bridge mcast_snooping 0"),
                Setting::FilterLldp => {
                    write!(f, "ip link set {name} type bridge group_fwd_mask {LLDP_MASK:#x}")
                }
                Setting::Bridge(bridge) => write!(f, "ip link set {name} master {bridge}"),
                Setting::NoBridge => write!(f, "ip link set {name} nomaster"),
                Setting::QuietPort => {
                    write!(f, "bridge link set dev {name} learning off flood off isolated on")
                }
                Setting::Reclaim => write!(f, "ip link del {name} && ip tuntap add {name} mode tap user 0"),
                Setting::WholeChecksums => write!(f, "ethtool -K {name} tx off"),
                Setting::Guard => write!(
                    f,
                    "tc qdisc replace dev {name} clsact && tc filter replace dev {name} ingress prio 1 \
                     handle 1 protocol all bpf direct-action object-file bpf/guard.bpf.o section classifier"
                ),
                Setting::NoGuard => write!(f, "tc filter del dev {name} ingress prio 1"),
                Setting::Up => write!(f, "ip link set {name} up"),
                Setting::Down => write!(f, "ip link set {name} down"),
            },
            Self::AddAddress { name, address } => {
                let nodad = if matches!(address, IpNet::V6(_)) { " nodad" } else { "" };
                write!(f, "ip address add {address} dev {name}{nodad}")
            }
            Self::RemoveAddress { name, address } => write!(f, "ip address del {address} dev {name}"),
            Self::AddFdb { name, mac } => write!(f, "bridge fdb replace {mac} dev {name} master static"),
            Self::RemoveFdb { name, mac: [a, b, c, d, e, g] } => {
                write!(f, "bridge fdb del {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} dev {name} master")
            }
            Self::Delete { name } => write!(f, "ip link del {name}"),
            Self::Sysctl(sysctl) => write!(f, "sysctl -w {}={}", sysctl.key, sysctl.value),
        }
    }
}
