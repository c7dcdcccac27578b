# What building and testing hostctl takes.
{
  mkShell,
  cargo,
  cargo-nextest,
  clippy,
  conntrack-tools,
  cpio,
  curl,
  iproute2,
  iputils,
  nftables,
  qemu,
  rustc,
  rustfmt,
  shellcheck,
}:
mkShell {
  packages = [
    cargo
    cargo-nextest
    clippy
    conntrack-tools
    cpio
    curl
    iproute2
    iputils
    nftables
    qemu
    rustc
    rustfmt
    shellcheck
  ];
}
