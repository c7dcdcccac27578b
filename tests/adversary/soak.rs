//! What a hostile guest tries, with random parameters: once in each run of the
//! tests, and with `make soak` for as long as one likes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hostctl::testbed::frames::{Link, Udp, contains, protocol, tcp_syn, udp};
use hostctl::testbed::{Capture, Options, address};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::adversary::fuzz::seed;
use crate::adversary::tenants::Tenants;
use crate::spoofing::craft::{PLAIN, icmp, icmp6, ipv4_frame, ipv6_frame};

/// Tries of a round.
const TRIES: usize = 1500;

/// What is never seen anywhere but at the guest's own port.
const FORBIDDEN: &[u8] = b"nobody may see this";

/// One frame that the guest sends.
#[derive(Debug, Clone)]
enum Try {
    /// A datagram that is answered, so that its flow is kept alive; over IPv6.
    Echo(bool, u16),
    Connection(bool, u16, u16),
    Ping(bool, u16),
    /// IPv4 of this protocol.
    Protocol(u8, u8),
    /// A packet for one host in a frame to this group; over IPv6, to whom.
    Group([u8; 6], bool, u8),
    /// From its link-local address, to whom.
    LinkLocal(u8),
}

fn tries() -> impl Strategy<Value = Try> {
    prop_oneof![
        4 => (any::<bool>(), 1024u16..1600).prop_map(|(v6, port)| Try::Echo(v6, port)),
        2 => (any::<bool>(), 1u16.., 1u16..).prop_map(|(v6, from, to)| Try::Connection(v6, from, to)),
        2 => (any::<bool>(), any::<u16>()).prop_map(|(v6, id)| Try::Ping(v6, id)),
        // 1, 2, 6 and 17 have fields that the host reads.
        1 => (60u8.., any::<u8>()).prop_map(|(protocol, to)| Try::Protocol(protocol, to)),
        2 => (any::<[u8; 6]>(), any::<bool>(), any::<u8>()).prop_map(|(mut group, v6, to)| {
            group[0] |= 1;
            Try::Group(group, v6, to)
        }),
        1 => any::<u8>().prop_map(Try::LinkLocal),
    ]
}

impl Try {
    fn frame(&self, tenants: &Tenants) -> Vec<u8> {
        let link = tenants.link();
        let own = |v6: bool| -> IpAddr { if v6 { tenants.v6().into() } else { tenants.v4().into() } };
        let far = |v6: bool| -> IpAddr { if v6 { address::FAR6.into() } else { address::FAR.into() } };
        let anybody = |v6: bool, which: u8| -> IpAddr {
            let guests =
                [&tenants.n1, &tenants.b1].map(|guest| if v6 { guest.v6.unwrap() } else { guest.v4 });
            [far(v6), guests[0], guests[1]][usize::from(which) % 3]
        };
        let datagram = |link: Link, source: IpAddr, to: SocketAddr, payload: &[u8]| {
            udp(link, Udp { source: SocketAddr::new(source, 4000), destination: to, payload })
        };
        match *self {
            Self::Echo(v6, port) => {
                let (source, destination) = (SocketAddr::new(own(v6), port), SocketAddr::new(far(v6), 7));
                udp(link, Udp { source, destination, payload: b"answer me" })
            }
            Self::Connection(v6, from, to) => {
                tcp_syn(link, SocketAddr::new(own(v6), from), SocketAddr::new(far(v6), to))
            }
            Self::Ping(v6, id) => {
                let [high, low] = id.to_be_bytes();
                let rest = [high, low, 0, 1];
                if v6 {
                    let body = icmp6(tenants.v6(), address::FAR6, 128, 0, &rest);
                    ipv6_frame(link, tenants.v6(), address::FAR6, protocol::ICMPV6, &body)
                } else {
                    let body = icmp(8, 0, rest, b"are you there");
                    ipv4_frame(link, tenants.v4(), address::FAR, protocol::ICMP, &PLAIN, &body)
                }
            }
            Self::Protocol(number, to) => {
                let to = Ipv4Addr::new(203, 0, 113, to);
                ipv4_frame(link, tenants.v4(), to, number, &PLAIN, b"an unknown protocol")
            }
            Self::Group(group, v6, to) => {
                let link = Link { destination: group, ..link };
                datagram(link, own(v6), SocketAddr::new(anybody(v6, to), 9), FORBIDDEN)
            }
            Self::LinkLocal(to) => {
                let local: Ipv6Addr = tenants.link_local();
                datagram(link, local.into(), SocketAddr::new(anybody(true, to), 9), FORBIDDEN)
            }
        }
    }
}

/// One host with limits and a mode of `seed`'s, and one guest that tries.
fn round(seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let parameters = (any::<bool>(), 16usize..400, 1u32..4);
    let (bridged, flows, timeout) = parameters.new_tree(&mut runner).unwrap().current();
    let options = Options { bridge_nf_call_iptables: Some(bridged), ..Options::default() };
    let mut tenants = Tenants::with(&format!("new_flows = 100000\nflows = {flows}"), options);
    for setting in ["udp_timeout", "udp_timeout_stream", "icmp_timeout"] {
        let path = format!("net/netfilter/nf_conntrack_{setting}");
        tenants.lab.world.hypervisor.sysctl_set(&path, &timeout.to_string()).unwrap();
    }
    let uplink = Capture::start(&tenants.lab.world.hypervisor, "uplink0").unwrap();
    let guests = [&tenants.n1, &tenants.b1].map(|guest| Capture::start(guest.netns(), "eth0").unwrap());
    for number in 0..TRIES {
        let what = tries().new_tree(&mut runner).unwrap().current();
        tenants.inject(&what.frame(&tenants));
        if number % 500 == 499 {
            let most = tenants.flows_of_m1();
            assert!(most <= flows, "HOSTCTL_SEED={seed}: {most} flows of {flows} after {what:?}");
        }
    }
    for (whose, capture) in [("the uplink", &uplink), ("n1", &guests[0]), ("b1", &guests[1])] {
        let seen = capture.frames().iter().any(|frame| contains(frame, FORBIDDEN));
        assert!(!seen, "HOSTCTL_SEED={seed}: {whose} saw what nobody may");
    }
    tenants.nobody_is_harmed(&format!("HOSTCTL_SEED={seed}"));
}

#[test]
fn nothing_that_it_tries_passes_or_adds_up() {
    round(seed());
}

#[test]
#[ignore = "takes as long as one likes: make soak"]
fn for_minutes() {
    let minutes = std::env::var("HOSTCTL_MINUTES").map_or(10.0, |text| text.trim().parse::<f64>().unwrap());
    let (first, start, wanted) = (seed(), Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < wanted {
        round(first.wrapping_add(rounds));
        rounds += 1;
    }
    println!("{rounds} hostile guests from seed {first} in {:.0?}", start.elapsed());
}
