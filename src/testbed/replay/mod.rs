//! A packet that a proof found, sent for real: into a namespace of its own that
//! has its links, its way and the rules, and nothing else. What becomes of it is
//! seen by counters before and behind the rules. The machine's own network is
//! never touched.

mod bytes;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::LinkVeth;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use serde_json::Value;

use super::links::Route;
use super::netns::Netns;
use super::tap::Tap;
use crate::guard::Program;
use crate::prove::{Outcome, Packet, Stop};
use crate::topology::IfName;

/// Why a packet isn't sent, or why nothing is to be said of it.
#[derive(Debug, thiserror::Error)]
pub enum Unreplayed {
    /// It isn't one that can be made alone.
    #[error("it can't be sent alone: {0}")]
    Unsent(&'static str),
    /// It didn't come where the rules are asked.
    #[error("the kernel doesn't let it come to the rules ({0})")]
    Elsewhere(&'static str),
    /// The namespace, or nft.
    #[error("no namespace to send it in: {0}")]
    Stage(#[from] io::Error),
}

/// The MAC of the link that a packet comes in by.
const OWN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xaa];

/// The addresses of the link that it goes out by.
const OWN4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99));
const OWN6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 0x99));

/// The bridge that a guest's port is on.
const BRIDGE: &str = "replay0";

/// How long a packet may take through the kernel, in steps.
const STEPS: u32 = 10;
const STEP: Duration = Duration::from_millis(20);

/// What becomes of a packet by rules in nft's text, where the links that guests'
/// packets go out by have these numbers; `links` are those that the text names.
///
/// # Errors
/// Where it can't be sent, or doesn't come to the rules.
pub fn replay(
    rules: &str,
    indices: &BTreeMap<IfName, u32>,
    links: &[IfName],
    packet: &Packet,
) -> Result<Outcome, Unreplayed> {
    let sent = bytes::of(packet, OWN_MAC)?;
    let netns = Netns::new()?;
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        netns.sysctl_set(key, "1")?;
    }
    // Nothing but the packet is to be counted.
    netns.sysctl_set("net/ipv6/conf/default/accept_ra", "0")?;
    let stage = Stage { netns, sent };
    for name in links {
        let known = [&packet.link, &packet.out].iter().any(|own| own.as_deref() == Some(name.as_str()));
        if !known {
            stage.add_link(name.as_str(), indices.get(name).copied())?;
        }
    }
    let entrance = match &packet.link {
        Some(link) => Some(stage.add_entrance(link_name(link), packet.stop == Stop::Port)?),
        None => None,
    };
    if let Some(out) = packet.out.as_deref().map(link_name) {
        if packet.out != packet.link {
            let index = indices.iter().find(|(name, _)| name.as_str() == out).map(|(_, index)| *index);
            stage.add_link(out, index)?;
        }
        stage.route(out)?;
    } else if packet.stop == Stop::Host {
        stage.is_hosts()?;
    }
    stage.load(rules)?;
    stage.load(&stage.counters(packet))?;
    stage.send(entrance.as_ref())?;
    stage.fate(packet.stop)
}

/// A link's name; of those that nobody names, one that nobody has.
fn link_name(link: &str) -> &str {
    if link.is_empty() || link.contains(' ') { "stranger" } else { link }
}

/// The guard of VMs' ports, where this kernel takes it.
fn guard() -> Option<&'static Program> {
    static GUARD: OnceLock<Option<Program>> = OnceLock::new();
    GUARD.get_or_init(|| Program::load().ok()).as_ref()
}

struct Stage {
    netns: Netns,
    sent: bytes::Sent,
}

impl Stage {
    /// A link that something may go out by.
    fn add_link(&self, name: &str, index: Option<u32>) -> io::Result<()> {
        // The other end is nobody's.
        let other = format!("p{}", name.chars().take(14).collect::<String>());
        self.netns.links(async |links| {
            let mut message = LinkVeth::new(name, &other).build();
            message.header.index = index.unwrap_or(0);
            let request = links.handle().link().add(message);
            request.execute().await.map_err(|error| io::Error::other(format!("the link {name}: {error}")))?;
            links.up(&other).await?;
            links.up(name).await
        })
    }

    /// The link that the packet comes in by: as a guest's port of a bridge, or by
    /// itself.
    fn add_entrance(&self, name: &str, on_bridge: bool) -> io::Result<Tap> {
        let tap = Tap::open(&self.netns, name)?;
        self.netns.links(async |links| {
            links.set_mac(name, OWN_MAC).await?;
            if on_bridge {
                links.add_bridge(BRIDGE).await?;
                links.up(BRIDGE).await?;
                links.enslave(name, BRIDGE).await?;
            }
            links.up(name).await?;
            links.wait_running(name, Duration::from_secs(5)).await
        })?;
        // A packet is followed from behind the guard of its port.
        if let (true, Some(guard)) = (on_bridge, guard()) {
            let index = self.netns.ifindex(name)?;
            self.netns.try_run(|| guard.attach(index))?.map_err(io::Error::other)?;
        }
        Ok(tap)
    }

    fn route(&self, out: &str) -> Result<(), Unreplayed> {
        let to = IpNet::from(self.sent.destination);
        // With an address that masquerading can take.
        let own = IpNet::from(if to.addr().is_ipv4() { OWN4 } else { OWN6 });
        self.netns.links(async |links| links.add_address(out, own).await)?;
        self.netns
            .links(async |links| links.add_route(Route { to, via: None, dev: out }).await)
            .map_err(|_| Unreplayed::Elsewhere("nothing is routed to its destination"))
    }

