# hostctl with its completions, manual pages, templates and units, and with the
# programs that it runs.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  makeBinaryWrapper,
  nftables,
  iproute2,
  qemu_kvm,
  conntrack-tools,
  procps,
  kmod,
  qemu,
  # With QEMU's machines of other architectures, which are slow.
  withForeignGuests ? false,
  # With the demo, and the namespaces that it plays in.
  withDemo ? false,
}:
let
  manifest = (builtins.fromTOML (builtins.readFile ../Cargo.toml)).package;
  emulator = if withForeignGuests then qemu else qemu_kvm;
  # What hostctl runs, and what its messages tell to run.
  programs = [
    nftables
    iproute2
    emulator
    conntrack-tools
    procps
    kmod
  ];
in
rustPlatform.buildRustPackage {
  pname = "hostctl";
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../LICENSE
      ../README.md
      ../bpf
      ../examples
      ../src
      ../templates
      ../tests
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;
  buildFeatures = lib.optional withDemo "testbed";

  nativeBuildInputs = [
    installShellFiles
    makeBinaryWrapper
  ];

  # The decisions. The effects want root, network namespaces and guests, which
  # a builder has none of: `make test` has.
  cargoTestFlags = [
    "--features=testbed"
    "--test=all"
  ];
  checkFlags = [
    "spec_errors::"
    "spec_roundtrip::"
    "policy_spec::"
  ];

  # It describes itself, where the builder can run it.
  postInstall =
    lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
      installShellCompletion --cmd hostctl \
        --bash <("$out/bin/hostctl" completions bash) \
        --zsh <("$out/bin/hostctl" completions zsh) \
        --fish <("$out/bin/hostctl" completions fish)
      "$out/bin/hostctl" man man
      installManPage man/*
    ''
    + ''
      mkdir -p "$out/share/hostctl" "$out/lib/systemd/system"
      cp --recursive templates examples "$out/share/hostctl"
      for unit in templates/systemd/*.service; do
        substitute "$unit" "$out/lib/systemd/system/$(basename "$unit")" \
          --replace-fail @hostctl@ "$out/bin/hostctl"
      done
    '';

  postFixup = ''
    wrapProgram "$out/bin/hostctl" --prefix PATH : ${lib.makeBinPath programs}
  '';

  meta = {
    inherit (manifest) description;
    license = lib.licenses.asl20;
    mainProgram = "hostctl";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
