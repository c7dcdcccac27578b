//! Killed (SIGKILL) at every point of an apply, of a rollback and of a command
//! (`src/kill_point.rs` enumerates them): the host is never open where
//! both generations are closed, and the next command finishes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::time::Duration;

use crate::support::commands::{code, done, json, killed_at, write};
use crate::support::lab::{Guest, Lab};
use crate::support::spec_parts::{idle_vms, namespace, network, network4, peering, tailnet};
use hostctl::firewall::nft;
use hostctl::host::Step;
use hostctl::testbed::{Netns, Options, Probe, Route, Service, address, probe, probe_from};
use serde_json::Value;

const OLD: &str = concat!(
    tailnet!(),
    network!("a" 1),
    "tailscale = true\n",
    network!("b" 2),
    network!("c" 3),
    r#"[networks.c.subnets.only]
cidr = "10.3.0.0/24"
cidr6 = "fd00:0:0:3::/64"
type = "private"
"#,
    network4!("gone" 5),
    namespace!("public" "gone" / "in" "10.5.0.0/25"),
    peering!("a" and "b"),
    idle_vms!("a1" in "a"),
    "policy = 'p'\n",
    idle_vms!("b1" in "b", "c1" in "c", "mover" in "a"),
    "[policies.p]\ningress = [{ port = [80, 22], protocol = 'tcp' }]\n",
);

/// The firewall is the host's too; a network, a peering and a port go, a
/// network comes, a VM moves.
fn new() -> String {
    let new = OLD
        .replace("tailscale = true\n", "")
        .replace("gone", "come")
        .replace("10.5.", "10.6.")
        .replace("[[peerings]]\nbetween = [\"a\", \"b\"]\n", "")
        .replace("[vms.mover]\nnetwork = \"a\"", "[vms.mover]\nnetwork = \"b\"")
        .replace("port = [80, 22]", "port = 80");
    format!("[host]\nfirewall = \"full\"\n{new}")
}

/// How long a packet may take that shouldn't come.
const SHORT: Duration = Duration::from_millis(150);

/// A host that goes back and forth between two generations, and what may
/// never be open there.
struct Changing {
    lab: Lab,
    guests: Vec<(&'static str, Guest)>,
    forbidden: Vec<(Netns, Option<IpAddr>, Probe)>,
    allowed: Vec<(Netns, Probe)>,
    /// The firewalls of both.
    firewalls: [Value; 2],
    _services: Vec<Service>,
}

/// But for the marks by which flows are known: each narrowing has its own.
fn firewall(lab: &Lab) -> Value {
    let listing = lab.world.hypervisor.run(|| nft::observe().unwrap());
    let mut listing = serde_json::to_value(listing).unwrap();
    for table in listing["tables"].as_object_mut().unwrap().values_mut() {
        let marks = ["known", "judged_out", "judged_between"];
        let shape = table["shape"].as_array_mut().unwrap();
        shape.retain(|object| !marks.iter().any(|chain| object["rule"]["chain"] == **chain));
    }
    listing
}

/// Everything but the guest's own, at `::` and `0.0.0.0`.
fn tcp(address: IpAddr, port: u16) -> Probe {
    Probe::Tcp(SocketAddr::new(address, port))
}

impl Changing {
    fn new() -> Self {
        let lab = Lab::new(Options::default());
        write(&lab, OLD);
        done(&lab, &["apply"]);
        let old = firewall(&lab);
        let names = ["a1", "b1", "c1", "mover"];
        let guests: Vec<_> = names.iter().map(|name| (*name, lab.guest(OLD, name))).collect();
        write(&lab, &new());
        done(&lab, &["apply"]);
        let firewalls = [old, firewall(&lab)];
        assert_ne!(firewalls[0], firewalls[1]);
        // Nobody's services but those that listen everywhere; and the internet
        // knows a way to every guest.
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 9999);
        let services = vec![Service::tcp(&lab.world.hypervisor, "host", any).unwrap()];
        for (to, via) in [("10.0.0.0/8", address::UPLINK.into()), ("fd00::/8", address::UPLINK6.into())] {
            let (to, via): (_, IpAddr) = (to.parse().unwrap(), via);
            let route = Route { to, via: Some(via), dev: "eth0" };
            lab.world.internet.links(async |links| links.add_route(route).await).unwrap();
        }
        let mut changing =
            Self { lab, guests, forbidden: Vec::new(), allowed: Vec::new(), firewalls, _services: services };
        changing.add_mover_addresses();
        changing.add_flows();
        done(&changing.lab, &["rollback", "1"]);
        changing
    }

