//! Guests that stay keep what they have, whatever is edited around them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::{Allocation, Allocations, Port, Topology, compile, compile_keeping, given, moves, resolved};
use crate::spec::HostSpec;

const NETWORKS: &str = r#"
[networks.flat]
cidr = "10.0.0.0/26"
cidr6 = "fd00::/64"
[networks.cut]
cidr = "10.1.0.0/24"
cidr6 = "fd01::/64"
[networks.cut.subnets.a]
cidr = "10.1.0.0/26"
cidr6 = "fd01::/80"
type = "public"
[networks.cut.subnets.b]
cidr = "10.1.0.64/26"
cidr6 = "fd01:0:0:0:1::/80"
type = "private"
"#;

fn spec(text: &str) -> HostSpec {
    toml::from_str(text).unwrap()
}

/// What `text` is on the host that `before` is, and what a plan says of it.
fn after(before: &Topology, text: &str) -> (Topology, Vec<String>) {
    let spec = spec(text);
    let now = compile_keeping(&spec, &before.allocations()).unwrap();
    let said = moves(&before.allocations(), &spec, &now).iter().map(ToString::to_string).collect();
    (now, said)
}

fn vm(name: &str, more: &str) -> String {
    format!("[vms.{name}]\nnetwork = \"flat\"\nimage = \"i\"\n{more}")
}

fn address(topology: &Topology, name: &str) -> String {
    topology.vm(name).unwrap().port.address.to_string()
}

