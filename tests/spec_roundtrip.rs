//! What is written is what is read, whatever is written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::support::spec_support::{Case, example};
use hostctl::root_dir::RootDir;
use hostctl::spec::{
    Accel, Action, App, AppLimits, AppRestart, AppUser, AppWebserver, Arch, Cidr4, Cidr6, Disk, DiskFormat,
    FirewallMode, GuestLimits, Host, HostPort, HostSpec, IfName, Imds, Lan, LimitOverrides, MacAddr, Machine,
    MarkMask, Memory, Name, Nat, Network, Offload, OneOrMany, Peer, Peering, Peers, Policy, PolicyDefault,
    PolicyProtocol, PolicyRule, PolicySubnet, PolicyVersion, PortRange, Ports, Prefix, Subnet, SubnetKind,
    Supervisor, Tailscale, Transport, Uplink, Vm, load, load_checked,
};
use hostctl::topology::compile;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const EXAMPLES: [&str; 5] = ["five-networks.toml", "minimal.toml", "peered.toml", "peered.json", "vpc.toml"];

#[test]
fn the_examples_compile() {
    let case = Case::new();
    for name in EXAMPLES {
        let checked = load_checked(Some(&example(name)), &RootDir::new(case.path("")), compile);
        assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }
}

#[test]
fn the_twins_are_the_same() {
    let root = RootDir::new(Case::new().path(""));
    let [toml, json] =
        ["peered.toml", "peered.json"].map(|name| load(Some(&example(name)), &root).unwrap().spec);
    assert_eq!(toml, json);
}

/// The place of every error of a text that was changed at one place.
fn places(name: &str, text: &str) -> Vec<(usize, usize)> {
    let case = Case::new();
    case.write(name, text.as_bytes());
    match load_checked(Some(&case.path(name)), &RootDir::new(case.path("")), compile) {
        Ok(_) => Vec::new(),
        Err(error) => {
            error.problems().iter().flat_map(|problem| &problem.place).map(|p| (p.line, p.column)).collect()
        }
    }
}

/// Renames each key and replaces each value in turn: an error must point at
/// just that key or value.
fn mutate(name: &str, separator: &str, wrong_key: &str, wrong_value: &str) {
    let text = std::fs::read_to_string(example(name)).unwrap();
    let mut mutations = 0;
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once(separator).filter(|_| !line.trim_start().starts_with('#'))
        else {
            continue;
        };
        let indent = key.len() - key.trim_start().len();
        let comma = if value.ends_with(',') { "," } else { "" };
        let with = |line: &str| {
            let lines = text.lines().enumerate();
            lines
                .map(|(n, old)| if n == index { format!("{line}\n") } else { format!("{old}\n") })
                .collect::<String>()
        };
        if value.ends_with(['{', '[']) {
            continue;
        }
        let renamed = with(&format!("{}{wrong_key}{separator}{value}", &key[..indent]));
        assert!(places(name, &renamed).contains(&(index + 1, indent + 1)), "{name}: {line}");
        let replaced = with(&format!("{key}{separator}{wrong_value}{comma}"));
        let column = key.len() + separator.len() + 1;
        assert!(places(name, &replaced).contains(&(index + 1, column)), "{name}: {line}");
        mutations += 2;
    }
    assert!(mutations > 6, "{name}: {mutations}");
}

#[test]
fn an_error_points_at_the_key_or_value_that_was_changed() {
    mutate("five-networks.toml", " = ", "qqqq", "-7.5");
    mutate("peered.toml", " = ", "qqqq", "-7.5");
    let text = std::fs::read_to_string(example("peered.json")).unwrap();
    assert!(text.contains("\": "));
    mutate("peered.json", "\": ", "\"qqqq", "{\"q\": 1}");
}

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?".prop_map(|text| Name::new(text).unwrap())
}

fn interface() -> impl Strategy<Value = IfName> {
    "[a-z][a-zA-Z0-9._-]{0,12}x".prop_map(|text| IfName::new(text).unwrap())
}

fn cidr() -> impl Strategy<Value = Cidr4> {
    (any::<u32>(), 0u8..=30).prop_map(|(bits, length)| {
        let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc();
        net.to_string().parse().unwrap()
    })
}

fn cidr6() -> impl Strategy<Value = Cidr6> {
    (any::<u128>(), 0u8..=126).prop_map(|(bits, length)| {
        let net = ipnet::Ipv6Net::new(bits.into(), length).unwrap().trunc();
        net.to_string().parse().unwrap()
    })
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_filter_map("unicast", |octets| MacAddr::new(octets).ok())
}

fn path() -> impl Strategy<Value = PathBuf> {
    any::<String>().prop_map(PathBuf::from)
}

