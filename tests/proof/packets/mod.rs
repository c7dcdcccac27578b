//! The model against real packets: every first packet is sent, all at once,
//! and each end says which have arrived and which were answered.

mod listen;
mod probes;
mod stage;
mod wire;

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use hostctl::reach::{Entry, Flow, Judgement, Model, Verdict};
use hostctl::testbed::address;
use hostctl::topology::Port;
use proptest::test_runner::{TestCaseError, TestError};

use super::scene::{Scene, addresses_of, entry, way};
use crate::support::lab::Lab;
use crate::support::random_hosts::{RandomHost, Size, hosts, runner, seed};
use listen::{HOST, Seen};
pub use stage::lab;
use stage::{Sent, Stage, owner, sender};

/// Without news for so long, what hasn't arrived doesn't any more.
const QUIET: Duration = Duration::from_millis(150);

/// How often a probe is sent that should have arrived: a packet may be lost
/// while its receiver is being looked for.
const TRIES: usize = 4;

/// One probe, and what should become of it.
struct Probe {
    flow: Flow,
    judgement: Judgement,
    /// Where it should arrive, and from whom.
    arrives: Option<(String, IpAddr)>,
    /// Whether its sender should get an answer.
    answered: bool,
    refused: bool,
}

impl Probe {
    /// None where hostctl has no say, and where it can't be known from outside.
    fn new(scene: &Scene, model: &Model<'_>, flow: Flow) -> Option<Self> {
        let namespaces = &scene.topology.namespaces;
        let namespace = namespaces.iter().find(|namespace| entry(&namespace.port) == flow.entry);
        let judgement = model.judge(&flow);
        let owner = owner(scene, &flow);
        // It wouldn't even leave.
        if owner.as_ref() == Some(&sender(&flow)) {
            return None;
        }
        // A namespace sends no IPv6 without an address, and looks for its
        // neighbours itself: for nobody, in vain.
        let leaves = |port: &Port| port.v6.is_some() && owner.is_some();
        if flow.destination.is_ipv6() && namespace.is_some_and(|namespace| !leaves(&namespace.port)) {
            return None;
        }
        // What the kernel does by itself is known of what the host sends, and
        // of what is sent to it.
        let sure = match &flow.entry {
            Entry::Host => true,
            Entry::Interface(_) => owner.as_deref() == Some(HOST),
            Entry::Guest(_) => false,
        };
        let forged = scene.topology.ports().flat_map(addresses_of).any(|own| own == flow.source);
        if judgement.verdict == Verdict::Untouched && (!sure || forged) {
            return None;
        }
        let source = match (judgement.masqueraded, flow.source) {
            (false, source) => source,
            (true, IpAddr::V4(_)) => address::UPLINK.into(),
            (true, IpAddr::V6(_)) => address::UPLINK6.into(),
        };
        let passes = judgement.verdict != Verdict::Dropped;
        let arrives = passes.then(|| owner.map(|owner| (owner, source))).flatten();
        let answers = matches!(flow.protocol, 1 | 6 | 58);
        let answered = judgement.verdict == Verdict::Allowed && answers && !forged_entry(&flow, scene);
        Some(Self { flow, judgement, arrives, answered, refused: false })
    }

    /// Whether everything that should have happened did.
    fn done(&self, number: u32, seen: &Seen) -> bool {
        let entered = self.flow.entry == Entry::Host || seen.entered.contains(&number);
        let arrived = |arrival| seen.arrived.get(&number).is_some_and(|all| all.contains(arrival));
        let answered = || seen.answered.get(&number).is_some_and(|all| all.contains(&sender(&self.flow)));
        entered && self.arrives.as_ref().is_none_or(arrived) && (!self.answered || answered())
    }

    fn check(&self, number: u32, seen: &Seen) -> Result<(), String> {
        let arrived = seen.arrived.get(&number).cloned().unwrap_or_default();
        let only = arrived.iter().all(|arrival| Some(arrival) == self.arrives.as_ref());
        if self.done(number, seen) && only && !(self.refused && self.arrives.is_some()) {
            return Ok(());
        }
        Err(format!(
            "{:?}\nshould arrive at {:?}{}\narrived at {arrived:?}, answered at {:?}, entered: {}, refused: {}\n\
             model: {:?}\n{}",
            self.flow,
            self.arrives,
            if self.answered { " and be answered" } else { "" },
            seen.answered.get(&number),
            seen.entered.contains(&number),
            self.refused,
            self.judgement.verdict,
            way(&self.judgement),
        ))
    }
}

/// Whether the answers go to somebody else than the sender.
fn forged_entry(flow: &Flow, scene: &Scene) -> bool {
    let guest = scene.topology.ports().find(|port| addresses_of(port).any(|own| own == flow.source));
    match (&flow.entry, guest) {
        (Entry::Guest(port), Some(guest)) => *port != guest.interface,
        (Entry::Guest(_), None) | (Entry::Interface(_) | Entry::Host, Some(_)) => true,
        (Entry::Interface(_) | Entry::Host, None) => false,
    }
}

