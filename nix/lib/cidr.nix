# Prefixes, as far as it takes to see whether two overlap. Plain Nix.
let
  text = import ./text.nix;
  inherit (builtins)
    elemAt
    filter
    fromTOML
    genList
    head
    length
    match
    tail
    ;

  decimal = word: (fromTOML "v = ${if match "0+" word != null then "0" else head (match "0*([0-9]+)" word)}").v;
  hexadecimal = word: (fromTOML "v = 0x${word}").v;

  # Four groups of 8 bits; null where `address` is none.
  groups4 =
    address:
    let
      words = text.splitOn "[.]" address;
    in
    if length words == 4 && filter (word: match "[0-9]{1,3}" word == null) words == [ ] then
      map decimal words
    else
      null;

  # Eight groups of 16 bits; null where `address` is none.
  groups6 =
    address:
    let
      halves = text.splitOn "::" address;
      words = half: filter (word: word != "") (text.splitOn ":" half);
      first = words (head halves);
      last = if length halves == 2 then words (elemAt halves 1) else [ ];
      missing = 8 - length first - length last;
      all = first ++ last;
    in
    if
      length halves <= 2
      && (if length halves == 1 then missing == 0 else missing >= 0)
      && filter (word: match "[0-9a-fA-F]{1,4}" word == null) all == [ ]
    then
      map hexadecimal first ++ genList (_: 0) missing ++ map hexadecimal last
    else
      null;

  # Whether no bit behind the first `bits` is set.
  isZeroAfter =
    width: bits: groups:
    groups == [ ]
    || (
      let
        rest = power (if bits >= width then 0 else width - bits);
        group = head groups;
      in
      group - group / rest * rest == 0
      && isZeroAfter width (if bits > width then bits - width else 0) (tail groups)
    );

  power = n: if n == 0 then 1 else 2 * power (n - 1);

  sameStart =
    width: bits: a: b:
    if bits <= 0 then
      true
    else if bits >= width then
      head a == head b && sameStart width (bits - width) (tail a) (tail b)
    else
      head a / power (width - bits) == head b / power (width - bits);
in
rec {
  # `{ groups; width; bits; }` of `10.1.0.0/24` or `fd00::/64`; null where it
  # is neither (`hostctl check` says what is wrong with it).
  parse =
    prefix:
    let
      parts = match "([^/]+)/([0-9]{1,3})" prefix;
      isV6 = match ".*:.*" prefix != null;
      groups = (if isV6 then groups6 else groups4) (head parts);
      bits = decimal (elemAt parts 1);
    in
    if parts == null || groups == null || bits > (if isV6 then 128 else 32) then
      null
    else
      {
        inherit groups bits;
        width = if isV6 then 16 else 8;
      };

  # Whether two prefixes have an address in common.
  overlap =
    a: b:
    let
      x = parse a;
      y = parse b;
    in
    x != null
    && y != null
    && x.width == y.width
    && sameStart x.width (if x.bits < y.bits then x.bits else y.bits) x.groups y.groups;

  # Whether a prefix begins at its address: no bit behind its length is set.
  isNetwork =
    prefix:
    let
      x = parse prefix;
    in
    x != null && isZeroAfter x.width x.bits x.groups;

  # Whether every address of `part` is one of `whole`'s.
  contains =
    whole: part:
    let
      x = parse whole;
      y = parse part;
    in
    overlap whole part && x.bits <= y.bits;
}
