//! `hostctl vm …`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::{Args, Subcommand};
use hostctl::host::{self, GuestStatus};
use hostctl::ownership::vm_unit;
use hostctl::topology::{self, Name, Supervisor, Topology};
use hostctl::vm::{self, Client, State};

use super::failure::place_of_image;
use super::spec::{SpecFile, load_quietly};
use super::{Context, Failure, apply, console, exec, line, logs, output, topology_json};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a VM and wait until its guest is ready.
    ///
    /// Ready is a guest whose agent answered; one whose image has no agent is
    /// ready as soon as it executes. The VM has to be in what was applied. One
    /// with supervisor = "unit" is started by systemd, and waited for here.
    #[command(visible_alias = "start")]
    Up(Up),
    /// Shut a VM down: gracefully, then with force.
    ///
    /// It stays down until `vm up`, or the next apply where it has autostart.
    #[command(visible_alias = "stop")]
    Down(Down),
    /// Shut a VM down and boot it again.
    #[command(alias = "reboot")]
    Restart(Down),
    /// Let a VM go on that QEMU holds.
    ///
    /// QEMU holds a guest whose disk has no room left, rather than let it lose
    /// what it writes. Once there is room it goes on by itself within seconds;
    /// this tries at once. Also for one that was paused by its machine protocol.
    Resume(Named),
    /// List the VMs.
    #[command(visible_alias = "ls")]
    List,
    /// Show one VM.
    Show(Named),
    /// Attach to a VM's serial console; Ctrl-] detaches.
    ///
    /// Shows what is printed from now on; `vm logs` has what came before. What
    /// the guest prints reaches the terminal as it is.
    Console(Named),
    /// Print a VM's console log, its supervisor's or QEMU's.
    #[command(alias = "log")]
    Logs(Logs),
    /// Run a program in a guest through its agent.
    ///
    /// Its input, its output of any length, signals (Ctrl-C) and its exit code are
    /// this command's: 128 and a signal's number where one ended it, 127 where
    /// there is no such program. It ends once the program and whatever else has
    /// its outputs open has; where this command is killed, the guest ends the
    /// program within a minute. Without /bin/sh in the guest there is no input,
    /// and output at the end, 1 MiB of each kind. On a terminal, what could steer
    /// it is replaced, but not with -t.
    Exec(exec::Exec),
    /// A shell in a guest, on a terminal where this one is.
    ///
    /// root's own, through the agent: neither network nor password is needed.
    Shell(Named),
    /// Supervise a VM in the foreground, as a service manager does.
    ///
    /// Takes over a guest that an earlier supervisor left. SIGTERM shuts the
    /// guest down; a supervisor that is killed leaves it running. Tells systemd
    /// how things are (Type=notify); its unit needs KillMode=process.
    Run(Named),
}

#[derive(Debug, Args)]
pub struct Named {
    /// The VM's name in the spec.
    name: String,
}

#[derive(Debug, Args)]
pub struct Up {
    /// The VM's name in the spec.
    name: String,
    /// Seconds that the guest has to become ready.
    #[arg(long, default_value = "120", value_name = "SECONDS")]
    timeout: u64,
    /// Return as soon as the supervisor runs.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    /// The VM's name in the spec.
    name: String,
    /// Seconds that the guest has to shut down before it is switched off.
    #[arg(long, default_value = "20", value_name = "SECONDS")]
    timeout: u64,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// The VM's name in the spec.
    name: String,
    #[command(flatten)]
    shown: logs::Shown,
    /// Which log: what the guest printed, what its supervisor did, or what
    /// QEMU complained of.
    #[arg(long, value_enum, default_value = "console", value_name = "LOG")]
    of: Log,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Log {
    Console,
    Supervisor,
    Qemu,
}

pub async fn run(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(arguments) => up(context, &arguments),
        Command::Down(arguments) => down(context, &arguments),
        Command::Restart(arguments) => restart(context, &arguments),
        Command::Resume(named) => resume(context, &named),
        Command::List => list(context),
        Command::Show(named) => show(context, &named),
        Command::Console(named) => console::attach(&context.root, &name(&named.name)?).await,
        Command::Logs(arguments) => logs(context, &arguments),
        Command::Exec(arguments) => {
            let name = name(arguments.name())?;
            return exec::exec(context, name, arguments).await;
        }
        Command::Shell(named) => return exec::shell(context, name(&named.name)?).await,
        Command::Run(named) => supervise(context, &named).await,
    }
    .map(|()| ExitCode::SUCCESS)
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::other(format!("{text:?} can't be a VM's name: {error}")))
}

