# The module's options, as a list: for the reference, and to be held against the
# JSON Schema.
let
  evaluated = import ./stub-nixpkgs/nixos/lib/eval-config.nix { modules = [ ../../nix/modules ]; };
  own = builtins.getEnv "HOSTCTL_NIXPKGS_LIB";
  lib = import (if own == "" then ./stub-nixpkgs/lib else own);

  # A value as Nix writes it; what is text already (literalExpression) stays.
  describe =
    value:
    if builtins.isAttrs value && value ? text then
      value.text
    else if builtins.isAttrs value then
      let
        entries = map (name: "${name} = ${describe value.${name}}; ") (builtins.attrNames value);
      in
      "{ ${builtins.concatStringsSep "" entries}}"
    else if builtins.isList value then
      "[ ${builtins.concatStringsSep "" (map (one: "${describe one} ") value)}]"
    else
      builtins.toJSON value;

  walk =
    options:
    builtins.concatMap (
      name:
      let
        option = options.${name};
        inherit (option) loc type;
        below = walk (type.getSubOptions loc);
      in
      if !(lib.isOption option) then
        walk option
      else if option.internal or false then
        [ ]
      else
        [
          {
            name = builtins.concatStringsSep "." loc;
            type = type.description;
            required = !(option ? default);
            default =
              if option ? defaultText then
                describe option.defaultText
              else if option ? default then
                describe option.default
              else
                null;
            example = if option ? example then describe option.example else null;
            description = option.description;
          }
        ]
        ++ below
    ) (builtins.attrNames (removeAttrs options [ "_module" ]));
in
walk { inherit (evaluated.options.services) hostctl; }
