//! The interpreter itself: what it knows it does as nft(8) says, what it
//! doesn't know it refuses.

use hostctl::firewall::nft;
use serde_json::{Value, json};

use crate::support::oracle::{Hook, Packet, Tables, Trace, name};

const INPUT: Hook = Hook { family: "inet", hook: "input" };

fn packet(port: u16) -> Packet {
    Packet {
        iif: name("uplink0"),
        oif: None,
        ether: None,
        source: "203.0.113.1".parse().unwrap(),
        destination: "198.51.100.2".parse().unwrap(),
        protocol: 6,
        source_port: 4000,
        port,
        tracked: true,
    }
}

/// Which of the ports pass the input hook of a table, as the kernel lists it.
fn passing<const N: usize>(table: &str, ports: [u16; N]) -> [bool; N] {
    let tables =
        Tables::parse(&nft::rehearse_json(&format!("table inet t {{\n{table}\n}}")).unwrap()).unwrap();
    ports.map(|port| tables.pass(INPUT, &packet(port), &mut Trace::default()).unwrap().0)
}

const BASE: &str = "type filter hook input priority 0; policy drop;";

#[test]
fn jumps_return_and_gotos_do_not() {
    let table = format!(
        "chain one {{ tcp dport 1 accept; tcp dport 2 drop; tcp dport 3 return; tcp dport 4 goto two; }}
         chain two {{ tcp dport 4 return; tcp dport 5 accept; }}
         chain base {{ {BASE} jump one; tcp dport {{ 2, 3, 4 }} accept; goto two; }}
         chain after {{ type filter hook input priority 10; policy accept; tcp dport 1 drop; }}"
    );
    // 1 is accepted, and dropped by the later chain all the same.
    assert_eq!(passing(&table, [1, 2, 3, 4, 5, 6]), [false, false, true, true, true, false]);
}

#[test]
fn sets_maps_ranges_and_concatenations() {
    let table = format!(
        r#"set busy {{ type ipv4_addr; size 9; flags dynamic, timeout; timeout 1m; }}
         set many {{ type ipv4_addr; size 9; flags dynamic; }}
         set pairs {{ type ifname . inet_service; flags interval; elements = {{ "uplink0" . 10-20, "other" . 30 }}; }}
         map ways {{ type inet_service : verdict; elements = {{ 40 : accept, 41 : jump no, 42 : jump back }}; }}
         chain no {{ drop; }}
         chain back {{ return; }}
         chain base {{ {BASE} iifname . tcp dport @pairs accept
            tcp dport vmap @ways
            tcp dport 42 accept
            ip saddr 203.0.113.0/24 tcp dport 50-60 tcp dport != {{ 55, 57 }} accept
            ip6 saddr != fe80::/10 accept
            udp dport != 70 accept
            tcp flags & (syn | rst) == syn ct state new tcp dport 80 accept
            meta length > 1500 accept
            ip frag-off & 0x3fff != 0 accept
            tcp dport 90 update @busy {{ ip saddr limit rate over 5/second }} accept
            tcp dport 91 add @many {{ ip saddr ct count over 5 }} accept
            ct status dnat accept
            ct state {{ established, related }} accept
         }}"#
    );
    let ports = [9, 10, 20, 21, 30, 40, 41, 42, 49, 50, 55, 56, 57, 70, 80, 90, 91];
    let passes = [10, 20, 40, 42, 50, 56, 80];
    assert_eq!(passing(&table, ports), ports.map(|port| passes.contains(&port)));
}

#[test]
fn what_it_does_not_know_is_an_error() {
    let rules = [
        "meta mark 1 accept",
        "meta iif 1 accept",
        "ip ttl 1 drop",
        "ct mark 1 drop",
        "tcp dport 1 reject",
        "tcp sport 1 accept",
        "meta mark set 1",
        "limit rate 1/second accept",
        "iifname \"eth*\" accept",
        "fib saddr oif missing drop",
        "@th,0,16 1 accept",
        "log group 1",
    ];
    for rule in rules {
        let table = format!("table inet t {{\nchain base {{ {BASE} {rule}; }}\n}}");
        let listing = nft::rehearse_json(&table).unwrap();
        assert!(Tables::parse(&listing).is_err(), "{rule}: {listing}");
    }
    for table in [
        "set s { type mark; }",
        "set s { type ipv4_addr; flags timeout; timeout 1m; elements = { 192.0.2.1 }; }",
        "set s { type ipv4_addr; flags constant; }",
        "map m { type ipv4_addr : mark; }",
        "counter c { }",
        "chain base { type route hook output priority 0; policy accept; }",
    ] {
        let listing = nft::rehearse_json(&format!("table inet t {{\n{table}\n}}")).unwrap();
        assert!(Tables::parse(&listing).is_err(), "{table}: {listing}");
    }
}

#[test]
fn nothing_more_than_is_known_may_stand_in_a_listing() {
    let text =
        nft::rehearse_json(&format!("table inet t {{\nchain base {{ {BASE} tcp dport 1 accept; }}\n}}"))
            .unwrap();
    let listing: Value = serde_json::from_str(&text).unwrap();
    assert!(Tables::parse(&listing.to_string()).is_ok());
    // A key more, at each object of it.
    let pointers =
        ["/nftables/1/table", "/nftables/2/chain", "/nftables/3/rule", "/nftables/3/rule/expr/0/match"];
    for pointer in pointers {
        let mut more = listing.clone();
        more.pointer_mut(pointer).unwrap()["surprise"] = json!(1);
        assert!(Tables::parse(&more.to_string()).is_err(), "{pointer}");
    }
}

#[test]
fn there_is_no_tracking_before_priority_200() {
    let table = "chain base { type filter hook prerouting priority -300; policy accept; ct state new drop; }";
    let tables =
        Tables::parse(&nft::rehearse_json(&format!("table inet t {{\n{table}\n}}")).unwrap()).unwrap();
    let hook = Hook { family: "inet", hook: "prerouting" };
    assert!(tables.pass(hook, &packet(1), &mut Trace::default()).is_err());
}