/// What was applied last: the VMs that can be started.
pub fn applied(context: &Context) -> Result<Topology, Failure> {
    let Some(last) = host::last_generation(&context.root)? else {
        return Err(Failure::other("nothing is applied yet: run hostctl apply"));
    };
    last.compile()
        .map_err(|_| Failure::other(format!("generation {} isn't valid any more: apply a spec", last.number)))
}

fn find(context: &Context, text: &str) -> Result<topology::Vm, Failure> {
    let topology = applied(context)?;
    topology.vm(text).cloned().ok_or_else(|| {
        let names: Vec<_> = topology.vms.iter().map(|vm| vm.name.to_string()).collect();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        Failure::other(format!("there is no VM {text} in what was applied; there are: {names}"))
    })
}

/// A VM that was applied, or one that runs although it isn't any more.
fn known(context: &Context, text: &str) -> Result<Name, Failure> {
    let name = name(text)?;
    let seen = vm::observe(&context.root)?.iter().any(|seen| seen.name == name);
    if seen { Ok(name) } else { find(context, text).map(|vm| vm.name) }
}

fn up(context: &Context, arguments: &Up) -> Result<(), Failure> {
    let wanted = find(context, &arguments.name)?;
    let running = Client::connect(&context.root, &wanted.name).is_ok();
    if !running {
        not_of_a_unit(&wanted, "start")?;
        vm::BootFiles::resolve(&context.root, &wanted).map_err(|why| {
            let checked = load_quietly(context, &SpecFile::default()).ok();
            let place = checked.and_then(|checked| place_of_image(&checked, wanted.name.as_str()));
            let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
            Failure::other(format!("{place}VM {}: {why}", wanted.name))
        })?;
        vm::write_desired(&context.root, &wanted)?;
        match vm::spawn_supervisor(&context.root, &wanted.name, &apply::host(context)?.program) {
            // An apply has just started one, which doesn't answer yet.
            Err(vm::VmError::Supervised { .. }) => {}
            started => started?,
        }
    }
    if arguments.no_wait {
        return Ok(());
    }
    wait_ready(context, &wanted.name, Duration::from_secs(arguments.timeout))
}

/// What a unit watches, its service manager starts: a supervisor beside it
/// would keep the unit's own out.
fn not_of_a_unit(vm: &topology::Vm, verb: &str) -> Result<(), Failure> {
    match vm.supervisor {
        Supervisor::Hostctl => Ok(()),
        Supervisor::Unit => {
            let name = &vm.name;
            Err(Failure::other(format!(
                "{name} is its unit's to {verb}: systemctl {verb} {}",
                vm_unit(name.as_str())
            )))
        }
    }
}

fn wait_ready(context: &Context, name: &Name, timeout: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    let spinner = context.interactive().then(|| {
        let spinner = indicatif::ProgressBar::new_spinner();
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner.set_message(format!("{name}: starting"));
        spinner
    });
    let result = vm::wait_until(&context.root, name, &State::Ready, timeout, |status| match &spinner {
        Some(spinner) => spinner.set_message(format!("{name}: {}", status.state)),
        None if !context.json => eprintln!("{name}: {}", status.state),
        None => {}
    });
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let status = result?;
    if context.json {
        return output::json(&status);
    }
    let accel = status.accel.map_or(String::new(), |accel| format!(", {accel}"));
    line(format!("{name} is ready ({:.1} s{accel})", begun.elapsed().as_secs_f64()))
}

