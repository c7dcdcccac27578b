# Two peered networks with namespaces, policies and a VM beside them. Twin of
# examples/vpc.toml.
let
  ssh = {
    protocol = "tcp";
    port = 22;
  };
in
{
  networks.prod = {
    cidr = "10.20.0.0/16";
    cidr6 = "fd00:0:0:20::/60";
    subnets.web = {
      cidr = "10.20.1.0/24";
      cidr6 = "fd00:0:0:21::/64";
      type = "public";
      namespace = true;
      policy = "web";
    };
    subnets.db = {
      cidr = "10.20.2.0/24";
      cidr6 = "fd00:0:0:22::/64";
      type = "private";
      namespace = true;
      policy = "db";
    };
  };

  networks.office = {
    cidr = "10.30.0.0/16";
    nat = false;
    subnets.desk = {
      cidr = "10.30.1.0/24";
      type = "public";
      namespace = true;
    };
  };

  peerings = [
    {
      between = [
        "prod"
        "office"
      ];
    }
  ];

  vms.worker = {
    network = "prod";
    subnet = "web";
    image = "probe";
    policy = [
      "web"
      "ssh"
    ];
  };

  policies.web = {
    description = "HTTP from anybody who gets here";
    ingress = [
      {
        protocol = "tcp";
        port = [
          80
          443
        ];
      }
    ];
  };
  policies.ssh = {
    description = "SSH from the office, but not from its printer";
    ingress = [
      (ssh // { source = "network:office"; })
      (
        ssh
        // {
          source = "10.30.1.9";
          action = "deny";
          priority = 50;
        }
      )
    ];
  };
  policies.db = {
    description = "PostgreSQL for the web tier; opens nothing itself";
    ingress = [
      {
        protocol = "tcp";
        port = 5432;
        source = "policy:web";
      }
    ];
    egress = [ ];
  };
}
