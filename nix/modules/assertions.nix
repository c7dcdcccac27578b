# What can't be right on a NixOS host, told before anything is built. What is
# wrong with the spec alone, `hostctl check` tells when the system is built;
# here is what NixOS can't be asked about then, and what is worth telling
# earlier.
{ config, lib, ... }:
let
  inherit (builtins)
    attrNames
    concatMap
    elem
    filter
    match
    stringLength
    ;
  cfg = config.services.hostctl;
  spec = cfg.finalSpec;
  cidr = import ../lib/cidr.nix;
  patterns = (import ../lib/links.nix).patterns spec;
  networks = spec.networks or { };
  vms = spec.vms or { };
  inherit (config.networking) firewall nftables;
  nat = config.networking.nat or { };

  refuse = condition: message: {
    assertion = !condition;
    message = "services.hostctl: ${message}";
  };
  refuseAll = map (refuse true);

  # NixOS after 25.05 says it in words.
  firewallBackend = firewall.backend or (if nftables.enable then "nftables" else "iptables");
  docker = config.virtualisation.docker;
  dockerSettings = docker.daemon.settings or { };
  dockerVersion = docker.package.version or "29";
  dockerIs = lib.versionAtLeast dockerVersion;
  # Docker doesn't start with a key that it doesn't know.
  unknownToDocker =
    filter (one: dockerSettings ? ${one.key} && !dockerIs one.since)
      [
        {
          key = "firewall-backend";
          since = "29";
        }
        {
          key = "ip-forward-no-drop";
          since = "28";
        }
      ];
  dockerRemedy =
    if dockerIs "29" then
      ''ip-forward-no-drop = true or firewall-backend = "nftables"''
    else if dockerIs "28" then
      "ip-forward-no-drop = true"
    else
      "iptables = false";
  inherit (config.virtualisation) libvirtd;
  podman = config.virtualisation.podman or { };
  incusOption = config.virtualisation.incus or { };
  preseed = if incusOption.enable or false then incusOption.preseed or null else null;
  incus = if preseed == null then { } else preseed;

  # Interfaces that the rest of the configuration makes or sets up.
  claimed =
    map (name: {
      inherit name;
      by = "networking.bridges";
    }) (attrNames config.networking.bridges)
    ++ map (name: {
      inherit name;
      by = "networking.interfaces";
    }) (attrNames config.networking.interfaces)
    ++ map (one: {
      name = one.name or "";
      by = "virtualisation.incus.preseed.networks";
    }) (incus.networks or [ ])
    ++ concatMap (
      profile:
      map
        (device: {
          name = profile.devices.${device}.parent or profile.devices.${device}.network or "";
          by = "virtualisation.incus.preseed.profiles (the device ${device} of ${profile.name or "one"})";
        })
        (attrNames (profile.devices or { }))
    ) (incus.profiles or [ ])
    ++ lib.optional (podman.enable or false) {
      name = podman.defaultNetwork.settings.network_interface or "podman0";
      by = "virtualisation.podman.defaultNetwork.settings";
    }
    ++ lib.optional docker.enable {
      name = dockerSettings.bridge or "docker0";
      by = "virtualisation.docker.daemon.settings.bridge";
    }
    ++ concatMap (
      file:
      let
        name = config.systemd.network.netdevs.${file}.netdevConfig.Name or null;
      in
      lib.optional (name != null) {
        inherit name;
        by = ''systemd.network.netdevs."${file}"'';
      }
    ) (attrNames config.systemd.network.netdevs)
    ++ concatMap (
      file:
      let
        name = config.systemd.network.networks.${file}.matchConfig.Name or null;
        words = if name == null then [ ] else lib.splitString " " (toString name);
      in
      lib.optionals (file != "05-hostctl") (
        map (name: {
          inherit name;
          by = ''systemd.network.networks."${file}"'';
        }) words
      )
    ) (attrNames config.systemd.network.networks);

  prefixes = concatMap (
    name:
    map
      (key: {
        inherit name;
        prefix = networks.${name}.${key};
      })
      (filter (key: networks.${name} ? ${key}) [
        "cidr"
        "cidr6"
      ])
  ) (attrNames networks);
  overlapping = concatMap (
    a:
    map (
      b:
      "the networks ${a.name} (${a.prefix}) and ${b.name} (${b.prefix}) overlap; give one of them another prefix"
    ) (filter (b: a.name < b.name && cidr.overlap a.prefix b.prefix) prefixes)
  ) prefixes;

  isName = name: stringLength name <= 63 && match "[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?" name != null;
  misnamed =
    map (name: "${name} can't be a name: take up to 63 letters, digits, and hyphens or underscores between them")
      (
        filter (name: !isName name) (
          attrNames networks
          ++ attrNames vms
          ++ attrNames (spec.policies or { })
          ++ attrNames (spec.apps or { })
          ++ concatMap (name: attrNames (networks.${name}.subnets or { })) (attrNames networks)
        )
      );

  hanging =
    map
      (
        name:
        ''vms.${name}: QEMU is known to hang with exactly 2048 MiB of guest memory; set memory = "2049M" or "2047M"''
      )
      (
        filter (
          name:
          elem (vms.${name}.memory or "") [
            "2G"
            "2048M"
          ]
        ) (attrNames vms)
      );

  twofold =
    map
      (
        name:
        "vms.${name}: it has a config and an image; remove one of the two (files of its own, such as kernel, need lib.mkForce)"
      )
      (
        filter (name: cfg.vms.${name}.config != null && cfg.vms.${name}.image != null) (attrNames cfg.vms)
      );
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      (refuse (nftables.enable && nftables.flushRuleset) ''
        networking.nftables.flushRuleset is on, so that a reload of
        nftables.service removes hostctl's tables and leaves guests open to
        each other. Set networking.nftables.flushRuleset = false. It is on by
        default where networking.nftables.ruleset or rulesetFile is set, or
        with a system.stateVersion before 23.11: write your rules as
        networking.nftables.tables in the place of ruleset.'')
      (refuse (firewall.enable && firewallBackend == "iptables") ''
        NixOS's firewall is made with iptables, whose chains hostctl's tests
        don't cover. Set networking.nftables.enable = true, or
        networking.firewall.enable = false together with
        services.hostctl.firewall = "full".'')
      (refuse
        (
          docker.enable
          && dockerSettings.iptables or true
          && !(dockerSettings.ip-forward-no-drop or false)
          && dockerSettings.firewall-backend or "iptables" != "nftables"
        )
        ''
          Docker sets the policy of the FORWARD chain to drop, which cuts
          guests off. Set virtualisation.docker.daemon.settings to
          ${dockerRemedy}, or use virtualisation.podman.''
      )
      (refuse (libvirtd.enable && libvirtd.firewallBackend or "nftables" == "iptables") ''
        libvirt makes its firewall with iptables. Set
        virtualisation.libvirtd.firewallBackend = "nftables".'')
    ]
    ++ refuseAll (
      map
        (
          name:
          "networking.nat.internalInterfaces has ${name}: hostctl masquerades its guests itself, but for those of private subnets; remove it there"
        )
        (
          filter (name: nat.enable or false && elem name patterns) (nat.internalInterfaces or [ ])
        )
    )
    ++ refuseAll (
      lib.optionals docker.enable (
        map (
          one:
          "virtualisation.docker.daemon.settings.${one.key} is for Docker ${one.since} and newer; this is ${dockerVersion}, which doesn't start with it. Take ${dockerRemedy}, or a newer virtualisation.docker.package"
        ) unknownToDocker
      )
    )
    ++ refuseAll (
      map (
        one:
        "${one.by} sets up ${one.name}, which hostctl makes; remove it there, or rename the network or VM"
      ) (filter (one: elem one.name patterns) claimed)
    )
    ++ refuseAll (overlapping ++ misnamed ++ hanging ++ twofold);
  };
}
