//! Guests that aren't as they should be, in words. Pure.

use std::time::{Duration, UNIX_EPOCH};

use crate::firewall::Severity;
use crate::topology::{Name, Topology};
use crate::vm::{Pending, Trouble};

use super::{Finding, Kind};
use crate::host::apply::preview::restart_command;

/// What is wrong with a guest.
pub(super) fn troubled(name: &Name, trouble: &Trouble) -> Finding {
    let since = trouble.since.map(|since| format!(", since {}", time(since))).unwrap_or_default();
    Finding {
        severity: Severity::Warning,
        kind: Kind::Guest,
        object: format!("VM {name}"),
        found: format!("{}{since}", trouble.what),
        expected: "running, with a supervisor".into(),
        remedy: trouble.remedy.clone(),
        commands: Vec::new(),
    }
}

fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// What waits for a guest's next start: nothing is wrong, but the guest isn't
/// what the spec says.
pub(super) fn waits(topology: &Topology, name: &Name, pending: &[Pending]) -> Finding {
    let texts = |text: fn(&Pending) -> &String| {
        let one = |one: &Pending| format!("{} {}", one.key, text(one));
        pending.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let command = restart_command(topology, name);
    Finding {
        severity: Severity::Info,
        kind: Kind::Guest,
        object: format!("VM {name}"),
        found: format!("runs with {}", texts(|pending| &pending.from)),
        expected: format!("{}, which waits for its next start", texts(|pending| &pending.to)),
        remedy: command.clone(),
        commands: vec![command],
    }
}
