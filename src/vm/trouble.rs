//! What is wrong with a VM, since when, and what to do. Pure.

use serde::Serialize;

use super::control::VmReport;
use super::observe::Observed;
use super::state::State;

/// So many crashes in a row are no accident.
const LOOP: u32 = 3;

/// Something that isn't as it should be with a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What.
    pub what: String,
    /// Since when, in seconds after the epoch, where that is known.
    pub since: Option<u64>,
    /// What to do.
    pub remedy: String,
}

impl Observed {
    /// What is wrong with it; nothing where it runs, or was stopped.
    pub fn trouble(&self) -> Option<Trouble> {
        let name = &self.name;
        let trouble = |what: &str, since, remedy: String| Some(Trouble { what: what.into(), since, remedy });
        let Some(status) = &self.status else {
            return match (self.pid, self.supervised, &self.failure) {
                (_, true, _) => trouble(
                    "its supervisor doesn't answer",
                    None,
                    format!(
                        "kill -KILL $(cat /run/hostctl/vms/{name}/lock), then hostctl apply: the guest goes on"
                    ),
                ),
                (Some(_), false, _) => trouble(
                    "runs without a supervisor: nobody starts it again or writes its console down",
                    None,
                    "hostctl apply, or its unit: the guest goes on".into(),
                ),
                (None, false, Some(why)) => trouble(
                    &format!("failed: {why}"),
                    self.failed_at,
                    format!("hostctl vm logs {name} --of qemu says more; hostctl vm up {name} tries again"),
                ),
                (None, false, None) => None,
            };
        };
        if let Some(since) = status.silent_since {
            let what = "QEMU doesn't answer on its machine protocol";
            return trouble(what, Some(since), format!("hostctl vm restart {name}"));
        }
        match &status.state {
            State::Paused => trouble(&status.text(), status.since, remedy(status)),
            State::Failed(why) => trouble(
                &format!("{}failed: {why}{}", in_a_loop(status), again(status)),
                status.since,
                format!("hostctl vm logs {name}, or --of qemu"),
            ),
            _ if status.failures >= LOOP => {
                let last = status.last_failure.as_deref().unwrap_or("not known");
                trouble(
                    &format!("{}the last time: {last}", in_a_loop(status)),
                    status.since,
                    format!("hostctl vm logs {name}, or --of qemu"),
                )
            }
            _ => {
                let errors = status.disk_errors.as_ref()?;
                let what =
                    format!("{} of its disks' answers were errors, the last: {}", errors.count, errors.last);
                trouble(&what, Some(errors.at), "look at the disk's file system and device".into())
            }
        }
    }
}

fn in_a_loop(status: &VmReport) -> String {
    match status.failures {
        0..LOOP => String::new(),
        failures => format!("crashed {failures} times in a row, "),
    }
}

fn again(status: &VmReport) -> String {
    match status.retry_in_ms {
        Some(pause) => format!("; starts again after {} s", pause.div_ceil(1000)),
        None => String::new(),
    }
}

fn remedy(status: &VmReport) -> String {
    let name = &status.name;
    match &status.held {
        Some(held) if held.no_space => {
            format!(
                "make room where its file lies: the guest goes on by itself, or at once by hostctl vm resume {name}"
            )
        }
        Some(held) if held.state == "internal-error" || held.state == "guest-panicked" => {
            format!("hostctl vm restart {name}")
        }
        Some(held) if held.state == "io-error" => {
            format!("repair the disk, then hostctl vm resume {name}")
        }
        _ => format!("hostctl vm resume {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::{DiskErrors, Held};
    use super::*;
    use crate::topology::Name;

    fn observed(status: Option<VmReport>) -> Observed {
        Observed {
            name: Name::new("web").unwrap(),
            launched: None,
            booted: Default::default(),
            pid: Some(7),
            supervised: true,
            status,
            failure: None,
            failed_at: None,
        }
    }

    fn status(state: State) -> VmReport {
        VmReport { state, since: Some(5), ..VmReport::new(&Name::new("web").unwrap()) }
    }

    fn what(observed: &Observed) -> String {
        observed.trouble().map(|trouble| trouble.what).unwrap_or_default()
    }

    #[test]
    fn a_guest_that_runs_or_was_stopped_is_no_trouble() {
        assert_eq!(observed(Some(status(State::Ready))).trouble(), None);
        let stopped = Observed { pid: None, supervised: false, ..observed(None) };
        assert_eq!(stopped.trouble(), None);
    }

    #[test]
    fn each_kind_says_what_since_when_and_what_to_do() {
        let held = Held { no_space: true, disk: Some("volume1".into()), ..Held::of("io-error").unwrap() };
        let paused =
            VmReport { held: Some(held), disk: Some("volumes[0] /srv/a".into()), ..status(State::Paused) };
        let trouble = observed(Some(paused)).trouble().unwrap();
        assert_eq!(trouble.what, "paused: no room is left for volumes[0] /srv/a");
        assert_eq!(trouble.since, Some(5));
        assert!(trouble.remedy.contains("hostctl vm resume web"));

        let failed =
            VmReport { failures: 4, retry_in_ms: Some(8000), ..status(State::Failed("killed".into())) };
        assert_eq!(
            what(&observed(Some(failed))),
            "crashed 4 times in a row, failed: killed; starts again after 8 s"
        );
        let between = VmReport { failures: 3, last_failure: Some("killed".into()), ..status(State::Running) };
        assert_eq!(what(&observed(Some(between))), "crashed 3 times in a row, the last time: killed");

        assert_eq!(what(&observed(None)), "its supervisor doesn't answer");
        let orphan = Observed { supervised: false, ..observed(None) };
        assert!(what(&orphan).starts_with("runs without a supervisor"));
        let dead = Observed { pid: None, failure: Some("no image".into()), failed_at: Some(9), ..orphan };
        assert_eq!((what(&dead), dead.trouble().unwrap().since), ("failed: no image".into(), Some(9)));

        let silent = VmReport { silent_since: Some(8), ..status(State::Ready) };
        assert_eq!(observed(Some(silent)).trouble().unwrap().since, Some(8));
        let errors = DiskErrors { count: 2, last: "read of disk: Input/output error".into(), at: 6 };
        let told = VmReport { disk_errors: Some(errors), ..status(State::Ready) };
        assert!(what(&observed(Some(told))).contains("Input/output error"));
    }
}