    fn guest(&self, name: &str) -> &Guest {
        &self.guests.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// The guest that moves takes both networks' addresses all the time.
    fn add_mover_addresses(&self) {
        let mover = self.guest("mover").netns();
        for address in ["10.2.0.3/32", "fd00:0:0:2::3/128"] {
            mover.links(async |links| links.add_address("eth0", address.parse().unwrap()).await).unwrap();
        }
    }

    /// Whatever its gateway is now, it answers by its MAC.
    fn point_mover_at_its_bridge(&self) {
        let show = |name: &str| self.lab.output("ip", &["-o", "link", "show", name]);
        let word_after = |text: &str, before: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != before);
            words.nth(1).map(str::to_string)
        };
        let Some(bridge) = word_after(&show("vm-mover"), "master") else { return };
        let mac = word_after(&show(&bridge), "link/ether").unwrap();
        for gateway in ["10.1.0.1", "fd00:0:0:1::1"] {
            let output = self.guest("mover").netns().run(|| {
                let arguments =
                    ["neigh", "replace", gateway, "lladdr", &mac, "dev", "eth0", "nud", "permanent"];
                std::process::Command::new("ip").args(arguments).output().unwrap()
            });
            assert!(output.status.success(), "{output:?}");
        }
    }

    fn add_flows(&mut self) {
        let of = |name: &str| {
            let guest = self.guest(name);
            (guest.netns().clone(), [guest.v4, guest.v6.unwrap()])
        };
        let ((a, a1), (b, b1), (c, c1), (mover, old)) = (of("a1"), of("b1"), of("c1"), of("mover"));
        let moved: [IpAddr; 2] = ["10.2.0.3".parse().unwrap(), "fd00:0:0:2::3".parse().unwrap()];
        let host: [IpAddr; 2] = [address::UPLINK.into(), address::UPLINK6.into()];
        let (world, mut forbidden) = (&self.lab.world, Vec::new());
        for family in 0..2 {
            // Networks that aren't peered.
            for (from, source) in
                [(&a, None), (&b, None), (&mover, Some(old[family])), (&mover, Some(moved[family]))]
            {
                forbidden.push((from.clone(), source, tcp(c1[family], 80)));
                forbidden.push((from.clone(), source, tcp(host[family], 9999)));
            }
            for to in [a1[family], b1[family]] {
                forbidden.push((c.clone(), None, tcp(to, 80)));
            }
            // Private; policed; from outside.
            forbidden.push((c.clone(), None, tcp(host[family], 9999)));
            let far: [IpAddr; 2] = [address::FAR.into(), address::FAR6.into()];
            forbidden.push((c.clone(), None, tcp(far[family], 80)));
            for from in [&b, &world.hypervisor] {
                forbidden.push((from.clone(), None, Probe::Udp(SocketAddr::new(a1[family], 7))));
            }
            for to in [a1[family], b1[family], c1[family]] {
                forbidden.push((world.internet.clone(), None, tcp(to, 80)));
            }
            for to in [b1[family], c1[family]] {
                forbidden.push((world.laptop.clone(), None, tcp(to, 80)));
            }
        }
        forbidden.push((a.clone(), None, tcp(address::METADATA.into(), 80)));
        let allowed = [
            (a, Probe::Icmp(address::FAR.into())),
            (b, Probe::Icmp(address::FAR6.into())),
            (world.hypervisor.clone(), Probe::Icmp(c1[1])),
        ];
        (self.forbidden, self.allowed) = (forbidden, allowed.into());
    }

    /// What both generations forbid is closed, what both allow isn't
    /// disturbed, and the firewall is the one or the other, whole.
    fn check(&self, context: &str) {
        assert!(self.firewalls.contains(&firewall(&self.lab)), "{context}: a firewall of neither");
        self.point_mover_at_its_bridge();
        let c1 = &self.guest("c1").guest;
        c1.received().clear();
        std::thread::scope(|scope| {
            for (from, source, what) in &self.forbidden {
                scope.spawn(move || {
                    let verdict = probe_from(from, *source, *what, SHORT);
                    assert!(!verdict.is_allowed(), "{context}: {source:?} {what:?} {verdict:?}");
                });
            }
            for (from, what) in &self.allowed {
                scope.spawn(move || {
                    let verdict = probe(from, *what, Duration::from_secs(5));
                    assert!(verdict.is_allowed(), "{context}: {what:?} {verdict:?}");
                });
            }
        });
        // Not one packet either, with an answer or without.
        let foreign = |frame: &Vec<u8>| match frame.get(12..14) {
            Some([0x08, 0x00]) => matches!(frame.get(26..28), Some([10, 1 | 2])),
            Some([0x86, 0xdd]) => matches!(frame.get(22..30), Some([0xfd, 0, 0, 0, 0, 0, 0, 1 | 2])),
            _ => false,
        };
        let leaked: Vec<_> = c1.received().frames().into_iter().filter(foreign).collect();
        assert!(leaked.is_empty(), "{context}: {leaked:02x?}");
    }

    /// The host is `spec`. An apply verifies that nothing is left to plan;
    /// here that is asked again every other time.
    fn assert_is(&self, spec: &str, round: usize, context: &str) {
        let wanted = &self.firewalls[usize::from(spec != OLD)];
        assert!(wanted == &firewall(&self.lab), "{context}");
        if round.is_multiple_of(2) {
            assert_eq!(self.lab.plan(spec).unwrap(), Vec::<Step>::new(), "{context}");
        }
    }

    /// Without the firewall most of it is open: the probes do find holes.
    fn assert_probes_find_holes(&self) {
        self.lab.output("nft", &["flush", "ruleset"]);
        let open = std::thread::scope(|scope| {
            let probe = |(from, source, what): &'_ (Netns, Option<IpAddr>, Probe)| {
                let (from, source, what) = (from.clone(), *source, *what);
                scope.spawn(move || probe_from(&from, source, what, Duration::from_secs(1)).is_allowed())
            };
            let probes: Vec<_> = self.forbidden.iter().map(probe).collect();
            probes.into_iter().map(|probe| usize::from(probe.join().unwrap())).sum::<usize>()
        });
        assert!(open > self.forbidden.len() / 2, "{open} of {}", self.forbidden.len());
    }
}

