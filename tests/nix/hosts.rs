//! The module on NixOS hosts: right ones, and wrong ones with what they are told.

use serde_json::{Value, json};

use super::program::{evaluate, host, missing};
use super::{EXAMPLES, topology, topology_of};

/// Without the hashes of store paths, which change with every file.
fn without_hashes(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let mut parts = text.split("/nix/store/");
            let mut plain = parts.next().unwrap_or_default().to_string();
            for part in parts {
                plain.push_str("/nix/store/…");
                plain.push_str(part.get(32..).unwrap_or_default());
            }
            plain.into()
        }
        Value::Array(items) => items.iter().map(without_hashes).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), without_hashes(value))).collect()
        }
        other => other.clone(),
    }
}

/// A host with one network and one VM, and what else `more` says.
fn small(more: &str) -> Result<Value, String> {
    host(&format!(
        "{{ lib, pkgs, ... }}: {{ imports = [ ({{ config, lib, ... }}: {{ {more} }}) ]; \
           networking.nftables.enable = lib.mkDefault true; \
           services.hostctl.enable = true; \
           services.hostctl.networks.blue.cidr = \"10.1.0.0/24\"; \
           services.hostctl.vms.web = {{ network = \"blue\"; image = \"probe\"; }}; }}"
    ))
}

#[test]
fn the_example_host_is_two_isolated_guests() {
    if missing() {
        return;
    }
    let found = host("../../examples/nixos/host.nix").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&without_hashes(&found)).unwrap());
    let topology = topology_of(&found["spec"]);
    assert_eq!((topology.networks.len(), topology.vms.len(), topology.peerings.len()), (2, 2, 0));
    assert!(topology.vms.iter().all(|vm| vm.port.network.as_str() != vm.name.as_str()));
}

/// As a reader of the template would have it, on an a1.metal.
#[test]
fn the_template_is_a_host() {
    if missing() {
        return;
    }
    let found = evaluate(
        "let \
           flake = (import ../../examples/nixos/flake.nix).outputs { \
             nixpkgs.lib.nixosSystem = import ./stub-nixpkgs/nixos/lib/eval-config.nix; \
             hostctl.nixosModules.default.imports = [ ../../nix/modules ]; \
           }; \
           config = flake.nixosConfigurations.metal.config; \
         in { \
           failed = builtins.filter (one: !one.assertion) config.assertions; \
           system = config.nixpkgs.hostPlatform; \
           guest = config.services.hostctl.vms.web.config.nixpkgs.hostPlatform; \
           spec = config.services.hostctl.finalSpec; \
         }",
    )
    .unwrap();
    assert_eq!(found["failed"], json!([]));
    assert_eq!((&found["system"], &found["guest"]), (&json!("aarch64-linux"), &json!("aarch64-linux")));
    assert_eq!(topology_of(&found["spec"]).vms.len(), 2);
}

/// The options say the same as the plain functions, and so as TOML.
#[test]
fn examples_as_options_are_their_toml_twins() {
    if missing() {
        return;
    }
    for name in EXAMPLES {
        let found = evaluate(&format!(
            "import ./host.nix {{ \
               host = {{ services.hostctl.enable = true; networking.nftables.enable = true; }}; \
               example = ../../nix/examples/{name}.nix; }}"
        ))
        .unwrap();
        let mut spec = found["spec"].clone();
        for vm in spec["vms"].as_object_mut().unwrap().values_mut() {
            assert_eq!(vm.as_object_mut().unwrap().remove("supervisor"), Some("unit".into()), "{name}");
        }
        let toml = super::program::top().join(format!("examples/{name}.toml"));
        assert_eq!(topology_of(&spec), topology(&toml), "{name}");
    }
}

