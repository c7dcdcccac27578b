//! What the engine says of other programs' tables against the interpreter, with
//! random tables.

use hostctl::prove::{Effect, OwnAddresses, Sureness, happenings};
use hostctl::reach::{Entry, Model, Verdict};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::flows::flows;
use super::scene::{Scene, TAILNET, UPLINK};
use crate::support::oracle::Tables;
use crate::support::random_hosts::{RandomHost, Size, hosts, runner, seed};

const SMALL: Size = Size { networks: 3, vms: 2, rules: 2 };

const HOOKS: [(&str, i64); 5] =
    [("prerouting", -150), ("forward", 0), ("input", 0), ("output", 0), ("postrouting", 50)];

/// Links and prefixes that rules may name: those of the host, and others.
#[derive(Debug, Clone)]
struct Names {
    links: Vec<String>,
    nets: Vec<ipnet::IpNet>,
}

fn names(scene: &Scene) -> Names {
    let mut links = vec![TAILNET.to_string(), UPLINK.to_string(), "docker0".into()];
    let mut nets: Vec<ipnet::IpNet> = ["203.0.113.0/24", "198.51.0.0/16", "2001:db8::/32", "10.0.0.0/8"]
        .map(|net| net.parse().unwrap())
        .into();
    for network in &scene.topology.networks {
        links.push(network.bridge.as_str().into());
        nets.push(network.cidr.into());
        nets.extend(network.cidr6.map(ipnet::IpNet::from));
    }
    for port in scene.topology.ports() {
        nets.push(std::net::IpAddr::from(port.address).into());
        nets.extend(port.v6.as_ref().map(|v6| ipnet::IpNet::from(std::net::IpAddr::from(v6.address))));
    }
    Names { links, nets }
}

fn condition(names: &Names) -> impl Strategy<Value = Value> + use<> {
    let operator = prop_oneof![3 => Just("=="), 1 => Just("!=")];
    let link =
        (proptest::sample::select(names.links.clone()), proptest::sample::select(vec!["iifname", "oifname"]))
            .prop_map(|(link, key)| (json!({"meta": {"key": key}}), json!(link)));
    let net =
        (proptest::sample::select(names.nets.clone()), proptest::sample::select(vec!["saddr", "daddr"]))
            .prop_map(|(net, field)| {
                let protocol = if net.addr().is_ipv4() { "ip" } else { "ip6" };
                let right = if net.prefix_len() == net.max_prefix_len() {
                    json!(net.addr().to_string())
                } else {
                    json!({"prefix": {"addr": net.addr().to_string(), "len": net.prefix_len()}})
                };
                (json!({"payload": {"protocol": protocol, "field": field}}), right)
            });
    let carries = proptest::sample::select(vec!["tcp", "udp", "icmp", "ipv6-icmp"])
        .prop_map(|name| (json!({"meta": {"key": "l4proto"}}), json!(name)));
    let port = (proptest::sample::select(vec!["tcp", "udp"]), 0u16..1000).prop_map(|(protocol, port)| {
        let right = if port % 2 == 0 { json!(port) } else { json!({"range": [port, port * 8]}) };
        (json!({"payload": {"protocol": protocol, "field": "dport"}}), right)
    });
    (operator, prop_oneof![link, net, carries, port])
        .prop_map(|(op, (left, right))| json!({"match": {"op": op, "left": left, "right": right}}))
}

fn rule(names: &Names, verdicts: &'static [&'static str]) -> impl Strategy<Value = Value> + use<> {
    let verdict = proptest::sample::select(verdicts).prop_map(|verdict| match verdict {
        "jump" | "goto" => json!({ verdict: {"target": "inner"} }),
        verdict => json!({ verdict: null }),
    });
    (proptest::collection::vec(condition(names), 0..3), verdict)
        .prop_map(|(conditions, verdict)| json!(conditions.into_iter().chain([verdict]).collect::<Vec<_>>()))
}

