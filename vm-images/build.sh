#!/bin/sh
# Builds the probe guest image (kernel, initramfs, image.json) from Debian's
# packages. See README.md.
set -eu
umask 022
export LC_ALL=C TZ=UTC

usage() {
    cat <<'USAGE'
usage: build.sh [--arch x86_64|aarch64] [--out DIR] [--update]
  --arch    architecture of the guest (default: x86_64)
  --out     where the image goes (default: target/images/probe, for aarch64
            target/images/probe-aarch64)
  --update  ask apt for newer packages instead of using the cached ones
USAGE
}
die() { echo "build.sh: $*" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
arch=x86_64 out='' update=no
while [ $# -gt 0 ]; do
    case $1 in
        --arch) [ $# -ge 2 ] || die "--arch needs a value"; arch=$2; shift 2 ;;
        --out) [ $# -ge 2 ] || die "--out needs a value"; out=$2; shift 2 ;;
        --update) update=yes; shift ;;
        -h|--help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
case $arch in
    x86_64) debarch=amd64 suffix='' triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
    aarch64) debarch=arm64 suffix=-aarch64 triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
    *) die "unknown architecture '$arch': x86_64 or aarch64" ;;
esac
images=$top/target/images
[ -n "$out" ] || out=$images/probe$suffix
cache=$images/cache/$debarch

# The kernel is found by the dependency of this package.
kernel_meta=linux-image-cloud-$debarch
packages='busybox-static qemu-guest-agent luajit libc6 libgcc-s1 libpcre2-8-0 libnuma1
libudev1 liburing2'
# What differs between Debian's releases, newest first: the first whose first
# package apt knows.
packages_of_13='libglib2.0-0t64 libatomic1 libcap2'
packages_of_12='libglib2.0-0'
# Shared libraries of qemu-ga and luajit: the closure of their NEEDED entries.
libraries="$loader libc.so.6 libm.so.6 libgcc_s.so.1 libglib-2.0.so.0
libgmodule-2.0.so.0 libpcre2-8.so.0 libnuma.so.1 libudev.so.1 liburing.so.2"
# Where the release's packages have them.
more_libraries='libatomic.so.1 libcap.so.2'
# In the order they are loaded. One that the kernel lacks must be built in.
modules='virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
virtio_mmio failover net_failover virtio_net virtio_console virtio_blk virtio-rng
evdev button'
# What the guest needs besides console= and ip=: a panic ends the machine.
cmdline='quiet panic=-1'

for tool in apt-get apt-cache dpkg cpio gzip xz lz4 zstd od sha256sum find awk flock; do
    command -v "$tool" >/dev/null || die "'$tool' is missing (Debian packages: apt dpkg cpio gzip xz-utils lz4 zstd coreutils findutils mawk util-linux)"
done

# One build at a time: they share the cache.
mkdir -p "$cache"
exec 9>"$images/.lock"
flock 9

# --- packages ---------------------------------------------------------------

