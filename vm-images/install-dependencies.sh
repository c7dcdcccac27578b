#!/bin/sh
# Installs what `make demo` and `make test` need and this Debian machine lacks.
set -eu

missing=''
need() { # COMMAND PACKAGE
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc gcc
need nft nftables
need ip iproute2
need qemu-system-x86_64 qemu-system-x86
need qemu-system-aarch64 qemu-system-arm
need cpio cpio
need gzip gzip
need flock util-linux
# What the tests themselves ask the kernel with.
need conntrack conntrack
need curl curl
# Other programs' rules, as those programs load them.
need iptables-nft-restore iptables
need ping iputils-ping
need systemd-analyze systemd
# What the flake and the NixOS module are evaluated with.
need nix-instantiate nix-bin

if [ "$(id -u)" -ne 0 ]; then
    echo "hostctl's demo and tests make network namespaces and run guests: run make as root" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null 2>&1 || {
    echo "this isn't a Debian machine; please install:$missing" >&2
    exit 1
}
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
