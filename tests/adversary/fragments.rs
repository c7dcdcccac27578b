//! The host's memory for packets of which a piece is missing.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hostctl::testbed::frames::protocol;
use hostctl::testbed::{Netns, address};

use crate::adversary::tenants::Tenants;
use crate::spoofing::craft::{Header, PLAIN, fragment6, ipv4_frame, ipv6_frame};

/// An answer to a datagram of two fragments, or none.
fn large_echo(netns: &Netns, own: IpAddr, far: IpAddr) -> std::io::Result<usize> {
    let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(own, 0)).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send_to(&[b'x'; 1900], (far, 7))?;
    socket.recv(&mut [0; 4096])
}

/// All incomplete packets lie in a few megabytes of the host's.
#[test]
fn the_memory_for_fragments_is_not_one_guests() {
    let mut tenants = Tenants::new("");
    let link = tenants.link();
    let piece = [b'f'; 1400];
    let large = [b'f'; 60_000];
    for number in 0..6000u16 {
        let mut v4 = ipv4_frame(
            link,
            tenants.v4(),
            address::FAR,
            protocol::UDP,
            &Header { fragment: 0x2000, ..PLAIN },
            &piece,
        );
        number_v4(&mut v4, number);
        tenants.inject(&v4);
        let mut v6 = fragment6(protocol::UDP, 0, true, &piece);
        v6[6..8].copy_from_slice(&number.to_be_bytes());
        tenants.inject(&ipv6_frame(link, tenants.v6(), address::FAR6, protocol::FRAGMENT, &v6));
        if number % 50 == 0 {
            let header = Header { fragment: 0x2000, ..PLAIN };
            let mut jumbo = ipv4_frame(link, tenants.v4(), address::FAR, protocol::UDP, &header, &large);
            number_v4(&mut jumbo, number | 0x8000);
            tenants.inject(&jumbo);
        }
    }
    let b1 = &tenants.b1;
    for (netns, own, far) in [
        (b1.netns(), b1.v4, IpAddr::V4(address::FAR)),
        (b1.netns(), b1.v6.unwrap(), address::FAR6.into()),
        (&tenants.lab.world.internet, address::ROUTER.into(), address::UPLINK.into()),
        (&tenants.lab.world.internet, address::ROUTER6.into(), address::UPLINK6.into()),
    ] {
        let length = large_echo(netns, own, far);
        assert!(matches!(length, Ok(1900..)), "{own} to {far}: {length:?}, {}", fragment_memory(&tenants));
    }
    println!("{}", fragment_memory(&tenants));
    tenants.nobody_is_harmed("after a flood of fragments");
}

fn number_v4(frame: &mut [u8], number: u16) {
    frame[18..20].copy_from_slice(&number.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

fn fragment_memory(tenants: &Tenants) -> String {
    let read = |path: &'static str| {
        tenants.lab.world.hypervisor.run(move || std::fs::read_to_string(path).unwrap_or_default())
    };
    let lines = [read("/proc/thread-self/net/sockstat"), read("/proc/thread-self/net/sockstat6")].concat();
    lines.lines().filter(|line| line.starts_with("FRAG")).collect::<Vec<_>>().join(", ")
}
