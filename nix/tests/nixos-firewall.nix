# NixOS's own firewall beside hostctl, with filterForward, and guests that are
# NixOS configurations with a volume.
{ pkgs, lib, ... }:
let
  shared = import ./lib.nix { inherit pkgs lib; };
in
{
  name = "hostctl-nixos-firewall";

  nodes = {
    inherit (shared) internet;

    host = {
      imports = [ shared.host ];
      networking.firewall.filterForward = true;
      virtualisation.memorySize = lib.mkForce 4096;
      services.hostctl.vms.site = {
        network = "blue";
        dataVolume.size = "1G";
        config = {
          services.nginx.enable = true;
          networking.firewall.allowedTCPPorts = [ 80 ];
        };
      };
    };
  };

  testScript =
    { nodes, ... }:
    let
      outside = nodes.internet.networking.primaryIPAddress;
    in
    shared.prelude
    + ''
      start_all()
      internet.wait_for_unit("nginx.service")
      host.wait_for_unit("hostctl.service")
      ready("web", "db")

      with subtest("guests pass NixOS's firewall where hostctl lets them"):
          expect("web", {"tcp/${outside}/80": "allowed", "tcp/10.2.0.2/80": "dropped"})

      with subtest("a reload of NixOS's firewall leaves hostctl's alone"):
          host.succeed("systemctl reload nftables.service", "nft list table inet hostctl")
          expect("web", {"tcp/${outside}/80": "allowed", "tcp/10.2.0.2/80": "dropped"})

      with subtest("a NixOS guest serves, and keeps what it writes"):
          host.wait_until_succeeds("hostctl vm exec site -- /run/current-system/sw/bin/systemctl is-active nginx", timeout=300)
          address = host.succeed("hostctl vm show site | sed -n 's/^address *\\([0-9.]*\\).*/\\1/p'").strip()
          expect("web", {f"tcp/{address}/80": "allowed"})
          host.succeed("hostctl vm exec site -- /run/current-system/sw/bin/touch /var/kept")
          host.succeed("systemctl restart hostctl-vm@site.service")
          host.wait_until_succeeds("hostctl vm exec site -- /run/current-system/sw/bin/test -e /var/kept", timeout=300)
    '';
}
