# The options that follow from the host spec's JSON Schema: one for each key,
# in camel case, with its type, description and example. `uplink` and its siblings of
# the spec's `[host]` stand beside `networks`.
{ lib }:
let
  inherit (lib) mkOption types;
  schema = import ../lib/schema.nix;

  typeOf =
    shape:
    if shape.kind == "string" then
      types.str
    else if shape.kind == "boolean" then
      types.bool
    else if shape.kind == "integer" then
      if shape.min != null && shape.max != null then
        types.ints.between shape.min shape.max
      else
        types.ints.unsigned
    else if shape.kind == "enum" then
      types.enum (map (one: one.word) shape.words)
    else if shape.kind == "list" then
      (if shape.filled then types.nonEmptyListOf else types.listOf) (typeOf shape.item)
    else if shape.kind == "attrs" then
      types.attrsOf (typeOf shape.item)
    else if shape.kind == "union" then
      types.oneOf (map typeOf shape.alternatives)
    else
      types.submodule { options = optionsOf shape; };

  # In the words of Nix.
  translate =
    builtins.replaceStrings
      [ "`[host.tailscale]`" "read_only" "allow_input" ]
      [ "{option}`services.hostctl.tailscale`" "readOnly" "allowInput" ];

  descriptionOf =
    field:
    let
      choices = lib.optionals (field.shape.kind == "enum") (
        map (one: "- `${one.word}`: ${one.meaning}") (
          builtins.filter (one: one.meaning != "") field.shape.words
        )
      );
      default = lib.optional (
        field.default != null && field.key != "allow_input"
      ) "Where it is `null`: `${builtins.toJSON field.default}`.";
      paragraphs =
        [ (translate field.about) ]
        ++ lib.optional (choices != [ ]) (builtins.concatStringsSep "\n" choices)
        ++ default;
    in
    builtins.concatStringsSep "\n\n" paragraphs;

  optionOf =
    field:
    let
      type = typeOf field.shape;
      said = {
        description = descriptionOf field;
      }
      // lib.optionalAttrs (field.example != null) { inherit (field) example; };
    in
    if field.required then
      mkOption (said // { inherit type; })
    else if field.shape.kind == "attrs" then
      mkOption (
        said
        // {
          inherit type;
          default = { };
        }
      )
    else
      mkOption (
        said
        // {
          type = types.nullOr type;
          default = null;
        }
      );

  optionsOf = shape: builtins.mapAttrs (_: optionOf) shape.fields;

  # The shape of a set's entries, by the set's option.
  entryOf = name: schema.whole.fields.${name}.shape.item;
in
{
  # Of `services.hostctl`, but for `vms`.
  top = removeAttrs (optionsOf schema.flat) [ "vms" ];

  # Of `services.hostctl.vms.<name>`.
  vm = optionsOf (entryOf "vms");

  vmsDescription = schema.whole.fields.vms.about;
}
