//! What the host is, as it was observed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::app;
use crate::firewall::{Live, Stamp, Surroundings};
use crate::guard::Tag;
use crate::link;
use crate::topology::{App, AppRestart, Name};
use crate::vm::Pending;

/// What the host is.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// Its links and kernel settings.
    pub links: link::Observed,
    /// What this kernel knows the guard of VMs' ports by, where it takes it and a
    /// VM asks for it.
    pub guard: Option<Tag>,
    /// Its tables, as far as they are hostctl's.
    pub firewall: Live,
    /// The state of the kernel's tables when they were read, where they stood
    /// still.
    pub stamp: Option<Stamp>,
    /// Whether its tables could be held against other programs and aren't.
    pub unheld: bool,
    /// Its guests.
    pub guests: Vec<Guest>,
    /// Its apps.
    pub apps: Vec<SeenApp>,
    /// What hostctl turned on, as it was written down for the case that the
    /// firewall, which records it, is lost.
    pub recorded: Surroundings,
    /// What a firewall has to know of it, of the topology that it was observed
    /// for: found out once, so that all of an apply goes by the same.
    pub surroundings: Surroundings,
    /// Other programs' bridges that were there when hostctl turned forwarding
    /// on first; none where that isn't known.
    pub former_bridges: Option<Vec<String>>,
    /// QEMUs of hostctl's that no runtime file accounts for: process and name.
    pub strays: Vec<(u32, String)>,
    /// Whether only a part of the host was looked at, with as much of the rest as
    /// that refers to.
    pub is_part: bool,
    /// The host's addresses, where its links here aren't all that it has.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

impl Current {
    /// Every address of the host's.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        let listed = || self.links.links.values().flat_map(|link| &link.addresses).map(IpNet::addr).collect();
        self.addresses.clone().unwrap_or_else(listed)
    }
}

/// A VM that the host has, running or not.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its name.
    pub name: Name,
    /// What waits for its next start.
    pub pending: Vec<Pending>,
    /// Whether its QEMU runs.
    pub running: bool,
    /// Whether its supervisor runs.
    pub supervised: bool,
}

/// An app that the host has, running or not.
#[derive(Debug, Clone)]
pub struct SeenApp {
    /// What there is of it.
    pub seen: app::Observed,
    /// What ran last and ended as it should.
    pub ended: Option<app::AppRecord>,
}

impl SeenApp {
    /// Whether it ran as `wanted` asks for, ended as it should, and is done.
    pub(super) fn ended_as(&self, wanted: &App) -> bool {
        let ended = self.ended.as_ref().is_some_and(|record| record.is_of(wanted));
        ended && wanted.restart != AppRestart::Always && self.seen.failure.is_none()
    }
}
