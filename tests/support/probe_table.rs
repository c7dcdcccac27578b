//! Probes, each with what should become of it, measured all at once.

use std::net::{IpAddr, SocketAddr};

use hostctl::testbed::{Expectation, ExpectedVerdict, Netns, Probe, Row, all_ok, probe_all, render};

#[derive(Default)]
pub struct ProbeTable {
    probes: Vec<(Netns, Probe)>,
    expectations: Vec<Expectation>,
}

impl ProbeTable {
    pub fn add(&mut self, from: (&str, &Netns), to: &str, probe: Probe, allowed: bool) {
        let expected = if allowed { ExpectedVerdict::Allowed } else { ExpectedVerdict::Dropped };
        let what = format!("{probe:?}");
        self.expectations.push(Expectation { from: from.0.into(), to: to.into(), what, expected });
        self.probes.push((from.1.clone(), probe));
    }

    /// Every way to open a flow to an address; `allowed` knows by protocol
    /// and port.
    pub fn every(
        &mut self,
        from: (&str, &Netns),
        to: &str,
        address: IpAddr,
        allowed: impl Fn(u8, u16) -> bool,
    ) {
        for port in [80, 22] {
            self.add(from, to, Probe::Tcp(SocketAddr::new(address, port)), allowed(6, port));
        }
        self.add(from, to, Probe::Udp(SocketAddr::new(address, 7)), allowed(17, 7));
        let icmp = if address.is_ipv4() { 1 } else { 58 };
        self.add(from, to, Probe::Icmp(address), allowed(icmp, 0));
    }

    /// As [`ProbeTable::every`], where one answer is for all of them.
    pub fn all(&mut self, from: (&str, &Netns), to: &str, address: IpAddr, allowed: bool) {
        self.every(from, to, address, |_, _| allowed);
    }

    /// Measures all; panics with those that differ, and `context`.
    pub fn check(self, context: &str) {
        let verdicts = probe_all(&self.probes);
        let rows: Vec<Row> = self
            .expectations
            .into_iter()
            .zip(verdicts)
            .map(|(expectation, measured)| Row { expectation, measured })
            .collect();
        let wrong: Vec<Row> = rows.iter().filter(|row| !row.is_ok()).cloned().collect();
        assert!(all_ok(&rows), "{} of {} differ\n{}\n{context}", wrong.len(), rows.len(), render(&wrong));
    }
}