#[test]
fn settings_are_merged_with_the_options() {
    if missing() {
        return;
    }
    let found = small(
        "services.hostctl.settings = { host.dns = [ \"9.9.9.9\" ]; networks.green.cidr = \"10.2.0.0/24\"; \
           vms.db = { network = \"green\"; image = \"probe\"; autostart = false; }; };",
    )
    .unwrap();
    assert_eq!(
        found["spec"],
        json!({
            "host": { "dns": ["9.9.9.9"] },
            "networks": { "blue": { "cidr": "10.1.0.0/24" }, "green": { "cidr": "10.2.0.0/24" } },
            "vms": {
                "web": { "network": "blue", "image": "probe", "supervisor": "unit" },
                "db": { "network": "green", "image": "probe", "supervisor": "unit", "autostart": false },
            },
        })
    );
    assert_eq!(found["units"]["hostctl-vm@web"]["wantedBy"], json!(["multi-user.target"]));
    assert_eq!(found["units"]["hostctl-vm@db"]["wantedBy"], json!([]));

    let said = small("services.hostctl.settings.networks.blue.cidr = \"10.9.0.0/24\";").unwrap_err();
    assert!(
        said.contains("services.hostctl.settings.networks.blue.cidr") && said.contains("conflicting"),
        "{said}"
    );
    let forced =
        small("services.hostctl.settings.networks.blue.cidr = lib.mkForce \"10.9.0.0/24\";").unwrap();
    assert_eq!(forced["spec"]["networks"]["blue"]["cidr"], "10.9.0.0/24");
}

#[test]
fn a_switch_reloads_and_restarts_no_guest_by_itself() {
    if missing() {
        return;
    }
    let before = small("").unwrap();
    let after = small("services.hostctl.firewall = \"full\";").unwrap();
    let units = |found: &Value, name: &str| found["units"][name].clone();
    assert_ne!(units(&before, "hostctl")["reloadTriggers"], units(&after, "hostctl")["reloadTriggers"]);
    assert_eq!(units(&after, "hostctl")["reloadIfChanged"], true);
    assert_eq!(units(&before, "hostctl-vm@web"), units(&after, "hostctl-vm@web"));
    assert_eq!(units(&after, "hostctl-vm@web")["restartIfChanged"], false);
    assert_eq!(units(&after, "hostctl-firewall")["restartIfChanged"], false);
    assert_eq!(before["packages"][0]["path"], after["packages"][0]["path"], "the units' files are the same");
}

/// A guest that may be restarted is, where its own definition changes.
#[test]
fn a_switch_restarts_a_guest_that_it_may_when_that_one_changes() {
    if missing() {
        return;
    }
    let may = "services.hostctl.vms.web.restartIfChanged = true;";
    let unit = |more: &str| small(&format!("{may}{more}")).unwrap()["units"]["hostctl-vm@web"].clone();
    let before = unit("");
    assert_eq!(before["restartIfChanged"], true);
    assert_eq!(unit("services.hostctl.firewall = \"full\";"), before);
    assert_ne!(
        unit("services.hostctl.vms.web.memory = \"1G\";")["restartTriggers"],
        before["restartTriggers"]
    );
    let spec = small(may).unwrap()["spec"].clone();
    assert_eq!(spec, small("").unwrap()["spec"], "it is no key of the spec");
}

/// The script that makes the units' files, run: what a switch compares.
#[test]
fn units_have_a_file_for_each_vm_and_a_path_that_stays() {
    if missing() {
        return;
    }
    let found = small("services.hostctl.networks.green.cidr = \"10.2.0.0/24\";").unwrap();
    let script = found["packages"][0]["script"].as_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // As the package installs them.
    let installed = at("package/lib/systemd/system");
    std::fs::create_dir_all(&installed).unwrap();
    let program = at("package/bin/hostctl").display().to_string();
    let mut templates = 0;
    for entry in std::fs::read_dir(super::program::top().join("templates/systemd")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "service") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("@hostctl@"), "{}", path.display());
            std::fs::write(installed.join(path.file_name().unwrap()), text.replace("@hostctl@", &program))
                .unwrap();
            templates += 1;
        }
    }
    assert_eq!(templates, 5);
    let package = script.split_whitespace().find_map(|word| word.strip_suffix("/bin/hostctl")).unwrap();
    let script = script.replace(package, &at("package").display().to_string());
    // What nixpkgs' stdenv has under this name.
    let substitute = "substitute() { grep -qF \"$4\" \"$1\" && sed \"s|$4|$5|g\" \"$1\" >\"$2\"; }";
    let status = std::process::Command::new("bash")
        .args(["-euc", &format!("{substitute}\n{script}")])
        .env("out", at("out"))
        .status()
        .unwrap();
    assert!(status.success());
    let units = at("out/lib/systemd/system");
    let mut names: Vec<String> = std::fs::read_dir(&units)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "hostctl-audit.service",
        "hostctl-firewall.service",
        "hostctl-hold.service",
        "hostctl-vm@.service",
        "hostctl-vm@web.service",
        "hostctl.service",
    ];
    assert_eq!(names, expected);
    for name in names {
        let text = std::fs::read_to_string(units.join(&name)).unwrap();
        assert!(text.contains("ExecStart=/run/current-system/sw/bin/hostctl "), "{name}");
        assert!(!text.contains(&program), "{name}: an upgrade would be another unit");
    }
}

