//! What nobody thought of: honest frames of one guest's, changed at random at
//! each layer, thousands of them.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use hostctl::testbed::frames::{
    Arp, Udp, arp, icmp_echo, ipv4_fragments, neighbor_advertisement, neighbor_solicitation, protocol,
    tagged, tcp_syn, udp,
};
use hostctl::testbed::{Connection, DEFAULT_TIMEOUT, address};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::adversary::crossing::Crossing;
use crate::spoofing::craft::{checksum, fragment6, ipv6_frame};
use crate::spoofing::scene::{Scene, Who};

/// Frames of one run; a longer one says how many, and `HOSTCTL_SEED` repeats one.
const FRAMES: usize = 3000;

#[derive(Debug, Clone)]
enum Damage {
    /// Bits of a byte near the beginning, where the headers are.
    Flip(u8, u8),
    /// Two bytes there.
    Put(u8, [u8; 2]),
    /// Another's address over this place.
    Address(u8, Index),
    Cut(u8),
    Grow(u8),
    /// Bytes that come twice, so that all that follows is out of place.
    Repeat(u8, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || prop_oneof![0u8..14, 14u8..34, 34u8..54, 54u8..100];
    let words = prop_oneof![
        Just([0, 0]),
        Just([0xff, 0xff]),
        Just([8, 0]),
        Just([8, 6]),
        Just([0x86, 0xdd]),
        Just([0x81, 0]),
        Just([0x20, 0]),
        any::<[u8; 2]>(),
    ];
    prop_oneof![
        5 => (place(), 1u8..).prop_map(|(place, bits)| Damage::Flip(place, bits)),
        3 => (place(), words).prop_map(|(place, word)| Damage::Put(place, word)),
        3 => (prop::sample::select(vec![0, 6, 22, 26, 28, 30, 38, 62]), any::<Index>())
            .prop_map(|(place, whose)| Damage::Address(place, whose)),
        1 => (14u8..).prop_map(Damage::Cut),
        1 => any::<u8>().prop_map(Damage::Grow),
        1 => (place(), 1u8..9).prop_map(|(place, length)| Damage::Repeat(place, length)),
    ]
}

/// An honest frame, how it is changed, and whether its checksums are put right.
fn mutation() -> impl Strategy<Value = (Index, Vec<Damage>, bool)> {
    (any::<Index>(), prop::collection::vec(damage(), 1..5), any::<bool>())
}

fn honest(scene: &Scene, from: &Who, mark: &[u8]) -> Vec<Vec<u8>> {
    let twice = [mark, mark].concat();
    let (a1, link) = (scene.who("a1"), from.to_bridge());
    let ends = |to4: std::net::Ipv4Addr, to6: std::net::Ipv6Addr| {
        [(from.v4.into(), to4.into()), (from.v6.into(), to6.into())]
            .map(|(own, to): (std::net::IpAddr, _)| (SocketAddr::new(own, 4000), SocketAddr::new(to, 7)))
    };
    let everybody = ends(address::FAR, address::FAR6).into_iter().chain(ends(a1.v4, a1.v6));
    let everybody =
        everybody.chain(ends(from.gateway, from.gateway6)).chain(ends(address::UPLINK, address::UPLINK6));
    let mut frames: Vec<_> = everybody
        .flat_map(|(source, destination)| {
            let segment = Udp { source, destination, payload: &twice };
            [
                udp(link, segment),
                [tcp_syn(link, source, destination), twice.clone()].concat(),
                icmp_echo(link, source.ip(), destination.ip(), &twice),
            ]
        })
        .collect();
    let (source, destination) = ends(address::FAR, address::FAR6)[0];
    let datagram = Udp { source, destination, payload: &twice }.segment();
    for piece in ipv4_fragments(from.v4, address::FAR, protocol::UDP, &datagram, 24) {
        frames.push(hostctl::testbed::frames::ethernet(link, 0x0800, &piece));
    }
    let (source, destination) = ends(address::FAR, address::FAR6)[1];
    let datagram = Udp { source, destination, payload: &twice }.segment();
    let piece = fragment6(protocol::UDP, 0, false, &datagram);
    frames.push(ipv6_frame(link, from.v6, address::FAR6, protocol::FRAGMENT, &piece));
    let asked = arp(from.to_all(), Arp::request(from.mac, from.v4, from.gateway));
    let told = arp(link, Arp::reply(from.mac, from.v4, from.bridge_mac, from.gateway));
    frames.extend([[asked, twice.clone()].concat(), [told, twice.clone()].concat()]);
    for message in [
        neighbor_solicitation(from.link_local, from.gateway6, from.gateway6, &[]),
        neighbor_advertisement(from.v6, from.gateway6, from.v6, &[]),
    ] {
        let message = [message, twice.clone()].concat();
        frames.push(ipv6_frame(link, from.link_local, from.gateway6, protocol::ICMPV6, &message));
    }
    let first = tagged(&frames[0], 1);
    frames.push(first);
    frames
}

fn changed(scene: &Scene, frame: &[u8], damage: &Damage) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let end = frame.len();
    match damage {
        Damage::Flip(place, bits) => {
            let place = usize::from(*place).min(end - 1);
            frame[place] ^= bits;
        }
        Damage::Put(place, word) => {
            let place = usize::from(*place).min(end - 2);
            frame[place..place + 2].copy_from_slice(word);
        }
        Damage::Address(place, whose) => {
            let others = ["a1", "a2", "c1", "n1"].map(|name| scene.who(name));
            let other = whose.get(&others);
            let bytes: Vec<u8> = match place {
                0 | 6 => other.mac.into(),
                22 | 38 | 62 => other.v6.octets().into(),
                _ => other.v4.octets().into(),
            };
            let place = usize::from(*place);
            frame.iter_mut().skip(place).zip(bytes).for_each(|(old, new)| *old = new);
        }
        Damage::Cut(length) => frame.truncate(usize::from(*length).clamp(14, end)),
        Damage::Grow(length) => frame.resize(end + usize::from(*length), 0x5a),
        Damage::Repeat(place, length) => {
            let place = usize::from(*place).min(end - 1);
            let piece = frame[place..(place + usize::from(*length)).min(end)].to_vec();
            frame.splice(place..place, piece);
        }
    }
    frame
}