fn down(context: &Context, arguments: &Down) -> Result<(), Failure> {
    let name = known(context, &arguments.name)?;
    vm::stop(&context.root, &name, Duration::from_secs(arguments.timeout))?;
    if context.json {
        output::json(&serde_json::json!({ "name": name }))
    } else {
        line(format!("{name} is stopped"))
    }
}

fn restart(context: &Context, arguments: &Down) -> Result<(), Failure> {
    let wanted = find(context, &arguments.name)?;
    not_of_a_unit(&wanted, "restart")?;
    vm::stop(&context.root, &wanted.name, Duration::from_secs(arguments.timeout))?;
    up(context, &Up { name: arguments.name.clone(), timeout: 120, no_wait: false })
}

fn resume(context: &Context, named: &Named) -> Result<(), Failure> {
    let name = known(context, &named.name)?;
    let mut client = Client::connect(&context.root, &name)?;
    let before = client.status()?;
    if before.state != State::Paused {
        return line(format!("{name} isn't paused: it is {}", before.text()));
    }
    client.resume()?;
    // A disk that is still full stops it again at its next write.
    let begun = Instant::now();
    let mut status = before;
    while begun.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
        status = client.status()?;
    }
    if status.state == State::Paused {
        return Err(Failure::other(format!("{name} is still {}", status.text())));
    }
    if context.json { output::json(&status) } else { line(format!("{name} goes on")) }
}

fn trouble_text(trouble: &vm::Trouble) -> String {
    let since = trouble.since.map(|since| {
        let time = UNIX_EPOCH + Duration::from_secs(since);
        format!(" since {}", humantime::format_rfc3339_seconds(time))
    });
    format!("{}{}\n    {}", trouble.what, since.unwrap_or_default(), trouble.remedy)
}

/// Prints guests as a table.
pub fn guest_table(guests: &[GuestStatus]) -> Result<(), Failure> {
    let dash = || "-".to_string();
    let rows = guests.iter().map(|guest| {
        [
            guest.name.clone(),
            guest.state.clone(),
            guest.network.clone().unwrap_or_else(dash),
            guest.interface.clone().unwrap_or_else(dash),
            guest.addresses.join(" "),
            guest.pid.map_or_else(dash, |pid| pid.to_string()),
            guest.restarts.to_string(),
        ]
    });
    output::table(&["VM", "STATE", "NETWORK", "INTERFACE", "ADDRESSES", "PID", "RESTARTS"], rows)?;
    let troubled = guests.iter().filter_map(|guest| Some((guest, guest.trouble.as_ref()?)));
    for (index, (guest, trouble)) in troubled.enumerate() {
        if index == 0 {
            line("\nnot as it should be:")?;
        }
        line(format!("  {}: {}", guest.name, trouble_text(trouble)))?;
    }
    let waiting = guests.iter().filter(|guest| !guest.pending.is_empty());
    for (index, guest) in waiting.enumerate() {
        if index == 0 {
            line("\nwaits for the next start (hostctl apply --restart, hostctl vm restart):")?;
        }
        let pending: Vec<String> = guest.pending.iter().map(ToString::to_string).collect();
        line(format!("  {}: {}", guest.name, pending.join("; ")))?;
    }
    Ok(())
}

fn list(context: &Context) -> Result<(), Failure> {
    let guests = host::guests(&context.root)?;
    if context.json { output::json(&guests) } else { guest_table(&guests) }
}

