#!/bin/sh
# Inside a minimal machine, as its first process: both commands, and what they
# leave behind.
set -eu
umount --lazy /old
rmdir /old
cd '/root/a clone of hostctl'

if [ -n "${COMMANDS:-}" ]; then
    sh -c "$COMMANDS"
    exit
fi
make test
make demo

# Not in a subshell, which would be a process of its own.
{
    find /tmp /var/tmp /run/netns -mindepth 1 -maxdepth 1 2>/dev/null || true
    find /run /var/lib /etc -maxdepth 1 -name '*hostctl*'
    for process in /proc/[0-9]*; do
        # One that has ended meanwhile, or is this shell, is none.
        [ "$process" = /proc/$$ ] || readlink "$process/exe" || true
    done
} >/root/left
left=$(cat /root/left)
[ -z "$left" ] || { echo "left behind: $left" >&2; exit 1; }
echo 'both commands work, and nothing is left behind'
