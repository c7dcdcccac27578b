# `services.hostctl`: networks, guests and their firewall as part of a NixOS
# configuration. Every option becomes a key of the host spec, which hostctl
# applies at boot and at each switch.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.hostctl;
  schema = import ./options.nix { inherit lib; };
  json = pkgs.formats.json { };
  ours = [
    "enable"
    "package"
    "settings"
    "checkSpec"
    "finalSpec"
    "specFile"
  ];
  # Of a VM, without what isn't hostctl's.
  vmOf =
    vm:
    removeAttrs vm [
      "config"
      "dataVolume"
      "restartIfChanged"
    ];
in
{
  imports = [
    ./assertions.nix
    ./full.nix
    ./host-network.nix
    ./references.nix
    ./units.nix
  ];

  options.services.hostctl = schema.top // {
    enable = lib.mkEnableOption "hostctl, which makes isolated networks, guests and their firewall";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      # Not `pkgs.hostctl`: nixpkgs has an unrelated program of that name.
      defaultText = lib.literalExpression "hostctl, of this flake";
      description = "The package of hostctl.";
    };

    vms = mkOption {
      type = types.attrsOf (
        types.submodule {
          imports = [ (import ./vm.nix { inherit config pkgs; }) ];
          options = schema.vm;
        }
      );
      default = { };
      description = schema.vmsDescription;
    };

    settings = mkOption {
      inherit (json) type;
      default = { };
      example = lib.literalExpression ''{ host.dns = [ "9.9.9.9" ]; }'';
      description = ''
        The host spec as hostctl reads it, with its own names of keys
        (`read_only`, and `host` for what stands beside {option}`networks`
        here). The other options are merged into it; where both say something
        else of the same key, one of them needs `lib.mkForce`.
      '';
    };

    checkSpec = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "whether the builder can run the host's programs";
      description = ''
        Whether a system can only be built with a host spec that hostctl finds
        valid and whose ruleset nft takes.
      '';
    };

    finalSpec = mkOption {
      inherit (json) type;
      internal = true;
      readOnly = true;
      description = "The whole host spec.";
    };

    specFile = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "The host spec's file.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.hostctl = {
      settings = (import ../lib).specOf (
        removeAttrs cfg ours // { vms = builtins.mapAttrs (_: vmOf) cfg.vms; }
      );

      # A VM is its unit's to start, also one that only `settings` knows. What
      # NixOS opens is open with `firewall = "full"` too; a port that
      # `allowInput` names is open as it says.
      finalSpec =
        cfg.settings
        // lib.optionalAttrs (cfg.settings ? vms) {
          vms = builtins.mapAttrs (_: vm: { supervisor = "unit"; } // vm) cfg.settings.vms;
        }
        // lib.optionalAttrs (cfg.settings.host.firewall or "" == "full") {
          host =
            let
              sshd = config.services.openssh;
              open = import ../lib/open-ports.nix {
                inherit (config.networking) firewall;
                inherit sshd;
              };
              named = open.named cfg.settings.host;
              isNamed = one: builtins.any (it: it.protocol == one.protocol && it.port == one.port) named;
            in
            cfg.settings.host
            // {
              allow_input = named ++ lib.unique (builtins.filter (one: !isNamed one) open.ports);
            };
        };

      specFile = import ../lib/spec-file.nix {
        inherit pkgs;
        hostctl = if cfg.checkSpec then cfg.package else null;
        spec = cfg.finalSpec;
      };
    };

    environment.etc."hostctl/host.json".source = cfg.specFile;
    environment.systemPackages = [ cfg.package ];

    # Loaded by hand where a kernel doesn't load modules when they are needed
    # (`security.lockKernelModules`).
    boot.kernelModules = [
      "bridge"
      "tun"
      "veth"
      "nf_conntrack"
    ];
  };
}
