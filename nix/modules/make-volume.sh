# usage: sh make-volume.sh PATH SIZE
# Makes a VM's volume where it isn't there: whole, or not at all.
set -eu
umask 077

path=$1 size=$2
if [ -e "$path" ]; then exit 0; fi
mkdir -p "$(dirname "$path")"
rm -f "$path.new"
truncate -s "$size" "$path.new"
mv -n "$path.new" "$path"
