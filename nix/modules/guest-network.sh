# usage: sh guest-network.sh CMDLINE DIR
# The ip= and nameserver= words of a kernel's command line (dracut.cmdline(7),
# as hostctl writes them) → files for systemd-networkd.
set -eu

cmdline=$1 dir=$2
mkdir -p "$dir"
rm -f "$dir"/10-hostctl-*.network
# From here on, words are no patterns.
set -f
resolvers=''
for word in $(cat "$cmdline"); do
    case $word in
        nameserver=*)
            server=${word#nameserver=}
            server=${server#"["}
            resolvers="$resolvers ${server%"]"}"
            ;;
    esac
done

# One field of what is left of a word, up to the next colon; an IPv6 address is
# in brackets.
field() {
    case $rest in
        "["*"]":*) value=${rest%%"]"*}; value=${value#"["}; rest=${rest#*"]":} ;;
        *:*) value=${rest%%:*}; rest=${rest#*:} ;;
        *) value=$rest; rest='' ;;
    esac
}

for word in $(cat "$cmdline"); do
    case $word in
        ip=*:*) ;;
        *) continue ;;
    esac
    # ip=ADDRESS:[PEER]:GATEWAY:PREFIX:NAME:INTERFACE:none
    rest=${word#ip=}
    field; address=$value
    field
    field; gateway=$value
    field; prefix=$value
    field
    field; link=${value:-eth0}
    case $link in
        *[!A-Za-z0-9_.-]*) continue ;;
    esac
    file=$dir/10-hostctl-$link.network
    if ! [ -e "$file" ]; then
        {
            printf '[Match]\nName=%s\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\n' "$link"
            for server in $resolvers; do printf 'DNS=%s\n' "$server"; done
        } >"$file"
    fi
    printf '\n[Address]\nAddress=%s/%s\n' "$address" "$prefix" >>"$file"
    case $address in
        # The host knows that nobody else has it.
        *:*) printf 'DuplicateAddressDetection=none\n' >>"$file" ;;
    esac
    # A subnet's gateway is its network's, which the prefix needn't hold.
    [ -z "$gateway" ] || printf '\n[Route]\nGateway=%s\nGatewayOnLink=yes\n' "$gateway" >>"$file"
done
