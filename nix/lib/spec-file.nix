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
          # nft asks the kernel, so it wants a network namespace of its own.
          if unshare --user --map-root-user --net true 2>/dev/null; then
            hostctl --root-dir "$PWD/root" render host.json > ruleset.nft
            unshare --user --map-root-user --net nft --check --file ruleset.nft
          else
            echo "no user namespaces here: the ruleset is checked when it is applied" >&2
          fi
        ''
    )
    + ''
      cp host.json "$out"
    ''
  )
