# `firewall = "full"`: hostctl is the machine's firewall, beside NixOS's own.
# What NixOS opens stays open, and what hostctl would shut is said.
{ config, lib, ... }:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    ;
  cfg = config.services.hostctl;
  inherit (config.networking) firewall;
  inherit (config) virtualisation;
  sshd = config.services.openssh;
  sshPorts = sshd.ports or [ 22 ];
  nat = config.networking.nat or { };
  spec = cfg.finalSpec;
  host = spec.host or { };
  isFull = host.firewall or "guests" == "full";
  links = import ../lib/links.nix;
  taken = import ../lib/open-ports.nix { inherit firewall sshd; };

  opened = protocol: map (one: one.port) (filter (one: one.protocol == protocol) host.allow_input);
  show = ports: concatStringsSep ", " (map toString ports);

  # By this interface everybody may reach the host in any case.
  tailnet = lib.optional (host ? tailscale) (host.tailscale.interface or "tailscale0");
  ours = [ "lo" ] ++ tailnet ++ links.bridges spec;
  others = filter (name: !elem name ours);

  # What `networking.firewall.interfaces` opens on one interface and hostctl
  # opens to nobody.
  interfaces = firewall.interfaces or { };
  byInterface = concatMap (
    name:
    let
      of = interfaces.${name};
      missing = protocol: ports: filter (port: !elem port (opened protocol)) ports;
      tcp = missing "tcp" (of.allowedTCPPorts or [ ]);
      udp = missing "udp" (of.allowedUDPPorts or [ ]);
      words =
        lib.optional (tcp != [ ]) "TCP ${show tcp}" ++ lib.optional (udp != [ ]) "UDP ${show udp}";
    in
    lib.optional (words != [ ]) {
      inherit name tcp;
      what = concatStringsSep " and " words;
    }
  ) (others (attrNames interfaces));
  trusted = others (firewall.trustedInterfaces or [ ]);

  # By which sshd could be reached until now, and could no more.
  shut = filter (port: !elem port (opened "tcp")) sshPorts;
  sshByInterface =
    trusted != [ ] || filter (one: filter (port: elem port sshPorts) one.tcp != [ ]) byInterface != [ ];
  isChosen = (cfg.settings.host or { }) ? allow_input && !sshByInterface;
  locksOut = sshd.enable && shut == sshPorts && tailnet == [ ] && !isChosen;

  beside = filter (name: virtualisation.${name}.enable or false) [
    "docker"
    "incus"
    "libvirtd"
    "podman"
  ];
  natted = filter (name: !elem name (links.bridges spec)) (nat.internalInterfaces or [ ]);
  warn = text: "services.hostctl: ${text}";
in
{
  config = lib.mkIf (cfg.enable && isFull) {
    assertions = [
      {
        assertion = !locksOut;
        message = ''
          services.hostctl: firewall = "full" would shut sshd's port
          ${show sshPorts}, and so might lock you out. Set
          services.openssh.openFirewall = true, or name the port in
          services.hostctl.allowInput, or set services.hostctl.tailscale, whose
          interface is trusted with the host.'';
      }
    ];

    warnings = map warn (
      map (
        one:
        ''networking.firewall.interfaces.${one.name} opens ${one.what}, which firewall = "full" shuts: it opens a port to everybody or to nobody. Name it in services.hostctl.allowInput if that is meant''
      ) byInterface
      ++ map (
        name:
        ''networking.firewall.trustedInterfaces has ${name}, which firewall = "full" doesn't trust; name the ports that are needed in services.hostctl.allowInput''
      ) trusted
      ++ lib.optional (taken.longRanges != [ ]) ''networking.firewall opens a range of 4096 ports or more, which firewall = "full" shuts; name the ports that are needed in services.hostctl.allowInput''
      ++ lib.optional (firewall.extraInputRules or "" != "") ''networking.firewall.extraInputRules opens nothing that firewall = "full" shuts; name the ports in services.hostctl.allowInput''
      ++ map (
        name:
        ''with firewall = "full" hostctl drops what ${name}'s own networks send or are sent; set services.hostctl.firewall = "guests", which leaves all but hostctl's guests alone''
      ) beside
      ++ lib.optional (nat.enable or false && natted != [ ]) ''with firewall = "full" hostctl drops what networking.nat forwards for ${concatStringsSep ", " natted}; make it a network of hostctl's, or set services.hostctl.firewall = "guests"''
    );
  };
}
