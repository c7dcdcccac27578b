//! Which program a foreign table is of, and what to set there so that it lets
//! guests' packets pass.

use super::ruleset::Foreign;
use super::walk::Place;

/// A program that loads rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
fn is_iptables(place: &Place) -> bool {
    matches!(place.table.as_str(), "filter" | "nat" | "mangle" | "raw" | "security")
        && place.base == place.hook.to_uppercase()
}

/// Whose rule it is.
pub(super) fn program(place: &Place, foreign: &Foreign) -> Program {
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

    /// What to set there, so that it lasts. `links` are the bridges that it is
    /// about.
    pub(super) fn setting(self, place: &Place, links: &[&str]) -> String {
        let first = links.first().copied().unwrap_or("br-…");
        let each = if links.len() > 1 { ", and so for each bridge" } else { "" };
        match self {
            Self::Docker => format!(
                "the commands last until a reboot: run them after docker.service; or set \"ip-forward-no-drop\": true in /etc/docker/daemon.json (Docker 28) and `{} -P FORWARD ACCEPT` once",
                if place.family == "ip6" { "ip6tables" } else { "iptables" }
            ),
            Self::Firewalld => format!(
                "to last: firewall-cmd --permanent --zone=trusted --add-interface={first}{each}; firewall-cmd --reload (hostctl's own rules go on denying)"
            ),
            Self::Ufw => match place.hook.as_str() {
                "input" => format!("to last: ufw allow in on {first}{each} (hostctl's own rules go on denying)"),
                _ => format!("to last: ufw route allow in on {first}; ufw route allow out on {first}{each}"),
            },
            Self::NixosFirewall => match (place.hook.as_str(), place.chain.contains("rpfilter") || place.base.contains("rpfilter")) {
                (_, true) => "to last: networking.firewall.checkReversePath = \"loose\";".into(),
                ("input", _) => format!("to last: networking.firewall.interfaces.{first} or networking.firewall.extraInputRules{each}"),
                _ => format!(
                    "to last: networking.firewall.extraForwardRules = ''iifname \"{first}\" accept; oifname \"{first}\" accept;''{each}"
                ),
            },
            Self::Tailscale => "give the network another prefix than the tailnet's 100.64.0.0/10".into(),
            Self::Libvirt => "the commands last until libvirt defines its networks again: put them into /etc/libvirt/hooks/network".into(),
            Self::Iptables => "the commands last until a reboot: put the same rules where that program keeps its own".into(),
            Self::Other => "the commands last until that table is loaded again: put the same rules into the file that it is loaded from".into(),
        }
    }

    /// The chain of that table that is made for others' rules, and passed
    /// before the program's own.
    pub(super) fn entrance<'p>(self, place: &'p Place, foreign: &Foreign) -> &'p str {
        let docker = place.base == "FORWARD" && foreign.has(&place.family, &place.table, "DOCKER-USER");
        if self == Self::Docker && docker { "DOCKER-USER" } else { &place.base }
    }
}
