//! The host spec's types: what an operator may write, and its defaults.
//! What only makes sense together (overlaps, references, free addresses) is
//! checked when the topology is compiled.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{
    Accel, App, Arch, Cidr4, Cidr6, DiskFormat, FirewallMode, GuestLimits, HostPort, IfName, Imds, Lan,
    LimitOverrides, MacAddr, Machine, MarkMask, Memory, Name, Offload, OneOrMany, Policy, Prefix, SubnetKind,
    Supervisor,
};

/// A whole host: everything that its files and drop-ins say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostSpec {
    /// The machine itself.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "firewall": "guests" }]))]
    pub host: Host,
    /// Isolated networks by name.
    #[serde(skip_serializing_if = "is_default")]
    pub networks: BTreeMap<String, Network>,
    /// Networks that may talk to each other.
    #[serde(skip_serializing_if = "is_default")]
    pub peerings: Vec<Peering>,
    /// Virtual machines by name.
    #[serde(skip_serializing_if = "is_default")]
    pub vms: BTreeMap<String, Vm>,
    /// Policies (security groups) by name; they act where they are attached.
    #[serde(skip_serializing_if = "is_default")]
    pub policies: BTreeMap<String, Policy>,
    /// Programs in subnets' namespaces by name.
    #[serde(skip_serializing_if = "is_default")]
    pub apps: BTreeMap<String, App>,
}

/// The machine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Interfaces that lead to the internet: `"auto"` (those that hold a default
    /// route when the spec is applied), a name, or a list of names.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "auto"), example = &"auto")]
    pub uplink: Uplink,
    /// How far the firewall reaches.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "guests"), example = &"full")]
    pub firewall: FirewallMode,
    /// Ports of the host that anybody but a guest may reach with
    /// `firewall = "full"`; refused without that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = [{ "protocol": "tcp", "port": 22 }], "examples" = [[{ "protocol": "tcp", "port": 22 }]]))]
    pub allow_input: Option<Vec<HostPort>>,
    /// Resolvers that are handed to guests, on their kernels' command lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = ["1.1.1.1", "8.8.8.8"]), example = ["1.1.1.1", "8.8.8.8"])]
    pub dns: Option<Vec<IpAddr>>,
    /// The tailnet that this host is part of; hostctl doesn't run Tailscale.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [{ "interface": "tailscale0" }]))]
    pub tailscale: Option<Tailscale>,
    /// What each guest may take of what all share.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "flows": 4096 }]))]
    pub limits: GuestLimits,
    /// Room that the kernel's table of tracked flows is to have at least:
    /// `apply` raises `net.netfilter.nf_conntrack_max`, which is the whole
    /// machine's, and never lowers it. Without it the setting is left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 100_000_000), example = 262_144)]
    pub conntrack_max: Option<u32>,
    /// Prefixes and addresses that no guest of any network reaches by an uplink,
    /// whatever else is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("default" = []), example = ["192.168.7.0/24"])]
    pub deny: Vec<Prefix>,
    /// Bits of tracked flows' marks (`ct mark`) by which the firewall knows a flow
    /// that it has judged: four or more side by side, none of 0x0f000000. For hosts
    /// where another program uses these; the rest of the mark is left as it is.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "0xf0000000"), example = &"0x00001f00")]
    pub mark_mask: MarkMask,
}

/// Interfaces that lead to the internet: `"auto"`, a name, or a list of names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "UplinkText", into = "UplinkText")]
pub enum Uplink {
    /// Those that hold a default route when the spec is applied.
    #[default]
    Auto,
    /// These.
    Named(Vec<IfName>),
}

/// How an [`Uplink`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "an uplink is \"auto\", an interface's name, or a list of such names")]
enum UplinkText {
    /// `auto` or a name.
    One(String),
    /// Names.
    Many(Vec<String>),
}

/// A tailnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tailscale {
    /// Tailscale's interface, usually `tailscale0`. It may come and go.
    #[schemars(with = "String", example = &"tailscale0")]
    pub interface: IfName,
}

