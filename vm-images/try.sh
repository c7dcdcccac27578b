#!/bin/sh
# Boots an image in a network namespace of its own, under TCG, with its console
# on standard input and output. The host's side is 10.1.0.1 and fd00:0:0:1::1,
# the guest is vm1 at 10.1.0.2 and fd00:0:0:1::2. Needs root; ends with QEMU.
#
# usage: try.sh [q35|microvm|virt] [IMAGE_DIR] [MEMORY_MIB]
set -eu

machine=${1:-q35}
top=$(cd "$(dirname "$0")/.." && pwd)
case $machine in
    q35) qemu=x86_64 options=q35 bus=pci cpu=max console=ttyS0 more='' image=probe ;;
    # The two last words are for TCG, which cannot calibrate microvm's TSC.
    microvm) qemu=x86_64 options=microvm,isa-serial=on,acpi=on bus=device cpu=max console=ttyS0
        more='tsc_early_khz=2400000 lpj=4000000' image=probe ;;
    virt) qemu=aarch64 options=virt bus=device cpu=cortex-a57 console=ttyAMA0 more='' image=probe-aarch64 ;;
    *) echo "try.sh: q35, microvm or virt, not '$machine'" >&2; exit 2 ;;
esac
image=${2:-$top/target/images/$image}
cmdline=$(sed -n 's/.*"cmdline":"\([^"]*\)".*/\1/p' "$image/image.json")
addresses='ip=10.1.0.2::10.1.0.1:24:vm1:eth0:none ip=[fd00:0:0:1::2]::[fd00:0:0:1::1]:64:vm1:eth0:none'

# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare -n sh -euc '
    ip link set lo up
    ip tuntap add dev tap0 mode tap
    ip link set tap0 up
    ip addr add 10.1.0.1/24 dev tap0
    ip addr add fd00:0:0:1::1/64 dev tap0 nodad
    exec "$@"
' sh "qemu-system-$qemu" -nodefaults -no-user-config -display none -no-reboot \
    -machine "$options" -accel tcg,thread=multi -cpu "$cpu" -m "${3:-256}" \
    -kernel "$image/vmlinuz" -initrd "$image/initrd.img" \
    -append "console=$console $addresses $cmdline $more" \
    -netdev tap,id=net0,ifname=tap0,script=no,downscript=no \
    -device "virtio-net-$bus,netdev=net0,mac=02:00:00:00:00:01" \
    -chardev stdio,id=console,signal=off -serial chardev:console
