//! Other programs' firewalls: tables that are loaded, and files that will be.
//!
//! What tables do to the packets that the spec lets pass is [`crate::prove`]'s
//! to say; [`hazard`] makes findings of it, [`program`] tells whose a table is,
//! and [`remedy`] what helps.

mod flow_marks;
mod hazard;
mod newcomers;
mod place;
mod program;
mod remedy;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::firewall::{Foreign, Severity, nft_foreign};
use crate::link::Observed;
use crate::prove::{OwnAddresses, Unknown, happenings};
use crate::reach::{Model, Vicinity};
use crate::topology::{IfName, Topology};

use super::{Finding, Kind};

/// What was found of what: who watches asks the same again and again.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::host) struct Judged {
    foreign: Foreign,
    topology: Topology,
    vicinity: Vicinity,
    own: OwnAddresses,
    findings: Vec<Finding>,
}

/// What the loaded tables of others do to the packets of `topology`'s guests, by
/// somebody who remembers what was judged before.
pub(in crate::host) fn tables(
    topology: &Topology,
    uplinks: &[IfName],
    links: &Observed,
    before: &mut Option<Judged>,
) -> Vec<Finding> {
    let own: OwnAddresses = links
        .links
        .iter()
        .map(|(name, link)| (name.clone(), link.addresses.iter().map(|address| address.addr()).collect()))
        .collect();
    let on_link = uplinks.iter().filter_map(|uplink| links.links.get(uplink.as_str()));
    let on_link = on_link.flat_map(|link| &link.addresses).map(|address| address.trunc()).collect();
    let vicinity = Vicinity { uplinks: uplinks.to_vec(), on_link, ..Vicinity::default() };
    let all = nft_foreign::observe().map_err(|error| error.to_string()).and_then(|foreign| {
        let same = |judged: &Judged| {
            (&judged.foreign, &judged.topology, &judged.vicinity, &judged.own)
                == (&foreign, topology, &vicinity, &own)
        };
        if let Some(judged) = before.take_if(|judged| same(judged)) {
            return Ok(before.insert(judged).findings.clone());
        }
        let findings = found(&foreign, topology, &vicinity, &own).map_err(|unknown| unknown.to_string())?;
        let topology = topology.clone();
        *before = Some(Judged { foreign, topology, vicinity, own, findings: findings.clone() });
        Ok(findings)
    });
    all.unwrap_or_else(|why| {
        vec![Finding {
            severity: Severity::Warning,
            kind: Kind::Foreign,
            object: "other programs' tables".into(),
            found: format!("can't be read: {why}"),
            expected: "a ruleset that nft lists".into(),
            remedy: "look at it by hand: nft list ruleset".into(),
            commands: Vec::new(),
        }]
    })
}

/// What these tables do to guests' packets, on a host as it is.
fn found(
    foreign: &Foreign,
    topology: &Topology,
    vicinity: &Vicinity,
    own: &OwnAddresses,
) -> Result<Vec<Finding>, Unknown> {
    let all = newcomers::with_newcomers(topology);
    let mut happenings = happenings(&Model::new(&all, vicinity), own, &foreign.listing())?;
    // Who isn't there has no port.
    let there: BTreeSet<&str> = topology
        .networks
        .iter()
        .map(|network| network.bridge.as_str())
        .chain(topology.ports().map(|port| port.interface.as_str()))
        .collect();
    happenings.retain(|happening| there.contains(happening.traffic.ours.as_str()));
    let mut findings = hazard::hazards(foreign, &happenings);
    findings.extend(flow_marks::written(foreign, topology.mark_mask));
    Ok(findings)
}

/// What isn't loaded yet.
pub(in crate::host) fn files() -> Vec<Finding> {
    flush().into_iter().collect()
}

/// Whether systemd starts nftables.service at boot (systemctl enable) and
/// nothing loads hostctl's firewall after it.
fn nftables_service_flushes() -> bool {
    let units = Path::new("/etc/systemd/system");
    let wants = ["sysinit.target.wants", "multi-user.target.wants"];
    let enabled =
        wants.iter().any(|wants| units.join(wants).join("nftables.service").symlink_metadata().is_ok());
    let drop_ins = fs::read_dir(units.join("nftables.service.d")).into_iter().flatten().flatten();
    let mut texts = drop_ins.filter_map(|file| fs::read_to_string(file.path()).ok());
    enabled && !texts.any(|text| text.contains("hostctl-firewall.service"))
}

/// Debian's nftables.service loads this file at each start, stop and reload.
fn flush() -> Option<Finding> {
    const FILE: &str = "/etc/nftables.conf";
    let text = fs::read_to_string(FILE).ok()?;
    let flushes = text.lines().any(|line| line.trim_start().starts_with("flush ruleset"));
    let severity = if nftables_service_flushes() { Severity::Warning } else { Severity::Info };
    flushes.then(|| Finding {
        severity,
        kind: Kind::Foreign,
        object: format!("{FILE} (nftables.service)"),
        found: "flushes every table, hostctl's too, each time it is loaded".into(),
        expected: "no flush of what others loaded".into(),
        remedy:
            "where that service is used: replace `flush ruleset` by deleting the tables that the file defines, or load hostctl's again after it (templates/systemd/nftables.service.d)"
                .into(),
        commands: Vec::new(),
    })
}