# The machine's own package lists, used only for reading.
apt_own() { tool=$1; shift; "$tool" -q -oAPT::Sandbox::User=root "$@"; }
# Lists of our own: for a foreign architecture, or when the machine's are stale.
apt_private() {
    tool=$1
    shift
    "$tool" -q -oAPT::Architecture="$debarch" -oAPT::Architectures="$debarch" \
        -oDir::State="$cache/apt/state" -oDir::State::status="$cache/apt/state/status" \
        -oDir::Cache="$cache/apt/cache" -oAPT::Sandbox::User=root \
        -oAcquire::Languages=none "$@"
}
private_lists() {
    mkdir -p "$cache/apt/state/lists/partial" "$cache/apt/cache/archives/partial"
    : >"$cache/apt/state/status"
    apt_private apt-get update >"$cache/apt/log" 2>&1 ||
        { cat "$cache/apt/log" >&2; die "apt-get update failed for $debarch"; }
}
# Downloads all packages with the given apt into $cache/new.
download() {
    rm -rf "$cache/new"
    mkdir -p "$cache/new"
    kernel=$("$1" apt-cache depends "$kernel_meta" 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    [ -n "$kernel" ] || return 1
    more=$packages_of_12
    "$1" apt-cache show "${packages_of_13%% *}" >/dev/null 2>&1 && more=$packages_of_13
    # shellcheck disable=SC2086 # the lists are words
    (cd "$cache/new" && "$1" apt-get download "$kernel" $packages $more >../apt.log 2>&1)
}
fetch_packages() {
    if [ "$update" = no ] && [ "$(dpkg --print-architecture)" = "$debarch" ] && download apt_own; then
        :
    else
        private_lists
        download apt_private || { cat "$cache/apt.log" >&2; die "cannot download the packages for $debarch"; }
    fi
    (cd "$cache/new" && sha256sum -- *.deb >packages.sha256)
    rm -rf "$cache/packages" "$cache/apt.log"
    mv "$cache/new" "$cache/packages"
}
cached() { [ -f "$cache/packages/packages.sha256" ] &&
    (cd "$cache/packages" && sha256sum --quiet -c packages.sha256 >/dev/null 2>&1); }

if [ "$update" = yes ] || ! cached; then fetch_packages; fi

# --- is there anything to do? -----------------------------------------------

inputs=$({
    echo "$arch ${SOURCE_DATE_EPOCH:-0}"
    cat "$here/build.sh" "$cache/packages/packages.sha256"
    cd "$here/probe" && find . -type f | sort | while read -r file; do
        stat -c '%a %n' "$file"
        cat "$file"
    done
} | sha256sum | cut -d' ' -f1)
if [ -f "$out/image.json" ] && [ -f "$out/vmlinuz" ] && [ -f "$out/initrd.img" ] && [ -f "$out/initrd.cpio" ] &&
    [ "$(cat "$out/inputs.sha256" 2>/dev/null)" = "$inputs" ]; then
    echo "$out: up to date"
    exit 0
fi

# --- build ------------------------------------------------------------------

mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
work=$(mktemp -d "$images/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
unpacked=$work/unpacked root=$work/root new=$work/image
mkdir -p "$unpacked" "$root" "$new"
for deb in "$cache"/packages/*.deb; do dpkg -x "$deb" "$unpacked"; done

(
    cd "$root"
    mkdir -p bin sbin usr dev proc sys run tmp etc root var lib/modules lib/probe
    chmod 1777 tmp
    ln -s ../bin usr/bin
    ln -s ../sbin usr/sbin
    ln -s ../lib usr/lib
    ln -s lib lib64
    ln -s ../run var/run
    ln -s ../run/resolv.conf etc/resolv.conf
    ln -s ../run/hosts etc/hosts
    echo 'root::0:0:root:/root:/bin/sh' >etc/passwd
    echo 'root:x:0:' >etc/group
)

# Finds the one file of the unpacked packages that a path pattern names.
take() {
    found=$(find "$unpacked" -path "$unpacked/$1" ! -type d | sort | head -n 1)
    [ -n "$found" ] || die "no $1 in the packages of $debarch"
    cp -L "$found" "$root/$2"
}
take '*bin/busybox' bin/busybox
take 'usr/sbin/qemu-ga' sbin/qemu-ga
take 'usr/bin/luajit*' bin/luajit
for library in $libraries; do take "*lib/$triplet/$library" "lib/$library"; done
for library in $more_libraries; do
    [ -z "$(find "$unpacked" -name "$library")" ] || take "*lib/$triplet/$library" "lib/$library"
done
# The guest makes links for busybox's other applets itself when it boots.
ln -s busybox "$root/bin/sh"

: >"$root/lib/modules/order"
for module in $modules; do
    file=$(find "$unpacked" -path '*/lib/modules/*' \( -name "$module.ko" -o -name "$module.ko.xz" \))
    if [ -n "$file" ]; then
        case $file in
            *.xz) xz -dc "$file" >"$root/lib/modules/$module.ko" ;;
            *) cp "$file" "$root/lib/modules/$module.ko" ;;
        esac
        echo "$module" >>"$root/lib/modules/order"
    elif ! find "$unpacked" -path '*/lib/modules/*' -name modules.builtin -exec cat {} + |
        tr - _ | grep -q "/$(echo "$module" | tr - _)\.ko\$"; then
        die "the kernel of $debarch has no module $module"
    fi
done

(cd "$here/probe" && find . -type f | sort) | while read -r file; do
    file=${file#./}
    mkdir -p "$root/$(dirname "$file")"
    cp "$here/probe/$file" "$root/$file"
done
# Modes and times do not depend on the umask or the clock.
find "$root" -type d ! -name tmp -exec chmod 755 {} +
find "$root" -type f -exec chmod 644 {} +
find "$root/init" "$root/bin" "$root/sbin" "$root/etc/acpi" -type f -exec chmod 755 {} +
chmod 755 "$root/lib/$loader"
find "$root" -exec touch -h -d @"${SOURCE_DATE_EPOCH:-0}" {} +
(cd "$root" && find . | sort | cpio --quiet --reproducible --owner=+0:+0 -o -H newc) >"$work/initrd"
gzip -n -9 <"$work/initrd" >"$new/initrd.img"

kernel=$(find "$unpacked/boot" -name 'vmlinuz-*')
[ -f "$kernel" ] || die "expected one kernel, found: $kernel"
cp "$kernel" "$new/vmlinuz"
cp "$work/initrd" "$new/initrd.cpio"

# A number of so many bytes, at a place of a file.
number() { od -An -v -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }
# The ELF file that an x86 kernel unpacks itself to, whose payload is found by
# its header (Documentation/arch/x86/boot.rst). Its last four bytes are a length.
unpack_kernel() { # KERNEL OUT
    [ "$(od -An -c -j 514 -N 4 "$1" | tr -d ' ')" = HdrS ] || return 1
    sectors=$(number "$1" 497 1)
    [ "$sectors" -ne 0 ] || sectors=4
    start=$(((sectors + 1) * 512 + $(number "$1" 584 4)))
    length=$(($(number "$1" 588 4) - 4))
    tail -c +$((start + 1)) "$1" | head -c "$length" >"$work/payload"
    case $(od -An -t x1 -N 4 "$work/payload" | tr -d ' ') in
        1f8b*) gzip -dc ;;
        fd377a58) xz -dc ;;
        02214c18) lz4 -dcq ;;
        28b52ffd) zstd -dcq ;;
        *) return 1 ;;
    esac <"$work/payload" >"$2" 2>"$work/unpack.log" || return 1
    [ "$(od -An -t x1 -N 4 "$2" | tr -d ' ')" = 7f454c46 ] || return 1
    # QEMU finds where it begins by a note of Xen's: PVH.
    LC_ALL=C grep -q CONFIG_PVH=y "$unpacked"/boot/config-*
}
uncompressed='"initrd":"initrd.cpio"'
# That of aarch64 is no compressed one.
if [ "$arch" = x86_64 ]; then
    if unpack_kernel "$kernel" "$new/vmlinux"; then
        uncompressed='"kernel":"vmlinux",'$uncompressed
    else
        rm -f "$new/vmlinux"
        echo "build.sh: this kernel can't be started unpacked: the image has it as it is" >&2
    fi
fi
cp "$cache/packages/packages.sha256" "$new/packages.sha256"
cat >"$new/image.json" <<JSON
{"arch":"$arch","kernel":"vmlinuz","initrd":"initrd.img","cmdline":"$cmdline","agent":true,"uncompressed":{$uncompressed}}
JSON
echo "$inputs" >"$new/inputs.sha256"
chmod 644 "$new"/*

# Renamed as a whole: a reader sees the old image or the new one, never a mix.
[ ! -e "$out" ] || [ -f "$out/image.json" ] || die "$out exists and is no image"
rm -rf "$out.new"
mv "$new" "$out.new"
[ ! -e "$out" ] || mv "$out" "$work/old"
mv "$out.new" "$out"
echo "$out: built ($(stat -c %s "$out/vmlinuz") bytes of kernel, $(stat -c %s "$out/initrd.img") bytes of initramfs)"
