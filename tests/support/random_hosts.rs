//! Random hosts, small and crowded: one to five networks over the same few
//! prefixes, so that subnets, peerings and policies meet. They shrink to a
//! host with one network.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::random_policies::policies;

/// The networks' names; a host has the first of them.
const NETWORKS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// How large the hosts are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Most networks.
    pub networks: usize,
    /// Most VMs of a subnet.
    pub vms: usize,
    /// Most rules of a policy's direction.
    pub rules: usize,
}

/// A host, as its spec will say.
#[derive(Debug, Clone)]
pub struct RandomHost {
    full: bool,
    open: Vec<(&'static str, u16)>,
    tailnet: bool,
    networks: Vec<RandomNetwork>,
    peered: Vec<bool>,
    policies: String,
}

#[derive(Debug, Clone)]
struct RandomNetwork {
    v6: bool,
    imds: bool,
    tailscale: bool,
    nat: &'static str,
    policy: &'static str,
    vms: usize,
    /// None: the whole network is one.
    subnets: Vec<RandomSubnet>,
}

#[derive(Debug, Clone)]
struct RandomSubnet {
    v6: bool,
    public: bool,
    namespace: bool,
    policy: &'static str,
    own: &'static str,
    vms: usize,
}

/// Policies by which a guest, a subnet or a network may be judged; none first,
/// since that is where it shrinks to.
fn policy() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "\"p0\"", "\"p1\"", "\"p2\"", "[\"p0\", \"p1\"]", "[\"p1\", \"p2\"]"])
}

fn subnet(vms: usize) -> impl Strategy<Value = RandomSubnet> {
    (any::<bool>(), any::<bool>(), any::<bool>(), policy(), policy(), 0..=vms).prop_map(
        |(v6, public, namespace, policy, own, vms)| RandomSubnet { v6, public, namespace, policy, own, vms },
    )
}

fn network(vms: usize) -> impl Strategy<Value = RandomNetwork> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let nat = select(vec!["", "", "false", "\"uplink0\""]);
    let subnets = proptest::collection::vec(subnet(vms), 0..=3);
    (flags, nat, policy(), 1..=vms, subnets).prop_map(|((v6, imds, tailscale), nat, policy, vms, subnets)| {
        RandomNetwork { v6, imds, tailscale, nat, policy, vms, subnets }
    })
}

/// Hosts of a size.
pub fn hosts(size: Size) -> impl Strategy<Value = RandomHost> {
    let service = (select(vec!["tcp", "udp"]), select(vec![22u16, 53, 80, 8000]));
    let open = proptest::collection::vec(service, 0..3);
    let networks = proptest::collection::vec(network(size.vms), 1..=size.networks);
    let peered = proptest::collection::vec(any::<bool>(), NETWORKS.len() * NETWORKS.len());
    (any::<bool>(), open, any::<bool>(), networks, peered, policies(size.rules)).prop_map(
        |(full, open, tailnet, networks, peered, policies)| RandomHost {
            full,
            open,
            tailnet,
            networks,
            peered,
            policies,
        },
    )
}

impl RandomHost {
    /// This host after an edit: some of its networks, peerings or policies are as
    /// another's.
    pub fn edited(&self, like: &Self, which: &[bool]) -> Self {
        let mut which = which.iter().copied().chain(std::iter::repeat(false));
        let mut edited = self.clone();
        for index in 0..self.networks.len().max(like.networks.len()) {
            match (which.next(), edited.networks.get_mut(index), like.networks.get(index)) {
                (Some(true), Some(network), Some(other)) => *network = other.clone(),
                (Some(true), None, Some(other)) => edited.networks.push(other.clone()),
                (Some(true), Some(_), None) => edited.networks.truncate(index),
                _ => {}
            }
        }
        if which.next() == Some(true) {
            edited.peered.clone_from(&like.peered);
        }
        if which.next() == Some(true) {
            edited.policies.clone_from(&like.policies);
        }
        edited
    }