/// A volume is made once, sparse, and for root alone.
#[test]
fn a_volume_is_made_where_it_isnt_there() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("volumes/web.img");
    let make = |size: &str| {
        let script = super::program::top().join("nix/modules/make-volume.sh");
        let status = std::process::Command::new("sh").arg(script).arg(&path).arg(size).status().unwrap();
        assert!(status.success());
    };
    // What an interrupted start left.
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(path.with_extension("img.new"), "half").unwrap();
    make("8M");
    let about = std::fs::metadata(&path).unwrap();
    assert_eq!((about.len(), about.blocks(), about.mode() & 0o777), (8 << 20, 0, 0o600));
    std::fs::write(&path, "kept").unwrap();
    make("16M");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn other_managers_are_told_to_leave_links_alone() {
    if missing() {
        return;
    }
    let found = small(
        "services.hostctl = { firewall = \"full\"; tailscale.interface = \"tailscale0\"; \
           networks.a-rather-long-network = { cidr = \"10.3.0.0/16\"; \
             subnets.web = { cidr = \"10.3.1.0/24\"; type = \"public\"; namespace = true; }; }; \
           networks.blue.subnets.db = { cidr = \"10.1.0.0/25\"; type = \"private\"; namespace = true; }; }; \
         networking.firewall.filterForward = true;",
    )
    .unwrap();
    let names = ["br-a-rat-??????", "br-blue", "vm-web", "ns-a-rat-??????", "ns-blue-db"];
    let network = &found["network"];
    assert_eq!(network["dhcpcd"], json!(names));
    assert_eq!(network["networkmanager"], json!(names.map(|name| format!("interface-name:{name}"))));
    let networkd = &network["networks"]["05-hostctl"];
    assert_eq!(networkd["matchConfig"]["Name"], names.join(" "));
    assert_eq!(networkd["linkConfig"]["Unmanaged"], true);
    // The globs match what hostctl makes.
    let topology = topology_of(&found["spec"]);
    let made = topology.networks.iter().map(|network| network.bridge.to_string());
    let made = made.chain(topology.namespaces.iter().map(|namespace| namespace.port.interface.to_string()));
    for interface in made {
        let starts = names.iter().any(|name| {
            name.strip_suffix("??????").map_or(interface == **name, |start| {
                interface.strip_prefix(start).is_some_and(|hash| hash.len() == 6)
            })
        });
        assert!(starts, "{interface}");
    }

    let firewall = &network["firewall"];
    assert_eq!(firewall["checkReversePath"], "loose");
    assert_eq!(firewall["allowedTCPPorts"], json!([22]));
    let rules = firewall["extraForwardRules"].as_str().unwrap();
    assert!(rules.contains("iifname { \"br-a-rat-*\", \"br-blue\" } accept"), "{rules}");
    assert!(rules.contains("oifname { \"br-a-rat-*\", \"br-blue\" } accept"), "{rules}");
    let plain = small("").unwrap();
    assert_eq!(plain["network"]["firewall"]["checkReversePath"], true);
    assert_eq!(plain["network"]["firewall"]["extraForwardRules"], "");
    assert_eq!(plain["network"]["firewall"]["allowedTCPPorts"], json!([]));
}

