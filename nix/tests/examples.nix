# Every example is a spec that hostctl takes, and the one that its TOML is.
{ pkgs, hostctl }:
let
  inherit (pkgs) lib;
  specOf = (import ../lib).specOf;
  names = map (lib.removeSuffix ".nix") (
    builtins.filter (lib.hasSuffix ".nix") (builtins.attrNames (builtins.readDir ../examples))
  );
  fileOf =
    name:
    import ../lib/spec-file.nix {
      inherit pkgs hostctl;
      spec = specOf (import (../examples + "/${name}.nix"));
    };
in
pkgs.runCommand "hostctl-examples" { nativeBuildInputs = [ hostctl ]; } (
  lib.concatMapStringsSep "\n" (name: ''
    hostctl --root-dir "$PWD" render --format json ${fileOf name} > nix
    hostctl --root-dir "$PWD" render --format json ${../../examples}/${name}.toml > toml
    cmp nix toml
  '') names
  + ''
    touch "$out"
  ''
)
