//! The firewall without anything else: at boot, before there is a network to
//! guard, and whenever another program has flushed it. No link, no guest, no
//! generation.
//!
//! Whoever asks for it can't wait for an operator. So where the wanted firewall
//! can't be had, the one that was applied last is loaded; where that can't be
//! had either, and nothing of hostctl's is loaded, the guests' bridges are shut.

use std::time::Duration;

use crate::link::{self, Setting};
use crate::private;
use crate::spec::{Checked, SpecError};
use crate::topology::Topology;

use super::goal::goal_in;
use super::observe::observe_network;
use super::plan::firewall_plan;
use super::surroundings::surroundings_as_they_are;
use super::watch::Silent;
use crate::host::confirm::unconfirmed::{self, Due, Record};
use crate::host::kept::claim::claim;
use crate::host::kept::{action_log, drop_in, generation};
use crate::host::{Generation, Host, HostError, Lock, Outcome, Step, Watch};

/// How long another hostctl may be at it: guests that are stopped take their
/// time. An apply whose rules were flushed on the way notices and fails, but
/// this one must not give up for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why the wanted firewall isn't loaded, and what is in its place.
#[derive(Debug, thiserror::Error)]
#[error("{cause}\n  {consequence}")]
pub struct Unloaded {
    /// Why.
    pub cause: HostError,
    /// What the host is like now.
    pub consequence: String,
}

impl Host {
    /// Loads the firewall of the spec that `read` gives, and ends the flows that
    /// it forbids. It is read when no other hostctl changes it.
    ///
    /// # Errors
    /// Where the spec is refused, or its firewall can't be loaded: the error
    /// says what guards the host instead.
    pub async fn load_firewall(
        &self,
        read: impl FnOnce() -> Result<Checked<Topology>, SpecError>,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, Box<Unloaded>> {
        const COMMAND: &str = "apply --firewall-only";
        let nothing = "Nothing was done.";
        let unloaded =
            |cause, consequence: &str| Box::new(Unloaded { cause, consequence: consequence.into() });
        Self::check_root().map_err(|cause| unloaded(cause, nothing))?;
        let patience = PATIENCE.max(watch.patience());
        let lock = Lock::wait(&self.root, COMMAND, patience).map_err(|cause| unloaded(cause, nothing))?;
        // What stays open is no reason to go without a firewall.
        if let Err(error) = private::tighten(&self.root) {
            tracing::warn!("can't close to others what is hostctl's: {error}");
        }
        claim(&self.root).map_err(|cause| unloaded(cause, nothing))?;
        let result = self.load_wanted(&lock, read, watch).await;
        action_log::write(&self.root, COMMAND, &result);
        match result {
            Ok(outcome) => Ok(outcome),
            Err(cause) => {
                let consequence = self.fall_back(&lock, watch).await;
                Err(unloaded(cause, &consequence))
            }
        }
    }

    async fn load_wanted(
        &self,
        lock: &Lock,
        read: impl FnOnce() -> Result<Checked<Topology>, SpecError>,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        drop_in::recover(&self.root)?;
        // What waits for its confirmation is what the host is: nothing is built on it.
        if let Some(Record::Waiting(waiting)) = unconfirmed::read(&self.root)?
            && waiting.due() != Due::Now
            && let Some(last) = generation::last(&self.root)?
        {
            return self.load_locked(lock, &last.compile()?, watch).await;
        }
        let wanted = read()?;
        let confirmed = self.confirmed_instead_of(&wanted.spec)?;
        if confirmed.is_none() {
            // Guests that run on would be shut off.
            self.ask(&wanted.spec, watch)?;
        }
        self.load_locked(lock, confirmed.as_ref().unwrap_or(&wanted.compiled), watch).await
    }

    pub(in crate::host) async fn load_locked(
        &self,
        _lock: &Lock,
        topology: &Topology,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, HostError> {
        let current = observe_network(&self.root, topology).await?;
        let goal = goal_in(topology, &current, &surroundings_as_they_are(&current), None)?;
        let steps = firewall_plan(&goal, &current);
        self.execute(&steps, watch).await?;
        self.remember(&steps, &goal, &current);
        if !steps.is_empty() {
            let current = observe_network(&self.root, topology).await?;
            let surroundings = surroundings_as_they_are(&current);
            let left = firewall_plan(&goal_in(topology, &current, &surroundings, Some(&goal))?, &current);
            if !left.is_empty() {
                let steps = left.iter().flat_map(Step::commands).collect();
                return Err(HostError::Unverified { steps, consequence: String::new() });
            }
        }
        Ok(Outcome { steps, notes: Vec::new(), generation: None })
    }

    /// Guards the host with what there is, and says with what.
    async fn fall_back(&self, lock: &Lock, watch: &mut dyn Watch) -> String {
        let why = match self.load_last(lock, watch).await {
            Ok(number) => {
                return format!("The firewall is that of generation {number}.");
            }
            Err(why) => why,
        };
        match self.shut(watch).await {
            Ok(None) => format!("The firewall is as it was ({why})."),
            Ok(Some(0)) => format!("There is no firewall ({why}), and no network of hostctl's is up."),
            Ok(Some(count)) => format!(
                "There is no firewall ({why}), so hostctl's bridges were shut down ({count}); \
                 hostctl apply opens them again."
            ),
            Err(error) => {
                format!("There may be no firewall ({why}), and hostctl's bridges can't be shut down: {error}")
            }
        }
    }

    async fn load_last(&self, lock: &Lock, watch: &mut dyn Watch) -> Result<u64, String> {
        let last = self.confirmed().map_err(|error| error.to_string())?;
        let last = last.ok_or("nothing was applied yet")?;
        let topology = last.compile().map_err(|error| error.to_string())?;
        let loaded = self.load_locked(lock, &topology, watch).await;
        loaded.map(|_| last.number).map_err(|error| error.to_string())
    }

    /// What the host is to be, whatever its files say.
    fn confirmed(&self) -> Result<Option<Generation>, HostError> {
        match unconfirmed::read(&self.root)? {
            Some(Record::Waiting(waiting)) if waiting.due() == Due::Now => Ok(waiting.back_to),
            _ => generation::last(&self.root),
        }
    }

    /// Shuts hostctl's bridges, unless its tables guard them: how many.
    async fn shut(&self, watch: &mut dyn Watch) -> Result<Option<usize>, HostError> {
        // Where it can't be read whether there is a firewall, there is none.
        if crate::firewall::nft::observe().is_ok_and(|listing| !listing.is_empty()) {
            return Ok(None);
        }
        let links = link::Netlink::open()?.observe().await?;
        let bridges = links.ours().filter(|(_, link)| link.kind == "bridge" && link.up);
        let down = |name: &String| Step::Link(link::Step::Set { name: name.clone(), setting: Setting::Down });
        let steps: Vec<Step> = bridges.map(|(name, _)| down(name)).collect();
        // A watcher may interrupt what opens, not what closes.
        for (index, step) in steps.iter().enumerate() {
            _ = watch.before(index + 1, steps.len(), step);
        }
        self.execute(&steps, &mut Silent).await?;
        Ok(Some(steps.len()))
    }
}