/// An admin whose sshd isn't on port 22 keeps it.
#[test]
fn the_full_firewall_opens_what_nixos_opens() {
    if missing() {
        return;
    }
    let full = |more: &str| small(&format!("services.hostctl.firewall = \"full\"; {more}")).unwrap();
    let tcp = |port: u16| json!({ "protocol": "tcp", "port": port });
    let open = |more: &str| full(more)["spec"]["host"]["allow_input"].clone();
    let sshd = "services.openssh = { enable = true; ports = [ 2222 ]; };";
    assert_eq!(open(sshd), json!([tcp(2222)]));
    assert_eq!(open(""), json!([tcp(22)]), "nobody says where ssh is");
    assert_eq!(
        open(&format!(
            "{sshd} networking.firewall = {{ allowedTCPPorts = [ 80 2222 ]; allowedUDPPorts = [ 53 ]; \
               allowedUDPPortRanges = [ {{ from = 60000; to = 60001; }} ]; }};"
        )),
        json!([
            tcp(80), tcp(2222),
            { "protocol": "udp", "port": 53 }, { "protocol": "udp", "port": 60000 }, { "protocol": "udp", "port": 60001 },
        ])
    );
    // Without NixOS's firewall its openFirewall shut nothing.
    assert_eq!(
        open(
            "networking.firewall.enable = false; \
             services.openssh = { enable = true; ports = [ 2222 ]; openFirewall = false; };"
        ),
        json!([tcp(2222)])
    );
    // What allowInput names is open as it says, there and in NixOS's firewall.
    let named = full(&format!(
        "{sshd} services.hostctl.allowInput = [ {{ protocol = \"tcp\"; port = 443; }} ]; \
         services.hostctl.settings.host.allow_input = [ {{ protocol = \"tcp\"; port = 2222; sources = [ \"192.0.2.0/24\" ]; }} ];"
    ));
    let input = named["spec"]["host"]["allow_input"].as_array().unwrap();
    assert_eq!(input.len(), 2, "{input:?}");
    assert!(input.iter().any(|one| one["sources"] == json!(["192.0.2.0/24"])), "{input:?}");
    let mut ports: Vec<u64> = named["network"]["firewall"]["allowedTCPPorts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [443, 2222]);

    // Nobody could reach sshd any more.
    let shut = "services.openssh = { enable = true; ports = [ 2222 ]; openFirewall = false; };";
    for more in [
        "",
        "networking.firewall.interfaces.eth1.allowedTCPPorts = [ 2222 ];",
        "networking.firewall.trustedInterfaces = [ \"eth1\" ]; services.hostctl.allowInput = [ { protocol = \"tcp\"; port = 443; } ];",
    ] {
        let found = full(&format!("{shut} {more}"));
        let failed = found["failed"][0].as_str().unwrap_or_else(|| panic!("{more} was taken"));
        assert!(failed.contains("would shut sshd's port\n2222"), "{failed}");
    }
    for more in [
        "services.hostctl.tailscale.interface = \"tailscale0\";",
        "services.hostctl.allowInput = [ { protocol = \"tcp\"; port = 443; } ];",
        "services.hostctl.allowInput = [ { protocol = \"tcp\"; port = 2222; } ];",
    ] {
        assert_eq!(full(&format!("{shut} {more}"))["failed"], Value::Null, "{more}");
    }
}

#[test]
fn what_the_full_firewall_shuts_is_said() {
    if missing() {
        return;
    }
    for (more, expected) in [
        (
            "networking.firewall.interfaces.eth1.allowedTCPPorts = [ 9100 9101 ];",
            "networking.firewall.interfaces.eth1 opens TCP 9100, 9101, which firewall = \"full\" shuts",
        ),
        ("networking.firewall.interfaces.eth1.allowedUDPPorts = [ 53 ];", "opens UDP 53"),
        ("networking.firewall.trustedInterfaces = [ \"eth1\" ];", "trustedInterfaces has eth1"),
        ("networking.firewall.extraInputRules = \"tcp dport 25 accept\";", "extraInputRules opens nothing"),
        (
            "networking.firewall.allowedTCPPortRanges = [ { from = 1024; to = 65535; } ];",
            "opens a range of 4096 ports or more",
        ),
        ("virtualisation.podman.enable = true;", "hostctl drops what podman's own networks"),
        ("virtualisation.incus.enable = true;", "hostctl drops what incus's own networks"),
        (
            "virtualisation.libvirtd = { enable = true; firewallBackend = \"nftables\"; };",
            "hostctl drops what libvirtd's own networks",
        ),
        (
            "virtualisation.docker = { enable = true; daemon.settings.ip-forward-no-drop = true; };",
            "hostctl drops what docker's own networks",
        ),
        (
            "networking.nat = { enable = true; internalInterfaces = [ \"ve-box\" ]; };",
            "networking.nat forwards for ve-box",
        ),
    ] {
        let found = small(&format!("services.hostctl.firewall = \"full\"; {more}")).unwrap();
        let said = found["warnings"].as_array().unwrap();
        assert_eq!(said.len(), 1, "{more}: {found}");
        let said = said[0].as_str().unwrap();
        assert!(said.starts_with("services.hostctl: ") && said.contains(expected), "{more}: {said}");
        // Nothing of it is true of the other mode.
        let guests = small(more).unwrap();
        assert_eq!(guests["warnings"], json!([]), "{more}");
    }
    let quiet = small(
        "services.hostctl.firewall = \"full\"; services.hostctl.tailscale.interface = \"tailscale0\"; \
         networking.firewall.trustedInterfaces = [ \"lo\" \"tailscale0\" ]; \
         networking.firewall.interfaces.br-blue.allowedUDPPorts = [ 53 ];",
    )
    .unwrap();
    assert_eq!(quiet["warnings"], json!([]));
}

#[test]
fn what_cant_be_right_is_refused_with_a_remedy() {
    if missing() {
        return;
    }
    let vm = |keys: &str| format!("services.hostctl.vms.web = {{ {keys} }};");
    for (more, expected) in [
        ("networking.nftables.flushRuleset = true;", "Set networking.nftables.flushRuleset = false."),
        (
            "networking.nftables.ruleset = \"table inet a { }\";",
            "write your rules as\nnetworking.nftables.tables",
        ),
        ("networking.nftables.rulesetFile = ./host.nix;", "flushRuleset is on"),
        ("system.stateVersion = \"23.05\";", "flushRuleset is on"),
        ("networking.nftables.enable = false;", "Set networking.nftables.enable = true"),
        ("virtualisation.docker.enable = true;", "to\nip-forward-no-drop = true, or"),
        (
            "virtualisation.docker = { enable = true; package.version = \"29.1.0\"; };",
            "ip-forward-no-drop = true or firewall-backend = \"nftables\"",
        ),
        ("virtualisation.docker = { enable = true; package.version = \"27.5.1\"; };", "iptables = false"),
        (
            "virtualisation.docker = { enable = true; daemon.settings.firewall-backend = \"nftables\"; };",
            "firewall-backend is for Docker 29 and newer; this is 28.5.2, which doesn't start with it. Take \
             ip-forward-no-drop = true",
        ),
        (
            "virtualisation.docker = { enable = true; package.version = \"27.5.1\"; \
               daemon.settings = { iptables = false; ip-forward-no-drop = true; }; };",
            "ip-forward-no-drop is for Docker 28 and newer",
        ),
        (
            "virtualisation.docker = { enable = true; \
               daemon.settings = { iptables = false; bridge = \"br-blue\"; }; };",
            "virtualisation.docker.daemon.settings.bridge sets up br-blue",
        ),
        (
            "virtualisation.podman = { enable = true; defaultNetwork.settings.network_interface = \"br-blue\"; };",
            "virtualisation.podman.defaultNetwork.settings sets up br-blue",
        ),
        (
            "virtualisation.incus = { enable = true; preseed.networks = [ { name = \"br-blue\"; } ]; };",
            "virtualisation.incus.preseed.networks sets up br-blue",
        ),
        (
            "virtualisation.incus = { enable = true; preseed.profiles = [ \
               { name = \"default\"; devices.eth0 = { type = \"nic\"; parent = \"br-blue\"; }; } ]; };",
            "virtualisation.incus.preseed.profiles (the device eth0 of default) sets up br-blue",
        ),
        (
            "networking.nat = { enable = true; internalInterfaces = [ \"br-blue\" ]; };",
            "networking.nat.internalInterfaces has br-blue: hostctl masquerades its guests itself",
        ),
        (
            "services.hostctl.networks.green.cidr = \"10.2.0.0\";",
            "networks.green.cidr: 10.2.0.0 is no IPv4 prefix such as 10.1.0.0/24",
        ),
        ("services.hostctl.networks.green.cidr = \"10.2.0.0/33\";", "10.2.0.0/33 is no IPv4 prefix"),
        ("services.hostctl.networks.green.cidr = \"10.2.0.1/24\";", "10.2.0.1/24 is an address in a prefix"),
        ("services.hostctl.networks.green.cidr = \"fd00::/64\";", "fd00::/64 is no IPv4 prefix"),
        (
            "services.hostctl.networks.green = { cidr = \"10.2.0.0/24\"; cidr6 = \"fd00::1/64\"; };",
            "networks.green.cidr6: fd00::1/64 is an address in a prefix",
        ),
        (
            "services.hostctl.networks.blue.subnets.db = { cidr = \"10.2.0.0/25\"; type = \"private\"; };",
            "networks.blue.subnets.db.cidr: 10.2.0.0/25 isn't within the network's 10.1.0.0/24",
        ),
        (
            "services.hostctl.vms.db = { network = \"bleu\"; image = \"probe\"; };",
            "vms.db.network: no network is called bleu; there is blue",
        ),
        (&vm("subnet = \"db\";"), "vms.web.subnet: no subnet of blue is called db; there is none"),
        (&vm("policy = [ \"shut\" ];"), "vms.web.policy: no policy is called shut; there is none"),
        (
            "services.hostctl.peerings = [ { between = [ \"blue\" \"green\" ]; } ];",
            "peerings: no network is called green; there is blue",
        ),
        ("virtualisation.libvirtd.enable = true;", "virtualisation.libvirtd.firewallBackend = \"nftables\""),
        (
            "networking.bridges.br-blue.interfaces = [ ];",
            "networking.bridges sets up br-blue, which hostctl makes",
        ),
        ("networking.interfaces.vm-web.useDHCP = true;", "networking.interfaces sets up vm-web"),
        (
            "systemd.network.netdevs.\"10-br\".netdevConfig.Name = \"br-blue\";",
            "systemd.network.netdevs.\"10-br\" sets up br-blue",
        ),
        (
            "systemd.network.networks.\"10-br\".matchConfig.Name = \"eth0 br-blue\";",
            "systemd.network.networks.\"10-br\" sets up br-blue",
        ),
        (
            "services.hostctl.networks.green.cidr = \"10.1.0.128/25\";",
            "the networks blue (10.1.0.0/24) and green (10.1.0.128/25) overlap",
        ),
        (
            "services.hostctl.networks.a = { cidr = \"10.8.0.0/24\"; cidr6 = \"fd00::/60\"; }; \
             services.hostctl.networks.b = { cidr = \"10.9.0.0/24\"; cidr6 = \"fd00:0:0:f::/64\"; };",
            "the networks a (fd00::/60) and b (fd00:0:0:f::/64) overlap",
        ),
        ("services.hostctl.networks._blue.cidr = \"10.2.0.0/24\";", "_blue can't be a name"),
        ("services.hostctl.policies.web- = { };", "web- can't be a name"),
        (&vm("memory = \"2G\";"), "set memory = \"2049M\""),
        (&vm("memory = \"2048M\";"), "2048 MiB of guest memory"),
        (&vm("config = { };"), "vms.web: it has a config and an image"),
    ] {
        let found = small(more).unwrap_or_else(|error| panic!("{more}: {error}"));
        let failed: Vec<&str> =
            found["failed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert_eq!(failed.len(), 1, "{more}: {failed:#?}");
        assert!(
            failed[0].starts_with("services.hostctl: ") && failed[0].contains(expected),
            "{more}: {}",
            failed[0]
        );
    }
}

#[test]
fn what_is_right_beside_it_is_let_be() {
    if missing() {
        return;
    }
    for more in [
        "virtualisation.docker = { enable = true; daemon.settings.iptables = false; };",
        "virtualisation.docker = { enable = true; daemon.settings.ip-forward-no-drop = true; };",
        "virtualisation.docker = { enable = true; package.version = \"29.0.0\"; \
           daemon.settings.firewall-backend = \"nftables\"; };",
        "virtualisation.podman.enable = true; virtualisation.incus.enable = true;",
        "networking.nat = { enable = true; internalInterfaces = [ \"ve-box\" ]; };",
        "services.hostctl.networks.blue.subnets.db = { cidr = \"10.1.0.128/25\"; type = \"private\"; }; \
           services.hostctl.vms.web.subnet = \"db\";",
        "virtualisation.libvirtd = { enable = true; firewallBackend = \"nftables\"; };",
        "networking.nftables = { ruleset = \"table inet a { }\"; flushRuleset = false; };",
        "networking.nftables.enable = false; networking.firewall.enable = false;",
        "networking.bridges.br-lan.interfaces = [ ]; networking.interfaces.eth0.useDHCP = true;",
        "services.hostctl.networks.green.cidr = \"10.1.1.0/24\";",
        "services.hostctl.networks = { a = { cidr = \"10.8.0.0/24\"; cidr6 = \"fd00:0:0:e::/64\"; }; \
           b = { cidr = \"10.9.0.0/24\"; cidr6 = \"fd00:0:0:f::/64\"; }; };",
        "services.hostctl.vms.web.memory = \"2049M\";",
    ] {
        let found = small(more).unwrap_or_else(|error| panic!("{more}: {error}"));
        assert_eq!(found["failed"], Value::Null, "{more}");
        assert_eq!(found["warnings"], json!([]), "{more}");
    }
    let off = host("{ services.hostctl.networks.A.cidr = \"x\"; }").unwrap();
    assert_eq!((&off["units"], &off["etc"]), (&json!({}), &json!({})), "enable is false");
}

#[test]
fn options_have_names_and_types() {
    if missing() {
        return;
    }
    for (more, expected) in [
        (
            "services.hostctl.network.blue.cidr = \"10.1.0.0/24\";",
            "`services.hostctl.network' does not exist",
        ),
        (
            "services.hostctl.networks.blue.cird = \"\";",
            "`services.hostctl.networks.blue.cird' does not exist",
        ),
        (
            "services.hostctl.vms.web.disk.read_only = true;",
            "`services.hostctl.vms.web.disk.read_only' does not exist",
        ),
        ("services.hostctl.vms.web.vcpus = \"2\";", "`services.hostctl.vms.web.vcpus' is not of type"),
        ("services.hostctl.vms.web.vcpus = -1;", "`services.hostctl.vms.web.vcpus' is not of type"),
        ("services.hostctl.firewall = \"half\";", "`services.hostctl.firewall' is not of type"),
        (
            "services.hostctl.networks.green.cidr = null;",
            "`services.hostctl.networks.green.cidr' is not of type",
        ),
        (
            "services.hostctl.networks.green = { };",
            "`services.hostctl.networks.green.cidr' was accessed but has no value",
        ),
        ("services.hostctl.vms.web.policy = [ ];", "`services.hostctl.vms.web.policy' is not of type"),
        (
            "services.hostctl.vms.web.dataVolume.size = \"8GB\";",
            "`services.hostctl.vms.web.dataVolume.size' is not of type",
        ),
        ("services.hostctl.allowInput = [ { port = 70000; protocol = \"tcp\"; } ];", "is not of type"),
        (
            "services.hostctl.vms.site = { network = \"blue\"; config.services.ngix.enable = true; };",
            "services.ngix' does not exist",
        ),
    ] {
        let said = small(more).err().unwrap_or_else(|| panic!("{more} was taken"));
        // nixpkgs' lib quotes with other marks in places.
        let said = said.replace('’', "'").replace('‘', "`");
        assert!(said.contains(expected), "{more}: {said}");
    }
}
