{
  system ? "x86_64-linux",
  lib ? import ./lib,
  overlays ? [ ],
}:
let
  # A derivation that refers to what it was given, and builds nothing.
  stub =
    arguments:
    let
      name = arguments.name or "${arguments.pname}-${arguments.version}";
      plain = lib.filterAttrs (
        _: value: !(builtins.isAttrs value && !(lib.isDerivation value)) && !(builtins.isFunction value)
      ) (removeAttrs arguments [ "meta" "passthru" "src" "cargoLock" ]);
      drv = derivation (
        plain
        // {
          inherit name system;
          builder = "/bin/sh";
        }
      );
    in
    drv
    // (arguments.passthru or { })
    // {
      inherit name;
      pname = arguments.pname or name;
      version = arguments.version or "";
      meta = arguments.meta or { };
      overrideAttrs = change: stub (arguments // (if builtins.isFunction change then change arguments else change));
    };
  package = name: stub { inherit name; };
  packages = lib.genAttrs [
    "bash"
    "busybox"
    "cargo"
    "cargo-nextest"
    "clippy"
    "conntrack-tools"
    "coreutils"
    "cpio"
    "curl"
    "erofs-utils"
    "glibc"
    "gnugrep"
    "gzip"
    "installShellFiles"
    "iproute2"
    "iputils"
    "jq"
    "kmod"
    "luajit"
    "makeBinaryWrapper"
    "nftables"
    "nixfmt-tree"
    "procps"
    "qemu"
    "qemu_kvm"
    "rustc"
    "rustfmt"
    "shellcheck"
    "util-linux"
    "xz"
    "zstd"
  ] package;
  base = packages // {
    inherit lib system;
    path = ./.;
    runtimeShell = "${packages.bash}/bin/sh";
    stdenv = rec {
      hostPlatform = {
        inherit system;
        isx86_64 = system == "x86_64-linux";
        isAarch64 = system == "aarch64-linux";
        parsed.cpu.name = lib.removeSuffix "-linux" system;
      };
      buildPlatform = hostPlatform // {
        canExecute = _: true;
      };
      mkDerivation = stub;
    };
    qemu_kvm = packages.qemu_kvm // {
      ga = package "qemu-ga";
    };
    pkgsStatic = base;
    linuxPackages.kernel = package "linux" // {
      modules = package "linux-modules";
    };
    makeModulesClosure = _: stub { name = "modules"; };
    closureInfo = arguments: stub ({ name = "closure-info"; } // arguments);
    runCommand = name: environment: script: stub (environment // { inherit name script; });
    writeShellScript = name: text: stub { inherit name text; };
    writeShellApplication = arguments: stub (arguments // { meta.mainProgram = arguments.name; });
    writeText = name: text: stub { inherit name text; };
    rustPlatform.buildRustPackage = stub;
    mkShell = arguments: stub ({ name = "shell"; } // arguments);
    testers.runNixOSTest =
      file:
      let
        test = import file { inherit lib pkgs; };
        evaluate = modules: (import ./nixos/lib/eval-config.nix { inherit modules; }).config;
        nodes = builtins.mapAttrs (
          _: node: evaluate [ ({ ... }: { _module.args = { inherit nodes; }; }) node ]
        ) test.nodes;
        # Of a node, what can go wrong in it; and in each of its variants.
        findings =
          name: node:
          let
            variants = map (
              variant: evaluate [ ({ ... }: { _module.args = { inherit nodes; }; }) test.nodes.${name} variant.configuration ]
            ) (builtins.attrValues node.specialisation);
          in
          map (config: {
            failed = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
            spec = config.services.hostctl.finalSpec or null;
            units = builtins.mapAttrs (_: unit: unit.wantedBy) config.systemd.services;
          }) ([ node ] ++ variants);
      in
      stub { inherit (test) name; }
      // {
        testScript = if builtins.isFunction test.testScript then test.testScript { inherit nodes; } else test.testScript;
        findings = lib.mapAttrs findings nodes;
      };
    formats.json = _: {
      type =
        with lib.types;
        let
          value = nullOr (oneOf [
            bool
            int
            str
            path
            (attrsOf value)
            (listOf value)
          ]) // {
            description = "JSON value";
          };
        in
        value;
      generate = name: value: stub { inherit name; text = builtins.toJSON value; };
    };
    callPackage =
      file: given:
      let
        f = if builtins.isFunction file then file else import file;
      in
      f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // given);
    extend = overlay: pkgs // overlay pkgs pkgs;
    buildPackages = pkgs;
  };
  pkgs = builtins.foldl' (before: overlay: before // overlay pkgs before) base overlays;
in
pkgs
