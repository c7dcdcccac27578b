//! Every kind of mistake in a host spec, and what an operator reads about it.

use crate::support::spec_support::{json, toml};
use insta::assert_snapshot;

#[test]
fn syntax_errors_of_toml() {
    assert_snapshot!(toml(
        r#"
[networks.a]
cidr = 10.1.0.0/24
cidr6 = "fd00::/64
imds = deny
naïve = 1
mac = "\q"
subnet =
[networks.c
[networks.b]]
cidr == "10.2.0.0/24"
tailscale = yes
vms = [1, 2
"#
    ));
}

#[test]
fn syntax_errors_of_json() {
    assert_snapshot!(json(
        r#"{
  // a comment
  "networks": {
    'a': { "cidr": '10.1.0.0/24', },
    b: { "cidr": "10.2.0.0/24" "imds": deny }
  },
  "vms": { "a": { "vcpus": 0x10, "memory": +5, "restart": .5, } }
  "host": { "dns": NaN, "uplink": "\q" }
}"#
    ));
}

#[test]
fn the_rest_of_a_broken_file_is_read() {
    assert_snapshot!(
        "broken_toml",
        toml(
            r#"
[networks.a]
cidr = 10.1.0.0/24
imds = "hots"
[networks.b]
cidr = "10.2.0.7/24"
[networks.c]
cidr = "10.3.0.0/24"
[networks.d]
cidr = "10.3.0.0/25"
cidr6 =
[vms.x]
network = "a"
memory = "1"
image = "probe
"#
        )
    );
    assert_snapshot!(
        "broken_json",
        json(
            r#"{
  // a comment
  "networks": {
    "a": { "cidr": '10.1.0.0/24',
           "imds": "hots", },
    "b": { "cidr": "10.2.0.7/24" }
  }
  "host": { "uplnk": 1 }
}"#
        )
    );
}

#[test]
fn a_json_file_is_one_object() {
    assert_snapshot!(
        ["", "[]", "7", "{} {}", "{\"host\": {}", "{\u{a0}}", "{\"host\": {\"dns\": [1e999]}}"]
            .map(json)
            .join("\n")
    );
}

#[test]
fn keys_that_are_there_twice() {
    assert_snapshot!(
        "twice_toml",
        toml(
            r#"
[host]
firewall = "full"
firewall = "guests"

[networks.a]
cidr = "10.1.0.0/24"
[vms.x]
network = "a"
[networks.a]
cidr = "10.2.0.0/24"
[networks]
b = { cidr = "10.3.0.0/24", cidr = "10.4.0.0/24" }
"#
        )
    );
    assert_snapshot!(
        "twice_json",
        json(
            r#"{
  "host": { "firewall": "full", "firewall": "guests" },
  "networks": { "ä": {"cidr": "10.1.0.0/24"},
    "ä": {"cidr": "10.2.0.0/24"} },
  "host": {}
}"#
        )
    );
}

#[test]
fn unknown_keys_at_every_level() {
    assert_snapshot!(toml(
        r#"
netwroks = 1
[host]
uplnk = "eth0"
zebra = 1
allow_input = [{ protocol = "tcp", port = 22, prot = 1 }]
[host.tailscale]
interface = "tailscale0"
exit = true
[networks.a]
cidr = "10.1.0.0/24"
cidr4 = "10.1.0.0/24"
[networks.a.subnets.web]
cidr = "10.1.0.0/25"
type = "public"
namespace = true
[[peerings]]
between = ["a", "b"]
name = "x"
[vms.a]
network = "a"
adress = "10.1.0.9"
[vms.a.disk]
path = "/d"
format = "raw"
readonly = true
"#
    ));
}

#[test]
fn values_of_another_type() {
    assert_snapshot!(toml(
        r#"
peerings = { between = 1 }
[host]
uplink = 5
firewall = true
allow_input = "ssh"
dns = ["1.1.1.1", 8, "localhost"]
tailscale = "tailscale0"
[networks]
a = "10.1.0.0/24"
b = { cidr = ["10.1.0.0/24"], tailscale = "yes", imds = 1, subnets = [] }
c = { cidr = 2026-01-01, cidr6 = 07:30:00 }
[vms.a]
network = "b"
vcpus = 70000
memory = 256
address = 10.5
autostart = "false"
disk = "/dev/sda"
[vms.b]
network = { name = "b" }
vcpus = -1
[vms.c]
network = "b"
vcpus = 1.5
cmdline = 99999999999999999999999999999999999999999999999999999999
mac = 9223372036854775808
"#
    ));
    assert_snapshot!(
        "types_json",
        json(
            r#"{ "networks": null, "vms": {"a": {"network": null, "vcpus": 2.0, "memory": 1e3, "image": null,
  "mac": 99999999999999999999, "accel": null, "disk": {"path": 1, "format": "raw"}}}, "peerings": {} }"#
        )
    );
}

