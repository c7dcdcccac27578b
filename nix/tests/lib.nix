# What the tests share: a host, and the world around it.
{ pkgs, lib }:
let
  probe-image = pkgs.callPackage ../probe-image.nix { };
in
{
  # The host: two networks, two guests that ask what they can reach.
  host =
    { nodes, ... }:
    {
      imports = [ ../modules ];
      virtualisation = {
        vlans = [ 1 ];
        memorySize = 3072;
        cores = 2;
        diskSize = 4096;
      };
      networking = {
        nftables.enable = true;
        useDHCP = false;
        defaultGateway = {
          address = nodes.internet.networking.primaryIPAddress;
          interface = "eth1";
        };
      };
      systemd.tmpfiles.rules = [ "L+ /var/lib/hostctl/images/probe - - - - ${probe-image}" ];
      services.hostctl = {
        enable = true;
        uplink = "eth1";
        networks.blue.cidr = "10.1.0.0/24";
        networks.green = {
          cidr = "10.2.0.0/24";
          tailscale = true;
        };
        tailscale.interface = "tailscale0";
        vms.web = {
          network = "blue";
          image = "probe";
        };
        vms.db = {
          network = "green";
          image = "probe";
        };
      };
    };

  # What lies beyond the uplink: it says from whom it hears, and plays the
  # cloud's metadata service.
  internet = {
    virtualisation.vlans = [ 1 ];
    networking = {
      firewall.enable = false;
      interfaces.eth1.ipv4.addresses = lib.mkAfter [
        {
          address = "169.254.169.254";
          prefixLength = 32;
        }
      ];
    };
    services.nginx = {
      enable = true;
      virtualHosts.default = {
        default = true;
        locations."/".extraConfig = ''
          default_type text/plain;
          return 200 "$remote_addr\n";
        '';
      };
    };
  };

  # The script's own functions.
  prelude = ''
    def probe(guest, *targets):
        """What a guest finds: target -> the whole line."""
        words = " ".join(targets)
        text = host.succeed(f"hostctl vm exec {guest} -- /bin/probe {words}")
        return {line.split()[0]: line for line in text.splitlines()}

    def expect(guest, expected):
        found = probe(guest, *expected)
        for target, word in expected.items():
            assert f" {word}" in found[target], f"{guest}: {found[target]}, not {word}"

    def ready(*guests):
        for guest in guests:
            host.wait_until_succeeds(f"hostctl vm show {guest} | grep -q '^state *ready'", timeout=300)

    def pid(guest):
        return host.succeed(f"hostctl vm show {guest} | sed -n 's/^pid *//p'").strip()
  '';
}
