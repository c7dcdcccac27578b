# NixOS's options that hostctl's modules set or read, by name and type.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) types;
  option =
    type: default:
    lib.mkOption {
      inherit type default;
      description = "As in NixOS.";
    };
  switch = option types.bool;
  words = option (types.listOf types.str) [ ];
  free = option (types.attrsOf types.anything) { };
  fixed = name: option types.package (pkgs.writeText name "");
  records =
    options:
    option (types.attrsOf (types.submodule { inherit options; })) { };
  none = option (types.nullOr types.anything) null;
in
{
  options = {
    assertions = option (types.listOf types.anything) [ ];
    warnings = words;

    boot = {
      initrd = {
        availableKernelModules = words;
        systemd.enable = switch false;
      };
      kernelModules = words;
      kernelParams = words;
      loader = {
        grub.enable = switch true;
        systemd-boot.enable = switch false;
        efi.canTouchEfiVariables = switch false;
      };
    };
    documentation.enable = switch true;
    environment = {
      etc = records {
        source = option types.path "/nix/store/none";
        mode = option types.str "symlink";
      };
      systemPackages = option (types.listOf types.package) [ ];
    };
    fileSystems = records {
      device = none;
      fsType = option types.str "auto";
      options = words;
      autoFormat = switch false;
      neededForBoot = switch false;
    };
    networking = {
      hostName = option types.str "nixos";
      useDHCP = switch true;
      useNetworkd = switch false;
      bridges = free;
      defaultGateway = none;
      primaryIPAddress = option types.str "192.168.1.1";
      interfaces = free;
      dhcpcd.denyInterfaces = words;
      networkmanager.unmanaged = words;
      nat = {
        enable = switch false;
        internalInterfaces = words;
      };
      firewall = {
        enable = switch true;
        allowedTCPPorts = option (types.listOf types.port) [ ];
        allowedUDPPorts = option (types.listOf types.port) [ ];
        allowedTCPPortRanges = option (types.listOf types.anything) [ ];
        allowedUDPPortRanges = option (types.listOf types.anything) [ ];
        trustedInterfaces = words;
        extraInputRules = option types.lines "";
        interfaces = records {
          allowedTCPPorts = option (types.listOf types.port) [ ];
          allowedUDPPorts = option (types.listOf types.port) [ ];
        };
        checkReversePath = option (types.either types.bool (
          types.enum [
            "strict"
            "loose"
          ]
        )) true;
        filterForward = switch false;
        extraForwardRules = option types.lines "";
      };
      nftables = {
        enable = switch false;
        ruleset = option types.lines "";
        rulesetFile = option (types.nullOr types.path) null;
        tables = free;
        flushRuleset = switch (
          lib.versionOlder config.system.stateVersion "23.11"
          || config.networking.nftables.rulesetFile != null
          || config.networking.nftables.ruleset != ""
        );
      };
    };
    nix.enable = switch true;
    nixpkgs.hostPlatform = option types.str "x86_64-linux";
    services = {
      nginx = {
        enable = switch false;
        virtualHosts = free;
      };
      openssh = {
        enable = switch false;
        openFirewall = switch true;
        ports = option (types.listOf types.port) [ 22 ];
        hostKeys = option (types.listOf types.anything) [ ];
      };
      qemuGuest.enable = switch false;
      tailscale.enable = switch false;
    };
    system = {
      stateVersion = option types.str "26.05";
      boot.loader = {
        kernelFile = option types.str "bzImage";
        initrdFile = option types.str "initrd";
      };
      build = lib.mkOption {
        description = "As in NixOS.";
        default = { };
        type = types.submodule {
          options = {
            toplevel = fixed "nixos-system";
            kernel = fixed "linux";
            initialRamdisk = fixed "initrd";
            hostctlStore = option types.package (pkgs.writeText "none" "");
          };
        };
      };
    };
    specialisation = records {
      configuration = lib.mkOption {
        type = types.raw;
        description = "As in NixOS.";
      };
    };
    systemd = {
      tmpfiles.rules = words;
      packages = option (types.listOf types.package) [ ];
      services = records {
        description = option types.str "";
        wantedBy = words;
        wants = words;
        before = words;
        after = words;
        restartIfChanged = switch true;
        reloadIfChanged = switch false;
        restartTriggers = option (types.listOf types.anything) [ ];
        reloadTriggers = option (types.listOf types.anything) [ ];
        unitConfig = free;
        serviceConfig = free;
      };
      network = {
        netdevs = records { netdevConfig = free; };
        networks = records {
          matchConfig = free;
          linkConfig = free;
        };
      };
    };
    users.users = free;
    virtualisation = {
      vlans = option (types.listOf types.int) [ ];
      memorySize = option types.int 1024;
      diskSize = option types.int 1024;
      cores = option types.int 1;
      docker = {
        enable = switch false;
        daemon.settings = free;
        package = option types.anything { version = "28.5.2"; };
      };
      incus = {
        enable = switch false;
        preseed = none;
      };
      podman = {
        enable = switch false;
        defaultNetwork.settings = free;
      };
      libvirtd = {
        enable = switch false;
        firewallBackend = option types.str "iptables";
      };
    };
  };
}
