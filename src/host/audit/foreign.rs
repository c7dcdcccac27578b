//! Other programs' firewalls: tables that are loaded, and files that will be.

use std::fs;
use std::path::Path;

use crate::firewall::{Exits, Hazard, Severity, hazards, nft_foreign};
use crate::link::Observed;
use crate::topology::{IfName, Topology};

use super::{Finding, Kind};

/// What the loaded tables of others do to the packets of `topology`'s guests.
pub(in crate::host) fn tables(topology: &Topology, uplinks: &[IfName], links: &Observed) -> Vec<Finding> {
    let own = links.links.iter().map(|(name, link)| (name.clone(), link.addresses.clone())).collect();
    match nft_foreign::observe() {
        Ok(foreign) => {
            hazards(&foreign, topology, Exits { uplinks, own: &own }).into_iter().map(finding).collect()
        }
        Err(error) => vec![Finding {
            severity: Severity::Warning,
            kind: Kind::Foreign,
            object: "other programs' tables".into(),
            found: format!("can't be read: {error}"),
            expected: "a ruleset that nft lists".into(),
            remedy: "look at it by hand: nft list ruleset".into(),
            commands: Vec::new(),
        }],
    }
}

fn finding(hazard: Hazard) -> Finding {
    Finding {
        severity: hazard.severity,
        kind: Kind::Foreign,
        object: hazard.object,
        found: hazard.found,
        expected: hazard.expected,
        remedy: hazard.remedy,
        commands: hazard.commands,
    }
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
