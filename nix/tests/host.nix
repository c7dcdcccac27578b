# A host with two networks and two guests: isolation, masquerading, metadata,
# tailnet; a switch to a second configuration, a switch that fails, a rollback
# and a reboot.
{ pkgs, lib, ... }:
let
  shared = import ./lib.nix { inherit pkgs lib; };
in
{
  name = "hostctl-host";

  nodes = {
    inherit (shared) internet;

    host = {
      imports = [ shared.host ];

      # A network more, another memory for one guest.
      specialisation.second.configuration = {
        services.hostctl.networks.red.cidr = "10.3.0.0/24";
        services.hostctl.vms.db.memory = "300M";
      };
      # An interface that isn't hostctl's stands in the way.
      specialisation.broken.configuration = {
        services.hostctl.networks.taken.cidr = "10.4.0.0/24";
      };
    };
  };

  testScript =
    { nodes, ... }:
    let
      outside = nodes.internet.networking.primaryIPAddress;
      inside = nodes.host.networking.primaryIPAddress;
    in
    shared.prelude
    + ''
      system = "${nodes.host.system.build.toplevel}"
      switch = "/bin/switch-to-configuration test"

      start_all()
      internet.wait_for_unit("nginx.service")
      host.wait_for_unit("hostctl.service")
      ready("web", "db")

      with subtest("the firewall is loaded before the network is up"):
          host.succeed("systemctl show -P Before hostctl-firewall.service | grep -qw network-pre.target")
          host.succeed("nft list table inet hostctl")

      with subtest("guests don't see each other, nor the host"):
          expect("web", {"icmp/10.1.0.1": "allowed", "icmp/10.2.0.2": "dropped", "tcp/10.2.0.2/80": "dropped"})
          expect("db", {"icmp/10.1.0.2": "dropped", "tcp/10.2.0.1/22": "dropped", "tcp/${inside}/22": "dropped"})

      with subtest("guests go out as the host"):
          found = probe("web", "http/${outside}/80/")
          assert found["http/${outside}/80/"].split()[-1] == "${inside}", found

      with subtest("the metadata service is closed"):
          expect("web", {"tcp/169.254.169.254/80": "dropped"})

      with subtest("the tailnet reaches the network that says so"):
          host.succeed(
              "ip netns add laptop",
              "ip link add tailscale0 type veth peer name eth0 netns laptop",
              "ip address add 100.64.0.1/24 dev tailscale0 && ip link set tailscale0 up",
              "ip -n laptop address add 100.64.0.2/24 dev eth0 && ip -n laptop link set eth0 up",
              "ip -n laptop route add default via 100.64.0.1",
          )
          host.wait_until_succeeds("ip netns exec laptop ping -c 1 -W 2 10.2.0.2", timeout=30)
          host.fail("ip netns exec laptop ping -c 2 -W 2 10.1.0.2")
          expect("db", {"icmp/100.64.0.2": "dropped"})

      with subtest("a switch restarts the guest that changed, and no other"):
          web, db = pid("web"), pid("db")
          host.succeed(f"{system}/specialisation/second{switch}")
          ready("web", "db")
          assert pid("web") == web, "web was restarted"
          assert pid("db") != db, "db wasn't"
          host.succeed("ip link show br-red")

      with subtest("a switch that can't be applied fails and changes nothing"):
          web, db = pid("web"), pid("db")
          host.succeed("ip link add br-taken type dummy")
          host.fail(f"{system}/specialisation/broken{switch}")
          host.succeed("ip link show br-red", "ip link delete br-taken")
          assert (pid("web"), pid("db")) == (web, db)
          expect("web", {"tcp/10.2.0.2/80": "dropped"})

      with subtest("rolling back is another switch"):
          web = pid("web")
          host.succeed(f"{system}{switch}")
          ready("web", "db")
          assert pid("web") == web
          host.fail("ip link show br-red")

      with subtest("all is there after a reboot"):
          host.shutdown()
          host.start()
          host.wait_for_unit("hostctl.service")
          ready("web", "db")
          expect("web", {"icmp/10.2.0.2": "dropped", "tcp/${outside}/80": "allowed"})
          assert host.succeed("hostctl status --json | ${pkgs.jq}/bin/jq -c .drift").strip() == "[]"
    '';
}
