//! Packets from everybody to everybody, and what became of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hostctl::reach::{self, Endpoint, Reach};
use hostctl::testbed::{Netns, Probe, Route, Verdict, address, probe_all};
use hostctl::topology::{Topology, Vm};
use hostctl::vm::Client;

use super::Failure;
use super::report::{headline, matrix, say};
use super::stage::Stage;

/// A guest's probes have 2 s each and run side by side.
const PROBES: Duration = Duration::from_secs(60);

/// What became of the probes of one pair, by what was tried.
type Measured = BTreeMap<(String, String), Vec<(String, String)>>;

/// Measures every pair and holds it against the model; whether they agree.
pub fn prove(stage: &Stage, topology: &Topology) -> Result<bool, Failure> {
    headline("who reaches whom: real packets, from inside the guests");
    let mut measured = Measured::new();
    for vm in &topology.vms {
        from_guest(stage, topology, vm, &mut measured)?;
    }
    from_outside(stage, topology, &mut measured)?;

    let model = reach::matrix(topology);
    let guests: Vec<String> = topology.networks.iter().map(|network| network.name.to_string()).collect();
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rows = [guests.clone(), named(&["host", "internet", "tailnet"])].concat();
    let columns = [guests, named(&["internet", "imds", "host", "tailnet"])].concat();
    let expected = |from: &str, to: &str| {
        let find = |name: &str, ends: &[Endpoint]| ends.iter().find(|end| end.to_string() == name).cloned();
        let cell = find(from, &model.from).zip(find(to, &model.to));
        let asked = measured.contains_key(&(from.to_string(), to.to_string()));
        let reach = cell.filter(|_| asked).and_then(|(from, to)| model.get(&from, &to));
        match reach.map(|cell| cell.reach) {
            Some(Reach::Allow) => "allow".to_string(),
            Some(Reach::Deny) => "drop".into(),
            Some(Reach::Part) if to == "imds" => "http".into(),
            Some(Reach::Part) => "ping".into(),
            Some(Reach::Untouched) | None => "·".into(),
        }
    };
    let seen = |from: &str, to: &str| {
        measured
            .get(&(from.to_string(), to.to_string()))
            .map_or_else(|| "·".to_string(), |probes| summary(probes))
    };
    say("expected, from the host spec:");
    say(&matrix(&rows, &columns, expected));
    say("\nmeasured:");
    say(&matrix(&rows, &columns, seen));
    say(
        "\n(allow: every probe passed; drop: none did and nothing answered; http: nothing but the\n metadata service; ping: nothing but a ping of its own gateway; ·: not asked)",
    );

    let differing: Vec<(&String, &String)> = rows
        .iter()
        .flat_map(|from| columns.iter().map(move |to| (from, to)))
        .filter(|(from, to)| expected(from, to) != seen(from, to))
        .collect();
    for (from, to) in &differing {
        say(&format!("\nDIFFERENT: {from} → {to}"));
        for (what, verdict) in measured.get(&((*from).clone(), (*to).clone())).into_iter().flatten() {
            say(&format!("  {what}: {verdict}"));
        }
    }
    let masqueraded = masquerade(stage);
    let probes: usize = measured.values().map(Vec::len).sum();
    say(&format!(
        "\n{probes} probes, {} pairs, {} different from what the spec says",
        measured.len(),
        differing.len()
    ));
    Ok(differing.is_empty() && masqueraded)
}

/// One word for a pair's probes.
fn summary(probes: &[(String, String)]) -> String {
    let is = |verdict: &str, wanted: &str| verdict.split(' ').next() == Some(wanted);
    let passed: Vec<&str> =
        probes.iter().filter(|(_, verdict)| is(verdict, "allowed")).map(|(what, _)| what.as_str()).collect();
    let rest_dropped = probes.iter().all(|(_, verdict)| is(verdict, "allowed") || is(verdict, "dropped"));
    let kind = |what: &str| what.split('/').next().unwrap_or_default().to_string();
    match (passed.len(), rest_dropped) {
        (_, false) => "mixed".into(),
        (0, true) => "drop".into(),
        (n, true) if n == probes.len() => "allow".into(),
        (_, true) if passed.iter().all(|what| kind(what) == "http") => "http".into(),
        (_, true) if passed.iter().all(|what| kind(what) == "icmp") => "ping".into(),
        (_, true) => "mixed".into(),
    }
}

fn guest_addresses(vm: &Vm) -> Vec<IpAddr> {
    let v6 = vm.port.v6.as_ref().map(|v6| v6.address.into());
    [Some(vm.port.address.into()), v6].into_iter().flatten().collect()
}

