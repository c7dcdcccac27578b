# `services.hostctl.vms.<name>`, beside the spec's keys: a guest that is a
# NixOS configuration, and a volume for what it keeps.
{ config, pkgs }:
let
  host = config;
in
{
  config,
  lib,
  name,
  ...
}:
let
  inherit (lib) mkOption types;
  guest = config.config;
  volume = config.dataVolume;

  # What the host says of a guest; the guest's own configuration comes on top.
  given = {
    _file = ./vm.nix;
    nixpkgs.hostPlatform = lib.mkDefault pkgs.stdenv.hostPlatform.system;
    system.stateVersion = lib.mkDefault host.system.stateVersion;
    hostctl.guest = {
      inherit name;
      dataMountPoint = if volume == null then null else volume.mountPoint;
    };
  };
in
{
  options = {
    config = mkOption {
      type = types.nullOr (
        lib.mkOptionType {
          name = "NixOS configuration";
          description = "NixOS configuration";
          merge =
            loc: defs:
            (import "${toString pkgs.path}/nixos/lib/eval-config.nix" {
              # Set by `given`, not by where this is evaluated.
              system = null;
              prefix = loc;
              modules = [
                ./guest.nix
                given
              ]
              ++ map (def: def.value) defs;
            }).config;
        }
      );
      default = null;
      example = lib.literalExpression ''
        { pkgs, ... }: {
          services.nginx.enable = true;
          networking.firewall.allowedTCPPorts = [ 80 ];
        }
      '';
      description = ''
        The guest as a NixOS configuration. Its kernel, its initial RAM disk
        and its store (an erofs image, read-only) are built with the host; its
        root is a tmpfs, and what it shall keep is on {option}`dataVolume`.
        Address, gateway and resolvers come from the host spec.

        In the place of {option}`image`, {option}`kernel` and {option}`disk`.
      '';
    };

    restartIfChanged = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether a switch that changes this guest's part of the configuration
        restarts it. Without it the guest goes on as it was started, and what
        can't be changed while it runs waits for its next start: `hostctl vm
        list` names it. What confines it (network, address, policies) changes at
        once in either case. Only with a unit of its own, which is the default.
      '';
    };

    dataVolume = mkOption {
      type = types.nullOr (
        types.submodule {
          options = {
            size = mkOption {
              type = types.strMatching "[1-9][0-9]*[MGT]";
              example = "8G";
              description = ''
                How large the file is made where it isn't there yet. It is
                sparse. A file that is there is left as it is.
              '';
            };
            path = mkOption {
              type = types.strMatching "/[A-Za-z0-9@/._+-]+";
              default = "/var/lib/hostctl/volumes/${name}.img";
              defaultText = lib.literalExpression ''"/var/lib/hostctl/volumes/''${name}.img"'';
              description = "The file on the host. Removing the VM doesn't remove it.";
            };
            mountPoint = mkOption {
              type = types.str;
              default = "/var";
              description = ''
                Where a guest with {option}`config` mounts it, as ext4, which is
                made at its first boot.
              '';
            };
          };
        }
      );
      default = null;
      example = {
        size = "8G";
      };
      description = "A volume that is made for the guest, its first one.";
    };
  };

  config = lib.mkMerge [
    {
      supervisor = lib.mkDefault "unit";
    }
    (lib.mkIf (volume != null) {
      volumes = lib.mkBefore [
        {
          inherit (volume) path;
          format = "raw";
        }
      ];
    })
    (lib.mkIf (guest != null) {
      kernel = "${guest.system.build.kernel}/${guest.system.boot.loader.kernelFile}";
      initrd = "${guest.system.build.initialRamdisk}/${guest.system.boot.loader.initrdFile}";
      disk = {
        path = "${guest.system.build.hostctlStore}";
        format = "raw";
        readOnly = true;
      };
      cmdline = builtins.concatStringsSep " " (
        [ "init=${guest.system.build.toplevel}/init" ] ++ guest.boot.kernelParams
      );
      memory = lib.mkDefault "1G";
    })
  ];
}
