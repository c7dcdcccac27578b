# The guest `probe` (vm-images/README.md), made of nixpkgs' kernel, busybox,
# LuaJIT and QEMU guest agent: a directory of the kind that hostctl looks for
# in /var/lib/hostctl/images.
{
  lib,
  stdenv,
  runCommand,
  makeModulesClosure,
  closureInfo,
  linuxPackages,
  pkgsStatic,
  luajit,
  qemu_kvm,
  cpio,
  gzip,
  kmod,
  xz,
  zstd,
}:
let
  inherit (linuxPackages) kernel;
  # As vm-images/build.sh has them; what the kernel has built in needs no file.
  wanted = [
    "virtio_ring"
    "virtio"
    "virtio_pci"
    "virtio_mmio"
    "failover"
    "net_failover"
    "virtio_net"
    "virtio_console"
    "virtio_blk"
    "virtio_rng"
    "evdev"
    "button"
  ];
  modules = makeModulesClosure {
    kernel = kernel.modules or kernel;
    firmware = [ ];
    rootModules = wanted;
    allowMissing = true;
  };
  closure = closureInfo {
    rootPaths = [
      luajit
      qemu_kvm.ga
    ];
  };
  description = builtins.toJSON {
    arch = stdenv.hostPlatform.parsed.cpu.name;
    kernel = "vmlinuz";
    initrd = "initrd.img";
    cmdline = "quiet panic=-1";
    agent = true;
  };
in
runCommand "hostctl-probe-image"
  {
    nativeBuildInputs = [
      cpio
      gzip
      kmod
      xz
      zstd
    ];
    meta = {
      description = "Guest that says what it can reach, for hostctl's tests and demo";
      license = lib.licenses.asl20;
    };
  }
  ''
    mkdir -p root && cd root
    mkdir -p bin sbin usr dev proc sys run tmp etc root var lib/modules nix/store
    chmod 1777 tmp
    ln -s ../bin usr/bin
    ln -s ../sbin usr/sbin
    ln -s ../lib usr/lib
    ln -s lib lib64
    ln -s ../run var/run
    ln -s ../run/resolv.conf etc/resolv.conf
    ln -s ../run/hosts etc/hosts
    echo 'root::0:0:root:/root:/bin/sh' > etc/passwd
    echo 'root:x:0:' > etc/group

    cp ${pkgsStatic.busybox}/bin/busybox bin/busybox
    ln -s busybox bin/sh
    xargs cp --archive --target-directory nix/store < ${closure}/store-paths
    ln -s ${luajit}/bin/luajit bin/luajit
    ln -s ${qemu_kvm.ga}/bin/qemu-ga sbin/qemu-ga

    # Each module after those that it needs; init loads plain .ko files by name.
    release=$(basename ${modules}/lib/modules/*)
    for module in ${toString wanted}; do
      modprobe --dirname ${modules} --set-version "$release" \
        --show-depends --ignore-install "$module" 2>/dev/null || true
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' > ../files
    while read -r file; do
      name=$(basename "$file")
      name=''${name%%.ko*}
      case $file in
        *.xz) xz --decompress --stdout "$file" > "lib/modules/$name.ko" ;;
        *.zst) zstd --decompress --stdout --quiet "$file" > "lib/modules/$name.ko" ;;
        *.gz) gzip --decompress --stdout "$file" > "lib/modules/$name.ko" ;;
        *) cp "$file" "lib/modules/$name.ko" ;;
      esac
      echo "$name" >> lib/modules/order
    done < ../files
    touch lib/modules/order

    chmod -R u+w .
    cp --recursive --no-preserve=mode ${../vm-images/probe}/. .
    find init bin sbin etc/acpi -type f -exec chmod 755 {} +

    find . -exec touch --no-dereference --date=@1 {} +
    mkdir -p "$out"
    find . -print0 | sort --zero-terminated |
      cpio --quiet --null --reproducible --owner=+0:+0 --create --format=newc |
      gzip -n -9 > "$out/initrd.img"
    for image in bzImage Image; do
      [ ! -e ${kernel}/$image ] || cp ${kernel}/$image "$out/vmlinuz"
    done
    [ -e "$out/vmlinuz" ]
    printf '%s\n' ${lib.escapeShellArg description} > "$out/image.json"
  ''
