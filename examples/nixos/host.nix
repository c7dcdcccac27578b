# Two guests that can't see each other: `web` serves the tailnet's users,
# `worker` runs what isn't trusted. Both reach the internet, neither reaches
# the host.
{ ... }:
{
  networking.nftables.enable = true;

  services.hostctl = {
    enable = true;

    networks.blue = {
      cidr = "10.1.0.0/24";
      cidr6 = "fd00:0:0:1::/64";
    };
    networks.green.cidr = "10.2.0.0/24";

    vms.web = {
      network = "blue";
      vcpus = 2;
      memory = "1G";
      # Kept in /var/lib/hostctl/volumes/web.img, mounted at /var.
      dataVolume.size = "8G";
      config = {
        services.nginx.enable = true;
        services.openssh.enable = true;
        networking.firewall.allowedTCPPorts = [ 80 ];
        users.users.root.openssh.authorizedKeys.keys = [
          # "ssh-ed25519 …"
        ];
      };
    };

    vms.worker = {
      network = "green";
      # Forgets everything when it stops.
      config = { };
    };
  };
}