#[test]
fn missing_keys() {
    assert_snapshot!(toml(
        r#"
[host]
tailscale = {}
allow_input = [{}, { port = 22 }]
[networks.a]
[networks.b]
cidr = "10.1.0.0/24"
[networks.b.subnets.web]
[[peerings]]
[[peerings]]
between = ["b"]
[vms.a]
disk = {}
"#
    ));
}

#[test]
fn a_key_that_was_refused_is_not_missing() {
    assert_snapshot!(toml(
        r#"
[networks.a]
cidr = "10.1.0.0"
[vms.a]
network = "a."
image = "probe"
[vms.b]
network = "a"
image = "probe"
[[peerings]]
between = ["a", "a."]
"#
    ));
}

#[test]
fn prefixes() {
    let networks: String = [
        "10.1.0.0",
        "10.1.0.0/",
        "10.1.0.0/33",
        "10.1.0.0/31",
        "10.1.0.7/24",
        "fd00::/64",
        "10.1.0/24",
        "",
        "10.01.0.0/24",
        "10.1.0.0/24 ",
        "10.1.0.0/24\\u0000",
        "10.1.0.0/255.255.255.0",
    ]
    .iter()
    .enumerate()
    .map(|(n, cidr)| format!("[networks.n{n}]\ncidr = \"{cidr}\"\n"))
    .collect();
    assert_snapshot!("prefixes_v4", toml(&networks));
    let networks: String = ["fd00::/127", "fd00::1/64", "10.1.0.0/24", "fd00::%eth0/64", "fd00::/129"]
        .iter()
        .enumerate()
        .map(|(n, cidr)| format!("[networks.n{n}]\ncidr = \"10.{n}.0.0/24\"\ncidr6 = \"{cidr}\"\n"))
        .collect();
    assert_snapshot!("prefixes_v6", toml(&networks));
}

#[test]
fn prefixes_that_no_network_can_have() {
    let networks: String = [
        "0.0.0.0/8",
        "127.0.0.0/16",
        "169.254.0.0/16",
        "169.254.169.0/24",
        "224.0.0.0/24",
        "240.0.0.0/24",
        "168.63.129.0/24",
        "100.100.0.0/16",
        "100.64.0.0/24",
    ]
    .iter()
    .enumerate()
    .map(|(n, cidr)| format!("[networks.n{n}]\ncidr = \"{cidr}\"\n"))
    .collect();
    assert_snapshot!(
        "reserved_v4",
        toml(&format!("[host.tailscale]\ninterface = \"tailscale0\"\n{networks}"))
    );
    let networks: String =
        ["fe80::/64", "ff02::/64", "fd00:ec2::/64", "::ffff:0:0/100", "fd7a:115c:a1e0::/64", "fd20:ce::/64"]
            .iter()
            .enumerate()
            .map(|(n, cidr)| format!("[networks.n{n}]\ncidr = \"10.{n}.0.0/24\"\ncidr6 = \"{cidr}\"\n"))
            .collect();
    assert_snapshot!(
        "reserved_v6",
        toml(&format!("[host.tailscale]\ninterface = \"tailscale0\"\n{networks}"))
    );
}

#[test]
fn hostile_names() {
    let long = "a".repeat(200);
    let names = [
        r#"\"; flush ruleset"#,
        "../..",
        "/",
        "A.",
        "名前",
        &long,
        r"a\u0000b",
        r"\u001b[2J",
        r"\u202egnp",
        "-rf",
        "a-",
        "",
        "a b",
        "$(id)",
        "{{x}}",
        "%s",
        "a\\nb",
    ];
    let networks: String = names
        .iter()
        .enumerate()
        .map(|(n, name)| format!("[networks.\"{name}\"]\ncidr = \"10.{n}.0.0/24\"\n"))
        .collect();
    assert_snapshot!("names_of_tables", toml(&networks));
    let vms: String = names
        .iter()
        .enumerate()
        .map(|(n, name)| format!("[vms.v{n}]\nnetwork = \"a\"\nimage = \"{name}\"\n"))
        .collect();
    assert_snapshot!("names_as_values", toml(&format!("[networks.a]\ncidr = \"10.1.0.0/24\"\n{vms}")));
    let list: Vec<String> = ["eth0", "a/b", "..", "all", "0123456789abcdef", ""]
        .iter()
        .map(|name| format!("[host]\nuplink = [\"{name}\"]\n"))
        .collect();
    let uplinks: Vec<String> = list.iter().map(|text| toml(text)).collect();
    assert_snapshot!("names_of_interfaces", uplinks.join("\n"));
}

