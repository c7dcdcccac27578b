//! What this machine has and lacks, found by trying.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::firewall::{self, Ruleset, nft};
use crate::link;
use crate::root_dir::RootDir;
use crate::topology::Arch;
use crate::vm;

/// How bad a finding is.
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
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is.
    pub remedy: String,
}

fn finding(about: &'static str, level: Level, found: impl Into<String>, remedy: &str) -> Finding {
    Finding { about, level, found: found.into(), remedy: remedy.into() }
}

/// Looks at everything.
pub fn doctor(root: &RootDir) -> Vec<Finding> {
    let mut findings = vec![privileges()];
    findings.extend(nft_findings());
    findings.push(tun());
    findings.extend([Arch::X86_64, Arch::Aarch64].map(qemu));
    findings.push(kvm(root));
    findings.extend([forwarding(), br_netfilter()]);
    findings.extend(flush());
    findings.extend(other_firewalls());
    findings
}

fn privileges() -> Finding {
    if rustix::process::geteuid().is_root() {
        finding("privileges", Level::Ok, "root", "")
    } else {
        finding("privileges", Level::Problem, "not root", "run hostctl as root")
    }
}

fn nft_findings() -> Vec<Finding> {
    let version = match nft::version() {
        Ok(version) => version,
        Err(error) => {
            return vec![finding("nftables", Level::Problem, error.to_string(), "install nftables")];
        }
    };
    let mut findings = vec![finding("nftables", Level::Ok, version, "")];
    let ours = firewall::render(&Ruleset::default());
    findings.push(match ours.map_err(|error| error.to_string()).map(|text| nft::probe(&text)) {
        Ok(Ok(())) => finding("firewall", Level::Ok, "this kernel takes hostctl's rules", ""),
        Ok(Err(error)) => finding(
            "firewall",
            Level::Problem,
            error.to_string(),
            "hostctl needs nft 1.0.6 or newer and a kernel with nf_tables, bridge tables, conntrack and masquerade",
        ),
        Err(error) => finding("firewall", Level::Problem, error, ""),
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
            Ok(()) => finding(about, Level::Ok, "there; not needed", ""),
            Err(_) => finding(about, Level::Ok, "not there; not needed", ""),
        });
    }
    findings
}

fn tun() -> Finding {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => finding("TUN/TAP", Level::Ok, "/dev/net/tun opens", ""),
        Err(error) => finding("TUN/TAP", Level::Problem, format!("/dev/net/tun: {error}"), "modprobe tun"),
    }
}

fn qemu(arch: Arch) -> Finding {
    let about = if arch == Arch::X86_64 { "QEMU x86_64" } else { "QEMU aarch64" };
    match Command::new(format!("qemu-system-{arch}")).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            finding(about, Level::Ok, text.lines().next().unwrap_or_default(), "")
        }
        _ => {
            let level = if arch == Arch::NATIVE { Level::Problem } else { Level::Warning };
            let remedy = match arch {
                Arch::X86_64 => "install qemu-system-x86 to run guests of this architecture",
                Arch::Aarch64 => "install qemu-system-arm to run guests of this architecture",
            };
            finding(about, level, "not there", remedy)
        }
    }
}

fn kvm(root: &RootDir) -> Finding {
    match vm::kvm(root) {
        Ok(()) => finding("KVM", Level::Ok, "a guest runs on it", ""),
        Err(reason) => finding(
            "KVM",
            Level::Warning,
            reason,
            "until that is so guests run on TCG, slowly (in a virtual machine: turn nested virtualisation on)",
        ),
    }
}

fn forwarding() -> Finding {
    let key = |key: &str| fs::read_to_string(Path::new("/proc/sys").join(key)).unwrap_or_default();
    let v4 = key("net/ipv4/ip_forward");
    let v6 = key(link::FORWARDING6_KEY);
    let word = |value: &str| if value.trim() == "1" { "on" } else { "off" };
    let found = format!("of the whole host: IPv4 {}, IPv6 {}", word(&v4), word(&v6));
    finding(
        "forwarding",
        Level::Ok,
        found,
        "apply turns on what it needs where it needs it, and down turns it off again",
    )
}

/// Debian's nftables.service loads this file at each start, stop and reload.
fn flush() -> Option<Finding> {
    const FILE: &str = "/etc/nftables.conf";
    let text = fs::read_to_string(FILE).ok()?;
    let flushes = text.lines().any(|line| line.trim_start().starts_with("flush ruleset"));
    flushes.then(|| {
        finding(
            "nftables.service",
            Level::Warning,
            format!("{FILE} flushes every table, hostctl's too"),
            "where that service is used: replace `flush ruleset` by deleting the tables that the file defines",
        )
    })
}

fn br_netfilter() -> Finding {
    let value = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let found = match value.as_deref().map(str::trim) {
        Ok("1") => "bridged frames cross the inet rules too (bridge-nf-call-iptables = 1)",
        Ok(_) => "bridge-nf-call-iptables = 0",
        Err(_) => "not loaded",
    };
    finding("br_netfilter", Level::Ok, found, "both settings work")
}

fn other_firewalls() -> Vec<Finding> {
    let mut findings = Vec::new();
    let tables = nft::foreign_base_chains().unwrap_or_default();
    if tables.is_empty() {
        findings.push(finding("other firewalls", Level::Ok, "none in nftables", ""));
    }
    for chain in tables {
        let (level, remedy) = if chain.drops {
            (
                Level::Warning,
                "it drops by default, which no rule of hostctl's can overrule: allow guests' bridges there",
            )
        } else {
            (Level::Ok, "")
        };
        findings.push(finding("other firewalls", level, chain.to_string(), remedy));
    }
    let legacy = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    let legacy =
        legacy.iter().filter_map(|path| fs::read_to_string(path).ok()).any(|names| !names.trim().is_empty());
    if legacy {
        findings.push(finding(
            "iptables-legacy",
            Level::Warning,
            "has tables loaded",
            "see that its FORWARD chain doesn't drop guests' packets: iptables-legacy -S FORWARD",
        ));
    }
    findings
}
