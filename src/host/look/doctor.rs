//! What this machine has and lacks, found by trying.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::firewall::{self, Ruleset, Severity, nft};
use crate::guard;
use crate::link;
use crate::root_dir::RootDir;
use crate::topology::{self, Arch, Topology};
use crate::vm;

use crate::host::apply::observe::observe_network;
use crate::host::apply::surroundings::uplinks;
use crate::host::audit::applied;
use crate::host::audit::{foreign, settings};
use crate::host::{FlushProtection, hold};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// hostctl works, with less.
    Warning,
    /// hostctl doesn't work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub about: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is.
    pub remedy: String,
}

fn check(about: &'static str, level: Level, found: impl Into<String>, remedy: &str) -> Check {
    Check { about, level, found: found.into(), remedy: remedy.into() }
}

/// Looks at everything.
pub async fn doctor(root: &RootDir) -> Vec<Check> {
    let mut findings = vec![privileges()];
    findings.extend(nft_findings());
    findings.push(tun());
    findings.extend([Arch::X86_64, Arch::Aarch64].map(qemu));
    findings.push(confinement());
    findings.push(kvm(root));
    findings.push(offloads(root));
    findings.extend([forwarding(), br_netfilter()]);
    findings.extend(relied_on(root).await);
    findings.push(flush(root).await);
    findings.push(flow_room(root));
    findings.extend(other_firewalls(root).await);
    findings
}

fn privileges() -> Check {
    if rustix::process::geteuid().is_root() {
        check("privileges", Level::Ok, "root", "")
    } else {
        check("privileges", Level::Problem, "not root", "run hostctl as root")
    }
}

fn nft_findings() -> Vec<Check> {
    let version = match nft::version() {
        Ok(version) => version,
        Err(error) => {
            return vec![check("nftables", Level::Problem, error.to_string(), "install nftables")];
        }
    };
    let mut findings = vec![check("nftables", Level::Ok, version, "")];
    let ours = firewall::render(&Ruleset::default());
    findings.push(match ours.map_err(|error| error.to_string()).map(|text| nft::probe(&text)) {
        Ok(Ok(())) => check("firewall", Level::Ok, "this kernel takes hostctl's rules", ""),
        Ok(Err(error)) => check(
            "firewall",
            Level::Problem,
            error.to_string(),
            "hostctl needs nft 1.0.6 or newer and a kernel with nf_tables, bridge tables, conntrack and masquerade",
        ),
        Err(error) => check("firewall", Level::Problem, error, ""),
    });
    let features = [
        (
            "bridge conntrack",
            "table bridge t { chain c { type filter hook forward priority 0; ct state new accept; }; }",
        ),
        ("destroy", "destroy table inet t"),
        ("flowtables", "table inet t { flowtable f { hook ingress priority 0; devices = { lo }; }; }"),
    ];
    for (about, text) in features {
        findings.push(match nft::probe(text) {
            Ok(()) => check(about, Level::Ok, "there; not needed", ""),
            Err(_) => check(about, Level::Ok, "not there; not needed", ""),
        });
    }
    findings
}

fn tun() -> Check {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => check("TUN/TAP", Level::Ok, "/dev/net/tun opens", ""),
        Err(error) => check("TUN/TAP", Level::Problem, format!("/dev/net/tun: {error}"), "modprobe tun"),
    }
}

fn qemu(arch: Arch) -> Check {
    let about = if arch == Arch::X86_64 { "QEMU x86_64" } else { "QEMU aarch64" };
    match Command::new(format!("qemu-system-{arch}")).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            check(about, Level::Ok, text.lines().next().unwrap_or_default(), "")
        }
        _ => {
            let level = if arch == Arch::NATIVE { Level::Problem } else { Level::Warning };
            let remedy = match arch {
                Arch::X86_64 => "install qemu-system-x86 to run guests of this architecture",
                Arch::Aarch64 => "install qemu-system-arm to run guests of this architecture",
            };
            check(about, level, "not there", remedy)
        }
    }
}

/// A QEMU of its own for each guest, away from the host's files.
fn confinement() -> Check {
    match vm::confined() {
        Ok(()) => check("confinement", Level::Ok, "QEMU runs with nothing but its own files", ""),
        // Said above.
        Err(vm::VmError::NoQemu(_)) => check("confinement", Level::Ok, "not tried: no QEMU", ""),
        Err(error) => check(
            "confinement",
            Level::Problem,
            error.to_string(),
            "guests start only where QEMU can be confined: Linux 5.12 or newer, and in a container a privileged one",
        ),
    }
}

fn kvm(root: &RootDir) -> Check {
    match vm::kvm(root) {
        Ok(()) => check("KVM", Level::Ok, "a guest runs on it", ""),
        Err(reason) => check(
            "KVM",
            Level::Warning,
            reason,
            "until that is so guests run on TCG, slowly (in a virtual machine: turn nested virtualisation on)",
        ),
    }
}

/// Whether guests may leave checksums and segments to the host.
fn offloads(root: &RootDir) -> Check {
    const ABOUT: &str = "offloads";
    const REMEDY: &str = "guests are about half as fast without; it needs a kernel with CONFIG_DEBUG_INFO_BTF and \
                          CONFIG_NET_CLS_BPF, Linux 5.8 or later";
    if !rustix::process::geteuid().is_root() {
        return check(
            ABOUT,
            Level::Warning,
            "only root may try the guard of VMs' ports",
            "run hostctl as root",
        );
    }
    match guard::known(root, []) {
        Ok(tag) => {
            let vhost = match vm::vhost() {
                Ok(()) => "frames by vhost-net".into(),
                Err(reason) => format!("frames by QEMU: {reason}"),
            };
            let found = format!("the kernel takes the guard of VMs' ports (program tag {tag}); {vhost}");
            check(ABOUT, Level::Ok, found, "")
        }
        Err(reason) => check(ABOUT, Level::Warning, reason, REMEDY),
    }
}

