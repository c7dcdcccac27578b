//! The steps back to what was applied → what isn't as it was, object by
//! object, and how bad that is. Pure.

use std::collections::BTreeSet;

use crate::firewall::{self, Live, Severity};
use crate::link::{self, Conflict, Link, PortKind, Setting};

use super::{Finding, Kind};
use crate::host::apply::current::Current;
use crate::host::apply::goal::Goal;
use crate::host::apply::step::Step;

const ABSENT: &str = "not there";
const NOTHING: &str = "nothing";
const REPAIR: &str = "hostctl audit --repair";

/// Where there is nothing to compare with.
pub(super) fn nothing_applied() -> Finding {
    Finding {
        severity: Severity::Info,
        kind: Kind::Drift,
        object: "generation".into(),
        found: "nothing was ever applied".into(),
        expected: "a generation to compare with".into(),
        remedy: "hostctl apply".into(),
        commands: Vec::new(),
    }
}

/// Something that hostctl didn't make, in the way of what it did.
pub(super) fn conflict(conflict: &Conflict) -> Finding {
    Finding {
        severity: Severity::Warning,
        kind: Kind::Foreign,
        object: match conflict {
            Conflict::Link { name, .. } | Conflict::Address { name, .. } | Conflict::Missing(name) => {
                format!("link {name}")
            }
            Conflict::Namespace(name) => format!("network namespace {name}"),
        },
        found: conflict.to_string(),
        expected: "nothing in the way: hostctl apply refuses until then".into(),
        remedy: "rename or remove it, or change the spec".into(),
        commands: Vec::new(),
    }
}

/// Everything that isn't as it was applied; `steps` is the plan from `current`
/// to `goal`, and a plan with steps has findings.
pub(super) fn drift(goal: &Goal<'_>, current: &Current, steps: &[Step]) -> Vec<Finding> {
    let (made, moved) = (made(steps), moved(steps));
    let mut findings = Vec::new();
    for step in steps {
        match step {
            Step::LoadFirewall { reason, .. } => firewall(goal, current, reason, &mut findings),
            Step::ChangeFirewall(_) => firewall(goal, current, "elements differ", &mut findings),
            Step::Link(step) if follows(step, &moved) => {}
            Step::Link(step) => findings.extend(of_link(step, current, &made, None)),
            Step::StopVm { name, reason } => {
                findings.push(guest(
                    Kind::Drift,
                    format!("VM {name}"),
                    format!("runs ({reason})"),
                    "stopped",
                    step,
                ));
            }
            Step::EndStray { pid, name } => {
                let found = format!("runs as process {pid}, and its runtime files are lost");
                findings.push(guest(Kind::Drift, format!("VM {name}"), found, "a supervised QEMU", step));
            }
            Step::StartVm { vm, reason } => {
                let running = current.guests.iter().any(|guest| guest.name == vm.name && guest.running);
                let found = if running { reason.as_str() } else { "doesn't run" };
                findings.push(guest(
                    Kind::Guest,
                    format!("VM {}", vm.name),
                    found.into(),
                    "running, with a supervisor",
                    step,
                ));
            }
            Step::StopApp { name, reason, .. } => {
                findings.push(guest(
                    Kind::Drift,
                    format!("app {name}"),
                    format!("runs ({reason})"),
                    "stopped",
                    step,
                ));
            }
            Step::StartApp { app } => {
                let (found, expected) = ("doesn't run, or has no supervisor", "running, with a supervisor");
                findings.push(guest(Kind::Guest, format!("app {}", app.name), found.into(), expected, step));
            }
            Step::KeepApart(_) => findings.push(Finding {
                severity: Severity::Warning,
                kind: Kind::Drift,
                object: "routing rules of hostctl's".into(),
                found: "not as they were made".into(),
                expected: "rules that keep networks apart where another program flushed the firewall".into(),
                remedy: REPAIR.into(),
                commands: step.commands(),
            }),
            // Consequences of the others.
            Step::Evict { .. } | Step::CutFlows(_) => {}
            Step::RemoveFirewall => findings.push(Finding {
                severity: Severity::Warning,
                kind: Kind::Drift,
                object: "tables of hostctl's".into(),
                found: "loaded".into(),
                expected: NOTHING.into(),
                remedy: REPAIR.into(),
                commands: step.commands(),
            }),
        }
    }
    findings
}

fn guest(kind: Kind, object: String, found: String, expected: &str, step: &Step) -> Finding {
    Finding {
        severity: Severity::Warning,
        kind,
        object,
        found,
        expected: expected.into(),
        remedy: "hostctl apply".into(),
        commands: step.commands(),
    }
}

