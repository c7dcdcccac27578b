#!/bin/bash
# The demo script of the fourth vpcctl article, line by line. What differs:
# the program's name, and 8.8.8.8, which is 203.0.113.1 in the testbed's world.
# Added: the curls of its fifth test, and $ROOT, since the test's host has its
# files in a directory of its own.

# 1. Create VPC
sudo hostctl vpc create --name vpc1 --cidr 10.0.0.0/16
# 2. Add subnets
sudo hostctl subnet add --vpc vpc1 --name public \
--cidr 10.0.1.0/24 --type public
sudo hostctl subnet add --vpc vpc1 --name private \
--cidr 10.0.2.0/24 --type private
# 3. Enable NAT
IFACE=$(ip route | grep default | awk '{print $5}' | head -1)
sudo hostctl nat enable --vpc vpc1 --interface $IFACE
# 4. Deploy web servers
sudo hostctl deploy webserver --vpc vpc1 --subnet public --port 8080
sudo hostctl deploy webserver --vpc vpc1 --subnet private --port 8081
sudo curl -s --max-time 5 http://10.0.1.2:8080
# 5. Test intra-VPC communication
sudo ip netns exec vpc1-public ping -c 3 10.0.2.2
# 6. Test NAT gateway
sudo ip netns exec vpc1-public ping -c 3 203.0.113.1
sudo timeout 3 ip netns exec vpc1-private ping -c 2 203.0.113.1
# 7. Create second VPC
sudo hostctl vpc create --name vpc2 --cidr 172.16.0.0/16
sudo hostctl subnet add --vpc vpc2 --name public \
--cidr 172.16.1.0/24 --type public
sudo hostctl nat enable --vpc vpc2 --interface $IFACE
# 8. Test VPC isolation
sudo timeout 3 ip netns exec vpc1-public ping -c 2 172.16.1.2
# 9. Create VPC peering
sudo hostctl peer create --vpc1 vpc1 --vpc2 vpc2
# 10. Test after peering
sudo ip netns exec vpc1-public ping -c 3 172.16.1.2
sudo ip netns exec vpc1-public ip route
# 11. Apply firewall rules
sudo hostctl firewall apply --vpc vpc1 --subnet public \
--policy test-policy.json
sudo curl -s --max-time 5 http://10.0.1.2:8080
sudo curl -s --max-time 2 http://10.0.1.2:22
# 12. View logs
sudo tail -30 $ROOT/var/lib/hostctl/hostctl.log
# 13. List resources
sudo hostctl vpc list
# 14. Cleanup
sudo hostctl vpc delete --name vpc1
sudo hostctl vpc delete --name vpc2
