#!/bin/sh
# One minimal machine of run.sh's, in a mount and PID namespace of its own: shows
# it the toolchain and the caches, and becomes it.
# usage: machine.sh ROOT SYSROOT CARGO_HOME ARCHIVES [CARGO_NEXTEST]
set -eu
root=$1 rust=$2 cargo=$3 archives=$4 nextest=${5:-}
here=$(cd "$(dirname "$0")" && pwd)

bind() { # OPTIONS FROM TO
    if [ -d "$2" ]; then mkdir -p "$root$3"; else mkdir -p "$(dirname "$root$3")" && : >"$root$3"; fi
    mount --"${1%%,*}" "$2" "$root$3"
    case $1 in *,ro) mount -o remount,bind,ro "$root$3" ;; esac
}
# A mount namespace has a root of its own, that its systemd may share.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
bind rbind /sys /sys
bind rbind /dev /dev
mount -t tmpfs -o mode=755 tmpfs "$root/run"
bind bind,ro "$rust" "$rust"
bind bind "$cargo/registry" /root/.cargo/registry
bind bind "$archives" /var/cache/apt/archives
bind bind,ro /etc/resolv.conf /etc/resolv.conf
bind bind,ro "$here/commands.sh" /root/commands.sh
[ -z "$nextest" ] || bind bind,ro "$nextest" /usr/local/bin/cargo-nextest
hostname fresh
cd "$root"
mkdir -p old
pivot_root . old
exec chroot . /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 RUST_BACKTRACE=1 \
    ${COMMANDS:+COMMANDS="$COMMANDS"} \
    PATH="$rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" /bin/sh -eu /root/commands.sh
