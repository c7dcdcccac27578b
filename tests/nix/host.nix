# A NixOS host with hostctl's module: what it comes to, for tests/nix.rs.
# `host` is a NixOS module.
{
  host,
  # A spec's file that the module's options are set to as well.
  example ? null,
}:
let
  evalConfig = import ./stub-nixpkgs/nixos/lib/eval-config.nix;
  evaluated = evalConfig {
    modules = [
      ../../nix/modules
      (
        { pkgs, ... }:
        {
          # The package's sources needn't be read for this.
          services.hostctl.package = pkgs.writeText "hostctl" "";
        }
      )
      host
      {
        services.hostctl = if example == null then { } else import example;
      }
    ];
  };
  inherit (evaluated) config;
  failed = builtins.filter (one: !one.assertion) config.assertions;
in
if failed != [ ] then
  { failed = map (one: one.message) failed; }
else
  {
    inherit (config) warnings;
    spec = config.services.hostctl.finalSpec;
    etc = builtins.mapAttrs (_: file: file.source) config.environment.etc;
    units = builtins.mapAttrs (_: unit: {
      inherit (unit)
        reloadIfChanged
        restartIfChanged
        serviceConfig
        wantedBy
        ;
      reloadTriggers = map toString unit.reloadTriggers;
      restartTriggers = map toString unit.restartTriggers;
    }) config.systemd.services;
    network = {
      inherit (config.networking) firewall;
      networks = config.systemd.network.networks;
      dhcpcd = config.networking.dhcpcd.denyInterfaces;
      networkmanager = config.networking.networkmanager.unmanaged;
    };
    guests = builtins.mapAttrs (
      _: vm:
      if vm.config == null then
        null
      else
        {
          inherit (vm.config.networking) hostName;
          inherit (vm.config) fileSystems;
          units = builtins.attrNames vm.config.systemd.services;
          failed = map (one: one.message) (builtins.filter (one: !one.assertion) vm.config.assertions);
        }
    ) config.services.hostctl.vms;
    packages = map (package: {
      path = toString package;
      inherit (package) script;
    }) config.systemd.packages;
  }
