//! Settings of the machine's own that break what guests need, or open what
//! hostctl's rules alone then keep closed.

use std::collections::BTreeMap;

use crate::firewall::Severity;
use crate::link;
use crate::topology::{FirewallMode, IfName, Topology};

use super::{Finding, Kind};
use crate::host::HostError;
use crate::host::apply::current::Current;
use crate::host::apply::surroundings::{reliance, turned_on};
use crate::host::look::reliance::bridges;

/// What others rely on that hostctl turned on, or that `firewall = "full"`
/// drops.
pub(in crate::host) fn forwarding(topology: &Topology, current: &Current) -> Vec<Finding> {
    let (relies, turned_on) = (reliance(current), turned_on(current));
    let finding = |object: String, found, expected: &str, remedy: &str| Finding {
        severity: Severity::Warning,
        kind: Kind::Setting,
        object,
        found,
        expected: expected.into(),
        remedy: remedy.into(),
        commands: Vec::new(),
    };
    let families = [
        ("IPv4", relies.v4.filter(|_| !turned_on.opened.is_empty())),
        ("IPv6", relies.v6.filter(|_| turned_on.closed6)),
    ];
    let taken = families.into_iter().filter_map(|(family, bridge)| Some((family, bridge?)));
    let mut findings: Vec<Finding> = taken
        .map(|(family, bridge)| {
            finding(
                format!("forwarding of {family}"),
                format!("hostctl turned it on for guests alone, and drops what else is forwarded; {bridge}, which came later, relies on it"),
                "left to the program whose bridge that is",
                "hostctl apply: it then drops no other packets, and hostctl down leaves forwarding on",
            )
        })
        .collect();
    if topology.firewall == FirewallMode::Full {
        findings.extend(bridges(&current.links).map(|(name, _)| {
            finding(
                format!("bridge {name}"),
                "another program's; firewall = \"full\" drops what is forwarded to and from it, but replies".into(),
                "no other program that forwards beside firewall = \"full\"",
                "if it needs the network (Docker, libvirt, podman): set firewall = \"guests\", and have another firewall close the host",
            )
        }));
    }
    findings
}

/// Reads the settings and judges them.
pub(super) fn settings(
    topology: &Topology,
    uplinks: &[IfName],
    links: &link::Observed,
) -> Result<Vec<Finding>, HostError> {
    let interfaces = interfaces(topology, uplinks);
    let keys = ["all"].into_iter().chain(interfaces.iter().map(|name| name.as_str()));
    let keys = keys.flat_map(|name| ["rp_filter", "route_localnet"].map(|setting| key(name, setting)));
    let values = link::sysctl::read(keys)
        .map_err(|source| link::LinkError::Sysctl { key: "/proc/sys".into(), source })?;
    Ok(judge(&interfaces, links.default_route.len(), topology.tailscale.as_ref(), &values))
}

fn key(interface: &str, setting: &str) -> String {
    format!("net/ipv4/conf/{interface}/{setting}")
}

/// The interfaces that guests' packets come and go by, besides hostctl's own.
fn interfaces(topology: &Topology, uplinks: &[IfName]) -> Vec<IfName> {
    topology.exits(uplinks).into_iter().chain(topology.tailscale.clone()).collect()
}

fn judge(
    interfaces: &[IfName],
    default_routes: usize,
    tailnet: Option<&IfName>,
    values: &BTreeMap<String, String>,
) -> Vec<Finding> {
    let value = |interface: &str, setting: &str| -> u8 {
        values.get(&key(interface, setting)).and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    let mut findings = Vec::new();
    for name in interfaces {
        // The greater of the two counts (Documentation/networking/ip-sysctl.rst).
        let strict = value("all", "rp_filter").max(value(name.as_str(), "rp_filter")) == 1;
        let by_others = default_routes > 1 || Some(name) == tailnet;
        if strict && by_others {
            let why = if Some(name) == tailnet {
                "Tailscale routes by rules that this check may not follow"
            } else {
                "with several default routes, answers to guests may come by another one"
            };
            let setting = key(name.as_str(), "rp_filter");
            findings.push(Finding {
                severity: Severity::Info,
                kind: Kind::Setting,
                found: format!("1 (strict), of its own or by net/ipv4/conf/all: {why}, and would be dropped"),
                expected: "2 (loose)".into(),
                remedy: format!("put {setting}=2 into a file of /etc/sysctl.d"),
                commands: vec![format!("sysctl -w {setting}=2")],
                object: format!("sysctl {setting}"),
            });
        }
    }
    if value("all", "route_localnet") == 1 {
        let setting = key("all", "route_localnet");
        findings.push(Finding {
            severity: Severity::Warning,
            kind: Kind::Setting,
            found: "1: packets to 127.0.0.0/8 from bridges aren't discarded as impossible; only hostctl's rules drop them".into(),
            expected: "0".into(),
            remedy: format!("set it on the interface that needs it, and {setting}=0"),
            commands: vec![format!("sysctl -w {setting}=0")],
            object: format!("sysctl {setting}"),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(tailnet: Option<&str>, default_routes: usize, values: &[(&str, &str)]) -> Vec<String> {
        let name = |name: &str| IfName::new(name).unwrap();
        let mut interfaces = vec![name("eth0")];
        interfaces.extend(tailnet.map(name));
        let values =
            values.iter().map(|(key, value)| (format!("net/ipv4/conf/{key}"), (*value).into())).collect();
        let found = judge(&interfaces, default_routes, tailnet.map(name).as_ref(), &values);
        found.into_iter().map(|finding| finding.object).collect()
    }

    #[test]
    fn strict_reverse_paths_matter_where_answers_come_another_way() {
        let strict = [("all/rp_filter", "1"), ("eth0/rp_filter", "0")];
        assert!(objects(None, 1, &strict).is_empty());
        assert_eq!(objects(None, 2, &strict), ["sysctl net/ipv4/conf/eth0/rp_filter"]);
        assert_eq!(objects(Some("tailscale0"), 1, &strict), ["sysctl net/ipv4/conf/tailscale0/rp_filter"]);
        assert!(objects(None, 2, &[("all/rp_filter", "1"), ("eth0/rp_filter", "2")]).is_empty());
    }

    #[test]
    fn the_loopbacks_addresses_are_nobodys_elses() {
        assert_eq!(
            objects(None, 1, &[("all/route_localnet", "1")]),
            ["sysctl net/ipv4/conf/all/route_localnet"]
        );
        assert!(objects(None, 1, &[("eth0/route_localnet", "1")]).is_empty());
    }
}
