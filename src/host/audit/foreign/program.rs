//! Which program a foreign table is of.

use crate::firewall::Foreign;

use super::place::RulePlace;

/// A program that loads rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// Docker, with its rules in iptables' tables.
    Docker,
    Firewalld,
    Ufw,
    Libvirt,
    Tailscale,
    NixosFirewall,
    /// Whoever uses iptables' tables.
    Iptables,
    Other,
}

/// Tables that iptables-nft makes are named and built as iptables' always were.
fn is_iptables(place: &RulePlace) -> bool {
    let table = place.legacy_table().unwrap_or(&place.table);
    matches!(table, "filter" | "nat" | "mangle" | "raw" | "security")
        && place.base == place.hook.to_uppercase()
}

/// Whose rule it is.
pub(super) fn program(place: &RulePlace, foreign: &Foreign) -> Program {
    let has = |chain: &str| foreign.has(&place.family, &place.table, chain);
    let table = place.table.as_str();
    let chain = place.chain.as_str();
    match table {
        "firewalld" => return Program::Firewalld,
        "libvirt_network" => return Program::Libvirt,
        "docker-bridges" => return Program::Docker,
        _ if table.starts_with("nixos-") => return Program::NixosFirewall,
        _ => {}
    }
    for (start, program) in [
        ("DOCKER", Program::Docker),
        ("LIBVIRT_", Program::Libvirt),
        ("ts-", Program::Tailscale),
        ("ufw", Program::Ufw),
        ("nixos-fw", Program::NixosFirewall),
    ] {
        if chain.starts_with(start) {
            return program;
        }
    }
    match () {
        () if !is_iptables(place) => Program::Other,
        // A base chain is everybody's; its policy is set by one of these.
        () if has("ufw-before-forward") || has("ufw6-before-forward") => Program::Ufw,
        () if place.base == "FORWARD" && has("DOCKER-USER") => Program::Docker,
        () => Program::Iptables,
    }
}

impl Program {
    /// Whether its rules are known to be its own, so that one remedy is for all
    /// of them.
    pub(super) const fn is_known(self) -> bool {
        !matches!(self, Self::Iptables | Self::Other)
    }

    /// Its name, for people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Libvirt => "libvirt",
            Self::Tailscale => "Tailscale",
            Self::NixosFirewall => "the NixOS firewall",
            Self::Iptables => "iptables",
            Self::Other => "another program",
        }
    }

    /// The chain of that table that is made for others' rules, and passed
    /// before the program's own.
    pub(super) fn entrance<'p>(self, place: &'p RulePlace, foreign: &Foreign) -> &'p str {
        let docker = place.base == "FORWARD" && foreign.has(&place.family, &place.table, "DOCKER-USER");
        if self == Self::Docker && docker { "DOCKER-USER" } else { &place.base }
    }
}
