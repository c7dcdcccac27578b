# As much of nixpkgs' lib as the module uses, for machines that have Nix but no
# nixpkgs. Written for these tests: it gives what nixpkgs' lib gives where both
# were compared, and refuses unknown options and wrong types. With
# HOSTCTL_NIXPKGS_LIB the tests use nixpkgs' own lib instead.
let
  inherit (builtins)
    all any attrNames attrValues concatLists concatMap concatStringsSep elem elemAt filter foldl' functionArgs
    genList head isAttrs isBool isFunction isInt isList isString length listToAttrs mapAttrs match replaceStrings
    split stringLength substring sort tail toString typeOf;

  show = concatStringsSep ".";
  tagged = tag: value: isAttrs value && (value._type or "") == tag;
  isOption = tagged "option";
  isDerivation = value: isAttrs value && (value.type or null) == "derivation";
  fail = loc: words: throw "The option `${show loc}' ${words}";

  # Definitions: { file; value; }, their properties discharged.
  discharge =
    def:
    let again = value: discharge (def // { inherit value; }); in
    if tagged "merge" def.value then concatMap again def.value.contents
    else if tagged "if" def.value then (if def.value.condition then again def.value.content else [ ])
    else if tagged "order" def.value then map (one: one // { inherit (def.value) priority; order = def.value.priority; }) (again def.value.content)
    else if tagged "override" def.value then map (one: one // { prio = def.value.priority; }) (again def.value.content)
    else [ ({ prio = 100; order = 1000; } // def) ];

  strongest =
    defs:
    let least = foldl' (a: def: if def.prio < a then def.prio else a) 9999 defs; in
    sort (a: b: a.order < b.order) (filter (def: def.prio == least) defs);

  mergeDefinitions =
    loc: type: raw:
    let
      defs = strongest (concatMap discharge raw);
      bad = filter (def: !type.check def.value) defs;
    in
    if defs == [ ] then { isDefined = false; value = if type ? emptyValue then type.emptyValue else fail loc "was accessed but has no value defined. Try setting the option."; }
    else {
      isDefined = true;
      value = if bad != [ ] then throw "A definition for option `${show loc}' is not of type `${type.description}'. Definition values: ${typeOf (head bad).value}" else type.merge loc defs;
    };

  # One level of a module's config: names → definitions.
  pushDown =
    { file, value }:
    if tagged "merge" value then concatMap (one: pushDown { inherit file; value = one; }) value.contents
    else if tagged "if" value then map (mapAttrs (_: one: { inherit file; value = mkIf value.condition one.value; })) (pushDown { inherit file; value = value.content; })
    else if tagged "override" value then map (mapAttrs (_: one: { inherit file; value = mkOverride value.priority one.value; })) (pushDown { inherit file; value = value.content; })
    else [ (mapAttrs (_: one: { inherit file; value = one; }) value) ];

  names = sets: attrNames (foldl' (a: set: a // set) { } sets);
  having = name: filter (set: set ? ${name});

  mergeTree =
    prefix: freeform: declared: defined:
    let
      optionNames = names declared;
      sub =
        name:
        let
          loc = prefix ++ [ name ];
          here = map (set: set.${name}) (having name declared);
          defs = map (set: set.${name}) (having name defined);
          option = foldl' (a: b: a // b) { } here;
          merged = mergeDefinitions loc option.type (defs ++ (if option ? default then [ { file = "default"; value = mkOverride 1500 option.default; } ] else [ ]));
          value = if option ? apply then option.apply merged.value else merged.value;
        in
        if any isOption here then {
          options = option // { inherit loc value; inherit (merged) isDefined; definitions = map (def: def.value) defs; };
          config = value;
          unknown = [ ];
        } else mergeTree loc null here (concatMap (def: if isAttrs def.value then pushDown def else fail loc "is no option, but a set of them") defs);
      subs = listToAttrs (map (name: { inherit name; value = sub name; }) optionNames);
      unknown = filter (name: !(elem name optionNames) && name != "_module") (names defined);
      free = if freeform == null then { } else (mergeDefinitions prefix freeform (map (set: { file = "free"; value = listToAttrs (map (name: { inherit name; inherit (set.${name}) value; }) (filter (name: set ? ${name}) unknown)); }) defined)).value;
    in
    {
      options = mapAttrs (_: one: one.options) subs;
      config = free // mapAttrs (_: one: one.config) subs;
      unknown = (if freeform == null then map (name: prefix ++ [ name ]) unknown else [ ]) ++ concatMap (one: one.unknown) (attrValues subs);
    };

  evalModules =
    { modules, specialArgs ? { }, prefix ? [ ], ... }:
    let
      base = specialArgs // { inherit lib config; inherit (tree) options; };
      config = if tree.unknown == [ ] then tree.config else throw "The option `${show (head tree.unknown)}' does not exist.";
      call = module:
        if isFunction module then module (mapAttrs (name: _: base.${name} or moduleArgs.${name}) (functionArgs module) // base)
        else module;
      load =
        raw:
        let
          isFile = builtins.isPath raw || isString raw;
          module = call (if isFile then import raw else raw);
          full = module ? options || module ? config;
          odd = filter (name: !(elem name [ "_file" "key" "imports" "options" "config" "freeformType" "meta" "disabledModules" "_class" ])) (attrNames module);
          file = module._file or (if isFile then toString raw else "<inline>");
        in
        if full && odd != [ ] then throw "Module `${file}' has an unsupported attribute `${head odd}'."
        else concatMap load (module.imports or [ ]) ++ [ {
          inherit file;
          options = module.options or { };
          freeform = module.freeformType or null;
          config = if full then module.config or { } else removeAttrs module [ "_file" "key" "imports" "_class" ];
        } ];
      all' = concatMap load modules;
      defined = concatMap (module: pushDown { inherit (module) file; value = module.config; }) all';
      # Arguments that modules set for others.
      moduleArgs = foldl' (a: set: a // set) { } (concatMap (set: if set ? _module then map (one: mapAttrs (_: value: (head (strongest (discharge { file = ""; inherit value; }))).value) (one.args.value or { })) (pushDown set._module) else [ ]) defined);
      freeforms = filter (one: one != null) (map (module: module.freeform) all');
      tree = mergeTree prefix (if freeforms == [ ] then null else head freeforms) (map (module: module.options) all') defined;
    in
    { inherit config; inherit (tree) options; _module.args = moduleArgs; };

  mkOption = attrs: { _type = "option"; type = types.anything; } // attrs;
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOrder = priority: content: { _type = "order"; inherit priority content; };

  mergeOne = loc: defs: if all (def: def.value == (head defs).value) (tail defs) then (head defs).value else fail loc "has conflicting definition values.";
  mkType = attrs: { _type = "option-type"; merge = mergeOne; getSubOptions = _: { }; } // attrs;
  plain = name: description: check: mkType { inherit name description check; };
  mergeAttrs = elem: loc: defs: listToAttrs (concatMap (name: let merged = mergeDefinitions (loc ++ [ name ]) elem (map (def: { inherit (def) file; value = def.value.${name}; }) (filter (def: def.value ? ${name}) defs)); in if merged.isDefined then [ { inherit name; inherit (merged) value; } ] else [ ]) (names (map (def: def.value) defs)));

  types = rec {
    anything = plain "anything" "anything" (_: true) // {
      merge = loc: defs:
        if all (def: isAttrs def.value && !isDerivation def.value) defs then mergeAttrs anything loc defs
        else if all (def: isList def.value) defs && length defs > 1 then concatLists (map (def: def.value) defs)
        else mergeOne loc defs;
    };
    raw = plain "raw" "raw value" (_: true);
    unspecified = anything;
    bool = plain "bool" "boolean" isBool;
    str = plain "str" "string" isString;
    int = plain "int" "signed integer" isInt;
    ints = {
      between = low: high: plain "intBetween" "integer between ${toString low} and ${toString high} (both inclusive)" (x: isInt x && x >= low && x <= high);
      unsigned = plain "unsignedInt" "unsigned integer, meaning >=0" (x: isInt x && x >= 0);
    };
    port = ints.between 0 65535 // { description = "16 bit unsigned integer; between 0 and 65535 (both inclusive)"; };
    lines = str // { name = "lines"; description = "strings concatenated with \"\\n\""; merge = _: defs: concatStringsSep "\n" (map (def: def.value) defs); };
    path = plain "path" "absolute path" (x: builtins.isPath x || isDerivation x || (isString x && substring 0 1 x == "/"));
    package = plain "package" "package" isDerivation;
    strMatching = pattern: plain "strMatching" "string matching the pattern ${pattern}" (x: isString x && match pattern x != null);
    enum = words: plain "enum" "one of ${concatStringsSep ", " (map (word: if isString word then "\"${word}\"" else toString word) words)}" (x: elem x words);
    nullOr = t: mkType { name = "nullOr"; description = "null or ${t.description}"; check = x: x == null || t.check x; merge = loc: defs: if all (def: def.value == null) defs then null else if any (def: def.value == null) defs then fail loc "is defined both null and not null" else t.merge loc defs; emptyValue = null; inherit (t) getSubOptions; nestedTypes.elemType = t; };
    listOf = t: mkType { name = "listOf"; description = "list of ${t.description}"; check = isList; merge = loc: defs: let items = concatMap (def: map (value: { inherit (def) file; inherit value; }) def.value) defs; in genList (i: (mergeDefinitions (loc ++ [ "[definition ${toString (i + 1)}]" ]) t [ (elemAt items i) ]).value) (length items); emptyValue = [ ]; getSubOptions = prefix: t.getSubOptions (prefix ++ [ "*" ]); nestedTypes.elemType = t; };
    nonEmptyListOf = t: let list = listOf t; in removeAttrs list [ "emptyValue" ] // { description = "non-empty ${list.description}"; check = x: isList x && x != [ ]; };
    attrsOf = t: mkType { name = "attrsOf"; description = "attribute set of ${t.description}"; check = isAttrs; merge = mergeAttrs t; emptyValue = { }; getSubOptions = prefix: t.getSubOptions (prefix ++ [ "<name>" ]); nestedTypes.elemType = t; };
    lazyAttrsOf = attrsOf;
    attrs = attrsOf anything;
    either = a: b: mkType { name = "either"; description = "${a.description} or ${b.description}"; check = x: a.check x || b.check x; merge = loc: defs: if all (def: a.check def.value) defs then a.merge loc defs else if all (def: b.check def.value) defs then b.merge loc defs else mergeOne loc defs; nestedTypes = { left = a; right = b; }; };
    oneOf = ts: foldl' either (head ts) (tail ts);
    submodule = module: submoduleWith { modules = if isList module then module else [ module ]; };
    submoduleWith = { modules, specialArgs ? { }, ... }: mkType {
      name = "submodule";
      description = "submodule";
      check = x: isAttrs x || isFunction x || builtins.isPath x;
      merge = loc: defs: (evalModules { inherit specialArgs; prefix = loc; modules = modules ++ [ { _module.args.name = elemAt loc (length loc - 1); } ] ++ map (def: { _file = def.file; } // (if isAttrs def.value then { config = def.value; } else { imports = [ def.value ]; })) defs; }).config;
      emptyValue = { };
      getSubOptions = prefix: (evalModules { inherit specialArgs prefix; modules = modules ++ [ { _module.args.name = "<name>"; } ]; }).options;
    };
  };

  lib = {
    inherit evalModules mkOption mkIf mkMerge mkOverride mkOrder types isOption isDerivation;
    inherit (builtins) all any attrNames attrValues concatLists concatMap concatStringsSep elem filter foldl' isAttrs isList isString length listToAttrs mapAttrs toString;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkBefore = mkOrder 500;
    mkAfter = mkOrder 1500;
    mkEnableOption = name: mkOption { type = types.bool; default = false; description = "Whether to enable ${name}."; };
    mkOptionType = attrs: mkType ({ check = _: true; description = attrs.name; } // attrs);
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    licenses.asl20 = { spdxId = "Apache-2.0"; };
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
    splitString = separator: text: filter isString (split (replaceStrings [ "." ] [ "[.]" ] separator) text);
    versionOlder = a: b: builtins.compareVersions b a == 1;
    versionAtLeast = a: b: builtins.compareVersions a b != -1;
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    filterAttrs = keep: set: listToAttrs (concatMap (name: if keep name set.${name} then [ { inherit name; value = set.${name}; } ] else [ ]) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    nameValuePair = name: value: { inherit name value; };
    genAttrs = list: f: listToAttrs (map (name: { inherit name; value = f name; }) list);
    attrByPath = path: default: set: foldl' (at: name: if isAttrs at && at ? ${name} then at.${name} else default) set path;
    unique = foldl' (seen: one: if elem one seen then seen else seen ++ [ one ]) [ ];
    hasSuffix = suffix: text: lib.removeSuffix suffix text != text;
    getExe' = package: name: "${package}/bin/${name}";
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    removeSuffix = suffix: text: let n = stringLength text - stringLength suffix; in if n >= 0 && substring n (-1) text == suffix then substring 0 n text else text;
    removePrefix = prefix: text: if lib.hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.pname}";
    fileset = {
      toSource = { root, ... }: root;
      unions = list: list;
      maybeMissing = path: path;
    };
    systems.flakeExposed = [ "x86_64-linux" "aarch64-linux" ];
  };
in
lib
