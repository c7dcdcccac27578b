//! Who reaches whom among the subnets' namespaces and to VMs: what the spec
//! says, beside what real packets find.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use serde::Serialize;

use crate::link::namespace;
use crate::packet::protocol;
use crate::probe::{DEFAULT_TIMEOUT, Probe, Verdict, attempt};
use crate::reach::{Entry, Flow, Model, Verdict as Judged, Vicinity};
use crate::topology::{Port, Topology, Transport};

/// Probes that run at the same time; each is a thread.
const AT_ONCE: usize = 64;

/// A test of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Test {
    /// The namespace that sends.
    pub from: String,
    /// The namespace, or VM, that should get it.
    pub to: String,
    /// Its address.
    pub address: IpAddr,
    /// A port, or a ping.
    pub port: Option<(Transport, u16)>,
    /// Whether the spec allows it.
    pub expected: bool,
}

/// What became of a [`Test`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The test.
    #[serde(flatten)]
    pub test: Test,
    /// Whether packets came through: an answer, or a refusal by the other end
    /// itself.
    pub reached: bool,
    /// What was seen.
    pub seen: String,
}

impl Tested {
    /// Whether packets do as the spec says.
    pub fn is_ok(&self) -> bool {
        self.reached == self.test.expected
    }
}

/// The tests between every namespace and every other guest.
pub fn all(topology: &Topology) -> Vec<Test> {
    let targets = topology
        .namespaces
        .iter()
        .map(|namespace| (namespace.name.to_string(), &namespace.port))
        .chain(topology.vms.iter().map(|vm| (vm.name.to_string(), &vm.port)));
    let targets: Vec<(String, &Port)> = targets.collect();
    let vicinity = Vicinity::assumed(topology);
    let model = Model::new(topology, &vicinity);
    let mut tests = Vec::new();
    for from in &topology.namespaces {
        for (to, port) in targets.iter().filter(|(_, port)| port.interface != from.port.interface) {
            tests.extend(pair(&model, (from.name.as_str(), &from.port), (to, port), None));
        }
    }
    tests
}

/// The tests of one pair, one a family.
pub fn between(
    topology: &Topology,
    from: (&str, &Port),
    to: (&str, &Port),
    port: Option<(Transport, u16)>,
) -> Vec<Test> {
    let vicinity = Vicinity::assumed(topology);
    pair(&Model::new(topology, &vicinity), from, to, port)
}

fn pair(
    model: &Model<'_>,
    (from, source): (&str, &Port),
    (to, target): (&str, &Port),
    port: Option<(Transport, u16)>,
) -> Vec<Test> {
    let entry = Entry::Guest(source.interface.clone());
    let v4 = (IpAddr::V4(source.address), IpAddr::V4(target.address));
    let v6 = source.v6.as_ref().zip(target.v6.as_ref());
    let v6 = v6.map(|(source, target)| (IpAddr::V6(source.address), IpAddr::V6(target.address)));
    let test = |(source, address): (IpAddr, IpAddr)| {
        let protocol = match (port, address) {
            (Some((Transport::Tcp, _)), _) => protocol::TCP,
            (Some((Transport::Udp, _)), _) => protocol::UDP,
            (None, IpAddr::V4(_)) => protocol::ICMP,
            (None, IpAddr::V6(_)) => protocol::ICMPV6,
        };
        let number = port.map_or(0, |(_, port)| port);
        let flow = Flow { entry: entry.clone(), source, destination: address, protocol, port: number };
        let expected = model.judge(&flow).verdict == Judged::Allowed;
        Test { from: from.into(), to: to.into(), address, port, expected }
    };
    [Some(v4), v6].into_iter().flatten().map(test).collect()
}

/// Sends the packets, from inside the namespaces.
pub fn measure(tests: Vec<Test>) -> Vec<Tested> {
    let mut tested = Vec::with_capacity(tests.len());
    for batch in tests.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let threads: Vec<_> = batch.iter().map(|test| scope.spawn(|| one(test))).collect();
            for (test, thread) in batch.iter().zip(threads) {
                let verdict = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let (reached, seen) = told(&verdict);
                tested.push(Tested { test: test.clone(), reached, seen });
            }
        });
    }
    tested
}

fn one(test: &Test) -> Verdict {
    let probe = match test.port {
        Some((Transport::Tcp, port)) => Probe::Tcp(SocketAddr::new(test.address, port)),
        Some((Transport::Udp, port)) => Probe::Udp(SocketAddr::new(test.address, port)),
        None => Probe::Icmp(test.address),
    };
    match namespace::within(&test.from, || attempt(None, probe, DEFAULT_TIMEOUT)) {
        Ok(verdict) => verdict,
        Err(error) => Verdict::Unsent { why: format!("namespace {}: {error}", test.from) },
    }
}

/// A port that nobody listens on is reached all the same: its owner says so.
fn told(verdict: &Verdict) -> (bool, String) {
    match verdict {
        Verdict::Allowed { .. } | Verdict::Rejected { .. } => (true, verdict.to_string()),
        Verdict::Dropped | Verdict::Unsent { .. } => (false, verdict.to_string()),
    }
}
