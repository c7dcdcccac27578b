//! Whether another program has come to rely on forwarding that hostctl turned
//! on. What wasn't forwarded before hostctl is then no longer hostctl's to
//! close, nor to turn off under it. Pure.

use crate::link;

/// Written by whoever wants the whole host to forward IPv4 (Docker, libvirt,
/// podman): hostctl turns it on interface by interface.
pub(in crate::host) const FORWARDING4_KEY: &str = "net/ipv4/ip_forward";

/// Who relies on it, for each family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::host) struct Reliance {
    /// A bridge, for IPv4.
    pub v4: Option<String>,
    /// A bridge, for IPv6.
    pub v6: Option<String>,
}

impl Reliance {
    /// Of the host that has these links, and had those `former` bridges when
    /// hostctl turned forwarding on; where that isn't known, nobody does.
    pub fn of(links: &link::Observed, former: Option<&[String]>) -> Self {
        let Some(former) = former else { return Self::default() };
        let on = links.sysctls.get(FORWARDING4_KEY).is_some_and(|value| value == "1");
        let newcomer = |v4: bool| {
            let mut new = bridges(links).filter(|(name, link)| {
                !former.contains(name) && link.addresses.iter().any(|net| net.addr().is_ipv4() == v4)
            });
            new.next().map(|(name, _)| name.clone())
        };
        // IPv6's one switch tells nobody who set it.
        Self { v4: newcomer(true).filter(|_| on), v6: newcomer(false) }
    }
}

/// Bridges of other programs that don't lead to the internet.
pub(in crate::host) fn bridges(links: &link::Observed) -> impl Iterator<Item = (&String, &link::Link)> {
    links.links.iter().filter(|(name, link)| {
        link.kind == "bridge"
            && !link.is_ours()
            && !link.addresses.is_empty()
            && !links.default_route.contains(*name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kind: &str, address: &str, ip_forward: &str) -> link::Observed {
        let addresses = [address.parse().unwrap()].into();
        let link = link::Link { kind: kind.into(), addresses, ..link::Link::default() };
        let mut observed = link::Observed::default();
        observed.links.insert("docker0".into(), link);
        observed.sysctls.insert(FORWARDING4_KEY.into(), ip_forward.into());
        observed
    }

    fn relies(links: &link::Observed, former: Option<&[&str]>) -> [bool; 2] {
        let former: Option<Vec<String>> =
            former.map(|names| names.iter().map(|name| (*name).to_string()).collect());
        let Reliance { v4, v6 } = Reliance::of(links, former.as_deref());
        [v4.is_some(), v6.is_some()]
    }

    #[test]
    fn a_bridge_that_came_later_relies_on_it() {
        let docker = host("bridge", "172.17.0.1/16", "1");
        assert_eq!(relies(&docker, Some(&[])), [true, false]);
        assert_eq!(relies(&docker, Some(&["docker0"])), [false, false], "it did without before");
        assert_eq!(relies(&docker, None), [false, false]);
        assert_eq!(relies(&host("bridge", "172.17.0.1/16", "0"), Some(&[])), [false, false]);
        assert_eq!(relies(&host("bridge", "fd00:d::1/64", "0"), Some(&[])), [false, true]);
        assert_eq!(relies(&host("", "fd00:d::1/64", "1"), Some(&[])), [false, false]);
        let mut uplink = host("bridge", "2001:db8::1/64", "1");
        uplink.default_route.insert("docker0".into());
        assert_eq!(relies(&uplink, Some(&[])), [false, false], "the host's own way out");
    }
}
