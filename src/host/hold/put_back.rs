//! Puts hostctl's tables back where somebody took them: at once, and before
//! anything else is looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::firewall::{self, FlowPolicy, Gone, Stamp, Tables};
use crate::topology::FirewallMode;

use crate::host::apply::execute::cut_flows;
use crate::host::kept::{forwarding, generation, loaded};
use crate::host::{Events, Host, HostError, Lock};

/// While another hostctl changes the host, and after a failure.
const BUSY: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(500);
/// After having loaded them, at most.
const REST: Duration = Duration::from_millis(50);
/// The kernel tells of each change; this is for what it can't.
const INTERVAL: Duration = Duration::from_secs(5);

/// That tables were put back, or are held now that weren't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PutBack {
    /// Whether they were gone.
    pub gone: bool,
    /// How long it took, from having looked, in milliseconds.
    pub milliseconds: u64,
}

impl Host {
    /// Loads what was loaded last where one of hostctl's tables is gone, or
    /// could be held and isn't; none where all is well. It was rehearsed when
    /// it was loaded first.
    ///
    /// # Errors
    /// Where another hostctl is at it, or it can't be loaded.
    pub(super) async fn put_back(&self) -> Result<Option<PutBack>, HostError> {
        let began = Instant::now();
        if !self.lacks_tables() {
            return Ok(None);
        }
        let lock = Lock::take(&self.root, "firewall hold")?;
        // Whoever held the lock may have put them back.
        let gone = !Tables::read().is_ok_and(|tables| tables.are_complete());
        if !self.lacks_tables() {
            return Ok(None);
        }
        if let Some(ruleset) = loaded::last(&self.root) {
            let before = Stamp::read().ok();
            super::way(&self.root)?.load(&firewall::render(&ruleset)?)?;
            loaded::write(&self.root, before.as_ref(), 1, &ruleset);
        } else {
            let Some(last) = generation::last(&self.root)? else { return Ok(None) };
            self.load_locked(&lock, &last.compile()?, &mut crate::host::Silent).await?;
        }
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Some(PutBack { gone, milliseconds }))
    }

    /// Ends the flows that began while no table was there, where they aren't
    /// allowed.
    ///
    /// # Errors
    /// Where the kernel doesn't answer.
    fn end_what_began(&self) -> Result<(), HostError> {
        let Some(last) = generation::last(&self.root)? else { return Ok(()) };
        let interfaces = getifaddrs().map_err(|errno| HostError::Flows(errno.into()))?;
        let addresses = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
            v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
        });
        let host: BTreeSet<IpAddr> = addresses.collect();
        let on_link = forwarding::read(&self.root).surroundings.on_link;
        cut_flows(&FlowPolicy::new(&last.compile()?, host, &on_link, Gone::default()))
    }

    /// Whether a table is gone that should be there, or isn't held that could
    /// be.
    fn lacks_tables(&self) -> bool {
        let Ok(tables) = Tables::read() else { return false };
        if tables.are_complete() { super::is_missed(&self.root) } else { self.has_firewall() }
    }

    /// Whether there should be a firewall: `down` takes it away for good.
    fn has_firewall(&self) -> bool {
        let wanted = || {
            let topology = generation::last(&self.root).ok()??.compile().ok()?;
            Some(!topology.networks.is_empty() || topology.firewall == FirewallMode::Full)
        };
        loaded::last(&self.root).is_some() || wanted().unwrap_or_default()
    }
}

/// Goes on putting them back, until telling fails.
pub(super) async fn keep(
    host: &Host,
    mut tell: impl FnMut(Result<PutBack, HostError>) -> Result<(), HostError>,
) -> Result<(), HostError> {
    let mut events = Events::of_tables().map_err(HostError::Events)?;
    let mut failure = None;
    loop {
        let began = Instant::now();
        let wait = match host.put_back().await {
            Ok(None) => INTERVAL,
            Ok(Some(done)) => {
                tell(Ok(done))?;
                if done.gone
                    && let Err(error) = host.end_what_began()
                {
                    tell(Err(error))?;
                }
                // However often they are taken, some of the time is others'.
                sleep(began.elapsed().min(REST)).await;
                Duration::ZERO
            }
            Err(HostError::Locked(_)) => BUSY,
            Err(error) => {
                let text = error.to_string();
                if failure.as_ref() != Some(&text) {
                    tell(Err(error))?;
                }
                failure = Some(text);
                sleep(AGAIN).await;
                continue;
            }
        };
        failure = None;
        if let Ok(changed) = timeout(wait, events.changed()).await {
            changed.map_err(HostError::Events)?;
        }
    }
}

/// As [`keep`], for a thread of its own, in the network namespace of whoever
/// starts it.
pub(in crate::host) fn keep_beside(
    host: &Host,
    tell: impl FnMut(Result<PutBack, HostError>) -> Result<(), HostError>,
) -> Result<(), HostError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(HostError::Events)?.block_on(keep(host, tell))
}
