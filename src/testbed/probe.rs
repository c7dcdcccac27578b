//! Probes from inside the testbed's namespaces.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use super::netns::Netns;
use crate::probe::attempt;
pub use crate::probe::{DEFAULT_TIMEOUT, Probe, Verdict};

/// Probes that run at the same time; each is a thread.
const AT_ONCE: usize = 128;

/// Tries one thing from inside a namespace.
pub fn probe(netns: &Netns, probe: Probe, timeout: Duration) -> Verdict {
    probe_from(netns, None, probe, timeout)
}

/// As [`probe`], from a source address of the caller's choice; it has to be
/// one of the namespace's.
pub fn probe_from(netns: &Netns, source: Option<IpAddr>, probe: Probe, timeout: Duration) -> Verdict {
    netns.try_run(|| attempt(source, probe, timeout)).unwrap_or_else(Verdict::unsent)
}

/// Tries many things at the same time, with [`DEFAULT_TIMEOUT`]; the verdicts
/// are in the order of the probes.
pub fn probe_all(probes: &[(Netns, Probe)]) -> Vec<Verdict> {
    probe_all_within(probes, DEFAULT_TIMEOUT)
}

/// As [`probe_all`]: 128 drops cost one timeout.
pub fn probe_all_within(probes: &[(Netns, Probe)], timeout: Duration) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(probes.len());
    for batch in probes.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let start = |(netns, what): &'_ (Netns, Probe)| {
                let (netns, what) = (netns.clone(), *what);
                scope.spawn(move || match netns.enter_current_thread() {
                    Ok(()) => attempt(None, what, timeout),
                    Err(error) => Verdict::unsent(error),
                })
            };
            let threads: Vec<_> = batch.iter().map(start).collect();
            for thread in threads {
                verdicts.push(thread.join().unwrap_or_else(|_| Verdict::unsent("the probe's thread died")));
            }
        });
    }
    verdicts
}
