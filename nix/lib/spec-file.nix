# A derivation of a host spec's JSON that can only be built where the spec is
# valid and nft takes its ruleset.
{
  pkgs,
  # The program's package; null where nothing shall be checked.
  hostctl ? null,
  spec,
}:
pkgs.runCommand "host.json"
  {
    text = builtins.toJSON spec;
    passAsFile = [ "text" ];
    nativeBuildInputs = [
      pkgs.buildPackages.jq
    ]
    ++ (
      if hostctl == null then
        [ ]
      else
        [
          hostctl
          pkgs.buildPackages.nftables
          pkgs.buildPackages.util-linux
        ]
    );
    preferLocalBuild = true;
  }
  (
    ''
      jq . "$textPath" > host.json
    ''
    + (
      if hostctl == null then
        ""
      else
        ''
          mkdir -p root
          hostctl --root-dir "$PWD/root" check host.json
          # nft asks the kernel, so it wants a network namespace of its own,
          # and a kernel that has tables for bridges.
          in_namespace() { unshare --user --map-root-user --net "$@"; }
          if in_namespace nft --check add table bridge probe 2>/dev/null; then
            hostctl --root-dir "$PWD/root" render host.json > ruleset.nft
            in_namespace nft --check --file ruleset.nft
          else
            echo "nft can't check here: the ruleset is checked when it is applied" >&2
          fi
        ''
    )
    + ''
      cp host.json "$out"
    ''
  )
