use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::firewall::live::nft;
use crate::topology::MarkMask;

/// Each flow's mark, by the port that it is to.
fn marks() -> BTreeMap<u16, u32> {
    let socket = open().unwrap();
    let nothing = ConntrackMessage::Get(Vec::new());
    send(&socket, NLM_F_DUMP, NetfilterProtoFamily::Unspec, nothing).unwrap();
    let udp = entries(&socket).unwrap().into_iter().filter(|entry| entry.flow.protocol == 17);
    udp.map(|entry| (entry.flow.port, entry.mark)).collect()
}

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        test();
    });
    thread.join().unwrap();
}

fn give(marks: &[(u16, u32)]) {
    let rules: String = marks
        .iter()
        .map(|(port, mark)| {
            let zone = port % 3;
            format!("add rule inet t raw udp dport {port} ct zone set {zone}\nadd rule inet t c udp dport {port} ct mark set {mark:#x}\n")
        })
        .collect();
    nft::load(&format!(
        "table inet t {{ chain raw {{ type filter hook output priority -300; }}; chain c {{ type filter hook output priority 0; }}; }}\n{rules}"
    ))
    .unwrap();
    for (index, (port, _)) in marks.iter().enumerate() {
        let from = if index % 2 == 0 { "127.0.0.1" } else { "::1" };
        UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (from, *port)).unwrap();
    }
    nft::load("delete table inet t").unwrap();
}

#[test]
fn marks_are_taken_from_those_who_bear_them_and_others_bits_stay() {
    in_namespace(|| {
        let judgement = Judgement::first(MarkMask::default()).next();
        give(&[
            (7001, 0x4000_0000),
            (7002, 0x5000_0000),
            (7003, 0x4ffb_ca6c),
            (7004, 0x5000_0001),
            (7005, 0x6fff_ffff),
            (7006, 0x0000_4000),
            (7007, 0x2000_4000),
            (7008, 0),
        ]);
        let forget = Forget::of(&judgement);
        assert_eq!(forget.bearers().unwrap(), 4);
        assert_eq!(forget.carry_out().unwrap(), 4);
        let expected = [
            (7001, 0),
            (7002, 0),
            (7003, 0x0ffb_ca6c),
            (7004, 1),
            (7005, 0x6fff_ffff),
            (7006, 0x4000),
            (7007, 0x2000_4000),
            (7008, 0),
        ];
        assert_eq!(marks(), expected.into());
        assert_eq!((forget.bearers().unwrap(), forget.carry_out().unwrap()), (0, 0));
        assert_eq!(Forget::all(0xf000_0000).carry_out().unwrap(), 2);
        assert_eq!(marks(), expected.map(|(port, mark)| (port, mark & 0x0fff_ffff)).into());
    });
}

#[test]
fn where_nothing_is_tracked_nothing_is_asked() {
    in_namespace(|| {
        assert_eq!(Forget::all(u32::MAX).bearers().unwrap(), 0);
        assert_eq!(Forget::all(u32::MAX).carry_out().unwrap(), 0);
    });
}

/// More than one answer of the kernel's holds.
#[test]
fn of_thousands_of_flows_none_is_left() {
    in_namespace(|| {
        nft::load("table inet t { chain c { type filter hook output priority 0; ct mark set ct mark & 0xffff | 0x30000000; }; }").unwrap();
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        for port in 1..4000_u16 {
            _ = socket.send_to(b"x", ("127.0.0.1", port));
        }
        nft::load("delete table inet t").unwrap();
        let forget = Forget::of(&Judgement::default());
        let borne = forget.bearers().unwrap();
        assert!(borne >= 3999, "{borne}");
        assert_eq!(forget.carry_out().unwrap(), borne);
        assert!(marks().values().all(|mark| *mark == 0));
    });
}

#[test]
fn by_hand_it_is_the_same() {
    let commands = Forget::of(&Judgement::default()).commands();
    assert!(commands[0].starts_with("conntrack -U -f ipv4 --mark 0x0/0xf0000000 "), "{commands:?}");
    assert_eq!(commands.len(), 2);
}
