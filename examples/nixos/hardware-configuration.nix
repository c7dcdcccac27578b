# Put what `nixos-generate-config` wrote for your machine in this file's place.
{
  nixpkgs.hostPlatform = "aarch64-linux";
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/ESP";
    fsType = "vfat";
  };
  system.stateVersion = "26.05";
}