fn show(context: &Context, named: &Named) -> Result<(), Failure> {
    let name = name(&named.name)?;
    let vm = find(context, &named.name)?;
    let seen = vm::observe(&context.root)?.into_iter().find(|seen| seen.name == name);
    let state = seen.as_ref().map_or_else(|| "stopped".into(), vm::Observed::state);
    let pid = seen.as_ref().and_then(|seen| seen.pid);
    let trouble = seen.as_ref().and_then(vm::Observed::trouble);
    let pending = seen.as_ref().map(|seen| seen.pending(&context.root, &vm)).unwrap_or_default();
    let status = seen.and_then(|seen| seen.status);
    if context.json {
        return output::json(
            &serde_json::json!({ "vm": topology_json::vm(&vm), "offload": vm.offload, "state": state, "status": status, "trouble": trouble, "pending": pending }),
        );
    }
    let port = &vm.port;
    let mut rows = vec![
        ("state", state),
        ("network", format!("{} (subnet {}, bridge {})", port.network, port.subnet, port.bridge)),
        ("interface", port.interface.to_string()),
        ("mac", port.mac.to_string()),
        ("address", format!("{}/{} via {}", port.address, port.prefix, port.gateway)),
    ];
    if let Some(v6) = &port.v6 {
        rows.push(("address6", format!("{}/{} via {}", v6.address, v6.prefix, v6.gateway)));
    }
    let machine = format!("{:?}", vm.machine).to_lowercase();
    let vcpus = output::count(vm.vcpus.into(), "vcpu");
    rows.push(("machine", format!("{} {machine}, {vcpus}, {} MiB", vm.arch, vm.memory)));
    rows.push(("uid", vm.uid.to_string()));
    rows.extend(pid.map(|pid| ("pid", pid.to_string())));
    if let Some(status) = status {
        let reason = status.accel_reason.unwrap_or_default();
        rows.push(("accel", status.accel.map_or_else(String::new, |accel| format!("{accel} ({reason})"))));
        rows.extend(status.disk_io.map(|text| ("disks", text)));
        rows.extend(status.card.map(|card| ("offload", offload_text(&card))));
        rows.push(("restarts", status.restarts.to_string()));
    }
    rows.extend(trouble.iter().map(|trouble| ("trouble", trouble_text(trouble))));
    rows.extend(pending.iter().map(|pending| ("pending", pending.to_string())));
    rows.iter().try_for_each(|(key, value)| line(format!("{key:10} {value}")))
}

fn offload_text(card: &vm::Card) -> String {
    let by = if card.vhost { "; by vhost-net" } else { "" };
    format!("{} ({}{by})", if card.offload { "on" } else { "off" }, card.reason)
}

fn logs(context: &Context, arguments: &Logs) -> Result<(), Failure> {
    let name = known(context, &arguments.name)?;
    let file = match arguments.of {
        Log::Console => "console.log",
        Log::Supervisor => "supervisor.log",
        Log::Qemu => "qemu.log",
    };
    let path: PathBuf = context.root.vm(name.as_str()).join(file);
    let absent = format!("{name} has no {file} yet: it wasn't started");
    match (arguments.of, arguments.shown.since()) {
        (Log::Supervisor, Some(since)) => {
            let text = std::fs::read(&path).map_err(|_| Failure::other(absent))?;
            arguments.shown.print_text(&logs::lines_since(&text, since))
        }
        (Log::Qemu, Some(_)) => {
            Err(Failure::other("QEMU's log has no times: leave --since out, or take --tail N"))
        }
        _ => arguments.shown.print(&path, &absent),
    }
}

async fn supervise(context: &Context, named: &Named) -> Result<(), Failure> {
    let name = name(&named.name)?;
    // Under a service manager nobody has written it down yet, or the unit did
    // for an earlier spec.
    let wanted = match vm::read_desired(&context.root, &name) {
        Ok(wanted) if wanted.supervisor == Supervisor::Hostctl => wanted,
        _ => {
            let wanted = find(context, &named.name)?;
            vm::write_desired(&context.root, &wanted)?;
            wanted
        }
    };
    Ok(vm::supervise(&context.root, wanted, vm::Options::default()).await?)
}