/// Puts IPv4's checksum right, and that of what it or IPv6 carries.
fn repair(frame: &mut [u8]) {
    let (start, pseudo, kind) = match frame.get(12..14) {
        Some([8, 0]) if frame.len() >= 34 => {
            let start = 14 + usize::from(frame[14] & 15) * 4;
            if !(34..=frame.len()).contains(&start) {
                return;
            }
            frame[24..26].fill(0);
            let sum = checksum(&[&frame[14..start]]);
            frame[24..26].copy_from_slice(&sum);
            (start, frame[26..34].to_vec(), frame[23])
        }
        Some([0x86, 0xdd]) if frame.len() >= 54 => (54, frame[22..54].to_vec(), frame[20]),
        _ => return,
    };
    let (at, pseudo) = match kind {
        protocol::TCP => (16, pseudo),
        protocol::UDP => (6, pseudo),
        protocol::ICMPV6 => (2, pseudo),
        protocol::ICMP => (2, Vec::new()),
        _ => return,
    };
    let place = start + at;
    if place + 2 > frame.len() {
        return;
    }
    frame[place..place + 2].fill(0);
    let length = u16::try_from(frame.len() - start).unwrap().to_be_bytes();
    let trailer: &[u8] = if pseudo.is_empty() { &[] } else { &[length[0], length[1], 0, kind] };
    let sum = checksum(&[&pseudo, trailer, &frame[start..]]);
    frame[place..place + 2].copy_from_slice(&sum);
}

pub fn seed() -> u64 {
    if let Ok(text) = std::env::var("HOSTCTL_SEED") {
        return text.parse().unwrap();
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap()
}

#[test]
fn frames_changed_at_random_reach_nobody() {
    let seed = seed();
    let count = std::env::var("HOSTCTL_FRAMES").map_or(FRAMES, |text| text.parse().unwrap());
    println!("HOSTCTL_SEED={seed}, HOSTCTL_FRAMES={count}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let scene = Scene::new(seed.is_multiple_of(2));
    let from = scene.who("b1");
    let host = SocketAddr::new(address::UPLINK.into(), 22);
    let mut operator = Connection::open(&scene.lab.world.internet, host, DEFAULT_TIMEOUT).unwrap();
    let far = SocketAddr::new(address::FAR.into(), 22);
    let mut guest = Connection::open(scene.who("a1").guest.netns(), far, DEFAULT_TIMEOUT).unwrap();
    let known = |scene: &Scene| scene.neighbour_tables("a1").1;
    let before = known(&scene);
    let mut crossing = Crossing::new(&scene, "b1");
    for _ in 0..count {
        let (index, damages, repaired) = mutation().new_tree(&mut runner).unwrap().current();
        // Its own ping's answer and the internet are what it may have.
        let may = &["br-b", "uplink0", "b1"];
        crossing.send(&format!("{damages:?}"), may, |mark| {
            let honest = honest(&scene, from, mark);
            let mut frame = index.get(&honest).clone();
            for damage in &damages {
                frame = changed(&scene, &frame, damage);
            }
            if repaired {
                repair(&mut frame);
            }
            vec![frame]
        });
    }
    crossing.nothing_crossed();
    assert!(operator.still_alive(Duration::from_secs(3)), "the operator's connection is dead");
    assert!(guest.still_alive(Duration::from_secs(3)), "another guest's connection is dead");
    assert_eq!(macs(&known(&scene)), macs(&before), "another guest believes something else");
    let guests = ["a1", "a2", "b1", "c1", "n1", "n2"].map(|name| scene.who(name).mac);
    let (table, _) = scene.neighbour_tables("a1");
    for line in table.lines().filter(|line| line.contains(" dev br-") && line.contains("lladdr")) {
        let mac = line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap();
        let mac = mac.parse::<hostctl::topology::MacAddr>().unwrap().octets();
        assert!(guests.contains(&mac), "the host believes: {line}");
    }
}

/// Who has which MAC, without how fresh that is.
fn macs(table: &str) -> Vec<String> {
    let mut macs: Vec<_> = table
        .lines()
        .filter(|line| line.contains("lladdr"))
        .map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" "))
        .collect();
    macs.sort();
    macs
}
