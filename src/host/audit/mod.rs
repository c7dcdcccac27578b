//! Whether the host still is what was applied, and whether anything else on it
//! is in the way of guests, or of what keeps them apart. Changes nothing.

mod drift;
mod events;
pub(super) mod foreign;
mod guests;
mod link_drift;
mod repair;
mod routes;
pub(super) mod settings;
mod taps;
mod watch;

use serde::Serialize;

use crate::firewall::{Difference, Listing, Ruleset, Severity};
use crate::root_dir::RootDir;
use crate::topology::Topology;
use crate::vm;

use super::apply::goal::{Goal, Restart, goal};
use super::apply::plan::{conflicts, plan, waiting};
use super::kept::generation;
use super::{HostError, observe_listed};

pub use events::Events;
pub use watch::{News, Tell, WatchOptions, watch};

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something of hostctl's isn't as it was applied; `--repair` puts it back.
    Drift,
    /// A guest or an app doesn't run.
    Guest,
    /// Something of another program's is in the way.
    Foreign,
    /// A setting of the machine's.
    Setting,
}

/// Something that an audit found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// Which object.
    pub object: String,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
    /// What to do.
    pub remedy: String,
    /// The commands that do it by hand, or for now.
    pub commands: Vec<String>,
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The generation that the host was compared with.
    pub generation: Option<u64>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Whether there is a finding at least as bad as that.
    pub fn fails(&self, on: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= on)
    }

    /// Whether something isn't as it was applied.
    pub fn has_drift(&self) -> bool {
        self.findings.iter().any(|finding| finding.kind == Kind::Drift)
    }
}

/// The topology of the last generation; none where nothing was applied.
pub(super) fn applied(root: &RootDir) -> Result<(Option<u64>, Topology), HostError> {
    let Some(last) = generation::last(root)? else { return Ok((None, Topology::empty())) };
    Ok((Some(last.number), last.compile()?))
}

/// Looks at everything.
///
/// # Errors
/// Where the caller isn't root, the kernel or nft doesn't answer, or the last
/// generation can't be read.
pub async fn audit(root: &RootDir) -> Result<Audit, HostError> {
    audit_again(root, &mut Remembered::default()).await
}

/// What was worked out before, and is the same as long as nothing changes.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// A firewall, and what the kernel makes of it.
    rehearsed: Option<(Ruleset, Listing)>,
    foreign: Option<foreign::Judged>,
}

/// As [`audit`], by somebody who remembers what was worked out before.
pub(super) async fn audit_again(root: &RootDir, remembered: &mut Remembered) -> Result<Audit, HostError> {
    if !rustix::process::geteuid().is_root() {
        return Err(HostError::NotRoot);
    }
    let (generation, topology) = applied(root)?;
    let current = observe_listed(root, &topology).await?;
    let mut findings = Vec::new();
    if generation.is_none() {
        findings.push(drift::nothing_applied());
    }
    // What was taken down is down.
    let down = topology.networks.is_empty() && current.firewall.is_empty();
    if generation.is_some() && !down {
        let known = remembered.rehearsed.take();
        let known = known.map(|(ruleset, listing)| Goal {
            topology: &topology,
            listed: ruleset.judgement,
            whole: &topology,
            ruleset,
            listing: Some(listing),
            difference: Difference::None,
            text: String::new(),
            forget: [None, None],
            restart: Restart::No,
        });
        let goal = goal(&topology, &current, known.as_ref())?;
        let steps = plan(&goal, &current);
        findings.extend(drift::drift(&goal, &current, &steps));
        let waiting = waiting(&topology, &current, &steps);
        findings.extend(waiting.into_iter().map(|(name, pending)| guests::waits(&topology, name, pending)));
        let mut listed = goal.ruleset;
        listed.judgement = goal.listed;
        remembered.rehearsed = goal.listing.map(|listing| (listed, listing));
        findings.extend(taps::taps(&topology, &current.links, current.guard));
        findings.extend(conflicts(&topology, &current).iter().map(drift::conflict));
    }
    let troubled = vm::observe(root)?;
    for seen in troubled.iter().filter(|seen| topology.vm(seen.name.as_str()).is_some()) {
        let Some(trouble) = seen.trouble() else { continue };
        // It says more than that the guest doesn't run.
        let found = guests::troubled(&seen.name, &trouble);
        findings.retain(|other| {
            other.object != found.object || other.severity < found.severity || other.kind != Kind::Guest
        });
        findings.push(found);
    }
    if !topology.networks.is_empty() {
        findings.extend(routes::routes(&topology, &current.links));
        let uplinks = &current.surroundings.uplinks;
        findings.extend(foreign::tables(&topology, uplinks, &current.links, &mut remembered.foreign));
        findings.extend(settings::settings(&topology, &current.surroundings.uplinks, &current.links)?);
        findings.extend(settings::forwarding(&topology, &current));
    }
    // A file that nothing loads is the doctor's business.
    let files = foreign::files();
    findings.extend(files.into_iter().filter(|finding| finding.severity > Severity::Info));
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then_with(|| (a.kind, &a.object).cmp(&(b.kind, &b.object)))
    });
    findings.dedup();
    Ok(Audit { generation, findings })
}
