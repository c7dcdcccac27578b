# nixpkgs has an unrelated program called hostctl (it edits /etc/hosts); with
# this overlay the name is ours. The module and the flake don't need it.
final: prev: {
  hostctl = final.callPackage ./package.nix { };
  hostctl-probe-image = final.callPackage ./probe-image.nix { };
}
