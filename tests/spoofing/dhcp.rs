//! A guest that plays DHCP server.

use std::net::{Ipv4Addr, SocketAddr};

use hostctl::testbed::frames::{
    BROADCAST, Dhcp4Offer, Dhcp6Reply, ExtensionHeader, Udp, ethernet, ethertype, ipv4_fragments,
    ipv6_behind, protocol, udp,
};

use crate::spoofing::craft::{fragment6, group_mac, ipv6_frame};
use crate::spoofing::scene::{Attacks, Scene};

fn run(bridge_nf: bool) {
    let scene = Scene::new(bridge_nf);
    let (a1, a2) = (scene.who("a1"), scene.who("a2"));
    let mut attacks = Attacks::default();
    let offer =
        Dhcp4Offer { server: a1.v4, offered: [10, 1, 0, 77].into(), client_mac: a2.mac, transaction: 7 };
    attacks.add("offer", |_| offer.frame(a1.mac));
    for source in [67, 68, 5000] {
        for (link, to) in [
            (a1.to(a2.mac), a2.v4),
            (a1.to_all(), Ipv4Addr::BROADCAST),
            (a1.to(a2.mac), Ipv4Addr::BROADCAST),
            (a1.to_all(), Ipv4Addr::new(10, 1, 0, 255)),
        ] {
            // Most clients look at the destination's port only.
            let (source, destination) =
                (SocketAddr::new(a1.v4.into(), source), SocketAddr::new(to.into(), 68));
            attacks.add(&format!("offer from port {}", source.port()), |payload| {
                udp(link, Udp { source, destination, payload })
            });
            attacks.add_all(&format!("offer from port {}, in fragments", source.port()), |_| {
                let segment = Udp { source, destination, payload: &[7; 64] }.segment();
                let pieces = ipv4_fragments(a1.v4, to, protocol::UDP, &segment, 8);
                // The first makes the rest worthless.
                vec![ethernet(link, ethertype::IPV4, &pieces[0])]
            });
        }
    }
    scene.stopped_at_port("a1", attacks);
}

fn run6(bridge_nf: bool) {
    let scene = Scene::new(bridge_nf);
    let (a1, a2) = (scene.who("a1"), scene.who("a2"));
    let mut attacks = Attacks::default();
    let reply = Dhcp6Reply { server: a1.link_local, client: a2.link_local, address: a2.v6, transaction: 7 };
    attacks.add("reply", |_| reply.frame(a1.to(a2.mac)));
    let all = "ff02::1".parse().unwrap();
    for port in [547, 546, 5000] {
        for (link, from, to) in [
            (a1.to(a2.mac), a1.link_local, a2.link_local),
            (a1.to(a2.mac), a1.v6, a2.v6),
            (a1.to(group_mac(all)), a1.link_local, all),
            (a1.to(BROADCAST), a1.link_local, a2.link_local),
        ] {
            let source = SocketAddr::new(from.into(), port);
            let destination = SocketAddr::new(to.into(), 546);
            let segment = |payload: &[u8]| Udp { source, destination, payload }.segment();
            attacks.add(&format!("reply from port {port}"), |mark| {
                udp(link, Udp { source, destination, payload: mark })
            });
            for headers in [
                vec![ExtensionHeader::HopByHop],
                vec![ExtensionHeader::Destination],
                vec![ExtensionHeader::AtomicFragment],
                vec![ExtensionHeader::Destination, ExtensionHeader::AtomicFragment],
                vec![ExtensionHeader::AtomicFragment, ExtensionHeader::Destination],
            ] {
                attacks.add(&format!("reply from port {port} behind {headers:?}"), |mark| {
                    let packet = ipv6_behind(&headers, from, to, protocol::UDP, 64, &segment(mark));
                    ethernet(link, ethertype::IPV6, &packet)
                });
            }
            attacks.add("first fragment of a reply", |mark| {
                let piece = fragment6(protocol::UDP, 0, true, &segment(mark));
                ipv6_frame(link, from, to, protocol::FRAGMENT, &piece)
            });
            attacks.add("first fragment that ends before the ports", |mark| {
                // Destination options of 24 bytes, of which it has 16.
                let options = [&[protocol::UDP, 2, 1, 20], &mark[..12]].concat();
                let piece = fragment6(protocol::DESTINATION, 0, true, &options);
                ipv6_frame(link, from, to, protocol::FRAGMENT, &piece)
            });
        }
    }
    scene.stopped_at_port("a1", attacks);
}

#[test]
fn no_guest_is_a_dhcp_server() {
    run(false);
}

#[test]
fn no_guest_is_a_dhcp_server_with_bridge_netfilter() {
    run(true);
}

#[test]
fn no_guest_is_a_dhcpv6_server() {
    run6(false);
}

#[test]
fn no_guest_is_a_dhcpv6_server_with_bridge_netfilter() {
    run6(true);
}
