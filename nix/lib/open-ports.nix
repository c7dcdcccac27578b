# What a NixOS configuration opens of the host to everybody, as `allow_input`
# has it. `firewall` is `networking.firewall`, `sshd` is `services.openssh`.
# Plain Nix.
{ firewall, sshd }:
let
  one = protocol: port: { inherit protocol port; };
  # A longer range isn't one of services'.
  isShort = range: range.to - range.from < 4096;
  expand =
    protocol: ranges:
    builtins.concatMap (
      range: builtins.genList (at: one protocol (range.from + at)) (range.to - range.from + 1)
    ) (builtins.filter isShort ranges);

  ranges = {
    tcp = firewall.allowedTCPPortRanges or [ ];
    udp = firewall.allowedUDPPortRanges or [ ];
  };

  # Without NixOS's firewall nothing shut the others.
  ssh = sshd.enable && (sshd.openFirewall or true || !firewall.enable);
in
{
  # What a spec's `[host]` opens by itself. Where neither it nor NixOS says
  # where ssh is, that is hostctl's default.
  named =
    host: host.allow_input or (if sshd.enable then [ ] else [ (one "tcp" 22) ]);

  # What NixOS opens.
  ports =
    map (one "tcp") firewall.allowedTCPPorts
    ++ map (one "udp") firewall.allowedUDPPorts
    ++ expand "tcp" ranges.tcp
    ++ expand "udp" ranges.udp
    ++ (if ssh then map (one "tcp") (sshd.ports or [ 22 ]) else [ ]);

  # What isn't taken over.
  longRanges = builtins.filter (range: !isShort range) (
    ranges.tcp ++ ranges.udp
  );
}