/// An isolated network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its IPv4 prefix; the first host address is the gateway's, on the bridge.
    #[schemars(with = "String", example = &"10.1.0.0/24")]
    pub cidr: Cidr4,
    /// Its IPv6 prefix; without one its guests have no IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"fd00:0:0:1::/64")]
    pub cidr6: Option<Cidr6>,
    /// What guests see at the clouds' metadata addresses (169.254.169.254 and
    /// its twins).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "deny"), example = &"deny")]
    pub imds: Imds,
    /// Whether the tailnet may open flows to its guests; needs
    /// `[host.tailscale]`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false), example = true)]
    pub tailscale: bool,
    /// Where public subnets go out: `true` for the host's uplinks (default),
    /// `false` for nowhere, or the names of interfaces.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(example = &"eth0")]
    pub nat: Nat,
    /// What its public subnets reach beside the public internet: private addresses
    /// (RFC 1918, RFC 6598, RFC 4193 and the like) and the prefixes of the uplinks
    /// themselves. `true`, `false` (default), or prefixes.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(example = ["192.168.1.0/24"])]
    pub lan: Lan,
    /// Slices of it by name; without any, one public subnet covers it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub subnets: BTreeMap<String, Subnet>,
    /// The policy of its guests, or several that act as one; a subnet's or a
    /// guest's own takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneOrMany<String>>", example = &"web")]
    pub policy: Option<OneOrMany<Name>>,
    /// What each of its guests may take of what all share, where that is
    /// something else than what `host.limits` says.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "flows": 4096 }]))]
    pub limits: LimitOverrides,
}

/// A slice of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// Its IPv4 prefix, within the network's.
    #[schemars(with = "String", example = &"10.1.0.0/24")]
    pub cidr: Cidr4,
    /// Its IPv6 prefix, within the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"fd00:0:0:1::/64")]
    pub cidr6: Option<Cidr6>,
    /// Whether its guests may open flows to the internet.
    #[serde(rename = "type")]
    #[schemars(example = &"public")]
    pub kind: SubnetKind,
    /// The policy of its guests, or several that act as one, in the place of
    /// its network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneOrMany<String>>", example = &"web")]
    pub policy: Option<OneOrMany<Name>>,
    /// Whether it is a network namespace `<network>-<subnet>` of the host's, for
    /// apps to run in.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(example = true)]
    pub namespace: bool,
    /// The namespace's IPv4 address; default: the subnet's second host address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"10.1.0.2")]
    pub address: Option<Ipv4Addr>,
    /// The namespace's IPv6 address; default: likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"fd00:0:0:1::2")]
    pub address6: Option<Ipv6Addr>,
    /// What each of its guests may take of what all share, where that is
    /// something else than what its network says.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "flows": 4096 }]))]
    pub limits: LimitOverrides,
}

/// Where a network's public subnets go out: `true`, `false`, an interface's
/// name, or a list of such names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "NatText", into = "NatText")]
pub enum Nat {
    /// The host's uplinks.
    #[default]
    Uplinks,
    /// Nowhere.
    Off,
    /// These interfaces.
    Named(Vec<IfName>),
}

/// How a [`Nat`] is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "nat is true, false, an interface's name, or a list of such names")]
enum NatText {
    /// `true` or `false`.
    Switch(bool),
    /// A name.
    One(String),
    /// Names.
    Many(Vec<String>),
}

