//! The words that the spec has a fixed choice of.

use std::fmt;

use crate::spec::Prefix;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far the firewall reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FirewallMode {
    /// Only packets to and from guests are judged; the rest of the host's traffic
    /// is none of hostctl's business.
    #[default]
    Guests,
    /// What comes to the host or is forwarded by it is dropped unless it is
    /// allowed: hostctl is the machine's firewall.
    Full,
}

/// A port of the host that anybody may reach, or some.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPort {
    /// The transport protocol.
    #[schemars(example = &"tcp")]
    pub protocol: Transport,
    /// The destination port.
    #[schemars(example = 22)]
    pub port: u16,
    /// Who may: prefixes or addresses; default: everybody.
    #[serde(default, alias = "source", alias = "sources", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("default" = []), example = ["203.0.113.0/24"])]
    pub from: Vec<Prefix>,
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

/// What guests see at the metadata addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Imds {
    /// Nothing.
    #[default]
    Deny,
    /// The cloud's own service on TCP port 80, masqueraded as the host: a guest
    /// gets the host's credentials from it.
    Host,
}

/// Whether a subnet's guests may open flows to the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubnetKind {
    /// Yes, masqueraded on the uplink.
    Public,
    /// No.
    Private,
}

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes as the guest sees them.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// A processor architecture that guests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// QEMU's machine type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// x86_64: virtio-mmio only, no PCI, no firmware to speak of.
    Microvm,
    /// x86_64: PCIe and ACPI as on a real machine.
    Q35,
    /// aarch64: QEMU's generic machine.
    Virt,
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where a guest really runs on it, else TCG.
    #[default]
    Auto,
    /// KVM; without it the VM fails to start.
    Kvm,
    /// QEMU's own translator.
    Tcg,
}

/// Who watches a VM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Supervisor {
    /// A process that `apply` and `vm up` start in the background.
    #[default]
    Hostctl,
    /// The systemd unit `hostctl-vm@NAME.service`, which alone starts it; what
    /// is changed or removed is stopped by `apply`.
    Unit,
}

impl Arch {
    /// The architecture that hostctl itself was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// The name that the kernel (`uname -m`) and QEMU use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Transport {
    /// The name that nft and `/etc/protocols` use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
