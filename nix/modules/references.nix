# What a spec says of itself: its prefixes, and the names that it refers to.
# `hostctl check` says the same, but only when the system is built.
{ config, lib, ... }:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    isList
    isString
    match
    ;
  cfg = config.services.hostctl;
  spec = cfg.finalSpec;
  cidr = import ../lib/cidr.nix;
  networks = spec.networks or { };
  subnetsOf = network: networks.${network}.subnets or { };

  there = names: if names == [ ] then "there is none" else "there is ${concatStringsSep ", " names}";

  # `path` refers to a thing of this kind by that name.
  missing =
    kind: names: path: name:
    lib.optional (isString name && !elem name names) "${path}: no ${kind} is called ${name}; ${there names}";
  network = missing "network" (attrNames networks);
  subnet =
    path: of: name:
    if networks ? ${of} then missing "subnet of ${of}" (attrNames (subnetsOf of)) path name else [ ];
  policy =
    path: value:
    concatMap (missing "policy" (attrNames (spec.policies or { })) path) (
      if isList value then value else lib.optional (value != null) value
    );

  placed =
    kind:
    concatMap (
      name:
      let
        one = spec.${kind}.${name};
        path = key: "${kind}.${name}.${key}";
      in
      network (path "network") (one.network or null)
      ++ subnet (path "subnet") (one.network or "") (one.subnet or null)
      ++ policy (path "policy") (one.policy or null)
    ) (attrNames (spec.${kind} or { }));

  peered = concatMap (peering: concatMap (network "peerings") (peering.between or [ ])) (
    spec.peerings or [ ]
  );

  prefix =
    path: family: text:
    let
      isV6 = match ".*:.*" text != null;
      example = if family == 6 then "fd00:0:0:1::/64" else "10.1.0.0/24";
    in
    if !isString text then
      [ ]
    else if cidr.parse text == null || isV6 != (family == 6) then
      [ "${path}: ${text} is no IPv${toString family} prefix such as ${example}" ]
    else if !cidr.isNetwork text then
      [ "${path}: ${text} is an address in a prefix; set the bits behind the length to 0, as in ${example}" ]
    else
      [ ];
  prefixes =
    path: one: prefix "${path}.cidr" 4 (one.cidr or null) ++ prefix "${path}.cidr6" 6 (one.cidr6 or null);

  within =
    path: whole: part:
    lib.optional (
      isString whole
      && isString part
      && cidr.parse whole != null
      && cidr.parse part != null
      && !(cidr.contains whole part)
    ) "${path}: ${part} isn't within the network's ${whole}";

  ofNetwork =
    name:
    let
      one = networks.${name};
    in
    prefixes "networks.${name}" one
    ++ policy "networks.${name}.policy" (one.policy or null)
    ++ concatMap (
      part:
      let
        path = "networks.${name}.subnets.${part}";
        sub = (subnetsOf name).${part};
      in
      prefixes path sub
      ++ policy "${path}.policy" (sub.policy or null)
      ++ within "${path}.cidr" (one.cidr or null) (sub.cidr or null)
      ++ within "${path}.cidr6" (one.cidr6 or null) (sub.cidr6 or null)
    ) (attrNames (subnetsOf name));
in
{
  config = lib.mkIf cfg.enable {
    assertions = map (message: {
      assertion = false;
      message = "services.hostctl: ${message}";
    }) (concatMap ofNetwork (attrNames networks) ++ placed "vms" ++ placed "apps" ++ peered);
  };
}