#[test]
fn a_vm_that_comes_first_in_the_alphabet_moves_nobody() {
    let one = compile(&spec(&format!("{NETWORKS}{}{}", vm("m", ""), vm("n", "")))).unwrap();
    let (two, said_two) = after(&one, &format!("{NETWORKS}{}{}{}", vm("a", ""), vm("m", ""), vm("n", "")));
    assert_eq!(["a", "m", "n"].map(|name| address(&two, name)), ["10.0.0.4", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(said_two, ["vm a: 10.0.0.4 (new)", "vm a: fd00::4 (new)"]);
    // What left is free again, and the rest is where it was.
    let (three, _) = after(&two, &format!("{NETWORKS}{}{}{}", vm("a", ""), vm("n", ""), vm("z", "")));
    assert_eq!(["a", "n", "z"].map(|name| address(&three, name)), ["10.0.0.4", "10.0.0.3", "10.0.0.2"]);
    // A host without guests gives them as ever.
    let fresh = compile(&spec(&format!("{NETWORKS}{}{}{}", vm("a", ""), vm("n", ""), vm("z", "")))).unwrap();
    assert_eq!(["a", "n", "z"].map(|name| address(&fresh, name)), ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
}

#[test]
fn what_the_spec_names_wins_and_who_moves_is_named() {
    let one = compile(&spec(&format!("{NETWORKS}{}{}", vm("a", ""), vm("b", "")))).unwrap();
    let named = vm("c", "address = \"10.0.0.2\"\naddress6 = \"fd00::9\"\n");
    let (two, said_two) = after(&one, &format!("{NETWORKS}{}{}{named}", vm("a", ""), vm("b", "")));
    assert_eq!(
        said_two,
        ["vm a: 10.0.0.2 -> 10.0.0.4 (that is vm c's now)", "vm c: 10.0.0.2 (new)", "vm c: fd00::9 (new)"]
    );
    // The key goes, the address stays.
    let (three, said_three) =
        after(&two, &format!("{NETWORKS}{}{}{}", vm("a", ""), vm("b", ""), vm("c", "")));
    assert_eq!(said_three, Vec::<String>::new());
    let (_, said_four) = after(
        &three,
        &format!("{NETWORKS}{}", vm("c", "address = \"10.0.0.8\"\nmac = \"02:00:00:00:00:01\"\n")),
    );
    let mac = three.vm("c").unwrap().port.mac;
    assert_eq!(
        said_four,
        [
            "vm c: 10.0.0.2 -> 10.0.0.8 (the spec names it)".to_string(),
            format!("vm c: MAC {mac} -> 02:00:00:00:00:01 (the spec names it)")
        ]
    );
}

#[test]
fn a_changed_prefix_moves_whom_it_leaves_out_and_says_so() {
    let wide = "[networks.flat]\ncidr = \"10.0.0.0/24\"\n";
    let one =
        compile(&spec(&format!("{wide}{}{}", vm("a", "address = \"10.0.0.200\"\n"), vm("b", "")))).unwrap();
    let narrow = "[networks.flat]\ncidr = \"10.0.0.0/25\"\n";
    let (two, said_two) = after(&one, &format!("{narrow}{}{}", vm("a", ""), vm("b", "")));
    assert_eq!(said_two, ["vm a: 10.0.0.200 -> 10.0.0.3 (10.0.0.200 isn't in 10.0.0.0/25)"]);
    let other = "[networks.flat]\ncidr = \"10.0.0.0/26\"\n";
    let (three, said_three) = after(&two, &format!("{other}{}{}", vm("a", ""), vm("b", "")));
    assert_eq!(said_three, Vec::<String>::new());
    // A gateway's address is nobody else's.
    let (four, _) = after(&three, &format!("{other}{}", vm("b", "address = \"10.0.0.5\"\n")));
    let (_, said_five) = after(&four, &format!("[networks.flat]\ncidr = \"10.0.0.4/30\"\n{}", vm("b", "")));
    assert_eq!(said_five, ["vm b: 10.0.0.5 -> 10.0.0.6 (10.0.0.5 is the gateway's address)"]);
}

#[test]
fn a_namespace_that_comes_later_makes_room_for_the_vm_that_is_there() {
    let text = |namespace: bool| {
        format!(
            "{}\n[vms.x]\nnetwork = \"cut\"\nsubnet = \"a\"\nimage = \"i\"\n",
            NETWORKS.replacen("type = \"public\"", &format!("type = \"public\"\nnamespace = {namespace}"), 1)
        )
    };
    let one = compile(&spec(&text(false))).unwrap();
    let (two, said_two) = after(&one, &text(true));
    assert_eq!(said_two, ["namespace cut-a: 10.1.0.3 (new)", "namespace cut-a: fd01::3 (new)"]);
    assert_eq!(after(&two, &text(true)).1, Vec::<String>::new());
}

#[test]
fn ipv6_that_comes_back_is_what_it_was() {
    let both = format!("{}{}", vm("m", ""), vm("n", ""));
    let one = compile(&spec(&format!("{NETWORKS}{both}"))).unwrap();
    let off = NETWORKS.replace("cidr6 = \"fd00::/64\"\n", "");
    let (two, _) = after(&one, &format!("{off}{}{}", vm("a", ""), vm("n", "")));
    assert!(two.vm("n").unwrap().port.v6.is_none());
    let (three, said_three) = after(&two, &format!("{NETWORKS}{}{}", vm("a", ""), vm("n", "")));
    assert_eq!(three.vm("n").unwrap().port.v6.as_ref().unwrap().address.to_string(), "fd00::3");
    assert_eq!(said_three, ["vm a: fd00::2 (new)"]);
}

/// Two names with the same user: whoever was first keeps it.
#[test]
fn a_user_stays_where_a_name_of_the_same_hash_comes_before_it() {
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    let (first, second) = (0..400_000)
        .find_map(|n| {
            let name = format!("v{n:06}");
            let other = seen.insert(super::identity::hash(&name) & 0x0fff_ffff, name.clone())?;
            Some((other, name))
        })
        .unwrap();
    let one = compile(&spec(&format!("{NETWORKS}{}", vm(&second, "")))).unwrap();
    let (two, _) = after(&one, &format!("{NETWORKS}{}{}", vm(&first, ""), vm(&second, "")));
    assert_eq!(two.vm(&second).unwrap().uid, one.vm(&second).unwrap().uid);
    assert_ne!(two.vm(&first).unwrap().uid, one.vm(&second).unwrap().uid);
}

#[test]
fn a_record_that_lies_gives_nobody_what_isnt_a_guests() {
    let text = format!("{NETWORKS}{}{}", vm("a", ""), vm("b", ""));
    let liar = Allocation {
        network: Some("flat".to_string().try_into().unwrap()),
        address: Some("10.0.0.1".parse().unwrap()),
        address6: Some("fd00::1".parse().unwrap()),
        uid: Some(0),
        ..Allocation::default()
    };
    let twice = Allocation { address: Some("10.0.0.9".parse().unwrap()), ..Allocation::default() };
    let mut before = Allocations::default();
    before.vms.insert("a".into(), liar);
    assert_eq!(compile_keeping(&spec(&text), &before).unwrap().vms, compile(&spec(&text)).unwrap().vms);
    before.vms.insert("a".into(), twice.clone());
    before.vms.insert("b".into(), twice);
    let topology = compile_keeping(&spec(&text), &before).unwrap();
    assert_eq!(["a", "b"].map(|name| address(&topology, name)), ["10.0.0.9", "10.0.0.2"]);
}

#[test]
fn a_refused_spec_gives_what_it_gave() {
    let text = format!("{NETWORKS}{}", vm("a", ""));
    let whole = given(&spec(&text));
    let refused = given(&spec(&format!("{text}[vms.b]\nnetwork = \"nowhere\"\nimage = \"i\"\n")));
    assert_eq!(whole, refused);
    assert_eq!(whole.vms.len(), 1);
}

/// A guest, as its spec will say.
#[derive(Debug, Clone, PartialEq)]
struct Vm {
    place: usize,
    last: Option<u8>,
}

#[derive(Debug, Clone, Default)]
struct Edited {
    vms: BTreeMap<&'static str, Vm>,
    off6: [bool; 2],
    namespaces: [bool; 2],
    swapped: bool,
}

const PLACES: [(&str, &str, &str); 3] =
    [("flat", "", "10.0.0."), ("cut", "subnet = \"a\"\n", "10.1.0."), ("cut", "subnet = \"b\"\n", "10.1.0.")];
const NAMES: [&str; 8] = ["a", "b", "m", "n", "z", "a-name-that-is-longer", "m-name-that-is-longer", "z9"];

#[derive(Debug, Clone)]
enum Edit {
    Put(&'static str, usize),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Name(&'static str, u8),
    Unname(&'static str),
    Toggle6(usize),
    ToggleNamespace(usize),
    /// Another file order, and another network beside.
    Swap,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let name = || select(NAMES.to_vec());
    let edit = prop_oneof![
        4 => (name(), 0..3usize).prop_map(|(name, place)| Edit::Put(name, place)),
        2 => name().prop_map(Edit::Remove),
        1 => (name(), name()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => (name(), 2u8..14).prop_map(|(name, last)| Edit::Name(name, last)),
        1 => name().prop_map(Edit::Unname),
        1 => (0..2usize).prop_map(Edit::Toggle6),
        1 => (0..2usize).prop_map(Edit::ToggleNamespace),
        1 => Just(Edit::Swap),
    ];
    proptest::collection::vec(edit, 1..40)
}

impl Edited {
    fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Put(name, place) => {
                self.vms.insert(name, Vm { place, last: None });
            }
            Edit::Remove(name) => drop(self.vms.remove(name)),
            Edit::Rename(from, to) => {
                if let Some(vm) = self.vms.remove(from) {
                    self.vms.insert(to, vm);
                }
            }
            Edit::Name(name, last) => {
                if let Some(vm) = self.vms.get_mut(name) {
                    vm.last = Some(if vm.place == 2 { last + 64 } else { last });
                }
            }
            Edit::Unname(name) => {
                if let Some(vm) = self.vms.get_mut(name) {
                    vm.last = None;
                }
            }
            Edit::Toggle6(n) => self.off6[n] ^= true,
            Edit::ToggleNamespace(n) => self.namespaces[n] ^= true,
            Edit::Swap => self.swapped ^= true,
        }
    }

    fn text(&self) -> String {
        let mut networks = NETWORKS.to_string();
        for (off, prefix) in self.off6.iter().zip(["fd00", "fd01"]) {
            if *off {
                networks = networks
                    .lines()
                    .filter(|line| !line.starts_with(&format!("cidr6 = \"{prefix}")))
                    .fold(String::new(), |text, line| text + line + "\n");
            }
        }
        for (on, kind) in self.namespaces.iter().zip(["public", "private"]) {
            networks = networks
                .replace(&format!("type = \"{kind}\""), &format!("type = \"{kind}\"\nnamespace = {on}"));
        }
        if self.swapped {
            networks += "[networks.another]\ncidr = \"10.2.0.0/24\"\n";
        }
        let vms = self.vms.iter().map(|(name, vm)| {
            let (network, subnet, prefix) = PLACES[vm.place];
            let address = vm.last.map(|last| format!("address = \"{prefix}{last}\"\n")).unwrap_or_default();
            format!("[vms.{name}]\nnetwork = \"{network}\"\n{subnet}image = \"i\"\n{address}")
        });
        vms.fold(networks, |text, vm| text + &vm)
    }
}

/// Everybody by name, with where it is.
fn guests(topology: &Topology) -> BTreeMap<String, (&Port, Option<u32>)> {
    let vms = topology.vms.iter().map(|vm| (format!("vm {}", vm.name), (&vm.port, Some(vm.uid))));
    let namespaces =
        topology.namespaces.iter().map(|one| (format!("namespace {}", one.name), (&one.port, None)));
    vms.chain(namespaces).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever comes, goes, is renamed or named: who stays where it is keeps
    /// its addresses, MAC, interface and user, unless the spec gives its
    /// address to somebody, or another one to it.
    #[test]
    fn no_guest_that_stays_moves(edits in edits()) {
        let mut edited = Edited::default();
        let mut before = compile(&spec(&edited.text())).unwrap();
        let mut last6: BTreeMap<String, (String, std::net::Ipv6Addr)> = BTreeMap::new();
        for edit in &edits {
            let mut next = edited.clone();
            next.edit(edit);
            let named: BTreeSet<_> =
                next.vms.values().filter_map(|vm| Some(format!("{}{}", PLACES[vm.place].2, vm.last?))).collect();
            let now = match compile_keeping(&spec(&next.text()), &before.allocations()) {
                Ok(now) => now,
                // Only where the spec gives one address to two.
                Err(issues) => {
                    let two = |issue: &crate::spec::Issue| {
                        issue.message.contains("already") || issue.message.contains("is the address of")
                    };
                    prop_assert!(issues.iter().all(two), "{issues:?}");
                    continue;
                }
            };
            let (had, have) = (guests(&before), guests(&now));
            for (name, (port, uid)) in &have {
                if let Some(v6) = &port.v6 {
                    let place = format!("{} {}", port.network, port.subnet);
                    let old = last6.insert(name.clone(), (place.clone(), v6.address));
                    if let Some((_, old)) = old.filter(|(old, _)| *old == place && had.contains_key(name)) {
                        prop_assert_eq!(v6.address, old, "{}", name);
                    }
                }
                let Some((old, old_uid)) = had.get(name) else { continue };
                let same_place = (&port.network, &port.subnet) == (&old.network, &old.subnet);
                if same_place && port.address != old.address {
                    // To what the spec names, or because it gives the old one away.
                    let own = name.strip_prefix("vm ").and_then(|name| next.vms.get(name)?.last).is_some();
                    prop_assert!(own || named.contains(&old.address.to_string()), "{name} {edit:?}");
                }
                prop_assert_eq!((port.mac, &port.interface, uid), (old.mac, &old.interface, old_uid));
            }
            // Who goes elsewhere takes nothing along.
            last6.retain(|name, (place, _)| {
                have.get(name).is_some_and(|(port, _)| *place == format!("{} {}", port.network, port.subnet))
            });
            let distinct = |texts: Vec<String>| texts.iter().collect::<BTreeSet<_>>().len() == texts.len();
            prop_assert!(distinct(now.ports().map(|port| port.address.to_string()).collect()));
            prop_assert!(distinct(now.ports().filter_map(|port| Some(port.v6.as_ref()?.address.to_string())).collect()));
            // Doing it again changes nothing, and every change is said.
            let again = compile_keeping(&spec(&next.text()), &now.allocations()).unwrap();
            prop_assert_eq!(&again, &now);
            let said = moves(&before.allocations(), &spec(&next.text()), &now);
            for (name, (port, _)) in &have {
                let stays = had.get(name).is_some_and(|(old, _)| old.address == port.address);
                let is_said = said.iter().any(|one| one.guest == *name && one.to == port.address.to_string());
                prop_assert!(stays != is_said, "{name}");
            }
            // Written out, it is the same on a host that knows nothing of it.
            let fresh = compile(&resolved(&spec(&next.text()), &now)).unwrap();
            let ports = |topology: &Topology| topology.ports().cloned().collect::<Vec<_>>();
            prop_assert_eq!(ports(&fresh), ports(&now));
            (edited, before) = (next, now);
        }
    }
}
