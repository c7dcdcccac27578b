//! The steps back to what was applied → what isn't as it was, object by
//! object, and how bad that is. Pure.

use crate::firewall::{self, Live, Severity};
use crate::link::Conflict;

use super::link_drift::LinkDrift;
use super::{Finding, Kind};
use crate::host::apply::current::Current;
use crate::host::apply::goal::Goal;
use crate::host::apply::step::Step;

pub(super) const NOTHING: &str = "nothing";
pub(super) const REPAIR: &str = "hostctl audit --repair";

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
    let links = LinkDrift::new(steps, current);
    let mut findings = Vec::new();
    for step in steps {
        match step {
            Step::LoadFirewall { reason, .. } => firewall(goal, current, reason, &mut findings),
            Step::ChangeFirewall(_) => firewall(goal, current, "elements differ", &mut findings),
            Step::Link(step) => findings.extend(links.findings(step)),
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
            Step::Evict { .. } | Step::ForgetMarks(_) | Step::CutFlows(_) => {}
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
