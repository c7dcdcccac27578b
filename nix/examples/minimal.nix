# One network, one guest: 10.1.0.2, which reaches the internet and nothing of
# the host's. Twin of examples/minimal.toml.
{
  networks.lab.cidr = "10.1.0.0/24";

  vms.web = {
    network = "lab";
    image = "probe";
  };
}