/// Where it was killed; none where it came to its end.
fn killed(output: Output) -> Option<String> {
    let signal = output.status.signal();
    let (code, text) = code(output);
    match code {
        Some(code) => {
            assert_eq!(code, 0, "{text}");
            None
        }
        None => {
            assert_eq!(signal, Some(9), "{text}");
            Some(text.lines().last().unwrap().to_string())
        }
    }
}

/// Every fourth point of both ways, from the `first`.
fn back_and_forth(first: u64) {
    let changing = Changing::new();
    let lab = &changing.lab;
    changing.check("before");
    let mut points = Vec::new();
    for (round, point) in (first..).step_by(4).enumerate() {
        let forth = killed(killed_at(lab, point, &["apply"]));
        if let Some(place) = &forth {
            let context = format!("apply, point {point}, {place}");
            changing.check(&context);
            // Whatever comes next finishes, in either direction.
            match round % 4 {
                0 => drop(done(lab, &["apply"])),
                1 => {
                    done(lab, &["rollback", "1"]);
                    changing.assert_is(OLD, round, &context);
                    done(lab, &["apply"]);
                }
                _ => {
                    done(lab, &["status"]);
                    done(lab, &["apply"]);
                }
            }
            changing.assert_is(&new(), round, &context);
        }
        let back = killed(killed_at(lab, point, &["rollback", "1"]));
        if let Some(place) = &back {
            let context = format!("rollback, point {point}, {place}");
            changing.check(&context);
            if round % 4 == 1 {
                done(lab, &["apply"]);
                changing.assert_is(&new(), round, &context);
            }
            done(lab, &["rollback", "1"]);
            changing.assert_is(OLD, round, &context);
        }
        if forth.is_none() && back.is_none() {
            break;
        }
        points.extend([forth, back].into_iter().flatten());
    }
    changing.check("after");
    changing.assert_probes_find_holes();
    assert!(points.len() > 20, "{points:?}");
}

#[test]
fn at_every_fourth_point_from_the_first() {
    back_and_forth(1);
}

#[test]
fn at_every_fourth_point_from_the_second() {
    back_and_forth(2);
}

#[test]
fn at_every_fourth_point_from_the_third() {
    back_and_forth(3);
}

#[test]
fn at_every_fourth_point_from_the_fourth() {
    back_and_forth(4);
}

/// A command that is killed didn't happen, or happened: the drop-in and the
/// host say the same after whatever comes next.
#[test]
fn a_command_that_is_killed_happened_or_did_not() {
    let lab = Lab::of_ipv4();
    for (name, cidr) in [("a", "10.1.0.0/24"), ("b", "10.2.0.0/24")] {
        done(&lab, &["vpc", "create", "--name", name, "--cidr", cidr]);
    }
    let peered = || json(&lab, &["peer", "list"]).as_array().unwrap().len();
    let pairs =
        || lab.output("nft", &["list", "set", "inet", "hostctl", "pairs"]).contains("\"br-a\" . \"br-b\"");
    let create = ["peer", "create", "--vpc1", "a", "--vpc2", "b"];
    let delete = ["peer", "delete", "--vpc1", "a", "--vpc2", "b"];
    let mut points = Vec::new();
    for point in 1.. {
        let there = peered() == 1;
        let command: &[&str] = if there { &delete } else { &create };
        let Some(place) = killed(killed_at(&lab, point, command)) else { break };
        if point % 2 == 0 {
            // The same again: done now, or done before.
            let (code, text) = code(lab.hostctl(command));
            assert!(code == Some(0) || code == Some(3), "{place}: {text}");
            assert_eq!(peered() == 1, !there, "{place}: {text}");
        } else {
            done(&lab, &["status"]);
            done(&lab, &["apply"]);
        }
        assert_eq!(peered() == 1, pairs(), "{place}");
        assert_eq!(done(&lab, &["plan"]), "nothing to do\n", "{place}");
        points.push(place);
    }
    assert!(points.iter().any(|place| place.contains("half of commands.json")), "{points:?}");
    assert!(points.iter().any(|place| place.contains("half of command.json")), "{points:?}");
    assert!(points.len() > 15, "{points:?}");
}
