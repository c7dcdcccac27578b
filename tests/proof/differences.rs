//! Two sets of rules against each other.

use hostctl::prove::{Difference, Side, Unknown, difference};
use hostctl::reach::Model;
use serde_json::Value;

use super::every_packet::{listing, rule};
use super::full_host::FULL;
use super::scene::Scene;
use crate::support::spec_parts::network;

/// A network with IPv6, and a guest in it.
const SMALL: &str = concat!(network!("a" 1), "[vms.a1]\nnetwork = \"a\"\nimage = \"probe\"\n");

/// How two listings differ: of one spec, or of none.
pub fn differ(
    scene: &Scene,
    model: Option<&Model<'_>>,
    (before, after): (&Value, &Value),
) -> Result<Vec<Difference>, Unknown> {
    let indices = if model.is_some() { scene.indices() } else { Default::default() };
    difference((Side { model, listing: before }, Side { model, listing: after }), &indices)
}

pub fn told(found: &Difference) -> String {
    format!("{}: {} -> {}", found.packet, found.old.outcome.as_str(), found.new.outcome.as_str())
}

/// Of two listings nobody says which links are ports: what a port refuses is
/// compared all the same.
#[test]
fn rules_of_ports_are_compared_without_a_spec() {
    let scene = Scene::new(SMALL);
    let before: Value = serde_json::from_str(&named(&scene, &scene.listing())).unwrap();
    let differ = |after: &Value| differ(&scene, None, (&before, after)).unwrap();
    assert!(differ(&before).is_empty());
    for (chain, comment, says) in [
        ("arp_in", "neither request nor reply", "ARP from vm-"),
        ("from_port", "neither ARP, IPv4 nor IPv6", "neither IP nor ARP from vm-"),
        ("ip4_in", "a guest is no DHCP server", "UDP, port 68"),
        ("input", "a guest is no switch", "to MAC 01:80:c2"),
    ] {
        let mut after = before.clone();
        let place = rule(&after, chain, comment);
        after["nftables"].as_array_mut().unwrap().remove(place);
        let found = differ(&after);
        assert!(found.iter().any(|one| told(one).contains(says)), "{comment}: {found:?}");
        assert!(found.iter().all(|one| told(one).ends_with("dropped -> passed")), "{found:?}");
    }
}

/// A listing with the names of links in the place of their numbers, as a host
/// prints it that has them.
fn named(scene: &Scene, listing: &str) -> String {
    scene.indices().iter().fold(listing.to_string(), |text, (name, number)| {
        text.replace(&format!("\"{number}\""), &format!("\"{name}\""))
    })
}

/// A link may take another's name: rules that ask for the name let its packets
/// pass, those that ask for the number don't.
#[test]
fn a_name_isnt_a_number() {
    let scene = Scene::new(SMALL);
    let listing = named(&scene, &scene.listing());
    let by_number: Value = serde_json::from_str(&listing).unwrap();
    let by_name = listing.replace("\"oif\"", "\"oifname\"").replace("iface_index", "ifname");
    let by_name: Value = serde_json::from_str(&by_name).unwrap();
    let found = differ(&scene, None, (&by_number, &by_name)).unwrap();
    assert!(found.iter().any(|one| told(one).contains("another link that is called uplink0")), "{found:?}");
}

#[test]
fn limits_that_arent_the_same_ones_are_not_compared() {
    let scene = Scene::new(FULL);
    let model = Model::new(&scene.topology, &scene.vicinity);
    let before = listing(&scene);
    let swapped = scene.listing().replace("group_rate", "x_rate").replace("neighbour_rate", "group_rate");
    let swapped: Value = serde_json::from_str(&swapped.replace("x_rate", "neighbour_rate")).unwrap();
    let unknown = differ(&scene, Some(&model), (&before, &swapped)).unwrap_err();
    assert!(unknown.to_string().contains("limits"), "{unknown}");
}
