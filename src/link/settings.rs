//! Kernel settings that are read and set by messages about links: one instead of a
//! file for each setting.

use std::collections::BTreeMap;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{AfSpecInet, AfSpecInet6, AfSpecUnspec};
use netlink_packet_route::neighbour_table::{
    NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter,
};

/// The settings of the link `name`, by path under `/proc/sys`, as far as the
/// planner looks at them.
pub(super) fn read(name: &str, listed: &[AfSpecUnspec]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for family in listed {
        match family {
            AfSpecUnspec::Inet(specs) => {
                for spec in specs {
                    let AfSpecInet::DevConf(conf) = spec else { continue };
                    let values = [
                        ("forwarding", conf.forwarding),
                        ("arp_ignore", conf.arp_ignore),
                        ("arp_announce", conf.arp_announce),
                        ("send_redirects", conf.send_redirects),
                        ("accept_redirects", conf.accept_redirects),
                        ("accept_source_route", conf.accept_source_route),
                        ("route_localnet", conf.route_localnet),
                        ("src_valid_mark", conf.src_vmark),
                        ("proxy_arp_pvlan", conf.proxy_arp_pvlan),
                    ];
                    found.extend(values.map(|(key, value)| pair("ipv4", name, key, value)));
                }
            }
            AfSpecUnspec::Inet6(specs) => {
                for spec in specs {
                    let AfSpecInet6::DevConf(conf) = spec else { continue };
                    let values = [
                        ("disable_ipv6", conf.disable_ipv6),
                        ("accept_ra", conf.accept_ra),
                        ("autoconf", conf.autoconf),
                        ("accept_redirects", conf.accept_redirects),
                        ("accept_source_route", conf.accept_source_route),
                        ("proxy_ndp", conf.proxy_ndp),
                    ];
                    found.extend(values.map(|(key, value)| pair("ipv6", name, key, value)));
                }
            }
            _ => {}
        }
    }
    found
}

fn pair(family: &str, name: &str, key: &str, value: i32) -> (String, String) {
    (format!("net/{family}/conf/{name}/{key}"), value.to_string())
}

/// The kernel's numbers of IPv4 settings of a link that begin to count when they
/// are set (`IPV4_DEVCONF_*` of `linux/ip.h`).
pub(super) fn inet_setting(key: &str) -> Option<u16> {
    let ["net", "ipv4", "conf", _, setting] = key.split('/').collect::<Vec<_>>()[..] else { return None };
    Some(match setting {
        "forwarding" => 1,
        "accept_redirects" => 4,
        "send_redirects" => 6,
        "accept_source_route" => 9,
        "arp_announce" => 18,
        "arp_ignore" => 19,
        "src_valid_mark" => 24,
        "proxy_arp_pvlan" => 25,
        "route_localnet" => 26,
        _ => return None,
    })
}

/// What a message about a link says of those: `IFLA_AF_SPEC`, in it `AF_INET`, in
/// it `IFLA_INET_CONF`, in it each.
pub(super) fn device_settings(settings: &[(u16, u32)]) -> DefaultNla {
    const AF_SPEC: u16 = 26;
    const AF_INET: u16 = 2;
    const CONF: u16 = 1;
    const NESTED: u16 = 1 << 15;
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    };
    let each = settings.iter().flat_map(|(kind, value)| attribute(*kind, &value.to_ne_bytes()));
    let conf = attribute(CONF | NESTED, &each.collect::<Vec<u8>>());
    DefaultNla::new(AF_SPEC | NESTED, attribute(AF_INET | NESTED, &conf))
}

/// For how long a bridge waits before it answers for another guest.
pub(super) struct ProxyDelay {
    family: AddressFamily,
    milliseconds: u64,
}

/// What the kernel counts such times in where a file says them (`USER_HZ`).
const MILLISECONDS: u64 = 10;

impl ProxyDelay {
    /// Of a setting and its value.
    pub fn of(key: &str, value: &str) -> Option<Self> {
        let ["net", family, "neigh", _, "proxy_delay"] = key.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        let family = match family {
            "ipv4" => AddressFamily::Inet,
            "ipv6" => AddressFamily::Inet6,
            _ => return None,
        };
        let milliseconds = value.parse::<u64>().ok()?.checked_mul(MILLISECONDS)?;
        Some(Self { family, milliseconds })
    }

    /// The message that sets it for a link.
    pub fn message(&self, index: u32) -> NeighbourTableMessage {
        let mut message = NeighbourTableMessage::default();
        message.header.family = self.family;
        let table = if self.family == AddressFamily::Inet { "arp_cache" } else { "ndisc_cache" };
        message.attributes = vec![
            NeighbourTableAttribute::Name(table.into()),
            NeighbourTableAttribute::Parms(vec![
                NeighbourTableParameter::Ifindex(index),
                NeighbourTableParameter::ProxyDelay(self.milliseconds),
            ]),
        ];
        message
    }
}

/// The setting that an entry of a listing of the neighbour tables says: of a link,
/// or of those that are to come.
pub(super) fn read_proxy_delay(
    message: &NeighbourTableMessage,
    names: &BTreeMap<u32, &str>,
) -> Option<(String, String)> {
    let family = match message.header.family {
        AddressFamily::Inet => "ipv4",
        AddressFamily::Inet6 => "ipv6",
        _ => return None,
    };
    let parameters = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourTableAttribute::Parms(parameters) => Some(parameters),
        _ => None,
    })?;
    let (mut index, mut delay) = (None, None);
    for parameter in parameters {
        match parameter {
            NeighbourTableParameter::Ifindex(number) => index = Some(*number),
            NeighbourTableParameter::ProxyDelay(milliseconds) => delay = Some(*milliseconds),
            _ => {}
        }
    }
    let name = match index {
        Some(index) => *names.get(&index)?,
        None => "default",
    };
    // What is too short for the file to say is a delay all the same.
    let delay = delay.map(|delay| (delay / MILLISECONDS).max(u64::from(delay > 0)))?;
    Some((format!("net/{family}/neigh/{name}/proxy_delay"), delay.to_string()))
}