fn forwarding() -> Check {
    let key = |key: &str| fs::read_to_string(Path::new("/proc/sys").join(key)).unwrap_or_default();
    let v4 = key("net/ipv4/ip_forward");
    let v6 = key(link::FORWARDING6_KEY);
    let word = |value: &str| if value.trim() == "1" { "on" } else { "off" };
    let found = format!("of the whole host: IPv4 {}, IPv6 {}", word(&v4), word(&v6));
    check(
        "forwarding",
        Level::Ok,
        found,
        "apply turns on what it needs where it needs it, and down turns it off again",
    )
}

fn br_netfilter() -> Check {
    let value = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let found = match value.as_deref().map(str::trim) {
        Ok("1") => "bridged frames cross the inet rules too (bridge-nf-call-iptables = 1)",
        Ok(_) => "bridge-nf-call-iptables = 0",
        Err(_) => "not loaded",
    };
    check("br_netfilter", Level::Ok, found, "both settings work")
}

/// Who has come to rely on forwarding that hostctl turned on.
async fn relied_on(root: &RootDir) -> Vec<Check> {
    let Ok((_, topology)) = applied(root) else { return Vec::new() };
    if topology.networks.is_empty() || !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let Ok(current) = observe_network(root, &topology).await else { return Vec::new() };
    settings::forwarding(&topology, &current)
        .into_iter()
        .map(|found| Check {
            about: "forwarding",
            level: Level::Warning,
            found: format!("{}: {}", found.object, found.found),
            remedy: found.remedy,
        })
        .collect()
}

/// Which of the protections guards the host against a flush of all tables.
async fn flush(root: &RootDir) -> Check {
    const ABOUT: &str = "flush by others";
    let topology = applied(root).map_or_else(|_| Topology::empty(), |(_, topology)| topology);
    let links = match link::Netlink::open() {
        Ok(netlink) => netlink.observe().await.unwrap_or_default(),
        Err(_) => link::Observed::default(),
    };
    let wanted = link::Desired::new(&topology, &uplinks(&topology, &links));
    let protection = FlushProtection::of(root, &wanted, &links);
    let unable = hold::unable(root);
    let loaded = firewall::Tables::read().is_ok_and(|tables| !tables.is_empty());
    match (&unable, loaded) {
        (None, false) => check(ABOUT, Level::Ok, "hostctl's tables can be held against it", ""),
        (Some(reason), false) => check(
            ABOUT,
            Level::Ok,
            format!("tables can't be held, routes will keep networks apart: {reason}"),
            "",
        ),
        (None, true) if !protection.held => check(
            ABOUT,
            Level::Warning,
            protection.to_string(),
            "tables can be held here: systemctl enable --now hostctl-hold.service",
        ),
        (Some(reason), true) => {
            let level = if protection.routes && protection.watched { Level::Ok } else { Level::Warning };
            let found = format!("{protection} ({reason})");
            check(ABOUT, level, found, "systemctl enable --now hostctl-hold.service puts tables back at once")
        }
        _ => check(ABOUT, Level::Ok, protection.to_string(), ""),
    }
}

/// Whether the guests that were applied could fill the table of tracked flows.
fn flow_room(root: &RootDir) -> Check {
    const ABOUT: &str = "tracked flows";
    let shortage = applied(root).ok().and_then(|(_, topology)| crate::host::flow_shortage(&topology));
    match shortage {
        Some(found) => check(ABOUT, Level::Warning, found, "see docs/firewall.md, what a guest can waste"),
        None => check(ABOUT, Level::Ok, "room for what guests may have, and for the host", ""),
    }
}

/// What the audit says of other programs' firewalls: of the networks that were
/// applied, or of one that might be.
async fn other_firewalls(root: &RootDir) -> Vec<Check> {
    let topology = match applied(root) {
        Ok((_, topology)) if !topology.networks.is_empty() => topology,
        _ => example(),
    };
    let links = observe_links().await;
    let uplinks = uplinks(&topology, &links);
    let found = foreign::tables(&topology, &uplinks, &links, &mut None).into_iter().chain(foreign::files());
    let checks: Vec<Check> = found
        .map(|found| Check {
            about: "other firewalls",
            level: if found.severity > Severity::Info { Level::Warning } else { Level::Ok },
            found: format!("{}: {}", found.object, found.found),
            remedy: found.remedy,
        })
        .collect();
    if checks.is_empty() {
        return vec![check("other firewalls", Level::Ok, "none that is in guests' way", "")];
    }
    checks
}

/// A host with one network, where nothing was applied yet.
fn example() -> Topology {
    const SPEC: &str = r#"{"networks": {"example": {"cidr": "10.255.255.0/24"}}}"#;
    let spec = serde_json::from_str(SPEC).ok();
    spec.and_then(|spec| topology::compile(&spec).ok()).unwrap_or_else(Topology::empty)
}

async fn observe_links() -> link::Observed {
    let Ok(netlink) = link::Netlink::open() else { return link::Observed::default() };
    netlink.observe().await.unwrap_or_default()
}