/// Two networks that may talk to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peering {
    /// The two networks' names.
    #[schemars(with = "[String; 2]", example = ["prod", "backup"])]
    pub between: [Name; 2],
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// The network that it is attached to.
    #[schemars(with = "String", example = &"prod")]
    pub network: Name,
    /// The subnet; may be left out where the network has just one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"web")]
    pub subnet: Option<Name>,
    /// Its own policy, or several that act as one, in the place of its
    /// subnet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneOrMany<String>>", example = &"web")]
    pub policy: Option<OneOrMany<Name>>,
    /// Its IPv4 address; default: the subnet's first free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"10.1.0.2")]
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address; default: the subnet's first free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"fd00:0:0:1::2")]
    pub address6: Option<Ipv6Addr>,
    /// Its MAC; default: one that follows from its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"02:00:00:00:00:01")]
    pub mac: Option<MacAddr>,
    /// Virtual CPUs.
    #[serde(default = "one")]
    #[schemars(example = 2)]
    pub vcpus: u16,
    /// Memory, such as `256M` or `4G`.
    #[serde(default = "default_memory")]
    #[schemars(with = "String", example = &"256M")]
    pub memory: Memory,
    /// The image that it boots, by name: a directory of
    /// `/var/lib/hostctl/images`. In its place: `kernel`, `disk`, or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"probe")]
    pub image: Option<Name>,
    /// A kernel that QEMU loads directly; without one, firmware boots the disk
    /// (`q35` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/boot/vmlinuz")]
    pub kernel: Option<PathBuf>,
    /// The kernel's initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/boot/initrd")]
    pub initrd: Option<PathBuf>,
    /// The first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [{ "path": "/srv/disk.qcow2", "format": "qcow2" }]))]
    pub disk: Option<Disk>,
    /// Further disks, also beside an `image`: the guest finds the first as
    /// `/dev/disk/by-id/virtio-volume1`. At most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [[{ "path": "/srv/data.img", "format": "raw" }]]))]
    pub volumes: Vec<Disk>,
    /// Whether its disks may be read and written by io_uring, where this machine
    /// has it. For guests that are trusted: what goes by it passes by the filter
    /// of its QEMU's system calls.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false), example = true)]
    pub io_uring: bool,
    /// The guest's architecture; default: the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"x86_64")]
    pub arch: Option<Arch>,
    /// QEMU's machine type; default: `q35` on x86_64, `virt` on aarch64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"q35")]
    pub machine: Option<Machine>,
    /// What executes the guest's instructions.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "auto"), example = &"auto")]
    pub accel: Accel,
    /// Whether it leaves checksums and the cutting into segments to the host, which
    /// is about twice as fast. `auto`: where the kernel takes the guard that judges
    /// what it asks for; `true`: also without one, for guests that are trusted.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "auto"), example = &"auto")]
    pub offload: Offload,
    /// Words added to the guest kernel's command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(extend("default" = ""), example = &"quiet")]
    pub cmdline: String,
    /// Whether `apply` starts it where it doesn't run.
    #[serde(default = "yes")]
    #[schemars(example = true)]
    pub autostart: bool,
    /// Whether a crash is followed by a new start, after a pause that grows from
    /// 1 s to 60 s.
    #[serde(default = "yes")]
    #[schemars(example = true)]
    pub restart: bool,
    /// Who starts and watches it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "hostctl"), example = &"unit")]
    pub supervisor: Supervisor,
    /// What it may take of what all share, where that is something else than
    /// what its subnet says.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("examples" = [{ "flows": 4096 }]))]
    pub limits: LimitOverrides,
}

/// A disk image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its file or block device.
    #[schemars(example = &"/srv/disk.qcow2")]
    pub path: PathBuf,
    /// Its format; never guessed, since a guest could forge another one's
    /// header.
    #[schemars(example = &"qcow2")]
    pub format: DiskFormat,
    /// Whether the guest may only read it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false), example = true)]
    pub read_only: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u16 {
    1
}

fn yes() -> bool {
    true
}

fn default_memory() -> Memory {
    Memory::DEFAULT
}

impl TryFrom<UplinkText> for Uplink {
    type Error = String;

    fn try_from(text: UplinkText) -> Result<Self, String> {
        let names = match text {
            UplinkText::One(name) if name == "auto" => return Ok(Self::Auto),
            UplinkText::One(name) => vec![name],
            UplinkText::Many(names) if names.is_empty() => return Err("an uplink list can't be empty".into()),
            UplinkText::Many(names) => names,
        };
        let names: Result<Vec<_>, _> = names.into_iter().map(IfName::new).collect();
        names.map(Self::Named).map_err(|error| error.to_string())
    }
}

impl TryFrom<NatText> for Nat {
    type Error = String;

    fn try_from(text: NatText) -> Result<Self, String> {
        let names = match text {
            NatText::Switch(true) => return Ok(Self::Uplinks),
            NatText::Switch(false) => return Ok(Self::Off),
            NatText::One(name) => vec![name],
            NatText::Many(names) if names.is_empty() => {
                return Err("an empty list is written nat = false".into());
            }
            NatText::Many(names) => names,
        };
        let names: Result<Vec<_>, _> = names.into_iter().map(IfName::new).collect();
        names.map(Self::Named).map_err(|error| error.to_string())
    }
}

impl From<Nat> for NatText {
    fn from(nat: Nat) -> Self {
        match nat {
            Nat::Uplinks => Self::Switch(true),
            Nat::Off => Self::Switch(false),
            Nat::Named(names) => match <[IfName; 1]>::try_from(names) {
                Ok([name]) => Self::One(name.into()),
                Err(names) => Self::Many(names.into_iter().map(String::from).collect()),
            },
        }
    }
}

impl From<Uplink> for UplinkText {
    fn from(uplink: Uplink) -> Self {
        match uplink {
            Uplink::Auto => Self::One("auto".into()),
            Uplink::Named(names) => match <[IfName; 1]>::try_from(names) {
                Ok([name]) => Self::One(name.into()),
                Err(names) => Self::Many(names.into_iter().map(String::from).collect()),
            },
        }
    }
}
