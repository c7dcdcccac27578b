//! Room in the kernel's table of tracked flows: for what all guests may have
//! together, and for the host.

use crate::link::{CONNTRACK_MAX_KEY, sysctl};
use crate::topology::Topology;

/// What has to be there, and isn't: a sentence for people, with what to do.
/// Nothing where there is room enough, or the kernel tracks nothing yet.
pub fn shortage(topology: &Topology) -> Option<String> {
    let room = sysctl::read([CONNTRACK_MAX_KEY.into()]).ok()?.get(CONNTRACK_MAX_KEY)?.parse().ok()?;
    judge(topology, room)
}

fn judge(topology: &Topology, room: u64) -> Option<String> {
    let needed = topology.flow_room();
    let planned = topology.conntrack_max.map_or(room, |wanted| room.max(wanted.into()));
    (needed > planned).then(|| {
        format!(
            "the guests together may have {} flows tracked, and the kernel has room for {planned}, the host's own \
             among them: once it is full nobody opens a flow, ssh included. Raise it with [host] conntrack_max = \
             {needed} (or sysctl net.netfilter.nf_conntrack_max), or lower the guests' limits: [host.limits] flows",
            topology.tracked_flows()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::test_topology::topology;

    #[test]
    fn guests_that_could_fill_the_table_are_told_of() {
        let spec = |host: &str| {
            let text = format!(
                "[host]\n{host}\n[networks.a]\ncidr = \"10.1.0.0/24\"\nlimits = {{ flows = 30000 }}\n\
                 [vms.a]\nnetwork = \"a\"\nimage = \"probe\"\n[vms.b]\nnetwork = \"a\"\nimage = \"probe\"\n"
            );
            topology(&text)
        };
        let topology = spec("");
        assert_eq!((topology.tracked_flows(), topology.flow_room()), (60_000, 76_384));
        assert_eq!(judge(&topology, 76_384), None);
        let told = judge(&topology, 65_536).unwrap();
        assert!(told.contains("conntrack_max = 76384") && told.contains("room for 65536"), "{told}");
        assert_eq!(judge(&spec("conntrack_max = 100000"), 65_536), None);
    }
}