/// What an audit finds where somebody flushed everything.
pub(super) fn tables_gone() -> Vec<Finding> {
    firewall::absence().into_iter().map(deviation).collect()
}

fn deviation(one: firewall::Deviation) -> Finding {
    Finding {
        severity: one.severity,
        kind: Kind::Drift,
        object: one.object,
        found: one.found,
        expected: one.expected,
        remedy: REPAIR.into(),
        commands: one.command.into_iter().collect(),
    }
}

fn firewall(goal: &Goal<'_>, current: &Current, reason: &str, findings: &mut Vec<Finding>) {
    let before = findings.len();
    let deviations = match (&current.firewall, &goal.listing) {
        (Live::Listed(live), Some(desired)) => firewall::deviations(live, desired),
        (Live::Listed(live), None) if live.is_empty() => firewall::absence(),
        _ => Vec::new(),
    };
    findings.extend(deviations.into_iter().map(deviation));
    if findings.len() == before {
        findings.push(Finding {
            severity: Severity::Critical,
            kind: Kind::Drift,
            object: "tables of hostctl's".into(),
            found: reason.into(),
            expected: "the tables as they were loaded".into(),
            remedy: REPAIR.into(),
            commands: Vec::new(),
        });
    }
}

/// Ports that left their bridge, which keeps their settings there.
fn moved(steps: &[Step]) -> BTreeSet<&str> {
    let moved = steps.iter().filter_map(|step| match step {
        Step::Link(link::Step::Set { name, setting: Setting::Bridge(_) }) => Some(name.as_str()),
        _ => None,
    });
    moved.collect()
}

/// Whether a step follows from a port's having left its bridge.
fn follows(step: &link::Step, moved: &BTreeSet<&str>) -> bool {
    match step {
        link::Step::Set { name, setting: Setting::QuietPort | Setting::NoBridge }
        | link::Step::AddFdb { name, .. }
        | link::Step::RemoveFdb { name, .. } => moved.contains(name.as_str()),
        _ => false,
    }
}

/// What the steps make anew. What else they do to it follows from that.
fn made(steps: &[Step]) -> BTreeSet<&str> {
    let made = steps.iter().filter_map(|step| match step {
        Step::Link(
            link::Step::CreateBridge { name, .. }
            | link::Step::CreateTap { name, .. }
            | link::Step::CreateVeth { name, .. }
            | link::Step::CreateNamespace { name, .. },
        ) => Some(name.as_str()),
        _ => None,
    });
    let inside = steps.iter().filter_map(|step| match step {
        Step::Link(link::Step::CreateVeth { namespace, .. }) => Some(namespace.as_str()),
        _ => None,
    });
    made.chain(inside).collect()
}

/// A finding's severity, object, found and expected.
type Words = (Severity, String, String, String);

