//! The host's ports that masquerading gives to guests.
//!
//! Towards one server (address, port and protocol) each of the host's ports is
//! used once. What guests get ends below the ports that the host's own programs
//! are given (net.ipv4.ip_local_port_range in the kernel's
//! Documentation/networking/ip-sysctl.rst), so none of theirs is taken. What one
//! guest gets is bounded by its limit on flows; one that is allowed so many that
//! they would be a large part of all is given a part of its own.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

/// What guests get.
const GUESTS: RangeInclusive<u16> = 1024..=32767;

/// Into how many parts it is cut for guests with many flows.
const SHARES: u16 = 4;

const SHARE: u16 = (*GUESTS.end() - *GUESTS.start() + 1) / SHARES;

/// Whether a guest that may have so many flows gets a part of the ports only.
pub(in crate::firewall) fn is_confined(flows: u32) -> bool {
    flows > u32::from(SHARE)
}

/// The chain that masquerades a guest with one part of the ports; which one
/// follows from the name of its port alone.
pub(in crate::firewall) fn share_chain(interface: &str) -> String {
    let sum = interface.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("port_share_{}", sum % u32::from(SHARES) + 1)
}

/// What the template says of it.
pub(in crate::firewall) fn template_values() -> [(&'static str, Value); 2] {
    let shares = (0..SHARES).map(|index| {
        let first = GUESTS.start() + index * SHARE;
        json!({ "chain": format!("port_share_{}", index + 1), "ports": format!("{first}-{}", first + SHARE - 1) })
    });
    [("guest_ports", text(&GUESTS).into()), ("shares", shares.collect())]
}

fn text(ports: &RangeInclusive<u16>) -> String {
    format!("{}-{}", ports.start(), ports.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_all_that_guests_get() {
        let [(_, all), (_, shares)] = template_values();
        assert_eq!(all, "1024-32767");
        let shares: Vec<_> = shares.as_array().unwrap().iter().map(|share| share["ports"].clone()).collect();
        assert_eq!(shares, ["1024-8959", "8960-16895", "16896-24831", "24832-32767"]);
    }

    #[test]
    fn a_guest_with_many_flows_keeps_its_part() {
        assert!(!is_confined(4096) && is_confined(32768));
        let chains: std::collections::BTreeSet<_> =
            (0..64).map(|number| share_chain(&format!("vm-{number}"))).collect();
        assert_eq!(chains.len(), usize::from(SHARES));
        assert!(chains.contains(&share_chain("vm-web")));
    }
}
