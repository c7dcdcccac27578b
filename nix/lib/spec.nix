# Options' values → host spec. Plain Nix, without nixpkgs' lib.
let
  schema = import ./schema.nix;

  isEmpty = value: value == null || value == { };

  show = path: if path == [ ] then "the spec" else builtins.concatStringsSep "." path;

  # `value`, which stands at `path`, under the names that hostctl has for its
  # keys. What is null is left out, and so is an empty set that isn't there by
  # name; an empty list is kept, since it can mean "none".
  rename =
    path: shape: value:
    if shape.kind == "record" && builtins.isAttrs value then
      record path shape.fields value
    else if shape.kind == "attrs" && builtins.isAttrs value then
      builtins.mapAttrs (name: rename (path ++ [ name ]) shape.item) value
    else if shape.kind == "list" && builtins.isList value then
      map (rename path shape.item) value
    else if shape.kind == "union" then
      rename path (alternative shape.alternatives value) value
    else
      value;

  # Sets and lists have one alternative at most; anything else stays as it is.
  alternative =
    alternatives: value:
    let
      kinds =
        if builtins.isAttrs value then
          [
            "record"
            "attrs"
          ]
        else if builtins.isList value then
          [ "list" ]
        else
          [ ];
      fitting = builtins.filter (one: builtins.elem one.kind kinds) alternatives;
    in
    if fitting == [ ] then { kind = "other"; } else builtins.head fitting;

  record =
    path: fields: values:
    let
      set = builtins.filter (name: values.${name} != null) (builtins.attrNames values);
      entry =
        name:
        let
          field =
            fields.${name} or (throw "hostctl: ${show path} has no option `${name}`; it has ${
              builtins.concatStringsSep ", " (builtins.attrNames fields)
            }");
        in
        {
          name = field.key;
          value = rename (path ++ [ name ]) field.shape values.${name};
        };
    in
    builtins.listToAttrs (builtins.filter (one: !isEmpty one.value) (map entry set));

  pick =
    names: set: builtins.intersectAttrs (builtins.listToAttrs (map (name: { inherit name; value = null; }) names)) set;
in
{
  # The spec of values that are written as `services.hostctl` is: `uplink`,
  # `networks`, `vms`, …, in camel case.
  specOf =
    values:
    let
      host = record [ ] schema.whole.fields.host.shape.fields (pick schema.hostFields values);
      rest = record [ ] schema.whole.fields (removeAttrs values schema.hostFields);
    in
    if values ? host then
      throw "hostctl: there is no option `host`; its keys stand beside `networks`"
    else
      rest // (if host == { } then { } else { inherit host; });
}
