//! Ways to write down the firewall of a host of N isolated networks, each
//! behind the bridge `br-n00000` and so on, with an uplink and a tailnet.

use std::fmt::Write;

use hostctl::firewall::{Ruleset, Surroundings, render};
use hostctl::topology::IfName;

use super::host::UPLINK;
use super::specs;

/// A way to write it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Hostctl's tables: the same rules for every N, the networks in sets.
    Hostctl,
    /// The microVM host's by hand: a drop rule for each ordered pair of networks, then an
    /// accept rule for each network, as one nft file.
    Matrix,
    /// The same for iptables-restore.
    Iptables,
    /// As libvirt writes them: five rules a network, in three chains.
    Linear,
}

pub const ALL: [Layout; 4] = [Layout::Hostctl, Layout::Matrix, Layout::Iptables, Layout::Linear];

impl Layout {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hostctl => "hostctl's sets",
            Self::Matrix => "N×N matrix, nft rules",
            Self::Iptables => "N×N matrix, iptables",
            Self::Linear => "5 rules a network, as libvirt",
        }
    }

    /// The program that loads the text from its standard input.
    pub const fn loader(self) -> &'static [&'static str] {
        match self {
            Self::Iptables => &["iptables-restore"],
            _ => &["nft", "-f", "-"],
        }
    }

    /// The firewall of so many networks, masquerading included.
    pub fn text(self, networks: usize) -> String {
        match self {
            Self::Hostctl => hostctl(&specs::spec(networks, 1)),
            Self::Matrix => matrix(networks),
            Self::Iptables => iptables(networks),
            Self::Linear => linear(networks),
        }
    }
}

/// Stands for the uplink's number where that isn't known yet.
pub const UPLINK_INDEX: u32 = 987_654_321;

/// Hostctl's tables for a spec, on a host whose uplink is [`UPLINK`] and has
/// the number [`UPLINK_INDEX`].
pub fn hostctl(spec: &str) -> String {
    let uplink = IfName::new(UPLINK).unwrap();
    let indices = [(uplink.clone(), UPLINK_INDEX)].into();
    let surroundings = Surroundings { uplinks: vec![uplink], indices, ..Surroundings::default() };
    render(&Ruleset::new(&specs::compile(spec), &surroundings).unwrap()).unwrap()
}

fn bridge(index: usize) -> String {
    format!("br-{}", specs::network(index))
}

fn prefix(index: usize) -> String {
    format!("10.{}.{}.0/24", index >> 8, index & 255)
}

/// What follows each layout's filter: guests share the host's address.
const MASQUERADE: &str = "table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.0.0.0/8 oifname \"uplink0\" masquerade
    }
}
";

fn matrix(networks: usize) -> String {
    let mut text = String::from(
        "table inet filter {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept\n",
    );
    for from in 0..networks {
        for to in (0..networks).filter(|to| *to != from) {
            writeln!(text, "iifname \"{}\" oifname \"{}\" drop", bridge(from), bridge(to)).unwrap();
        }
    }
    for index in 0..networks {
        let bridge = bridge(index);
        writeln!(text, "iifname \"tailscale0\" oifname \"{bridge}\" accept").unwrap();
        writeln!(text, "iifname \"{bridge}\" oifname \"{UPLINK}\" accept").unwrap();
    }
    text.push_str("}\n}\n");
    text + MASQUERADE
}

fn iptables(networks: usize) -> String {
    let mut text = format!(
        "*nat\n-A POSTROUTING -s 10.0.0.0/8 -o {UPLINK} -j MASQUERADE\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n\
         -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    );
    for from in 0..networks {
        for to in (0..networks).filter(|to| *to != from) {
            writeln!(text, "-A FORWARD -i {} -o {} -j DROP", bridge(from), bridge(to)).unwrap();
        }
    }
    for index in 0..networks {
        let bridge = bridge(index);
        writeln!(text, "-A FORWARD -i tailscale0 -o {bridge} -j ACCEPT").unwrap();
        writeln!(text, "-A FORWARD -i {bridge} -o {UPLINK} -j ACCEPT").unwrap();
    }
    text + "COMMIT\n"
}

fn linear(networks: usize) -> String {
    let (mut across, mut inward, mut outward) = (String::new(), String::new(), String::new());
    for index in 0..networks {
        let (bridge, prefix) = (bridge(index), prefix(index));
        writeln!(across, "iifname \"{bridge}\" oifname \"{bridge}\" accept").unwrap();
        writeln!(inward, "oifname \"{bridge}\" ip daddr {prefix} ct state related,established accept")
            .unwrap();
        writeln!(inward, "oifname \"{bridge}\" reject").unwrap();
        writeln!(outward, "ip saddr {prefix} iifname \"{bridge}\" accept").unwrap();
        writeln!(outward, "iifname \"{bridge}\" reject").unwrap();
    }
    format!(
        "table inet filter {{
    chain guest_cross {{\n{across}}}
    chain guest_input {{\n{inward}}}
    chain guest_output {{\n{outward}}}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        jump guest_cross
        jump guest_input
        jump guest_output
    }}
}}
{MASQUERADE}"
    )
}
