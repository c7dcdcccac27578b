//! What marks a thing as hostctl's own, wherever it is found again: in the
//! kernel, among processes, in what people read. Nothing else is ever changed
//! or removed.

use std::ops::RangeInclusive;

/// The name of hostctl's tables, in each of [`TABLE_FAMILIES`].
pub const TABLE: &str = "hostctl";
/// The families that hostctl has a table in.
pub const TABLE_FAMILIES: [&str; 2] = [BRIDGE, INET];
/// The family of the table that judges frames.
pub const BRIDGE: &str = "bridge";
/// The family of the table that judges packets.
pub const INET: &str = "inet";

/// The group that every link of hostctl's is in ("ho"): it is set in the
/// message that creates a bridge, so there is no moment without it.
pub const LINK_GROUP: u32 = 0x686f;
/// What bridges' names begin with.
pub const BRIDGE_PREFIX: &str = "br-";
/// What TAPs' names begin with.
pub const TAP_PREFIX: &str = "vm-";
/// What the names of namespaces' ports begin with.
pub const VETH_PREFIX: &str = "ns-";

/// The routing table of the routes that keep networks apart.
pub const ROUTING_TABLE: u32 = LINK_GROUP;
/// The priorities of the rules that lead there: behind the host's own
/// addresses (0), before whatever else decides by policy.
pub const ROUTING_RULES: RangeInclusive<u32> = 2671..=2679;
/// The bit of a packet's mark that says that the firewall judged its sender.
/// The rest of the mark is others'.
pub const JUDGED: u32 = 0x0100_0000;
/// The bit that says that a guard judged a frame's virtio header, at the port of
/// a guest that writes one: `GUARDED` in bpf/guard.bpf.c, and the template.
pub const GUARDED: u32 = 0x0400_0000;

/// All bits of packets' marks that are hostctl's, or may come to be.
pub const PACKET_MARKS: u32 = 0x0f00_0000;

/// Guests' QEMUs run as users of this range, which systemd's list of user ids
/// (UIDS-GIDS) leaves unused but for [`FOREIGN_UIDS`]. The first is the one that
/// a hypervisor is tried as.
pub const UIDS: RangeInclusive<u32> = 0x7000_0000..=0x7fff_ffff;
/// Those of them that are systemd's: the owners of file trees from elsewhere.
pub const FOREIGN_UIDS: RangeInclusive<u32> = 0x7ffe_0000..=0x7ffe_ffff;

/// What every process of an app has in its environment:
/// `HOSTCTL_APP=<instance>:<namespace>/<name>`.
pub const APP_VARIABLE: &str = "HOSTCTL_APP";
/// The directory of apps' control groups, in the root of the hierarchy.
pub const CGROUP: &str = "hostctl";

/// The table of a family, as nft's language names it.
pub fn table(family: &str) -> String {
    format!("{family} {TABLE}")
}

/// Whether a table is hostctl's.
pub fn is_table(family: &str, name: &str) -> bool {
    name == TABLE && TABLE_FAMILIES.contains(&family)
}

/// The alias of a network's bridge.
pub fn network_alias(network: &str) -> String {
    format!("hostctl:network:{network}")
}

/// The alias of a VM's port.
pub fn vm_alias(vm: &str) -> String {
    format!("hostctl:vm:{vm}")
}

/// The alias of a namespace's port; what the alias of its loopback begins with.
pub fn namespace_alias(namespace: &str) -> String {
    format!("hostctl:namespace:{namespace}")
}

/// The mark on the loopback of a namespace: its alias, and whose it is, by the
/// inode of that host's network namespace. `/run/netns` may be that of several
/// hostctls.
pub fn namespace_mark(alias: &str, network: u64) -> String {
    format!("{alias}@{network:x}")
}

/// What follows `-name` on the command line of a VM's QEMU. An instance is
/// hexadecimal numbers and dots, a name has letters, digits, hyphens and
/// underscores: QEMU finds nothing to unescape in it.
pub fn qemu_name(instance: &str, vm: &str) -> String {
    format!("guest=hostctl:{instance}:{vm}")
}

/// The unit that keeps a VM whose supervisor is systemd's to start.
pub fn vm_unit(vm: &str) -> String {
    format!("hostctl-vm@{vm}.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_defines_hostctls_tables_and_names_no_other() {
        let template = include_str!("../templates/ruleset.nft.hbs");
        let words = template.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut defined: Vec<(&str, &str)> = Vec::new();
        for line in words {
            if let ["table", family, name, ..] | ["delete", "table", family, name, ..] = line.as_slice() {
                assert!(is_table(family, name), "{line:?}");
                defined.extend(line.ends_with(&["{"]).then_some((*family, *name)));
            }
        }
        assert_eq!(defined, TABLE_FAMILIES.map(|family| (family, TABLE)));
    }

    #[test]
    fn systemds_users_are_within_the_range() {
        assert!(UIDS.contains(FOREIGN_UIDS.start()) && UIDS.contains(FOREIGN_UIDS.end()));
        assert!((UIDS.end() - UIDS.start()).checked_add(1).is_some_and(u32::is_power_of_two));
    }
}
