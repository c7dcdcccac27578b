# The example host, evaluated as a whole NixOS system: every option that the
# module sets exists and has the right type. Nothing of the system is built.
{ lib, pkgs }:
let
  system = import "${toString pkgs.path}/nixos/lib/eval-config.nix" {
    system = null;
    modules = [
      ../modules
      ../../examples/nixos/host.nix
      {
        nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
        boot.loader.grub.enable = false;
        fileSystems."/" = {
          device = "/dev/vda";
          fsType = "ext4";
        };
        system.stateVersion = "26.05";
      }
    ];
  };
  inherit (system) config;
  failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
  facts = {
    inherit failed;
    # Without its context: what it names isn't built for this.
    spec = builtins.unsafeDiscardStringContext (builtins.toJSON config.services.hostctl.finalSpec);
    units = builtins.filter (lib.hasPrefix "hostctl") (builtins.attrNames config.systemd.services);
  };
in
pkgs.runCommand "hostctl-module"
  {
    text = builtins.toJSON facts;
    passAsFile = [ "text" ];
    nativeBuildInputs = [ pkgs.jq ];
  }
  ''
    jq --exit-status '
      .failed == []
      and .units == ["hostctl", "hostctl-firewall", "hostctl-hold", "hostctl-vm@web", "hostctl-vm@worker"]
      and (.spec | fromjson | .vms.web.supervisor == "unit")
    ' "$textPath"
    touch "$out"
  ''
