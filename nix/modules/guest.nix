# A NixOS system as a guest of hostctl's: booted by QEMU from a kernel, an
# initial RAM disk and a store image, with its network as the host says it on
# the kernel's command line.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  cfg = config.hostctl.guest;
  keeps = cfg.dataMountPoint != null;

  # Everything that the system refers to, at the root of the file system, which
  # is mounted at /nix/store.
  store =
    pkgs.runCommand "guest-store.erofs"
      {
        nativeBuildInputs = [ pkgs.buildPackages.erofs-utils ];
        closure = pkgs.buildPackages.closureInfo { rootPaths = [ config.system.build.toplevel ]; };
      }
      ''
        mkdir store
        xargs cp --archive --reflink=auto --target-directory store < "$closure/store-paths"
        # The same store gives the same bytes: no times, owners or random ids.
        mkfs.erofs -T 1 --all-root -U 00000000-0000-0000-0000-000000000000 "$out" store
      '';
in
{
  options.hostctl.guest = {
    name = mkOption {
      type = types.str;
      description = "The VM's name in the host spec.";
    };

    dataMountPoint = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Where the guest's first volume is mounted.";
    };
  };

  config = {
    system.build.hostctlStore = store;

    boot = {
      # QEMU loads the kernel.
      loader.grub.enable = false;
      # The one that makes a file system where a volume has none.
      initrd.systemd.enable = mkDefault true;
      initrd.availableKernelModules = [
        "virtio_pci"
        "virtio_mmio"
        "virtio_blk"
        "erofs"
        "ext4"
      ];
      # A guest that can't go on ends, and its supervisor says so.
      kernelParams = [ "panic=-1" ];
    };

    fileSystems = {
      "/" = {
        device = "tmpfs";
        fsType = "tmpfs";
        options = [ "mode=0755" ];
      };
      "/nix/store" = {
        device = "/dev/disk/by-id/virtio-disk";
        fsType = "erofs";
        options = [ "ro" ];
        neededForBoot = true;
      };
    }
    // lib.optionalAttrs keeps {
      ${cfg.dataMountPoint} = {
        device = "/dev/disk/by-id/virtio-volume1";
        fsType = "ext4";
        autoFormat = true;
        neededForBoot = true;
      };
    };

    networking = {
      hostName = mkDefault cfg.name;
      useDHCP = false;
      useNetworkd = true;
    };

    # systemd has a generator for ip= of its own, but none that says that a
    # gateway outside of the subnet is on the link.
    systemd.services.hostctl-network = {
      description = "Network as the host says it";
      wantedBy = [ "systemd-networkd.service" ];
      before = [
        "systemd-networkd.service"
        "network-pre.target"
      ];
      wants = [ "network-pre.target" ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${pkgs.runtimeShell} ${./guest-network.sh} /proc/cmdline /run/systemd/network";
      };
    };

    services.qemuGuest.enable = mkDefault true;

    # Else a guest has a new identity at each boot.
    services.openssh.hostKeys = lib.mkIf (cfg.dataMountPoint == "/var") (mkDefault [
      {
        type = "ed25519";
        path = "/var/lib/ssh/ssh_host_ed25519_key";
      }
    ]);

    # Its store is read-only.
    nix.enable = mkDefault false;
    documentation.enable = mkDefault false;
  };
}