#[test]
fn amounts_of_memory_and_macs() {
    let vms: String = ["256", "256m", "2G", "0M", "99999999999G", "-1M", "1.5G", ""]
        .iter()
        .enumerate()
        .map(|(n, memory)| format!("[vms.m{n}]\nnetwork = \"a\"\nimage = \"probe\"\nmemory = \"{memory}\"\n"))
        .chain(
            ["02:00", "01:00:5e:00:00:01", "00:00:00:00:00:00", "02-00-00-00-00-01"]
                .iter()
                .enumerate()
                .map(|(n, mac)| format!("[vms.x{n}]\nnetwork = \"a\"\nimage = \"probe\"\nmac = \"{mac}\"\n")),
        )
        .collect();
    assert_snapshot!(toml(&format!("[networks.a]\ncidr = \"10.1.0.0/24\"\n{vms}")));
}

#[test]
fn limits_out_of_range() {
    assert_snapshot!(toml(
        r#"
[host.limits]
new_flows = 0
fragments = 1
broadcasts = 65536
connections = -1
"#
    ));
    assert_snapshot!(toml("[host.limits]\nconnections = 32769\nnew_flows = \"many\"\nbroadcasts = 9"));
}

#[test]
fn unknown_words() {
    assert_snapshot!(toml(
        r#"
[host]
firewall = "ful"
allow_input = [{ protocol = "icmp", port = 1 }]
[networks.a]
cidr = "10.1.0.0/24"
imds = "allow"
[networks.a.subnets.web]
cidr = "10.1.0.0/25"
type = "publik"
[vms.a]
network = "a"
arch = "arm64"
machine = "pc"
accel = "KVM"
disk = { path = "/d", format = "vmdk" }
"#
    ));
}

#[test]
fn overlaps() {
    assert_snapshot!(toml(
        r#"
[networks.a]
cidr = "10.0.0.0/8"
cidr6 = "fd00:1::/32"
[networks.b]
cidr = "10.1.0.0/24"
cidr6 = "fd00:1:2::/64"
[networks.c]
cidr = "10.2.0.0/24"
[networks.d]
cidr = "192.168.0.0/16"
[networks.d.subnets.x]
cidr = "192.168.1.0/24"
type = "public"
[networks.d.subnets.y]
cidr = "192.168.0.0/20"
type = "private"
[networks.d.subnets.z]
cidr = "172.16.0.0/24"
cidr6 = "fd00::/64"
type = "private"
"#
    ));
}

#[test]
fn nat_leads_to_the_internet() {
    assert_snapshot!(toml(
        r#"
[host.tailscale]
interface = "tailscale0"
[networks.a]
cidr = "10.1.0.0/24"
nat = ["wan0", "tailscale0"]
[networks.b]
cidr = "10.2.0.0/24"
nat = "br-a"
"#
    ));
}

#[test]
fn addresses_and_references() {
    assert_snapshot!(toml(
        r#"
[networks.prod]
cidr = "10.1.0.0/24"
cidr6 = "fd00:0:0:1::/64"
[networks.tiny]
cidr = "10.2.0.0/30"
tailscale = true
[networks.split]
cidr = "10.3.0.0/24"
[networks.split.subnets.a]
cidr = "10.3.0.0/25"
type = "public"
[networks.split.subnets.b]
cidr = "10.3.0.128/25"
type = "private"
[[peerings]]
between = ["prod", "prd"]
[[peerings]]
between = ["prod", "prod"]
[[peerings]]
between = ["tiny", "prod"]
[[peerings]]
between = ["prod", "tiny"]
[vms.a]
network = "prod"
address = "10.1.0.9"
mac = "02:00:00:00:00:01"
image = "probe"
[vms.b]
network = "prod"
address = "10.1.0.9"
mac = "02:00:00:00:00:01"
image = "probe"
[vms.c]
network = "prod"
address = "10.1.0.1"
address6 = "fd00:0:0:1::1"
image = "probe"
[vms.d]
network = "prod"
address = "10.1.0.255"
image = "probe"
[vms.e]
network = "prod"
address = "10.9.0.1"
image = "probe"
[vms.f]
network = "prodd"
image = "probe"
[vms.g]
network = "tiny"
image = "probe"
[vms.h]
network = "tiny"
address6 = "fd00::9"
image = "probe"
[vms.i]
network = "split"
image = "probe"
[vms.j]
network = "split"
subnet = "c"
[vms.k]
network = "split"
subnet = "a"
address = "10.3.0.200"
image = "probe"
kernel = "vmlinuz"
initrd = "/boot/a\u0000b"
vcpus = 0
"#
    ));
}
