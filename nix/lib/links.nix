# The interfaces that hostctl makes for a spec. Plain Nix.
let
  inherit (builtins)
    attrNames
    concatMap
    filter
    stringLength
    substring
    ;

  # An interface's name has 15 bytes. hostctl cuts a longer one and adds a hash,
  # for which a glob stands here.
  pattern =
    prefix: name:
    let
      full = prefix + name;
    in
    if stringLength full <= 15 then full else "${prefix}${substring 0 5 name}-??????";
in
rec {
  bridgeOf = pattern "br-";

  bridges = spec: map bridgeOf (attrNames (spec.networks or { }));

  # All of them, as globs that networkd, dhcpcd and NetworkManager understand.
  patterns =
    spec:
    let
      namespaces =
        network:
        let
          subnets = spec.networks.${network}.subnets or { };
        in
        map (subnet: pattern "ns-" "${network}-${subnet}") (
          filter (subnet: subnets.${subnet}.namespace or false) (attrNames subnets)
        );
    in
    bridges spec
    ++ map (pattern "vm-") (attrNames (spec.vms or { }))
    ++ concatMap namespaces (attrNames (spec.networks or { }));
}
