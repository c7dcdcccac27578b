//! Kernel settings that a listing of the links says without being asked: one
//! answer instead of a file for each of them.

use netlink_packet_route::link::{AfSpecInet, AfSpecInet6, AfSpecUnspec};

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
