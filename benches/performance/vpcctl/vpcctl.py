"""What a vpcctl written in Python does, command by command: the baseline of
the question setup-commands. It starts the `ip`, `sysctl` and `iptables`
processes that such a program's documentation shows, each by a shell, and
keeps its state in a JSON file; it checks nothing beforehand. With
VPCCTL_RECORD=FILE it also writes each command line down there.
"""

import argparse
import ipaddress
import json
import logging
import os
import subprocess

STATE = os.path.join(os.environ["VPCCTL_STATE"], "state.json")


def run_command(command):
    logging.info("running: %s", command)
    if "VPCCTL_RECORD" in os.environ:
        with open(os.environ["VPCCTL_RECORD"], "a") as file:
            file.write(command + "\n")
    subprocess.run(command, shell=True, check=True, capture_output=True, text=True)


def load():
    try:
        with open(STATE) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def save(state):
    with open(STATE, "w") as file:
        json.dump(state, file, indent=2)


def vpc_create(state, args):
    net = ipaddress.ip_network(args.cidr)
    bridge, gateway = f"br-{args.name}", str(net[1])
    run_command(f"ip link add {bridge} type bridge")
    run_command(f"ip addr add {gateway}/{net.prefixlen} dev {bridge}")
    run_command(f"ip link set {bridge} up")
    run_command("sysctl -w net.bridge.bridge-nf-call-iptables=0")
    state[args.name] = {
        "cidr": args.cidr, "bridge": bridge, "gateway": gateway, "prefix": net.prefixlen, "subnets": []
    }


def subnet_add(state, args):
    vpc = state[args.vpc]
    ns = f"{args.vpc}-{args.name}"
    host, inside = f"vh-{ns}"[:15], f"vn-{ns}"[:15]
    address = ipaddress.ip_network(args.cidr)[2]
    run_command(f"ip netns add {ns}")
    run_command(f"ip link add {host} type veth peer name {inside}")
    run_command(f"ip link set {host} master {vpc['bridge']}")
    run_command(f"ip link set {host} up")
    run_command(f"ip link set {inside} netns {ns}")
    run_command(f"ip netns exec {ns} ip addr add {address}/{vpc['prefix']} dev {inside}")
    run_command(f"ip netns exec {ns} ip link set {inside} up")
    run_command(f"ip netns exec {ns} ip link set lo up")
    run_command(f"ip netns exec {ns} ip route add default via {vpc['gateway']}")
    vpc["subnets"].append({"name": args.name, "cidr": args.cidr, "type": args.type, "namespace": ns})


def nat_enable(state, args):
    vpc, interface = state[args.vpc], args.interface
    run_command("sysctl -w net.ipv4.ip_forward=1")
    for subnet in vpc["subnets"]:
        if subnet["type"] != "public":
            continue
        cidr = subnet["cidr"]
        run_command(f"iptables -t nat -A POSTROUTING -s {cidr} -o {interface} -j MASQUERADE")
        run_command(f"iptables -A FORWARD -s {cidr} -i {vpc['bridge']} -o {interface} -j ACCEPT")
        run_command(
            f"iptables -A FORWARD -d {cidr} -i {interface} -o {vpc['bridge']} "
            "-m state --state RELATED,ESTABLISHED -j ACCEPT"
        )


def peer_create(state, args):
    vpc1, vpc2 = state[args.vpc1], state[args.vpc2]
    veth1, veth2 = "peer-a", "peer-b"
    run_command(f"ip link add {veth1} type veth peer name {veth2}")
    run_command(f"ip link set {veth1} master {vpc1['bridge']}")
    run_command(f"ip link set {veth2} master {vpc2['bridge']}")
    run_command(f"ip link set {veth1} up")
    run_command(f"ip link set {veth2} up")
    for here, there in ((vpc1, vpc2), (vpc2, vpc1)):
        for subnet in here["subnets"]:
            run_command(
                f"ip netns exec {subnet['namespace']} ip route add {there['cidr']} via {here['gateway']}"
            )


def firewall_apply(state, args):
    subnet = next(s for s in state[args.vpc]["subnets"] if s["name"] == args.subnet)
    with open(args.policy) as file:
        policy = json.load(file)
    inside = f"ip netns exec {subnet['namespace']} iptables -A INPUT"
    run_command(f"{inside} -m state --state ESTABLISHED,RELATED -j ACCEPT")
    for rule in policy.get("ingress", []):
        action = "ACCEPT" if rule["action"] == "allow" else "DROP"
        run_command(f"{inside} -p {rule['protocol']} --dport {rule['port']} -j {action}")


def main():
    parser = argparse.ArgumentParser()
    nouns = parser.add_subparsers(required=True)
    for noun, verb, function, flags in (
        ("vpc", "create", vpc_create, ("name", "cidr")),
        ("subnet", "add", subnet_add, ("vpc", "name", "cidr", "type")),
        ("nat", "enable", nat_enable, ("vpc", "interface")),
        ("peer", "create", peer_create, ("vpc1", "vpc2")),
        ("firewall", "apply", firewall_apply, ("vpc", "subnet", "policy")),
    ):
        command = nouns.add_parser(noun).add_subparsers(required=True).add_parser(verb)
        for flag in flags:
            command.add_argument(f"--{flag}", required=True)
        command.set_defaults(function=function)
    args = parser.parse_args()
    logging.basicConfig(filename=os.path.join(os.path.dirname(STATE), "vpcctl.log"), level=logging.INFO)
    state = load()
    args.function(state, args)
    save(state)


main()