    /// Its spec, in TOML.
    pub fn spec(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).unwrap();
        // Policies name network b, which a small host doesn't have.
        let policies = if self.networks.len() > 1 {
            self.policies.clone()
        } else {
            self.policies.replace("network:b", "network:a")
        };
        text + &policies
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        if self.full {
            let mut open: Vec<_> = self.open.clone();
            open.sort_unstable();
            open.dedup();
            let open: Vec<String> = open
                .iter()
                .map(|(protocol, port)| format!("{{ protocol = \"{protocol}\", port = {port} }}"))
                .collect();
            writeln!(text, "[host]\nfirewall = \"full\"\nallow_input = [{}]", open.join(", "))?;
        }
        if self.tailnet {
            writeln!(text, "[host.tailscale]\ninterface = \"tailscale0\"")?;
        }
        for (index, (name, network)) in NETWORKS.iter().zip(&self.networks).enumerate() {
            self.write_network(text, index + 1, name, network)?;
        }
        let count = self.networks.len();
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        for ((a, b), _) in pairs.zip(&self.peered).filter(|(_, peered)| **peered) {
            writeln!(text, "[[peerings]]\nbetween = [\"{}\", \"{}\"]", NETWORKS[a], NETWORKS[b])?;
        }
        Ok(())
    }

    fn write_network(
        &self,
        text: &mut String,
        number: usize,
        name: &str,
        network: &RandomNetwork,
    ) -> std::fmt::Result {
        writeln!(text, "[networks.{name}]\ncidr = \"10.{number}.0.0/24\"")?;
        if network.v6 {
            writeln!(text, "cidr6 = \"fd00:0:0:{number}::/64\"")?;
        }
        if network.imds {
            writeln!(text, "imds = \"host\"")?;
        }
        if network.tailscale && self.tailnet {
            writeln!(text, "tailscale = true")?;
        }
        if !network.nat.is_empty() {
            writeln!(text, "nat = {}", network.nat)?;
        }
        write_policy(text, network.policy)?;
        for (index, subnet) in network.subnets.iter().enumerate() {
            writeln!(text, "[networks.{name}.subnets.s{index}]\ncidr = \"10.{number}.0.{}/26\"", index * 64)?;
            if network.v6 && subnet.v6 {
                writeln!(text, "cidr6 = \"fd00:0:0:{number}:{:x}::/66\"", index * 0x4000)?;
            }
            writeln!(text, "type = \"{}\"", if subnet.public { "public" } else { "private" })?;
            if subnet.namespace {
                writeln!(text, "namespace = true")?;
            }
            write_policy(text, subnet.policy)?;
        }
        if network.subnets.is_empty() {
            for vm in 0..network.vms {
                write_vm(text, &format!("{name}{vm}"), name, None, "")?;
            }
        }
        for (index, subnet) in network.subnets.iter().enumerate() {
            for vm in 0..subnet.vms {
                // A namespace's address is the subnet's second: VMs keep off it.
                let address = (index * 64 + 10 + vm, number);
                let own = if vm == 0 { subnet.own } else { "" };
                write_vm(text, &format!("{name}{index}{vm}"), name, Some((index, address)), own)?;
            }
        }
        Ok(())
    }
}

fn write_policy(text: &mut String, policy: &str) -> std::fmt::Result {
    if policy.is_empty() { Ok(()) } else { writeln!(text, "policy = {policy}") }
}

fn write_vm(
    text: &mut String,
    vm: &str,
    network: &str,
    subnet: Option<(usize, (usize, usize))>,
    policy: &str,
) -> std::fmt::Result {
    writeln!(text, "[vms.{vm}]\nnetwork = \"{network}\"\nimage = \"probe\"\nautostart = false")?;
    if let Some((subnet, (last, number))) = subnet {
        writeln!(text, "subnet = \"s{subnet}\"\naddress = \"10.{number}.0.{last}\"")?;
    }
    write_policy(text, policy)
}

/// Where a test starts: `HOSTCTL_SEED`, or somewhere new. Printed, so that a
/// failure can be had again.
pub fn seed() -> u64 {
    let seed = match std::env::var("HOSTCTL_SEED") {
        Ok(text) => text.trim().parse().unwrap_or_else(|error| panic!("HOSTCTL_SEED={text}: {error}")),
        Err(_) => {
            u64::from(std::process::id()) << 32
                | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos())
        }
    };
    println!("HOSTCTL_SEED={seed} plays this again");
    seed
}

/// A runner whose choices follow from a seed. It shrinks for at most
/// `shrinks` tries and writes no files.
pub fn runner(seed: u64, cases: u32, shrinks: u32) -> TestRunner {
    let config = Config { cases, max_shrink_iters: shrinks, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
