//! Other programs' firewalls: tables that are loaded, and files that will be.

use std::fs;
use std::path::Path;

use crate::firewall::{Hazard, Severity, hazards, nft_foreign};
use crate::topology::{IfName, Topology};

use super::{Finding, Kind};

/// What the loaded tables of others do to the packets of `topology`'s guests.
pub(in crate::host) fn tables(topology: &Topology, uplinks: &[IfName]) -> Vec<Finding> {
    match nft_foreign::observe() {
        Ok(foreign) => hazards(&foreign, topology, uplinks).into_iter().map(finding).collect(),
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

/// What isn't in nftables, or isn't yet.
pub(in crate::host) fn files() -> Vec<Finding> {
    flush().into_iter().chain(legacy()).collect()
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

/// Tables that nft doesn't show.
fn legacy() -> Option<Finding> {
    let files = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    let names: Vec<String> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| text.split_whitespace().map(Into::into).collect::<Vec<String>>())
        .collect();
    (!names.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        kind: Kind::Foreign,
        object: format!("iptables-legacy, tables {}", names.join(" ")),
        found: "loaded; nft doesn't show what they do to guests' packets".into(),
        expected: "iptables' rules in nftables (iptables-nft)".into(),
        remedy:
            "see that they drop no guest's packets: iptables-legacy -S FORWARD; then move to iptables-nft"
                .into(),
        commands: Vec::new(),
    })
}
