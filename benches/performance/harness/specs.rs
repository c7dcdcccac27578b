//! Host specs of any size.

use std::fmt::Write;

use hostctl::topology::{self, Topology};

use super::host::UPLINK;

/// The name of the network with that number.
pub fn network(index: usize) -> String {
    format!("n{index:05}")
}

/// A host of `networks` networks with both families, each with `vms` VMs that
/// aren't started by themselves.
pub fn spec(networks: usize, vms: usize) -> String {
    let mut text = format!("[host]\nuplink = [\"{UPLINK}\"]\n");
    for index in 0..networks {
        let (name, high, low) = (network(index), index >> 8, index & 255);
        writeln!(text, "[networks.{name}]\ncidr = \"10.{high}.{low}.0/24\"").unwrap();
        writeln!(text, "cidr6 = \"fd00:0:0:{:x}::/64\"", index + 1).unwrap();
    }
    for index in 0..networks * vms {
        let network = network(index / vms);
        writeln!(text, "[vms.vm{index:05}]\nnetwork = \"{network}\"\nimage = \"probe\"\nautostart = false")
            .unwrap();
    }
    text
}

/// A spec's topology.
pub fn compile(text: &str) -> Topology {
    topology::compile(&toml::from_str(text).unwrap()).unwrap()
}
