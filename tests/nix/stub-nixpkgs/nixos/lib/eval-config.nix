# As NixOS's, with the few options that hostctl's modules touch.
{
  modules,
  system ? null,
  prefix ? [ ],
  specialArgs ? { },
}:
let
  own = builtins.getEnv "HOSTCTL_NIXPKGS_LIB";
  lib = import (if own == "" then ../../lib else own);
in
lib.evalModules {
  inherit prefix specialArgs;
  modules = [
    ../options.nix
    (
      { config, ... }:
      {
        _module.args.pkgs = import ../.. {
          inherit lib;
          system = config.nixpkgs.hostPlatform;
        };
      }
    )
  ]
  ++ modules;
}