fn from_guest(stage: &Stage, topology: &Topology, vm: &Vm, measured: &mut Measured) -> Result<(), Failure> {
    let mut probes: Vec<(String, String)> = Vec::new();
    let every = |address: IpAddr| {
        [format!("tcp/{address}/80"), format!("udp/{address}/7"), format!("icmp/{address}")]
    };
    for other in topology.vms.iter().filter(|other| other.name != vm.name) {
        for address in guest_addresses(other) {
            probes.extend(every(address).map(|what| (other.port.network.to_string(), what)));
        }
    }
    for address in [IpAddr::V4(address::FAR), address::FAR6.into()] {
        probes.extend(every(address).map(|what| ("internet".into(), what)));
    }
    for address in [IpAddr::V4(address::METADATA), address::METADATA6.into()] {
        probes.push(("imds".into(), format!("http/{address}/80/latest/meta-data/instance-id")));
        probes.push(("imds".into(), format!("udp/{address}/7")));
        probes.push(("imds".into(), format!("icmp/{address}")));
    }
    // A gateway's address is the host's; only a ping of one's own is answered.
    for network in &topology.networks {
        for address in
            [Some(IpAddr::from(network.gateway)), network.gateway6.map(IpAddr::from)].into_iter().flatten()
        {
            probes.push(("host".into(), format!("tcp/{address}/22")));
            if network.name == vm.port.network {
                probes.push(("host".into(), format!("icmp/{address}")));
            }
        }
    }
    for address in [IpAddr::V4(address::UPLINK), address::UPLINK6.into(), address::TAILSCALE.into()] {
        probes.push(("host".into(), format!("tcp/{address}/22")));
        probes.push(("host".into(), format!("udp/{address}/7")));
    }
    for address in [IpAddr::V4(address::LAPTOP), address::LAPTOP6.into()] {
        probes.extend(every(address).map(|what| ("tailnet".into(), what)));
    }
    let arguments: Vec<&str> = probes.iter().map(|(_, what)| what.as_str()).collect();
    let mut client = Client::connect(stage.root(), &vm.name)?;
    let output = client.exec("/bin/probe", &arguments, PROBES)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let verdicts: Vec<&str> = text.lines().collect();
    if verdicts.len() != probes.len() {
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(
            format!("{} answered {} of {} probes: {problem}", vm.name, verdicts.len(), probes.len()).into()
        );
    }
    for ((to, what), line) in probes.into_iter().zip(verdicts) {
        let verdict = line.strip_prefix(&what).unwrap_or(line).trim().to_string();
        measured.entry((vm.port.network.to_string(), to)).or_default().push((what, verdict));
    }
    Ok(())
}

/// From the laptop, the internet and the host to every guest.
fn from_outside(stage: &Stage, topology: &Topology, measured: &mut Measured) -> Result<(), Failure> {
    let world = stage.world();
    // An attacker on the uplink's link knows the way.
    for network in &topology.networks {
        let v6 = network.cidr6.map(|net| (net.into(), IpAddr::from(address::UPLINK6)));
        for (to, via) in
            [Some((network.cidr.into(), IpAddr::from(address::UPLINK))), v6].into_iter().flatten()
        {
            let route = Route { to, via: Some(via), dev: "eth0" };
            world.internet.links(async |links| links.add_route(route).await)?;
        }
    }
    let sources: [(&str, &Netns); 3] =
        [("tailnet", &world.laptop), ("internet", &world.internet), ("host", &world.hypervisor)];
    let mut asked = Vec::new();
    let mut probes = Vec::new();
    for (from, netns) in sources {
        for vm in &topology.vms {
            for address in guest_addresses(vm) {
                let tried = [
                    (format!("tcp/{address}/22"), Probe::Tcp(SocketAddr::new(address, 22))),
                    (format!("udp/{address}/7"), Probe::Udp(SocketAddr::new(address, 7))),
                    (format!("icmp/{address}"), Probe::Icmp(address)),
                ];
                for (what, probe) in tried {
                    asked.push((from.to_string(), vm.port.network.to_string(), what));
                    probes.push((netns.clone(), probe));
                }
            }
        }
    }
    for ((from, to, what), verdict) in asked.into_iter().zip(probe_all(&probes)) {
        let verdict = match verdict {
            Verdict::Allowed { .. } => "allowed".to_string(),
            Verdict::Dropped => "dropped".into(),
            Verdict::Rejected { how } => format!("rejected {how}"),
            Verdict::Unsent { .. } => format!("not sent: {verdict:?}"),
        };
        measured.entry((from, to)).or_default().push((what, verdict));
    }
    Ok(())
}

/// Whether the internet saw nobody but the host.
fn masquerade(stage: &Stage) -> bool {
    let mut peers: Vec<IpAddr> =
        [80, 7].iter().flat_map(|port| stage.world().seen("internet", *port)).map(|peer| peer.ip()).collect();
    peers.sort_unstable();
    peers.dedup();
    let own: [IpAddr; 2] = [address::UPLINK.into(), address::UPLINK6.into()];
    let seen: Vec<String> = peers.iter().map(ToString::to_string).collect();
    say(&format!("\nmasquerade: the internet's servers saw only {}, the host", seen.join(" and ")));
    !peers.is_empty() && peers.iter().all(|peer| own.contains(peer))
}