fn of_link(
    step: &link::Step,
    current: &Current,
    made: &BTreeSet<&str>,
    namespace: Option<&str>,
) -> Vec<Finding> {
    let absent = Link::default();
    let inside =
        namespace.map(|name| current.links.namespaces.get(name).and_then(|inside| inside.link.as_ref()));
    let seen = |name: &str| match inside {
        Some(link) => link.unwrap_or(&absent),
        None => current.links.links.get(name).unwrap_or(&absent),
    };
    let about = |what: String| match namespace {
        Some(namespace) => format!("{what} in namespace {namespace}"),
        None => what,
    };
    let (warning, critical) = (Severity::Warning, Severity::Critical);
    let new = |name: &str| namespace.is_none() && made.contains(name);
    let one = |severity, what: String, found: &str, expected: &str| -> Vec<Words> {
        vec![(severity, about(what), found.into(), expected.into())]
    };
    let words: Vec<Words> = match step {
        link::Step::CreateBridge { name, .. } => {
            one(warning, format!("bridge {name}"), ABSENT, "a bridge of hostctl's")
        }
        link::Step::CreateTap { name, .. } => one(warning, format!("TAP {name}"), ABSENT, "a VM's port"),
        link::Step::CreateVeth { name, namespace, .. } => {
            let found = if current.links.links.contains_key(name) { "not as it was made" } else { ABSENT };
            one(warning, format!("link {name}"), found, &format!("the port of namespace {namespace}"))
        }
        link::Step::CreateNamespace { name, .. } => {
            one(warning, format!("namespace {name}"), ABSENT, "a subnet's namespace")
        }
        link::Step::DeleteNamespace { name } => one(
            warning,
            format!("namespace {name}"),
            "marked as hostctl's",
            "none of that name: no subnet accounts for it",
        ),
        link::Step::Inside { namespace, step } => {
            return if made.contains(namespace.as_str()) {
                Vec::new()
            } else {
                of_link(step, current, made, Some(namespace))
            };
        }
        link::Step::AddRoute { to, via, .. } => {
            one(warning, format!("route to {to}"), ABSENT, &format!("via {via}"))
        }
        link::Step::RemoveRoute { to, via, .. } => {
            one(warning, format!("route to {to}"), &format!("via {via}"), NOTHING)
        }
        link::Step::AddProxy { name, .. }
        | link::Step::AddAddress { name, .. }
        | link::Step::AddFdb { name, .. }
        | link::Step::Set { name, .. }
            if new(name) =>
        {
            Vec::new()
        }
        link::Step::AddProxy { name, address } => one(
            warning,
            format!("proxy entry {address} of {name}"),
            ABSENT,
            "the bridge answers for that guest",
        ),
        link::Step::RemoveProxy { name, address } => one(
            warning,
            format!("proxy entry {address} of {name}"),
            "there",
            "none: it is no guest's address",
        ),
        link::Step::AddAddress { name, address } => {
            one(warning, format!("address {address} of {name}"), ABSENT, "there")
        }
        link::Step::RemoveAddress { name, address } => {
            one(warning, format!("address {address} of {name}"), "there", NOTHING)
        }
        link::Step::AddFdb { name, mac } => one(
            warning,
            format!("forwarding entry {mac} of {name}"),
            ABSENT,
            "the guest's MAC, which isn't learnt",
        ),
        link::Step::RemoveFdb { name, mac: [a, b, c, d, e, g] } => {
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}");
            one(
                critical,
                format!("forwarding entry {mac} of {name}"),
                "there",
                "none: that guest would get another's frames",
            )
        }
        link::Step::Delete { name } if new(name) => Vec::new(),
        link::Step::Delete { name } => one(
            warning,
            format!("link {name}"),
            "marked as hostctl's",
            "none of that name: nothing that was applied accounts for it",
        ),
        link::Step::Set { name, setting } => of_setting(name, setting, seen(name), current, made)
            .into_iter()
            .map(|(severity, what, found, expected)| (severity, about(what), found, expected))
            .collect(),
        link::Step::Sysctl(sysctl) => {
            let of_new = sysctl.key.split('/').any(|part| made.contains(part));
            let found = current.links.sysctls.get(&sysctl.key).map_or(ABSENT, String::as_str);
            if of_new {
                Vec::new()
            } else {
                one(sysctl_severity(sysctl), format!("sysctl {}", sysctl.key), found, &sysctl.value)
            }
        }
    };
    let command = match namespace {
        Some(namespace) => {
            link::Step::Inside { namespace: namespace.into(), step: Box::new(step.clone()) }.to_string()
        }
        None => step.to_string(),
    };
    let finding = |(severity, object, found, expected)| Finding {
        severity,
        kind: Kind::Drift,
        object,
        found,
        expected,
        remedy: REPAIR.into(),
        commands: vec![command.clone()],
    };
    words.into_iter().map(finding).collect()
}

fn of_setting(
    name: &str,
    setting: &Setting,
    link: &Link,
    current: &Current,
    made: &BTreeSet<&str>,
) -> Vec<Words> {
    let (info, warning, critical) = (Severity::Info, Severity::Warning, Severity::Critical);
    let one = |severity, what: &str, found: &str, expected: &str| {
        vec![(severity, format!("{what} of {name}"), found.to_string(), expected.to_string())]
    };
    let master = link.master.and_then(|index| current.links.name_of(index));
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
        Setting::Bridge(bridge) if made.contains(bridge.as_str()) => Vec::new(),
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
        Setting::Up => one(warning, "state", "down", "up"),
        Setting::Down => one(warning, "state", "up", "down"),
    }
}

/// Settings that, with another value, let a guest do more than it may.
fn sysctl_severity(sysctl: &link::Sysctl) -> Severity {
    let setting = sysctl.key.rsplit('/').next().unwrap_or_default();
    match setting {
        "route_localnet" | "accept_redirects" | "accept_source_route" | "accept_ra" => Severity::Critical,
        "disable_ipv6" if sysctl.value == "1" => Severity::Critical,
        _ => Severity::Warning,
    }
}
