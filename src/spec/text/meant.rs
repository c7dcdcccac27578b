//! The word that somebody means who writes another program's.

use crate::spec::closest;

/// Words of clouds, of other programs and of everyday, and what they are here.
/// A word may stand for several: the first that is allowed in its place.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("inbound", &["ingress"]),
    ("incoming", &["ingress"]),
    ("ingress_rules", &["ingress"]),
    ("in", &["ingress"]),
    ("outbound", &["egress"]),
    ("outgoing", &["egress"]),
    ("egress_rules", &["egress"]),
    ("out", &["egress"]),
    ("from", &["source"]),
    ("src", &["source"]),
    ("source_ip", &["source"]),
    ("to", &["destination"]),
    ("dst", &["destination"]),
    ("dest", &["destination"]),
    ("proto", &["protocol"]),
    ("ip_protocol", &["protocol"]),
    ("ports", &["port"]),
    ("dport", &["port"]),
    ("prio", &["priority"]),
    ("effect", &["action"]),
    ("verdict", &["action"]),
    ("target", &["action"]),
    ("comment", &["description"]),
    ("desc", &["description"]),
    ("all", &["any"]),
    ("*", &["any"]),
    ("-1", &["any"]),
    ("ip", &["any", "address"]),
    ("every", &["any"]),
    ("ipv6-icmp", &["icmpv6"]),
    ("icmp6", &["icmpv6"]),
    ("accept", &["allow"]),
    ("permit", &["allow"]),
    ("pass", &["allow"]),
    ("drop", &["deny"]),
    ("reject", &["deny"]),
    ("block", &["deny"]),
    ("refuse", &["deny"]),
    ("cidr_block", &["cidr"]),
    ("prefix", &["cidr"]),
    ("range", &["cidr"]),
    ("ipv4", &["cidr", "address"]),
    ("ipv6", &["cidr6", "address6"]),
    ("ip6", &["address6", "cidr6"]),
    ("ip_address", &["address"]),
    ("kind", &["type"]),
    ("vpc", &["network", "networks"]),
    ("vpcs", &["networks"]),
    ("net", &["network", "networks"]),
    ("peers", &["between", "peerings"]),
    ("peering", &["peerings"]),
    ("security_group", &["policy"]),
    ("security_groups", &["policy", "policies"]),
    ("machines", &["vms"]),
    ("guests", &["vms"]),
    ("cpus", &["vcpus", "millicpus"]),
    ("cpu", &["vcpus", "millicpus"]),
    ("cores", &["vcpus"]),
    ("ram", &["memory"]),
    ("mem", &["memory"]),
    ("mac_address", &["mac"]),
    ("disks", &["volumes", "disk"]),
    ("ro", &["read_only"]),
    ("append", &["cmdline"]),
    ("nameservers", &["dns"]),
    ("resolvers", &["dns"]),
    ("cmd", &["command"]),
    ("env", &["environment"]),
    ("amd64", &["x86_64"]),
    ("arm64", &["aarch64"]),
];

/// The one of `known` that `word` is meant to be, where that can be told.
pub(in crate::spec) fn meant<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = word.to_lowercase();
    let known = || known.iter().copied();
    let exactly = |wanted: &str| known().find(|one| *one == wanted);
    let snake = lower.replace('-', "_");
    exactly(&lower)
        .or_else(|| exactly(&snake))
        .or_else(|| {
            let (_, here) = ELSEWHERE.iter().find(|(there, _)| *there == lower || *there == snake)?;
            here.iter().find_map(|one| exactly(one))
        })
        .or_else(|| closest(word, known()))
        .or_else(|| closest(&lower, known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &[&str] =
        &["version", "description", "subnet", "namespace", "default", "ingress", "egress"];
    const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp", "icmpv6", "any"];

    #[test]
    fn other_programs_words_are_understood_where_they_make_sense() {
        assert_eq!(meant("inbound", POLICY), Some("ingress"));
        assert_eq!(meant("Outbound", POLICY), Some("egress"));
        assert_eq!(meant("TCP", PROTOCOLS), Some("tcp"));
        assert_eq!(meant("all", PROTOCOLS), Some("any"));
        assert_eq!(meant("read-only", &["path", "format", "read_only"]), Some("read_only"));
        assert_eq!(meant("ip", &["address", "mac"]), Some("address"));
        assert_eq!(meant("all", POLICY), None);
    }

    #[test]
    fn a_word_that_only_begins_alike_isnt_meant() {
        assert_eq!(meant("name", POLICY), None);
        assert_eq!(meant("name", &["cidr", "type", "namespace"]), None);
        assert_eq!(meant("ingres", POLICY), Some("ingress"));
    }

    #[test]
    fn no_word_stands_for_itself() {
        for (there, here) in ELSEWHERE {
            assert!(!here.contains(there), "{there}");
        }
    }
}
