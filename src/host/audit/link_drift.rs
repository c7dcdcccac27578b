//! The steps back for links, addresses and kernel settings → what isn't as it
//! was applied. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::firewall::Severity;
use crate::guard::Attached;
use crate::link::{Link, PortKind, Setting, Step, Sysctl};

use super::drift::{NOTHING, REPAIR};
use super::{Finding, Kind};
use crate::host::apply::current::Current;
use crate::host::apply::step;

const ABSENT: &str = "not there";

/// A finding's severity, object, found and expected.
type Words = (Severity, String, String, String);

/// The steps of one plan that are about links.
pub(super) struct LinkDrift<'a> {
    current: &'a Current,
    /// What the plan makes anew. What else it does to it follows from that.
    made: BTreeSet<&'a str>,
    /// Ports that left their bridge, which keeps their settings there.
    moved: BTreeSet<&'a str>,
    /// Bridges that were down or had another MAC, and lost their neighbours by
    /// it.
    emptied: BTreeSet<&'a str>,
    /// Neighbours with another MAC.
    astray: BTreeSet<(&'a str, IpAddr)>,
}

impl<'a> LinkDrift<'a> {
    pub fn new(steps: &'a [step::Step], current: &'a Current) -> Self {
        let links = || {
            steps.iter().filter_map(|step| match step {
                step::Step::Link(step) => Some(step),
                _ => None,
            })
        };
        let made = links().flat_map(|step| match step {
            Step::CreateVeth { name, namespace, .. } => vec![name.as_str(), namespace],
            Step::CreateBridge { name, .. }
            | Step::CreateTap { name, .. }
            | Step::CreateNamespace { name, .. } => vec![name.as_str()],
            _ => Vec::new(),
        });
        let moved = links().filter_map(|step| match step {
            Step::Set { name, setting: Setting::Bridge(_) } => Some(name.as_str()),
            _ => None,
        });
        let emptied = links().filter_map(|step| match step {
            Step::Set { name, setting: Setting::Up | Setting::Mac(_) } => Some(name.as_str()),
            _ => None,
        });
        let astray = links().filter_map(|step| match step {
            Step::RemoveNeighbour { name, address, .. } => Some((name.as_str(), *address)),
            _ => None,
        });
        Self {
            current,
            made: made.collect(),
            moved: moved.collect(),
            emptied: emptied.collect(),
            astray: astray.collect(),
        }
    }

    /// What a step is taken for; nothing where it follows from another.
    pub fn findings(&self, step: &Step) -> Vec<Finding> {
        let (namespace, inner) = match step {
            Step::Inside { namespace, step } => (Some(namespace.as_str()), &**step),
            step => (None, step),
        };
        if self.follows(inner, namespace) {
            return Vec::new();
        }
        let finding = |(severity, object, found, expected)| Finding {
            severity,
            kind: Kind::Drift,
            object: match namespace {
                Some(namespace) => format!("{object} in namespace {namespace}"),
                None => object,
            },
            found,
            expected,
            remedy: REPAIR.into(),
            commands: vec![step.to_string()],
        };
        self.words(inner, namespace).into_iter().map(finding).collect()
    }

    /// Whether a step follows from something's being made, or from a port's
    /// having left its bridge.
    fn follows(&self, step: &Step, namespace: Option<&str>) -> bool {
        match (step, namespace) {
            (_, Some(namespace)) if self.made.contains(namespace) => true,
            (Step::Sysctl(sysctl), _) => sysctl.key.split('/').any(|part| self.made.contains(part)),
            (Step::Set { name, setting: Setting::QuietPort | Setting::NoBridge }, None)
            | (Step::AddFdb { name, .. }, None) => {
                self.moved.contains(name.as_str()) || self.made.contains(name.as_str())
            }
            (Step::AddNeighbour { name, address, .. }, None) => {
                let name = name.as_str();
                [&self.made, &self.emptied].iter().any(|names| names.contains(name))
                    || self.astray.contains(&(name, *address))
            }
            (Step::RemoveFdb { name, .. }, None) => self.moved.contains(name.as_str()),
            (
                Step::AddProxy { name, .. }
                | Step::AddAddress { name, .. }
                | Step::Set { name, .. }
                | Step::Delete { name },
                None,
            ) => self.made.contains(name.as_str()),
            _ => false,
        }
    }

