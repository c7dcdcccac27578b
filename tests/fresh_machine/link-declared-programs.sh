#!/bin/sh
# Fills a directory with links to the programs that a machine has on which only
# what vm-images/install-dependencies.sh declares was installed: those of the
# declared packages and of Debian's essential ones. The tests' PATH is that
# directory, so one that runs anything else fails here too, not only there.
#
# usage: link-declared-programs.sh DIRECTORY     prints its absolute path, or
#                                                nothing where there is no dpkg
set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$1

command -v dpkg-query >/dev/null || {
    echo "no dpkg says what is declared here: the tests see all of this machine's programs" >&2
    rm -rf "$out"
    exit 0
}
declared=$("$top/vm-images/install-dependencies.sh" --list)
packages=$(
    dpkg-query -W -f '${Essential} ${db:Status-Status} ${Package}\n' | sed -n 's/^yes installed //p'
    # Where another package, or none, has the program, it is linked all the same.
    for package in $(echo "$declared" | cut -d' ' -f2); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ] || echo "$package"
    done
)
mkdir -p "$(dirname "$out")"
new=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
# shellcheck disable=SC2086 # a list of words
dpkg-query -L $packages | grep -E '^(/usr)?/s?bin/[^/]+$' >"$new.list"
# After the packages' own, which a machine may have others of in its PATH.
for program in $(echo "$declared" | cut -d' ' -f1); do
    case $program in /*) ;; *) command -v "$program" || true ;; esac
done >>"$new.list"
awk -F/ '!seen[$NF]++' "$new.list" | while read -r program; do
    [ ! -x "$program" ] || echo "$program"
done | xargs -d '\n' ln -s -t "$new"
rm -f "$new.list"
rm -rf "$out.old"
[ ! -e "$out" ] || mv "$out" "$out.old"
mv "$new" "$out"
rm -rf "$out.old"
(cd "$out" && pwd)
