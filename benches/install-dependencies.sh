#!/bin/sh
# Installs what the baselines of `make bench` need besides what the tests
# need, where this Debian machine lacks it.
set -eu

"$(dirname "$0")/../vm-images/install-dependencies.sh"
missing=''
need() { # COMMAND PACKAGE
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need iptables-restore iptables
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
