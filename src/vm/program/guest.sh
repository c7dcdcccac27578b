# Runs a program in the guest for `hostctl vm exec`. The guest agent has no
# streams: files of the directory $1 stand for them, read and written by hostctl
# through the agent. POSIX, and mkfifo, dd, cat, rm and sleep.
#
#   out.0, out.1, ...   what the program wrote, in pieces; likewise err.0, ...
#   out.ready           how many pieces there are
#   out.taken           how many of them hostctl has; written by it
#   in.0, in.1, ...     what it reads; in.N.ok says that the piece N is whole
#   in.end              that no more comes
#   alive               written by hostctl every few seconds; without it all ends
#   pid                 of the program, negative for its process group
#
# No more pieces lie there than a few: the program waits for whoever reads it.
umask 077
d=$1 mode=$2
shift 2
: >"$d/out.taken" >"$d/err.taken"

nap() { sleep 0.03 2>/dev/null || sleep 1; }

# How many pieces of $s were taken; what is being written just now says nothing.
look() {
    read -r seen 2>/dev/null <"$d/$s.taken" || [ -d "$d" ] || exit 1
    case $seen in '' | *[!0-9]*) ;; *) taken=$seen ;; esac
}

pump() {
    s=$1 n=0 taken=0 gone=0 seen=''
    while dd bs=65536 count=1 of="$d/$s.$n" 2>/dev/null && [ -s "$d/$s.$n" ]; do
        n=$((n + 1))
        echo $n >"$d/$s.ready"
        look
        while [ $((n - taken)) -ge 16 ]; do
            nap
            look
        done
        if [ $((taken - gone)) -ge 8 ]; then
            set --
            while [ $gone -lt "$taken" ]; do
                set -- "$@" "$d/$s.$gone"
                gone=$((gone + 1))
            done
            rm -f "$@"
        fi
    done
    while [ "$taken" -lt $n ]; do
        nap
        look
    done
}

feed() {
    n=0
    while [ -d "$d" ]; do
        if [ -e "$d/in.$n.ok" ]; then
            cat "$d/in.$n" || exit
            rm -f "$d/in.$n" "$d/in.$n.ok"
            n=$((n + 1))
        elif [ -e "$d/in.end" ]; then
            [ -e "$d/in.$n.ok" ] || exit
        else
            nap
        fi
    done
}

end() {
    read -r p <"$d/pid" && kill "-$1" "$p" 2>/dev/null
}

watch() {
    while sleep 20; do
        if [ -e "$d/alive" ]; then
            rm -f "$d/alive"
        else
            end HUP
            sleep 2
            end KILL
            rm -rf "$d"
            exit
        fi
    done
}

mkfifo "$d/i" "$d/o" "$d/e" || exit 125
pump out <"$d/o" &
out=$!
pump err <"$d/e" &
err=$!
feed >"$d/i" &
feed=$!
watch &
watch=$!

# In a shell without children: one that ends would interrupt this one while it
# opens a fifo, and its program would never start.
run() {
    (exec "$@" <"$d/i" >"$d/o" 2>"$d/e")
    code=$?
}

if [ "$mode" = terminal ]; then
    if command -v script >/dev/null 2>&1; then
        # $1 is a text of hostctl's that runs the program on the terminal.
        export HOSTCTL_DIRECTORY="$d" HOSTCTL_RUN="$1" SHELL=/bin/sh
        set -- script -q -c 'eval "$HOSTCTL_RUN"' /dev/null
    else
        set -- sh -c 'echo "no terminal without the program script (of util-linux)" >&2; exit 125'
    fi
    run "$@"
    [ ! -s "$d/code" ] || read -r code <"$d/code"
elif command -v setsid >/dev/null 2>&1; then
    run setsid sh -c 'echo "-$$" >"$0/pid"; exec "$@"' "$d" "$@"
else
    run sh -c 'echo "$$" >"$0/pid"; exec "$@"' "$d" "$@"
fi
kill $feed 2>/dev/null
wait $out $err
kill $watch 2>/dev/null
rm -rf "$d"
exit "$code"
