//! One change of a link, and the command that does it by hand.

use std::fmt;

use ipnet::IpNet;

use super::desired::{GROUP, LLDP_MASK, Sysctl};
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
    /// The bridge neither learns from the port nor floods to it.
    QuietPort,
    /// It carries packets.
    Up,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge { name, mac } => write!(
                f,
                "ip link add {name} address {mac} group {GROUP} type bridge stp_state 0 mcast_snooping 0 group_fwd_mask {LLDP_MASK:#x}"
            ),
            Self::CreateTap { name } => {
                write!(f, "ip tuntap add {name} mode tap user 0 && ip link set {name} group {GROUP}")
            }
            Self::Set { name, setting } => match setting {
                Setting::Mac(mac) => write!(f, "ip link set {name} address {mac}"),
                Setting::Group => write!(f, "ip link set {name} group {GROUP}"),
                Setting::Alias(alias) => write!(f, "ip link set {name} alias {alias}"),
                Setting::Altname(altname) => write!(f, "ip link property add dev {name} altname {altname}"),
                Setting::NoStp => write!(f, "ip link set {name} type bridge stp_state 0"),
                Setting::NoMulticastSnooping => write!(f, "ip link set {name} type bridge mcast_snooping 0"),
                Setting::FilterLldp => {
                    write!(f, "ip link set {name} type bridge group_fwd_mask {LLDP_MASK:#x}")
                }
                Setting::Bridge(bridge) => write!(f, "ip link set {name} master {bridge}"),
                Setting::NoBridge => write!(f, "ip link set {name} nomaster"),
                Setting::QuietPort => write!(f, "bridge link set dev {name} learning off flood off"),
                Setting::Up => write!(f, "ip link set {name} up"),
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