fn disk() -> impl Strategy<Value = Disk> {
    (path(), select(vec![DiskFormat::Raw, DiskFormat::Qcow2]), any::<bool>())
        .prop_map(|(path, format, read_only)| Disk { path, format, read_only })
}

fn uplink() -> impl Strategy<Value = Uplink> {
    prop_oneof![Just(Uplink::Auto), vec(interface(), 1..4).prop_map(Uplink::Named)]
}

fn host() -> impl Strategy<Value = Host> {
    let transport = || select(vec![Transport::Tcp, Transport::Udp]);
    let port = (transport(), any::<u16>(), vec(prefix(), 0..3));
    let port = port.prop_map(|(protocol, port, from)| HostPort { protocol, port, from });
    let firewall = select(vec![FirewallMode::Guests, FirewallMode::Full]);
    let tailscale = interface().prop_map(|interface| Tailscale { interface });
    (
        uplink(),
        firewall,
        option::of(vec(port, 0..4)),
        option::of(vec(any::<IpAddr>(), 0..4)),
        option::of(tailscale),
        any::<[u32; 4]>(),
        (vec(prefix(), 0..3), option::of(any::<u32>()), mark_mask()),
    )
        .prop_map(
            |(uplink, firewall, allow_input, dns, tailscale, limits, (deny, conntrack_max, mark_mask))| {
                Host {
                    deny,
                    conntrack_max,
                    mark_mask,
                    uplink,
                    firewall,
                    allow_input,
                    dns,
                    tailscale,
                    limits: GuestLimits {
                        new_flows: limits[0],
                        flows: limits[1],
                        fragments: limits[2],
                        broadcasts: limits[3],
                    },
                }
            },
        )
}

fn mark_mask() -> impl Strategy<Value = MarkMask> {
    (4..25_u32, 0..21_u32).prop_filter_map("bits that are taken", |(bits, shift)| {
        MarkMask::new(((1_u32 << bits) - 1) << shift).ok()
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    prop_oneof![
        any::<IpAddr>().prop_map(|address| Prefix::from(ipnet::IpNet::from(address))),
        cidr().prop_map(|net| Prefix::from(ipnet::IpNet::from(net.net()))),
        cidr6().prop_map(|net| Prefix::from(ipnet::IpNet::from(net.net()))),
    ]
}

fn lan() -> impl Strategy<Value = Lan> {
    prop_oneof![Just(Lan::Off), Just(Lan::On), vec(prefix(), 1..4).prop_map(Lan::Prefixes)]
}

fn attached() -> impl Strategy<Value = Option<OneOrMany<Name>>> {
    vec(name(), 0..3).prop_map(OneOrMany::new)
}

fn subnet() -> impl Strategy<Value = Subnet> {
    let kind = select(vec![SubnetKind::Public, SubnetKind::Private]);
    let addresses = (option::of(any::<Ipv4Addr>()), option::of(any::<Ipv6Addr>()));
    ((cidr(), option::of(cidr6())), kind, any::<bool>(), addresses, attached(), limits()).prop_map(
        |((cidr, cidr6), kind, namespace, (address, address6), policy, limits)| Subnet {
            cidr,
            cidr6,
            kind,
            namespace,
            address,
            address6,
            policy,
            limits,
        },
    )
}

fn limits() -> impl Strategy<Value = LimitOverrides> {
    any::<[Option<u32>; 4]>().prop_map(|[new_flows, flows, fragments, broadcasts]| LimitOverrides {
        new_flows,
        flows,
        fragments,
        broadcasts,
    })
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Allow, Action::Deny])
}

fn ports() -> impl Strategy<Value = Option<Ports>> {
    let range = (1u16..=u16::MAX, 1u16..=u16::MAX);
    let range = range.prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap());
    vec(range, 0..3).prop_map(OneOrMany::new)
}

