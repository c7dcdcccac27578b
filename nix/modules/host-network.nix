# What else on a NixOS host wants a say about links and packets.
{ config, lib, ... }:
let
  cfg = config.services.hostctl;
  links = import ../lib/links.nix;
  # Not of the final spec, into which goes what NixOS's firewall opens.
  spec = cfg.settings;
  patterns = links.patterns spec;
  bridges = links.bridges spec;
  host = spec.host or { };
  isFull = host.firewall or "guests" == "full";
  ports = import ../lib/open-ports.nix {
    inherit (config.networking) firewall;
    sshd = config.services.openssh;
  };
  open =
    protocol:
    map (one: one.port) (
      builtins.filter (one: one.protocol == protocol) (lib.optionals isFull (ports.named host))
    );
  # An nft set of names; one that ends in a hash is matched by its start.
  names = builtins.concatStringsSep ", " (
    map (name: ''"${builtins.replaceStrings [ "??????" ] [ "*" ] name}"'') bridges
  );
in
{
  config = lib.mkIf (cfg.enable && patterns != [ ]) {
    # They would take addresses away, or ask for some.
    systemd.network.networks."05-hostctl" = {
      matchConfig.Name = toString patterns;
      linkConfig.Unmanaged = true;
    };
    networking.dhcpcd.denyInterfaces = patterns;
    networking.networkmanager.unmanaged = map (name: "interface-name:${name}") patterns;

    networking.firewall = lib.mkMerge [
      # A packet has to pass NixOS's firewall too, so what hostctl opens with
      # `firewall = "full"` is opened there.
      {
        allowedTCPPorts = open "tcp";
        allowedUDPPorts = open "udp";
      }
      # Replies to what comes by the tailnet may leave by the uplink's routes.
      (lib.mkIf (host ? tailscale) { checkReversePath = lib.mkDefault "loose"; })
      # Guests' packets are hostctl's to judge.
      (lib.mkIf (config.networking.firewall.filterForward && bridges != [ ]) {
        extraForwardRules = ''
          iifname { ${names} } accept comment "hostctl's guests"
          oifname { ${names} } accept comment "hostctl's guests"
        '';
      })
    ];
  };
}
