#!/bin/sh
# `make fresh`: both of the README's commands on machines that have nothing but
# a minimal Debian, make and a Rust toolchain, from a clone in a path with a
# space under /root. What isn't committed isn't in the clone.
#
# usage: run.sh [both|SUITE...]     bookworm is Debian 12, trixie 13
# COMMANDS, where it is set, runs in place of the two.
#
# Needs root and a Debian machine, whose own apt sources it uses. What was
# downloaded stays in target/fresh. Mounts are in a namespace of each machine's
# own: nothing of this machine is below a directory that is removed here.
set -eu
export LC_ALL=C.UTF-8
umask 022

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
fresh=$top/target/fresh
die() { echo "make fresh: $*" >&2; exit 1; }

[ "${*:-both}" != both ] || set -- bookworm trixie
for suite; do
    case $suite in ''|*[!a-z]*) die "'$suite' is no name of a release, such as bookworm or trixie" ;; esac
done
[ "$(id -u)" -eq 0 ] || die "it makes a machine's root and mounts what that needs: run it as root"
command -v apt-get >/dev/null || die "this isn't a Debian machine: a minimal Debian is made with apt's sources and mmdebstrap"
# URI, suite, codename and origin of each source of Debian's own, as apt sees them.
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(CODENAME) $(ORIGIN)' 'Created-By: Packages' |
    awk '$4 == "Debian" && !seen[$0]++')
[ -n "$sources" ] || die "apt knows of no source of Debian's: run apt-get update, or name one in /etc/apt"
command -v mmdebstrap >/dev/null || {
    echo "installing: mmdebstrap"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
}
commit=$(git -C "$top" rev-parse --verify HEAD 2>/dev/null) || die "$top is no clone that git knows a commit of"
rust=$(cd "$top" && rustc --print sysroot) || die "rustc is missing: install the toolchain of rust-toolchain.toml"
[ "$rust" != /usr ] || die "rustc is a Debian package's: it can't be shown to a machine without that package"
cargo=${CARGO_HOME:-$HOME/.cargo}
# Offered as a toolchain is; without it `make test` builds its own.
nextest=$(PATH=$top/target/tools/bin:$PATH command -v cargo-nextest || true)

# The same sources for another release of Debian's.
sources_of() {
    # A suite is named by its codename, or ends in -updates, -security or the like.
    echo "$sources" | awk -v to="$1" '{
        from = $3; sub(/-.*/, "", from)
        if (sub("^" from, to, $2) && !seen[$1, $2]++) print "deb " $1 " " $2 " main"
    }'
}
# What apt is told about the way to them.
apt_settings() { apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::(https?|Retries|Check-Valid-Until|Max-ValidTime)[: ]' || true; }

make_root() { # SUITE
    list=$(sources_of "$1")
    [ -n "$list" ] || die "apt's sources of Debian have no suite that could be turned into $1's: $sources"
    mkdir -p "$fresh/$1/archives/partial"
    apt_settings >"$fresh/apt.conf"
    if [ -f "$fresh/$1/root.tar" ] && [ "$(cat "$fresh/$1/sources.list")" = "$list" ]; then return; fi
    echo "$list" >"$fresh/$1/sources.list"
    echo "making a minimal $1"
    # shellcheck disable=SC2094 # mmdebstrap only reads it
    mmdebstrap --mode=root --variant=minbase --include=ca-certificates,make --aptopt="$fresh/apt.conf" \
        "$1" "$fresh/$1/root.new.tar" "$fresh/$1/sources.list" >"$fresh/$1/mmdebstrap.log" 2>&1 || {
        cat "$fresh/$1/mmdebstrap.log" >&2
        die "no minimal $1 can be made of this machine's apt sources"
    }
    mv "$fresh/$1/root.new.tar" "$fresh/$1/root.tar"
}

run() { # SUITE
    make_root "$1"
    machine=$fresh/$1/machine
    # Left by one that was killed. Its mounts went with its namespace.
    remove "$machine"
    mkdir -p "$machine"
    tar -C "$machine" --numeric-owner -xpf "$fresh/$1/root.tar"
    clone="$machine/root/a clone of hostctl"
    mkdir "$clone"
    git -C "$top" archive "$commit" | tar -C "$clone" -x
    status=0
    # In namespaces of its own, that end with it: processes, mounts, names.
    unshare --mount --propagation private --pid --fork --kill-child --ipc --uts \
        "$here/machine.sh" "$machine" "$rust" "$cargo" "$fresh/$1/archives" "$nextest" || status=$?
    remove "$machine"
    return "$status"
}
# Removes a directory that holds nothing of another file system's.
remove() {
    [ -e "$1" ] || return 0
    # It writes a space as \040.
    ! sed 's/\\040/ /g' /proc/self/mountinfo | grep -qF " $1" || die "something is mounted in $1: unmount it first"
    rm -rf --one-file-system "$1"
}

mkdir -p "$fresh"
exec 9>"$fresh/.lock"
flock -n 9 || die "another make fresh is at work (it holds $fresh/.lock)"
before=$(ip -br link; ip netns list)
failed=''
for suite; do
    echo "== $suite"
    run "$suite" || failed="$failed $suite"
done
after=$(ip -br link; ip netns list)
[ "$before" = "$after" ] || die "links or namespaces were left behind: $after"
[ -z "$failed" ] || die "failed on$failed"
