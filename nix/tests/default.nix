# Tests that boot a NixOS host with guests of its own. They want /dev/kvm, and
# are quick only where KVM nests. `nix build .#tests.host`.
{ pkgs }:
{
  host = pkgs.testers.runNixOSTest ./host.nix;
  firewall = pkgs.testers.runNixOSTest ./nixos-firewall.nix;
}
