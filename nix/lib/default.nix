# What can be done without a NixOS module: host specs from Nix values.
let
  spec = import ./spec.nix;
in
{
  inherit (spec) specOf;

  # A host spec as a file for `hostctl apply FILE`.
  #
  #   mkHostSpec { inherit pkgs; networks.blue.cidr = "10.1.0.0/24"; … }
  #
  # takes what `services.hostctl` takes. Gives `{ spec; file; }`: the spec as a
  # Nix value, and a derivation of its JSON. With `hostctl`, the program's
  # package, building the file checks the spec.
  mkHostSpec =
    {
      pkgs,
      hostctl ? null,
      ...
    }@arguments:
    let
      value = spec.specOf (
        removeAttrs arguments [
          "pkgs"
          "hostctl"
        ]
      );
    in
    {
      spec = value;
      file = import ./spec-file.nix {
        inherit pkgs hostctl;
        spec = value;
      };
    };
}
