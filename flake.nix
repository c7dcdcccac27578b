{
  description = "hostctl: isolated networks, QEMU microVMs and one nftables firewall from one host spec";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: lib.genAttrs systems (system: make system nixpkgs.legacyPackages.${system});
      program = package: {
        type = "app";
        program = lib.getExe package;
        meta.description = package.meta.description or "";
      };
    in
    {
      packages = each (
        _: pkgs: {
          default = pkgs.callPackage ./nix/package.nix { };
          probe-image = pkgs.callPackage ./nix/probe-image.nix { };
          demo = pkgs.callPackage ./nix/demo.nix {
            probe-image = pkgs.callPackage ./nix/probe-image.nix { };
          };
        }
      );

      apps = each (
        system: _: {
          default = program self.packages.${system}.default;
          demo = program self.packages.${system}.demo;
        }
      );

      overlays.default = import ./nix/overlay.nix;

      nixosModules.default = {
        imports = [ ./nix/modules ];
      };

      lib = import ./nix/lib;

      checks = each (
        system: pkgs: {
          package = self.packages.${system}.default;
          examples = import ./nix/tests/examples.nix {
            inherit pkgs;
            hostctl = self.packages.${system}.default;
          };
          module = import ./nix/tests/module.nix { inherit lib pkgs; };
        }
      );

      # They boot machines, so they want KVM, and guests in them: nested KVM, or
      # patience. `nix build .#tests.host`.
      legacyPackages = each (
        _: pkgs: {
          tests = import ./nix/tests { inherit pkgs; };
        }
      );

      devShells = each (
        _: pkgs: {
          default = pkgs.callPackage ./nix/shell.nix { };
        }
      );

      formatter = each (_: pkgs: pkgs.nixfmt-tree);

      templates.default = {
        path = ./examples/nixos;
        description = "A NixOS host with two isolated guests";
      };
    };
}
