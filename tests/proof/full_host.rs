//! The host that most is asked about.

use crate::support::spec_parts::{network, peering, tailnet};

/// A host with everything that the rules know of.
pub const FULL: &str = concat!(
    r#"[host]
firewall = "full"
allow_input = [{ protocol = "tcp", port = 22 }, { protocol = "udp", port = 7, from = ["203.0.113.0/24", "2001:db8:113::/48"] }]
deny = ["203.0.114.0/24", "192.168.7.0/24", "2001:db8:9::/48"]
dns = ["10.9.0.9", "fd00:9::9"]
"#,
    tailnet!(),
    network!("a" 1),
    r#"imds = "host"
tailscale = true
lan = ["192.168.0.0/16", "fc00::/16"]
[networks.a.subnets.out]
cidr = "10.1.0.0/25"
cidr6 = "fd00:0:0:1::/65"
type = "public"
[networks.a.subnets.in]
cidr = "10.1.0.128/25"
cidr6 = "fd00:0:0:1:8000::/65"
type = "private"
namespace = true
"#,
    network!("b" 2),
    "lan = true\n",
    network!("c" 3),
    "nat = false\n",
    peering!("a" and "b"),
    r#"[vms.a1]
network = "a"
subnet = "out"
image = "probe"
policy = "open"
[vms.a2]
network = "a"
subnet = "out"
image = "probe"
[vms.b1]
network = "b"
image = "probe"
policy = "closed"
[vms.b2]
network = "b"
image = "probe"
[vms.c1]
network = "c"
image = "probe"
[vms.c2]
network = "c"
image = "probe"

[policies.open]
default = "allow"
ingress = [{ protocol = "tcp", port = 80, action = "deny" }, { protocol = "icmp", action = "deny" }, { protocol = "icmpv6", action = "deny" }]
egress = [{ protocol = "udp", port = "53-60", action = "deny" }, { protocol = "icmp", action = "deny" }, { protocol = "icmpv6", action = "deny" }]
[policies.closed]
ingress = [{ protocol = "tcp", port = [22, "8000-8080"], source = "network:a" }, { protocol = "icmp" }, { protocol = "icmpv6" }]
egress = [{ protocol = "udp", port = 53 }, { protocol = "icmp" }, { protocol = "icmpv6" }]
"#,
);
