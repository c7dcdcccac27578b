#!/bin/sh
# Installs what `make demo` and `make test` need and this Debian machine lacks.
# With --list it only prints what that is: a program, or a file, and the package
# that has it. The tests see no other program but those of Debian's essential
# packages (tests/fresh_machine/link-declared-programs.sh).
set -eu

list=no missing=''
[ "${1:-}" != --list ] || list=yes
need() { # COMMAND PACKAGE
    if [ "$list" = yes ]; then echo "$1 $2"; return; fi
    case $1 in
        /*) [ -e "$1" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 ;;
    esac || missing="$missing $2"
}
need make make
need cc gcc
# gcc only recommends what every program is linked with.
need /usr/include/stdlib.h libc6-dev
need nft nftables
need ip iproute2
need qemu-system-x86_64 qemu-system-x86
need qemu-system-aarch64 qemu-system-arm
need cpio cpio
need gzip gzip
need xz xz-utils
need lz4 lz4
need zstd zstd
need awk mawk
need flock util-linux
# What the tests themselves ask the kernel with.
need mount mount
need conntrack conntrack
need curl curl
# Other programs' rules, as those programs load them.
need iptables-nft-restore iptables
need iptables iptables
need iptables-restore iptables
need ping iputils-ping
need sysctl procps
need systemd-analyze systemd
# What compiles the guard's program (bpf/build.sh): the compiler that made the
# committed object, or the Debian's own, whose object is another.
if [ -z "$(apt-cache search --names-only '^clang-14$' 2>/dev/null)" ]; then
    need clang clang
    need llvm-strip llvm
else
    need clang-14 clang-14
    need llvm-strip-14 llvm-14
fi
# What the flake and the NixOS module are evaluated with, and what reads NixOS'
# test scripts.
need nix-instantiate nix-bin
need /usr/bin/python3 python3-minimal
[ "$list" = no ] || exit 0

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
