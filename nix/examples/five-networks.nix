# Five guests that can't see each other, each in a network of its own. Twin of
# examples/five-networks.toml.
let
  numbers = [
    1
    2
    3
    4
    5
  ];
  byName =
    value:
    builtins.listToAttrs (
      map (n: {
        name = "vm${toString n}";
        value = value n;
      }) numbers
    );
  # These three read the cloud's metadata.
  trusted = [
    1
    3
    5
  ];
in
{
  uplink = "auto";
  firewall = "full";
  allowInput = [
    {
      protocol = "tcp";
      port = 22;
    }
  ];
  tailscale.interface = "tailscale0";

  networks = byName (n: {
    cidr = "10.${toString n}.0.0/24";
    cidr6 = "fd00:0:0:${toString n}::/64";
    tailscale = true;
    imds = if builtins.elem n trusted then "host" else null;
  });

  vms = byName (n: {
    network = "vm${toString n}";
    image = "probe";
  });
}
