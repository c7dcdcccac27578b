//! The log of what is dropped.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hostctl::testbed::frames::{Udp, udp};

use crate::adversary::tenants::Tenants;

/// A guest that makes the host log what it drops doesn't hide what another does.
#[test]
fn a_noisy_guest_silences_no_other() {
    let tenants = Tenants::new("");
    // The kernel's log isn't a namespace's: count what would be logged.
    let chain = ["inet", "hostctl", "drop_forward"];
    let text = tenants.lab.output("nft", &[&["-a", "list", "chain"][..], &chain].concat());
    let log = " log prefix \"FORWARD DROP: \" comment \"at most ten";
    let rule = text.lines().find(|line| line.contains(log)).unwrap();
    let (rule, handle) = rule.trim().split_once(" # handle ").unwrap();
    let counting = rule.replace(log, &format!(" counter{}", log.replace("at most", "counted: at most")));
    let file = tenants.lab.root_dir().join("counting.nft");
    std::fs::write(&file, format!("replace rule {} handle {handle} {counting}\n", chain.join(" "))).unwrap();
    tenants.lab.output("nft", &["-f", file.to_str().unwrap()]);
    let logged = || tenants.counted("inet", "counted: at most ten a second");
    let source = SocketAddr::new(tenants.m1.v4, 9);
    let destination = SocketAddr::new(tenants.b1.v4, 9);
    let start = Instant::now();
    let noise = || {
        (0..2000).for_each(|_| {
            tenants.inject(&udp(tenants.link(), Udp { source, destination, payload: b"noise" }));
        });
    };
    noise();
    let seconds = u64::try_from(start.elapsed().as_millis()).unwrap() / 1000 + 1;
    let noisy = logged();
    assert!((20..=20 + 10 * seconds).contains(&noisy), "{noisy} lines in {seconds} s");
    // In between, and at once.
    for (quiet, nobodys) in [(&tenants.b1, [10, 1, 0, 200]), (&tenants.n1, [10, 2, 0, 200])] {
        let socket = quiet.netns().run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        noise();
        let before = logged();
        for _ in 0..5 {
            socket.send_to(b"quiet", (Ipv4Addr::from(nobodys), 9)).unwrap();
        }
        sleep(Duration::from_millis(50));
        assert!(logged() >= before + 5, "{before}, then {}", logged());
    }
}