/// Sends every probe of an applied spec; how many there were.
fn hold(lab: &Lab, scene: &Scene) -> Result<u64, String> {
    let model = Model::new(&scene.topology, &scene.vicinity);
    let flows = probes::probes(scene).into_iter();
    let mut probes: Vec<Probe> = flows.filter_map(|flow| Probe::new(scene, &model, flow)).collect();
    let stage = Stage::new(lab, scene);
    let mut left: Vec<usize> = (0..probes.len()).collect();
    for _ in 0..TRIES {
        for &index in &left {
            let probe = &mut probes[index];
            let sent = stage.send(&probe.flow, number(index));
            let sent = sent.map_err(|error| format!("{:?} can't be sent: {error}", probe.flow))?;
            probe.refused = sent == Sent::Refused;
        }
        stage.listener.quiet(QUIET);
        stage.listener.look(|seen| left.retain(|&index| !probes[index].done(number(index), seen)));
        if left.is_empty() {
            break;
        }
    }
    stage.listener.look(|seen| {
        for (index, probe) in probes.iter().enumerate() {
            probe.check(number(index), seen)?;
        }
        Ok(probes.len() as u64)
    })
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap() + 1
}

/// What a test does with random hosts.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub size: Size,
    /// How many are applied, one over the other; the last one is probed.
    pub hosts: usize,
}

/// Few networks with several guests each; many networks; one host after
/// another.
pub const SMALL: Plan = Plan { size: Size { networks: 2, vms: 2, rules: 4 }, hosts: 1 };
pub const LARGE: Plan = Plan { size: Size { networks: 5, vms: 1, rules: 4 }, hosts: 1 };
pub const CHANGING: Plan = Plan { size: Size { networks: 3, vms: 1, rules: 3 }, hosts: 2 };

/// Applies random hosts and probes the last one; how many probes there were.
///
/// # Panics
/// Where model and kernel differ, with the smallest hosts that were found.
pub fn hold_random(lab: &Lab, seed: u64, plan: Plan) -> u64 {
    let total = Cell::new(0);
    let several = proptest::collection::vec(hosts(plan.size), plan.hosts);
    let result = runner(seed, 1, 30).run(&several, |several: Vec<RandomHost>| {
        lab.down();
        for random in &several {
            lab.apply(&random.spec());
        }
        let scene = Scene::new(&several.last().map(RandomHost::spec).unwrap_or_default());
        let probes = hold(lab, &scene).map_err(TestCaseError::fail)?;
        total.set(total.get() + probes);
        Ok(())
    });
    match result {
        Ok(()) => total.get(),
        Err(TestError::Fail(reason, several)) => {
            let specs: Vec<String> = several.iter().map(RandomHost::spec).collect();
            panic!("HOSTCTL_SEED={seed}\n{}\n{reason}", specs.join("\n# and over it\n"))
        }
        Err(TestError::Abort(reason)) => panic!("HOSTCTL_SEED={seed}: {reason}"),
    }
}

/// Probes random hosts until there were enough probes.
fn at_least(wanted: u64, plan: Plan) {
    let (first, lab) = (seed(), lab());
    let (mut probes, mut count) = (0, 0);
    while probes < wanted {
        probes += hold_random(&lab, first.wrapping_add(count), plan);
        count += 1;
    }
    println!("{probes} flows probed on {count} hosts");
}

#[test]
fn real_packets_do_what_the_model_says_on_small_hosts() {
    at_least(5_000, SMALL);
}

#[test]
fn real_packets_do_what_the_model_says_on_large_hosts() {
    at_least(5_000, LARGE);
}

#[test]
fn real_packets_do_what_the_model_says_on_a_host_that_changes() {
    at_least(5_000, CHANGING);
}

#[test]
fn packets_tell_on_a_rule_too_many() {
    let lab = lab();
    let spec = "[networks.a]\ncidr = \"10.1.0.0/24\"\n[networks.b]\ncidr = \"10.2.0.0/24\"\n\
                [vms.a1]\nnetwork = \"a\"\nimage = \"probe\"\nautostart = false\n\
                [vms.b1]\nnetwork = \"b\"\nimage = \"probe\"\nautostart = false\n";
    let scene = Scene::new(spec);
    lab.apply(spec);
    hold(&lab, &scene).unwrap();
    let rules = [
        ("from_guest", "ip daddr 10.2.0.2 accept", "should arrive at None"),
        ("from_guest", "udp dport 201 drop", "should arrive at Some((\"internet\""),
        ("policed", "ct direction reply drop", "and be answered"),
    ];
    for (chain, rule, expected) in rules {
        lab.output("nft", &["insert", "rule", "inet", "hostctl", chain, rule]);
        let found = hold(&lab, &scene).unwrap_err();
        assert!(found.contains(expected), "{rule}: {found}");
        // Back to what the spec says.
        lab.apply(spec);
    }
    hold(&lab, &scene).unwrap();
}
