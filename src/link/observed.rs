//! The links and settings that the kernel has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::apart::Part;
use crate::guard::Attached;
use crate::ownership::LINK_GROUP;

/// What a network namespace has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Which one it is: its inode.
    pub network: u64,
    /// Every link, by name.
    pub links: BTreeMap<String, Link>,
    /// Names of the links that hold a default route, without hostctl's own.
    pub default_route: BTreeSet<String>,
    /// The named network namespaces, by name.
    pub namespaces: BTreeMap<String, Inside>,
    /// Kernel settings that were asked for, by path under `/proc/sys`; those
    /// that don't exist are missing.
    pub sysctls: BTreeMap<String, String>,
    /// What keeps networks apart where the firewall is gone; none where this
    /// kernel has no routing by rules.
    pub apart: Option<BTreeSet<Part>>,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// `bridge`, `tun`, `veth`, …; empty for hardware.
    pub kind: String,
    /// Its group; [`LINK_GROUP`] marks hostctl's.
    pub group: u32,
    /// Its alias.
    pub alias: Option<String>,
    /// Its other names.
    pub altnames: BTreeSet<String>,
    /// Its MAC.
    pub mac: Option<[u8; 6]>,
    /// Whether it is set up.
    pub up: bool,
    /// Of a TAP: whose it is, and how it works.
    pub tap: Option<Tap>,
    /// Of a TAP of hostctl's: what stands in the place of its guard; nothing is
    /// known where nobody looked.
    pub guard: Option<Attached>,
    /// The link that it is a port of.
    pub master: Option<u32>,
    /// Of a bridge: whether it speaks STP.
    pub stp: bool,
    /// Of a bridge: whether it filters multicast by what it overhears.
    pub mcast_snooping: bool,
    /// Of a bridge: whether it hands frames for LLDP's group to the host past
    /// its netfilter hooks (br_handle_frame in `net/bridge/br_input.c`).
    pub lldp_unfiltered: bool,
    /// Of a port: whether the bridge learns addresses from it.
    pub learning: bool,
    /// Of a port: whether frames for unknown addresses are sent to it.
    pub flood: bool,
    /// Of a port: whether the bridge keeps it from other such ports.
    pub isolated: bool,
    /// Of a link of hostctl's: the addresses whose MAC is set down by hand.
    pub neighbours: BTreeMap<IpAddr, [u8; 6]>,
    /// The addresses that it answers for by proxy.
    pub proxies: BTreeSet<Ipv6Addr>,
    /// Of a port: the addresses that are set down for it by hand.
    pub fdb: BTreeSet<[u8; 6]>,
    /// Its addresses, but for IPv6's link-local ones.
    pub addresses: BTreeSet<IpNet>,
    /// The prefixes that the host routes by it (main table).
    pub routes: BTreeSet<IpNet>,
}

/// A named network namespace, from inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Whether the hostctl of this network namespace made it.
    pub ours: bool,
    /// Whether its mark says so, as an earlier version's doesn't.
    pub signed: bool,
    /// Whether its loopback is up.
    pub loopback: bool,
    /// Its `eth0`.
    pub link: Option<Link>,
    /// Whether the kernel leaves its `eth0`'s checksums for later, to be
    /// written after the firewall.
    pub late_checksums: bool,
    /// Its routes by a gateway.
    pub routes: BTreeSet<(IpNet, IpAddr)>,
}

/// What the kernel says of a TAP (`linux/if_link.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// The user that may attach to it beside root.
    pub owner: Option<u32>,
    /// The group that may attach to it.
    pub group: Option<u32>,
    /// Whether it stays when nobody is attached.
    pub persistent: bool,
    /// Whether frames carry a virtio header, by which whoever sends them has
    /// bytes written after the firewall.
    pub vnet_header: bool,
    /// Whether several may attach.
    pub several_queues: bool,
    /// Whether somebody is attached: only who is, can change the rest.
    pub attached: bool,
}

impl Tap {
    /// Whether it is as hostctl makes it: root's alone. A header is its last
    /// holder's; the next one has it or not, as its spec says.
    pub fn is_as_made(&self, header: bool) -> bool {
        self.owner == Some(0)
            && self.group.is_none_or(|group| group == 0)
            && self.persistent
            && (header || !self.vnet_header)
            && !self.several_queues
    }
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            owner: Some(0),
            group: None,
            persistent: true,
            vnet_header: false,
            several_queues: false,
            attached: false,
        }
    }
}

impl Link {
    /// Whether hostctl made it.
    pub fn is_ours(&self) -> bool {
        self.group == LINK_GROUP
    }
}

impl Observed {
    /// The name of the link with that index.
    pub fn name_of(&self, index: u32) -> Option<&str> {
        self.links.iter().find(|(_, link)| link.index == index).map(|(name, _)| name.as_str())
    }

    /// Hostctl's links.
    pub fn ours(&self) -> impl Iterator<Item = (&String, &Link)> {
        self.links.iter().filter(|(_, link)| link.is_ours())
    }
}
