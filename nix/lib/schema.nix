# The host spec's JSON Schema (`hostctl schema`), read into shapes: what the
# options and the spec's generator are made of, so that neither knows a key
# that the other or hostctl doesn't.
#
# A shape is one of
#   { kind = "string" | "boolean"; }
#   { kind = "integer"; min; max; }                     null: no bound
#   { kind = "enum"; words = [ { word; meaning; } ]; }
#   { kind = "list"; item; filled; }                    filled: never empty
#   { kind = "attrs"; item; }                           by name
#   { kind = "record"; fields = { OPTION = { key; required; default; example; about; shape; }; }; }
#   { kind = "union"; alternatives; }
# and has `about`, what the schema says of it.
let
  text = import ./text.nix;
  schema = builtins.fromJSON (builtins.readFile ./host-spec.schema.json);

  resolve =
    node:
    if node ? "$ref" then
      schema."$defs".${builtins.substring 8 (-1) node."$ref"} // removeAttrs node [ "$ref" ]
    else
      node;

  # Without the alternative of null: an option that isn't set says it.
  present =
    node:
    let
      some = builtins.filter (one: one.type or "" != "null") node.anyOf;
      types = builtins.filter (type: type != "null") node.type;
    in
    if node ? anyOf && builtins.length some == 1 then
      present (resolve (builtins.head some)) // removeAttrs node [ "anyOf" ]
    else if node ? anyOf then
      node // { anyOf = some; }
    else if builtins.isList (node.type or null) then
      node // { type = builtins.head types; }
    else
      node;

  shapeOf =
    raw:
    let
      node = present (resolve raw);
      about = text.oneLine (node.description or "");
      type = node.type or "";
    in
    {
      inherit about;
    }
    // (
      if node ? oneOf then
        {
          kind = "enum";
          words = map (one: {
            word = one.const;
            meaning = text.oneLine (one.description or "");
          }) node.oneOf;
        }
      else if node ? anyOf then
        {
          kind = "union";
          alternatives = map shapeOf node.anyOf;
        }
      else if node ? properties then
        {
          kind = "record";
          fields = builtins.listToAttrs (
            map (key: {
              name = text.camelCase key;
              value = fieldOf node key;
            }) (builtins.attrNames node.properties)
          );
        }
      else if type == "object" then
        {
          kind = "attrs";
          item = shapeOf node.additionalProperties;
        }
      else if type == "array" then
        {
          kind = "list";
          item = shapeOf node.items;
          filled = (node.minItems or 0) > 0;
        }
      else if type == "integer" then
        {
          kind = "integer";
          min = node.minimum or null;
          max = node.maximum or null;
        }
      else if type == "boolean" || type == "string" then
        { kind = type; }
      else
        throw "hostctl: a construct of JSON Schema that nix/lib/schema.nix doesn't know: ${builtins.toJSON node}"
    );

  fieldOf =
    node: key:
    let
      property = node.properties.${key};
      shape = shapeOf property;
    in
    {
      inherit key shape;
      inherit (shape) about;
      required = builtins.elem key (node.required or [ ]);
      # As JSON has it; null: none that is worth telling.
      default = property.default or null;
      # Null: none.
      example = if property ? examples then builtins.head property.examples else null;
    };

  whole = shapeOf schema;
  host = whole.fields.host.shape.fields;
in
{
  # The whole spec, as hostctl has it.
  inherit whole;

  # The same without `host`, whose keys stand beside the others: how
  # `services.hostctl` and `mkHostSpec` are written.
  flat = whole // {
    fields = removeAttrs whole.fields [ "host" ] // host;
  };

  # The options that go to `host`.
  hostFields = builtins.attrNames host;
}