    fn words(&self, step: &Step, namespace: Option<&str>) -> Vec<Words> {
        let links = &self.current.links;
        match step {
            Step::Set { name, setting } => {
                let seen = match namespace {
                    Some(namespace) => {
                        links.namespaces.get(namespace).and_then(|inside| inside.link.as_ref())
                    }
                    None => links.links.get(name),
                };
                self.of_setting(name, setting, seen.unwrap_or(&Link::default()))
            }
            Step::Sysctl(sysctl) => {
                let found = links.sysctls.get(&sysctl.key).map_or(ABSENT, String::as_str);
                let what = format!("sysctl {}", sysctl.key);
                vec![(sysctl_severity(sysctl), what, found.into(), sysctl.value.clone())]
            }
            step => self.of_object(step).into_iter().collect(),
        }
    }

    /// Of what is there or isn't.
    fn of_object(&self, step: &Step) -> Option<Words> {
        let warning = |what: String, found: &str, expected: &str| {
            Some((Severity::Warning, what, found.to_string(), expected.to_string()))
        };
        match step {
            Step::CreateBridge { name, .. } => {
                warning(format!("bridge {name}"), ABSENT, "a bridge of hostctl's")
            }
            Step::CreateTap { name, .. } => warning(format!("TAP {name}"), ABSENT, "a VM's port"),
            Step::CreateVeth { name, namespace, .. } => {
                let there = self.current.links.links.contains_key(name);
                let found = if there { "not as it was made" } else { ABSENT };
                warning(format!("link {name}"), found, &format!("the port of namespace {namespace}"))
            }
            Step::CreateNamespace { name, .. } => {
                warning(format!("namespace {name}"), ABSENT, "a subnet's namespace")
            }
            Step::DeleteNamespace { name } => warning(
                format!("namespace {name}"),
                "marked as hostctl's",
                "none of that name: no subnet accounts for it",
            ),
            Step::AddRoute { to, via, .. } => {
                warning(format!("route to {to}"), ABSENT, &format!("via {via}"))
            }
            Step::RemoveRoute { to, via, .. } => {
                warning(format!("route to {to}"), &format!("via {via}"), NOTHING)
            }
            Step::AddProxy { name, address } => warning(
                format!("proxy entry {address} of {name}"),
                ABSENT,
                "the bridge answers for that guest",
            ),
            Step::RemoveProxy { name, address } => {
                warning(format!("proxy entry {address} of {name}"), "there", "none: it is no guest's address")
            }
            Step::AddNeighbour { name, address, mac } => {
                warning(format!("neighbour {address} of {name}"), ABSENT, &format!("the guest's MAC, {mac}"))
            }
            Step::RemoveNeighbour { name, address, mac: [a, b, c, d, e, g] } => {
                let found = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}");
                let what = format!("neighbour {address} of {name}");
                let expected = "none, or its guest's: another would get what is that guest's";
                Some((Severity::Critical, what, found, expected.into()))
            }
            Step::AddAddress { name, address } => {
                warning(format!("address {address} of {name}"), ABSENT, "there")
            }
            Step::RemoveAddress { name, address } => {
                warning(format!("address {address} of {name}"), "there", NOTHING)
            }
            Step::AddFdb { name, mac } => warning(
                format!("forwarding entry {mac} of {name}"),
                ABSENT,
                "the guest's MAC, which isn't learnt",
            ),
            Step::RemoveFdb { name, mac: [a, b, c, d, e, g] } => {
                let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}");
                let expected = "none: that guest would get another's frames";
                let what = format!("forwarding entry {mac} of {name}");
                Some((Severity::Critical, what, "there".into(), expected.into()))
            }
            Step::Delete { name } => warning(
                format!("link {name}"),
                "marked as hostctl's",
                "none of that name: nothing that was applied accounts for it",
            ),
            // With words of their own; within a namespace there is no other.
            Step::Set { .. } | Step::Sysctl(_) | Step::Inside { .. } => None,
        }
    }

    fn of_setting(&self, name: &str, setting: &Setting, link: &Link) -> Vec<Words> {
        let (info, warning, critical) = (Severity::Info, Severity::Warning, Severity::Critical);
        let one = |severity, what: &str, found: &str, expected: &str| {
            vec![(severity, format!("{what} of {name}"), found.to_string(), expected.to_string())]
        };
        let master = link.master.and_then(|index| self.current.links.name_of(index));
        match setting {
            // Who did it is said with the other things that a TAP's holder can do.
            Setting::Mac(_) | Setting::Reclaim if link.kind == PortKind::Tap.link_kind() => Vec::new(),
            Setting::Reclaim => Vec::new(),
            Setting::Mac(mac) => one(warning, "MAC", "another", &mac.to_string()),
            Setting::WholeChecksums => one(
                critical,
                "late checksums",
                "on: bytes are written into packets after they were judged",
                "off",
            ),
            Setting::Group => one(warning, "group", "another", "hostctl's"),
            Setting::Alias(alias) => one(info, "alias", link.alias.as_deref().unwrap_or("none"), alias),
            Setting::Altname(altname) => one(info, "other name", ABSENT, altname),
            Setting::NoStp => one(warning, "spanning tree", "on", "off"),
            Setting::NoMulticastSnooping => one(warning, "multicast snooping", "on", "off"),
            Setting::FilterLldp => {
                one(warning, "LLDP's group", "handed to the host unfiltered", "dropped by the bridge's rules")
            }
            // Of a bridge that is gone, its own finding says so.
            Setting::Bridge(bridge) if self.made.contains(bridge.as_str()) => Vec::new(),
            Setting::Bridge(bridge) => match master {
                Some(other) => one(critical, "bridge", other, bridge),
                None => one(warning, "bridge", "none", bridge),
            },
            // The step that sets the right one says so.
            Setting::NoBridge => Vec::new(),
            Setting::QuietPort => {
                let flags = [
                    (critical, "isolation", !link.isolated, "off", "on: guests meet where policies are"),
                    (warning, "learning", link.learning, "on", "off: a guest could take another's frames"),
                    (
                        warning,
                        "flooding",
                        link.flood,
                        "on",
                        "off: a guest would see frames for unknown addresses",
                    ),
                ];
                let differing = flags.into_iter().filter(|(_, _, differs, ..)| *differs);
                differing
                    .flat_map(|(severity, what, _, found, expected)| one(severity, what, found, expected))
                    .collect()
            }
            Setting::Guard => {
                let (found, header) = match (link.guard, link.tap.as_ref().is_some_and(|tap| tap.vnet_header))
                {
                    (Some(Attached::Program(_)), _) => ("another program", true),
                    (Some(Attached::Other), _) => ("another filter before it", true),
                    (_, header) => (ABSENT, header),
                };
                let severity = if header { critical } else { warning };
                one(severity, "guard", found, "it judges the virtio header; without it nothing passes")
            }
            Setting::NoGuard => one(info, "guard", "there", "none: the guest has no virtio header"),
            Setting::Up => one(warning, "state", "down", "up"),
            Setting::Down => one(warning, "state", "up", "down"),
        }
    }
}

/// Settings that, with another value, let a guest do more than it may.
fn sysctl_severity(sysctl: &Sysctl) -> Severity {
    let setting = sysctl.key.rsplit('/').next().unwrap_or_default();
    match setting {
        "route_localnet" | "accept_redirects" | "accept_source_route" | "accept_ra" => Severity::Critical,
        "disable_ipv6" if sysctl.value == "1" => Severity::Critical,
        _ => Severity::Warning,
    }
}
