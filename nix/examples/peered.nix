# Two networks as a cloud has them, with public and private subnets, that are
# peered. Twin of examples/peered.toml.
{
  networks.prod = {
    cidr = "10.20.0.0/16";
    subnets.public = {
      cidr = "10.20.1.0/24";
      type = "public";
    };
    subnets.private = {
      cidr = "10.20.2.0/24";
      type = "private";
    };
  };

  networks.backup = {
    cidr = "10.30.0.0/16";
    subnets.public = {
      cidr = "10.30.1.0/24";
      type = "public";
    };
    subnets.private = {
      cidr = "10.30.2.0/24";
      type = "private";
    };
  };

  # Without this the two don't reach each other.
  peerings = [
    {
      between = [
        "prod"
        "backup"
      ];
    }
  ];

  vms.web = {
    network = "prod";
    subnet = "public";
    image = "probe";
  };
  vms.db = {
    network = "prod";
    subnet = "private";
    address = "10.20.2.10";
    memory = "512M";
    image = "probe";
  };
  vms.vault = {
    network = "backup";
    subnet = "private";
    image = "probe";
  };
}
