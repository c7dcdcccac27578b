//! Flows that are known by their marks, in the kernel's table, while rules follow
//! each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::support::lab::{Guest, Lab};
use crate::support::spec_parts::{idle_vms, network, peering};
use hostctl::firewall::marks_flows;
use hostctl::testbed::{Connection, Options};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// hostctl's bits.
const MASK: u32 = 0xf000_0000;
/// Another program's.
const OTHERS: u32 = 0x0008_0080;

/// Networks a and b, peered, and c; who speaks to a1 may reach these ports.
fn spec(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    format!(
        concat!(
            network!("a" 1),
            network!("b" 2),
            network!("c" 3),
            peering!("a" and "b"),
            idle_vms!("a1" in "a"),
            "policy = 'p'\n",
            idle_vms!("a2" in "a", "b1" in "b", "c1" in "c"),
            "[policies.p]\ningress = [{{ protocol = \"tcp\", port = [{ports}] }}]\n",
        ),
        ports = ports.join(", ")
    )
}

struct Scene {
    lab: Lab,
    guests: [Guest; 2],
    /// From b1 to a1, over each family.
    flows: Vec<Connection>,
}

impl Scene {
    /// None where the rules don't mark flows.
    fn new(spec: &str) -> Option<Self> {
        if !marks_flows() {
            println!("not run: the rules of this version know no flow by its mark");
            return None;
        }
        let lab = Lab::new(Options::default());
        lab.apply(spec);
        let guests = ["a1", "b1"].map(|name| lab.guest(spec, name));
        let [a1, b1] = &guests;
        let flows = [a1.v4, a1.v6.unwrap()].map(|to| {
            let mut flow = Connection::open(b1.netns(), SocketAddr::new(to, 80), PATIENCE).unwrap();
            assert!(flow.still_alive(PATIENCE));
            flow
        });
        Some(Self { lab, guests, flows: flows.into() })
    }

    fn marks(&self) -> Vec<u32> {
        let marks = marks(&self.lab);
        let of = |flow: &Connection| {
            let address = flow.local_address().unwrap();
            marks[&(address.ip().to_canonical(), address.port())]
        };
        self.flows.iter().map(of).collect()
    }

    /// The same, after a packet of each.
    fn marks_again(&mut self) -> Vec<u32> {
        for flow in &mut self.flows {
            assert!(flow.still_alive(PATIENCE));
        }
        self.marks()
    }
}

/// The marks of tracked TCP flows, by the client's address and port.
fn marks(lab: &Lab) -> BTreeMap<(IpAddr, u16), u32> {
    let mut found = BTreeMap::new();
    for family in ["ipv4", "ipv6"] {
        for line in lab.output("conntrack", &["-L", "-p", "tcp", "-f", family]).lines() {
            let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
            let (Some(source), Some(port)) = (field("src="), field("sport=")) else { continue };
            let mark = field("mark=").map_or(0, |mark| mark.parse().unwrap());
            found.insert((source.parse().unwrap(), port.parse().unwrap()), mark);
        }
    }
    found
}

#[test]
fn marks_last_while_nothing_narrows_and_are_taken_back_before_their_number_is_used_again() {
    let ports: Vec<u16> = [80].into_iter().chain(1001..1010).collect();
    let Some(mut scene) = Scene::new(&spec(&ports)) else { return };
    let first = scene.marks_again();
    assert!(first.iter().all(|mark| mark & MASK != 0 && mark & !MASK == 0), "{first:x?}");
    // More ports, another guest: nobody is judged anew.
    let wider: Vec<u16> = ports.iter().copied().chain([2000]).collect();
    scene.lab.apply(&(spec(&wider) + idle_vms!("c2" in "c")));
    assert_eq!(scene.marks_again(), first);
    for family in ["ipv4", "ipv6"] {
        let others = format!("{OTHERS:#x}/{OTHERS:#x}");
        scene.lab.output("conntrack", &["-U", "-p", "tcp", "-f", family, "--mark", &others]);
    }
    let marked: Vec<u32> = first.iter().map(|mark| mark | OTHERS).collect();
    assert_eq!(scene.marks(), marked);
    // A port less each time, and no packet of theirs meanwhile: seven generations.
    for count in (4..=10).rev() {
        let text = spec(&ports[..count - 1]);
        let shown = scene.lab.commands(&text).join("\n");
        let takes_back = shown.contains("conntrack -U -f ipv4 --mark 0x0/0xf0000000");
        assert_eq!(takes_back, count == 4, "{shown}");
        assert!(shown.contains("nft flush chain inet hostctl known"), "{shown}");
        assert_eq!(scene.marks(), marked, "{count}");
        scene.lab.apply(&text);
    }
    // The last one has the first's number.
    assert_eq!(scene.marks(), [OTHERS, OTHERS]);
    assert_eq!(scene.marks_again(), marked);
}

#[test]
fn a_narrower_rule_gives_other_marks_and_what_it_refuses_ends() {
    let Some(mut scene) = Scene::new(&spec(&[80, 81])) else { return };
    let first = scene.marks_again();
    scene.lab.apply(&spec(&[80]));
    let second = scene.marks_again();
    assert!(
        first.iter().zip(&second).all(|(one, other)| one & MASK != other & MASK),
        "{first:x?} {second:x?}"
    );
    scene.lab.apply(&spec(&[81]));
    for flow in &mut scene.flows {
        assert!(!flow.still_alive(SECOND));
    }
}

/// What somebody opened by hand, and whoever used it, isn't known once it is put
/// back.
#[test]
fn what_drift_let_pass_is_judged_anew() {
    let text = spec(&[80]);
    let Some(scene) = Scene::new(&text) else { return };
    scene.lab.output("nft", &["add", "element", "inet", "hostctl", "pairs", "{ br-a . br-c, br-c . br-a }"]);
    let c1 = scene.lab.guest(&text, "c1");
    let [a1, _] = &scene.guests;
    let mut flow = Connection::open(a1.netns(), SocketAddr::new(c1.v4, 80), PATIENCE).unwrap();
    assert!(flow.still_alive(PATIENCE));
    scene.lab.apply(&text);
    assert!(!flow.still_alive(SECOND));
}

#[test]
fn tables_that_were_flushed_take_no_mark_for_theirs() {
    let text = spec(&[80]);
    let Some(mut scene) = Scene::new(&text) else { return };
    let first = scene.marks_again();
    scene.lab.output("nft", &["flush", "ruleset"]);
    scene.lab.apply(&text);
    assert_eq!(scene.marks(), [0, 0]);
    assert_eq!(scene.marks_again(), first);
}

#[test]
fn another_mask_gives_the_old_ones_bits_back() {
    let text = spec(&[80]);
    let Some(mut scene) = Scene::new(&text) else { return };
    scene.marks_again();
    scene.lab.apply(&format!("[host]\nmark_mask = 0x1f00\n{text}"));
    assert_eq!(scene.marks(), [0, 0]);
    let marks = scene.marks_again();
    assert!(marks.iter().all(|mark| mark & 0x1f00 != 0 && mark & !0x1f00 == 0), "{marks:x?}");
}
