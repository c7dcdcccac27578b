# hostctl's units. What they say comes with the package
# (templates/systemd); here is what only NixOS knows: when a switch touches
# them, and what starts them.
#
# - A switch reloads hostctl.service, which applies the new spec. apply stops
#   the guests that are gone, and no others: what a guest can only be at its
#   next start waits for it.
# - A guest's unit is restarted where its own definition changed and the
#   operator let it be (`vms.<name>.restartIfChanged`). A switch stops such a
#   unit first and starts it after the reload, so that it starts as the new
#   spec says.
# - Else a unit's text decides nothing: `restartIfChanged = false`, but for what
#   holds the tables.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.hostctl;
  program = "/run/current-system/sw/bin/hostctl";
  vms = lib.filterAttrs (_: vm: vm.supervisor or "unit" == "unit") (cfg.finalSpec.vms or { });
  names = builtins.attrNames vms;

  # The package's units with a path for the program that outlives an upgrade,
  # and one file for each VM rather than the template alone: a switch takes an
  # instance whose file is gone for a unit that is gone, and stops it.
  units = pkgs.runCommand "hostctl-units" { } ''
    units="$out/lib/systemd/system"
    mkdir -p "$units"
    for unit in ${cfg.package}/lib/systemd/system/hostctl*; do
      substitute "$unit" "$units/$(basename "$unit")" \
        --replace-fail ${cfg.package}/bin/hostctl ${program}
    done
    for name in ${toString names}; do
      cp "$units/hostctl-vm@.service" "$units/hostctl-vm@$name.service"
    done
  '';

  volumeOf = name: if cfg.vms ? ${name} then cfg.vms.${name}.dataVolume else null;

  restarts = name: cfg.vms ? ${name} && cfg.vms.${name}.restartIfChanged;

  vmUnit = name: {
    name = "hostctl-vm@${name}";
    value = {
      wantedBy = lib.optional (vms.${name}.autostart or true) "multi-user.target";
      restartIfChanged = restarts name;
      restartTriggers = lib.optional (restarts name) (builtins.toJSON vms.${name});
      serviceConfig = lib.mkIf (volumeOf name != null) {
        ExecStartPre = [
          "${pkgs.runtimeShell} ${./make-volume.sh} ${(volumeOf name).path} ${(volumeOf name).size}"
        ];
      };
    };
  };
in
{
  config = lib.mkIf cfg.enable {
    systemd.packages = [ units ];

    systemd.services = {
      # For the time before the network is up; afterwards hostctl.service loads
      # what changes.
      hostctl-firewall = {
        wantedBy = [ "sysinit.target" ];
        restartIfChanged = false;
      };

      # What holds the tables is replaced with the package: systemd keeps the
      # socket meanwhile.
      hostctl-hold = {
        wantedBy = [ "sysinit.target" ];
        restartTriggers = [ cfg.package ];
      };

      hostctl = {
        wantedBy = [ "multi-user.target" ];
        # A failed reload has returned to the last generation, and fails the
        # switch.
        reloadIfChanged = true;
        reloadTriggers = [
          cfg.specFile
          cfg.package
        ];
      };
    }
    // builtins.listToAttrs (map vmUnit names);
  };
}