/// A table with a base chain or two, and one that these jump to.
fn table(names: &Names) -> impl Strategy<Value = Vec<Value>> + use<> {
    const OUTER: &[&str] = &["accept", "drop", "return", "jump", "goto"];
    const INNER: &[&str] = &["accept", "drop", "return"];
    let outer = (
        proptest::sample::select(&HOOKS[..]),
        proptest::sample::select(vec!["accept", "accept", "drop"]),
        proptest::collection::vec(rule(names, OUTER), 1..5),
    );
    (proptest::collection::vec(outer, 1..3), proptest::collection::vec(rule(names, INNER), 0..4)).prop_map(
        |(outer, inner)| {
            let chain = |name: &str| json!({"family": "inet", "table": "t", "name": name, "handle": 1});
            let rule = |chain: &str, expr: Value| json!({"rule": {"family": "inet", "table": "t", "chain": chain, "handle": 1, "expr": expr}});
            let mut objects = vec![json!({"table": {"family": "inet", "name": "t", "handle": 1}})];
            objects.push(json!({ "chain": chain("inner") }));
            objects.extend(inner.into_iter().map(|expr| rule("inner", expr)));
            for (number, ((hook, priority), policy, rules)) in outer.into_iter().enumerate() {
                let name = format!("c{number}");
                let mut base = chain(&name);
                base["type"] = json!("filter");
                base["hook"] = json!(hook);
                base["prio"] = json!(priority + i64::try_from(number).unwrap());
                base["policy"] = json!(policy);
                objects.push(json!({ "chain": base }));
                objects.extend(rules.into_iter().map(|expr| rule(&name, expr)));
            }
            objects
        },
    )
}

/// What the engine finds of one table: every packet that it shows is dropped by
/// the interpreter, and whatever the interpreter drops of what the spec lets
/// pass, it has found for that guest's network. How many flows were asked about.
fn hold(scene: &Scene, objects: &[Value]) -> Result<(u64, u64), String> {
    let listing = json!({ "nftables": objects });
    let tables = Tables::parse(&listing.to_string()).map_err(|error| error.to_string())?;
    let (model, host) = (Model::new(&scene.topology, &scene.vicinity), scene.host());
    let mut own = OwnAddresses::new();
    for (link, address) in &scene.vicinity.addresses {
        own.entry(link.as_str().into()).or_default().insert(*address);
    }
    let found = happenings(&model, &own, &listing).map_err(|unknown| unknown.to_string())?;
    let found: Vec<_> = found.into_iter().filter(|one| one.effect == Effect::Drop).collect();
    let mut shown = 0;
    for one in &found {
        if one.sureness == Sureness::Perhaps {
            return Err(format!("nothing of this isn't known: {one:?}"));
        }
        let flow = one.packet.flow();
        // The interpreter knows first packets, and of messages pings.
        if one.traffic.reply
            || !one.packet.to_string().contains("of a new flow")
            || [1, 58].contains(&flow.protocol)
        {
            continue;
        }
        shown += 1;
        let passes = host.pass(&tables, &flow).map_err(|unknown| unknown.to_string())?.passes;
        if passes {
            return Err(format!("the interpreter lets pass what the engine says is dropped: {one:#?}"));
        }
    }
    let mut asked = 0;
    for flow in flows(scene) {
        let Entry::Guest(port) = &flow.entry else { continue };
        if model.judge(&flow).verdict != Verdict::Allowed {
            continue;
        }
        asked += 1;
        if host.pass(&tables, &flow).map_err(|unknown| unknown.to_string())?.passes {
            continue;
        }
        let port = scene.topology.ports().find(|other| other.interface == *port).unwrap();
        let is_found = found.iter().any(|one| {
            one.traffic.outbound
                && !one.traffic.reply
                && one.traffic.ours == port.bridge.as_str()
                && one.packet.family().address(0).is_ipv4() == flow.source.is_ipv4()
        });
        if !is_found {
            return Err(format!("{flow:?} is dropped, and not found: {found:#?}"));
        }
    }
    Ok((shown, asked))
}

#[test]
fn random_tables_do_what_the_engine_says() {
    let first = seed();
    let total = std::cell::Cell::new((0, 0));
    let mut count = 0;
    // How much random tables do is random too.
    while total.get().0 < 60 {
        let seed = first.wrapping_add(count);
        count += 1;
        runner(seed, 4, 20)
            .run(&(hosts(SMALL), any::<u64>()), |(random, inner): (RandomHost, u64)| {
                let scene = Scene::new(&random.spec());
                let names = names(&scene);
                runner(inner, 8, 40)
                    .run(&table(&names), |objects| {
                        let (shown, asked) = hold(&scene, &objects).map_err(TestCaseError::fail)?;
                        total.set((total.get().0 + shown, total.get().1 + asked));
                        Ok(())
                    })
                    .map_err(|error| TestCaseError::fail(format!("{}\n{error}", random.spec())))
            })
            .unwrap_or_else(|error| panic!("HOSTCTL_SEED={seed}\n{error}"));
    }
    let (shown, asked) = total.get();
    println!("{shown} packets shown, {asked} flows asked about");
    assert!(asked > 1000, "{shown} packets shown, {asked} flows asked about");
}
