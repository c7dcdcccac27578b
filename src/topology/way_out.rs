//! What guests reach by an uplink beside the public internet, and what never.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::spec::{Lan, Prefix, SpecPath};

use super::Network;
use super::compile::Compiler;

/// Most prefixes of one list.
const MOST_PREFIXES: usize = 1024;

/// A network's `lan` as prefixes.
pub(super) fn lan(lan: &Lan) -> Vec<IpNet> {
    match lan {
        Lan::Off => Vec::new(),
        Lan::On => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        Lan::Prefixes(prefixes) => IpNet::aggregate(&prefixes.iter().map(|prefix| prefix.net()).collect()),
    }
}

impl Compiler<'_> {
    /// What the host denies, and that no list is about the host's own networks.
    pub(super) fn way_out(&mut self, networks: &[Network]) -> Vec<IpNet> {
        let spec = self.spec;
        self.check_prefixes(&SpecPath::keys(["host", "deny"]), &spec.host.deny, networks);
        for (name, network) in &spec.networks {
            if let Lan::Prefixes(prefixes) = &network.lan {
                self.check_prefixes(&SpecPath::keys(["networks", name, "lan"]), prefixes, networks);
            }
        }
        let denied: Vec<IpNet> = spec.host.deny.iter().map(|prefix| prefix.net()).collect();
        IpNet::aggregate(&denied)
    }

    fn check_prefixes(&mut self, path: &SpecPath, prefixes: &[Prefix], networks: &[Network]) {
        if prefixes.len() > MOST_PREFIXES {
            self.issue(
                path.clone(),
                format!("{} prefixes", prefixes.len()),
                format!("at most {MOST_PREFIXES}"),
            );
            return;
        }
        for (index, prefix) in prefixes.iter().enumerate() {
            let net = prefix.net();
            let inside = networks.iter().find(|network| {
                let own = [Some(IpNet::V4(network.cidr)), network.cidr6.map(IpNet::V6)];
                own.into_iter().flatten().any(|own| own.contains(&net))
            });
            if let Some(network) = inside {
                let message = format!("{prefix} is in network {} of this host", network.name);
                let hint = "this is about what is behind the uplinks; peerings and policies say who reaches a network";
                self.issue(path.clone().index(index), message, hint);
            }
        }
    }
}