    /// Makes the destination an address of the namespace.
    fn is_hosts(&self) -> Result<(), Unreplayed> {
        let to = IpNet::from(self.sent.destination);
        self.netns
            .links(async |links| links.add_address("lo", to).await)
            .map_err(|_| Unreplayed::Elsewhere("no host has its destination"))
    }

    /// Counters of the packet: as it comes, before the rules of its hook, and
    /// behind them.
    fn counters(&self, packet: &Packet) -> String {
        let stop = packet.stop;
        let bytes::Sent { source, destination, .. } = &self.sent;
        let family = if destination.is_ipv4() { "ip" } else { "ip6" };
        let is = match stop {
            Stop::Port | Stop::PastPort => format!("ether saddr {}", self.sent.source_mac()),
            Stop::Host | Stop::Out => format!("{family} daddr {destination}"),
        };
        let chain = |name: &str, hook: &str, priority: i32, is: &str| {
            format!(
                "counter {name} {{\n}}\nchain {name} {{\ntype filter hook {hook} priority {priority}\n\
                 {is} counter name {name}\n}}\n"
            )
        };
        // A port's rules are at -300; at 0 br_netfilter may keep a fragment.
        let (table, first, last) = match stop {
            Stop::Port | Stop::PastPort => ("bridge", -1000, -100),
            Stop::Host | Stop::Out => ("inet", -1000, 1000),
        };
        let judged = match (stop, self.sent.by_host) {
            (Stop::Port | Stop::PastPort, _) => "prerouting",
            (Stop::Host, _) => "input",
            (Stop::Out, false) => "forward",
            (Stop::Out, true) => "output",
        };
        let changed = format!("{is} {family} saddr != {source}");
        let by = packet.out.as_deref().map(|out| format!("oifname \"{}\" ", link_name(out)));
        let there = by.unwrap_or_default() + &is;
        let mut text = chain("before", judged, first, &there) + &chain("behind", judged, last, &there);
        if table == "inet" {
            text += &chain("came", "prerouting", first, &is);
            text += &chain("early", "prerouting", last, &is);
            text += &chain("changed", "postrouting", last, &changed);
        }
        format!("table {table} replay {{\n{text}}}\n")
    }

    fn nft(&self, arguments: &[&str], input: &str) -> io::Result<String> {
        let output = self.netns.try_run(|| {
            let mut child = Command::new("nft")
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        })??;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_string()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn load(&self, text: &str) -> io::Result<()> {
        self.nft(&["-f", "-"], text).map(drop)
    }

    fn send(&self, entrance: Option<&Tap>) -> Result<(), Unreplayed> {
        if let Some(tap) = entrance {
            return Ok(tap.send(&self.sent.frame)?);
        }
        let (family, packet) = match self.sent.destination {
            IpAddr::V4(_) => (AddressFamily::INET, self.sent.packet()),
            IpAddr::V6(_) => (AddressFamily::INET6, self.sent.packet()),
        };
        let to = SocketAddr::new(self.sent.destination, 0);
        self.netns
            .try_run(|| {
                let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
                // Where the rules drop it, the kernel says so.
                match sendto(socket, packet, SendFlags::empty(), &to) {
                    Ok(_) | Err(rustix::io::Errno::PERM) => Ok(()),
                    Err(error) => Err(io::Error::from(error)),
                }
            })?
            .map_err(|_: io::Error| Unreplayed::Elsewhere("the host can't send it"))
    }

    /// What the counters say, once they have stood still.
    fn fate(&self, stop: Stop) -> Result<Outcome, Unreplayed> {
        let mut counted = BTreeMap::new();
        for _ in 0..STEPS {
            sleep(STEP);
            counted = self.counted()?;
            if counted.get("behind").is_some_and(|packets| *packets > 0) {
                break;
            }
        }
        let seen = |name: &str| counted.get(name).is_some_and(|packets| *packets > 0);
        let inet = matches!(stop, Stop::Host | Stop::Out) && !self.sent.by_host;
        if inet && !seen("came") {
            return Err(Unreplayed::Elsewhere("it doesn't come in"));
        }
        if inet && !seen("early") {
            return Ok(Outcome::Dropped);
        }
        if !seen("before") {
            return Err(Unreplayed::Elsewhere("it isn't routed as it is judged"));
        }
        Ok(match (seen("behind"), seen("changed")) {
            (false, _) => Outcome::Dropped,
            (true, false) => Outcome::Passed,
            (true, true) => Outcome::Masqueraded,
        })
    }

    fn counted(&self) -> io::Result<BTreeMap<String, u64>> {
        let listed: Value = serde_json::from_str(&self.nft(&["-j", "list", "counters"], "")?)?;
        let objects = listed.get("nftables").and_then(Value::as_array).into_iter().flatten();
        let counters = objects.filter_map(|object| object.get("counter"));
        let of = |counter: &Value| {
            let name = counter.get("name").and_then(Value::as_str)?;
            Some((name.to_string(), counter.get("packets").and_then(Value::as_u64)?))
        };
        Ok(counters.filter_map(of).collect())
    }
}
