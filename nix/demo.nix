# `nix run .#demo`: five guests on a host of network namespaces, as `make demo`
# shows them, with the images that Nix built.
{
  lib,
  callPackage,
  writeShellApplication,
  coreutils,
  curl,
  iproute2,
  iputils,
  qemu,
  util-linux,
  probe-image,
}:
let
  hostctl = callPackage ./package.nix {
    inherit qemu;
    withForeignGuests = true;
    withDemo = true;
  };
in
writeShellApplication {
  name = "hostctl-demo";
  runtimeInputs = [
    coreutils
    curl
    iproute2
    iputils
    util-linux
  ];
  text = ''
    if [ "$(id -u)" -ne 0 ]; then
      echo "the demo makes network namespaces and runs guests: run it as root" >&2
      exit 1
    fi
    export HOSTCTL_DEMO_DIR=/run/hostctl-demo
    mkdir -p "$HOSTCTL_DEMO_DIR/target/images"
    ln -sfn ${hostctl}/share/hostctl/examples "$HOSTCTL_DEMO_DIR/examples"
    ln -sfn ${probe-image} "$HOSTCTL_DEMO_DIR/target/images/probe"
    exec ${lib.getExe' hostctl "hostctl-demo"} "$@"
  '';
  meta = {
    description = "Five isolated guests on one host, shown by real packets";
    license = lib.licenses.asl20;
    mainProgram = "hostctl-demo";
  };
}