fn peers() -> impl Strategy<Value = Option<Peers>> {
    let peer = prop_oneof![
        cidr().prop_map(|net| Peer::Net(net.net().into())),
        any::<IpAddr>().prop_map(|address| Peer::Net(address.into())),
        cidr6().prop_map(|net| Peer::Net(net.net().into())),
        name().prop_map(Peer::Network),
        name().prop_map(Peer::Policy),
    ];
    vec(peer, 0..3).prop_map(OneOrMany::new)
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    use PolicyProtocol::{Any, Icmp, Icmpv6, Tcp, Udp};
    let protocol = select(vec![Any, Icmp, Icmpv6, Tcp, Udp]);
    let words = (any::<u16>(), option::of(any::<String>()));
    (ports(), protocol, peers(), peers(), action(), words).prop_map(
        |(port, protocol, source, destination, action, (priority, description))| PolicyRule {
            port,
            protocol,
            source,
            destination,
            action,
            priority,
            description,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let default = (option::of(action()), option::of(action()));
    let default = default.prop_map(|(ingress, egress)| PolicyDefault { ingress, egress });
    let rules = || option::of(vec(rule(), 0..3));
    let text = || option::of(any::<String>());
    let version = option::of(Just(PolicyVersion::V1));
    let subnet = prop_oneof![cidr().prop_map(PolicySubnet::Cidr), name().prop_map(PolicySubnet::Name)];
    (version, text(), option::of(subnet), text(), option::of(default), rules(), rules()).prop_map(
        |(version, description, subnet, namespace, default, ingress, egress)| Policy {
            version,
            description,
            subnet,
            namespace,
            default,
            ingress,
            egress,
        },
    )
}

fn network() -> impl Strategy<Value = Network> {
    let imds = select(vec![Imds::Deny, Imds::Host]);
    let nat = prop_oneof![Just(Nat::Uplinks), Just(Nat::Off), vec(interface(), 1..4).prop_map(Nat::Named)];
    let subnets = btree_map(any::<String>(), subnet(), 0..3);
    (cidr(), option::of(cidr6()), imds, any::<bool>(), nat, subnets, attached(), (limits(), lan())).prop_map(
        |(cidr, cidr6, imds, tailscale, nat, subnets, policy, (limits, lan))| Network {
            lan,
            cidr,
            cidr6,
            imds,
            tailscale,
            nat,
            subnets,
            policy,
            limits,
        },
    )
}

fn vm() -> impl Strategy<Value = Vm> {
    let attached = (
        attached(),
        name(),
        option::of(name()),
        option::of(any::<Ipv4Addr>()),
        option::of(any::<Ipv6Addr>()),
        option::of(mac()),
    );
    let memory = (16u32..2048).prop_map(|mebibytes| format!("{mebibytes}M").parse::<Memory>().unwrap());
    let files = (
        option::of(name()),
        option::of(path()),
        option::of(path()),
        option::of(disk()),
        (vec(disk(), 0..3), any::<bool>()),
    );
    let machine = (
        option::of(select(vec![Arch::X86_64, Arch::Aarch64])),
        option::of(select(vec![Machine::Microvm, Machine::Q35, Machine::Virt])),
        select(vec![Accel::Auto, Accel::Kvm, Accel::Tcg]),
        select(vec![Offload::Auto, Offload::On, Offload::Off]),
    );
    let life = (any::<bool>(), any::<bool>(), select(vec![Supervisor::Hostctl, Supervisor::Unit]), limits());
    (attached, any::<u16>(), memory, files, machine, any::<String>(), life).prop_map(
        |(attached, vcpus, memory, files, machine, cmdline, (autostart, restart, supervisor, limits))| {
            let (policy, network, subnet, address, address6, mac) = attached;
            let (image, kernel, initrd, disk, (volumes, io_uring)) = files;
            let (arch, machine, accel, offload) = machine;
            Vm {
                network,
                subnet,
                policy,
                address,
                address6,
                mac,
                vcpus,
                memory,
                image,
                kernel,
                initrd,
                disk,
                volumes,
                io_uring,
                arch,
                machine,
                accel,
                offload,
                cmdline,
                autostart,
                restart,
                supervisor,
                limits,
            }
        },
    )
}

fn app() -> impl Strategy<Value = App> {
    let text = any::<String>;
    let server = (any::<u16>(), option::of(path()), option::of(text()))
        .prop_map(|(port, directory, greeting)| AppWebserver { port, directory, greeting });
    let limits = (option::of(any::<u32>()), option::of(any::<u32>()))
        .prop_map(|(millicpus, pids)| AppLimits { memory: None, millicpus, pids });
    let restart = select(vec![AppRestart::Always, AppRestart::OnFailure, AppRestart::Never]);
    let command = option::of(vec(text(), 0..3));
    let environment = btree_map(text(), text(), 0..3);
    let user = prop_oneof![
        "[a-z_][a-z0-9_-]{0,31}".prop_map(AppUser::Name),
        (0..60_000_u32).prop_map(AppUser::Id),
        (0..60_000_u32, 0..60_000_u32).prop_map(|(uid, gid)| AppUser::Ids { uid, gid }),
    ];
    let how = (restart, option::of(user), any::<bool>(), limits, environment);
    (name(), name(), command, option::of(server), how).prop_map(
        |(network, subnet, command, webserver, (restart, user, isolate, limits, environment))| App {
            network,
            subnet,
            command,
            webserver,
            restart,
            user,
            isolate,
            limits,
            environment,
        },
    )
}

fn spec() -> impl Strategy<Value = HostSpec> {
    let peering = [name(), name()].prop_map(|between| Peering { between });
    let networks = btree_map(any::<String>(), network(), 0..4);
    let vms = btree_map(any::<String>(), vm(), 0..4);
    let policies = btree_map(any::<String>(), policy(), 0..3);
    let apps = btree_map(any::<String>(), app(), 0..3);
    (host(), networks, vec(peering, 0..4), vms, policies, apps).prop_map(
        |(host, networks, peerings, vms, policies, apps)| HostSpec {
            host,
            networks,
            peerings,
            vms,
            policies,
            apps,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_spec_reads_back_from_toml_and_json(spec in spec()) {
        let case = Case::new();
        case.write("host.toml", toml::to_string(&spec).unwrap().as_bytes());
        case.write("pretty.toml", toml::to_string_pretty(&spec).unwrap().as_bytes());
        case.write("host.json", &serde_json::to_vec(&spec).unwrap());
        for name in ["host.toml", "pretty.toml", "host.json"] {
            let loaded = load(Some(&case.path(name)), &RootDir::new(case.path("")));
            prop_assert_eq!(&loaded.unwrap().spec, &spec);
        }
    }

    /// Split over several files, every entry is found where it was put.
    #[test]
    fn drop_ins_add_up(spec in spec()) {
        let case = Case::new();
        let parts = [
            HostSpec { host: spec.host.clone(), ..HostSpec::default() },
            HostSpec { networks: spec.networks.clone(), apps: spec.apps.clone(), ..HostSpec::default() },
            HostSpec { vms: spec.vms.clone(), peerings: spec.peerings.clone(), policies: spec.policies.clone(), ..HostSpec::default() },
        ];
        case.host(&toml::to_string(&parts[0]).unwrap());
        case.drop_in("1.toml", &toml::to_string(&parts[1]).unwrap());
        case.drop_in("2.json", &serde_json::to_string(&parts[2]).unwrap());
        let loaded = load(None, &RootDir::new(case.path(""))).unwrap();
        prop_assert_eq!(&loaded.spec, &spec);
        let file = |part: &str, name: &str| {
            let path = hostctl::spec::SpecPath::keys([part, name]);
            loaded.sources.origin(&path).map(|file| file.file_name().unwrap().to_owned())
        };
        for name in spec.networks.keys() {
            prop_assert_eq!(file("networks", name).unwrap(), "1.toml");
        }
        for name in spec.vms.keys() {
            prop_assert_eq!(file("vms", name).unwrap(), "2.json");
        }
    }
}

/// Text that looks like a host spec, so that the parsers get past its start.
fn nearly_a_spec() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "{",
        "}",
        "=",
        ":",
        ",",
        ".",
        "\n",
        "\"",
        "'",
        "\\",
        "#",
        "//",
        "/*",
        " ",
        "\t",
        "0x1",
        "1e9",
        "-",
        "host",
        "networks",
        "vms",
        "peerings",
        "between",
        "cidr",
        "\"10.1.0.0/24\"",
        "[networks.a]\n",
        "[[peerings]]\n",
        "\"networks\": {",
        "\"a\"",
        "cidr = \"10.1.0.0/24\"\n",
        "true",
        "null",
        "1979-05-27",
        "ä",
        "\u{202e}",
        "'''",
        "\"\"\"",
    ];
    vec(select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), text in nearly_a_spec()) {
        let case = Case::new();
        let root = RootDir::new(case.path(""));
        for (name, bytes) in [("a.toml", bytes.as_slice()), ("a.json", &bytes), ("b.toml", text.as_bytes()), ("b.json", text.as_bytes())] {
            case.write(name, bytes);
            if let Err(error) = load_checked(Some(&case.path(name)), &root, compile) {
                prop_assert!(!error.problems().is_empty());
                for problem in error.problems() {
                    prop_assert!(!problem.message.is_empty() && problem.hint.is_some());
                }
                let text = error.render(80, true) + &error.to_string();
                prop_assert!(!text.contains('\u{202e}'), "{text:?}");
            }
        }
    }

    /// JSON is just what serde_json takes, keys that are there twice aside.
    #[test]
    fn json_is_rfc_8259(text in nearly_a_spec()) {
        let case = Case::new();
        case.write("a.json", text.as_bytes());
        let ours = load(Some(&case.path("a.json")), &RootDir::new(case.path("")));
        if ours.is_ok() {
            prop_assert!(serde_json::from_str::<HostSpec>(&text).is_ok());
        }
    }

    #[test]
    fn toml_is_what_the_toml_crate_takes(text in nearly_a_spec()) {
        let case = Case::new();
        case.write("a.toml", text.as_bytes());
        let ours = load(Some(&case.path("a.toml")), &RootDir::new(case.path(""))).map(|loaded| loaded.spec);
        prop_assert_eq!(ours.ok(), toml::from_str::<HostSpec>(&text).ok());
    }
}
