{
  description = "A NixOS host with two isolated guests";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # The address that you have hostctl from.
    hostctl = {
      url = "github:your-org/hostctl";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { nixpkgs, hostctl, ... }:
    {
      nixosConfigurations.metal = nixpkgs.lib.nixosSystem {
        modules = [
          hostctl.nixosModules.default
          ./host.nix
          # What nixos-generate-config wrote for this machine: its disks, its
          # boot loader, and nixpkgs.hostPlatform ("aarch64-linux" on an
          # a1.metal).
          ./hardware-configuration.nix
        ];
      };
    };
}
