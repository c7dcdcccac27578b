//! `hostctl test …`.

use clap::{Args, Subcommand, ValueEnum};
use hostctl::host::{self, ConnectivityTest, Tested};
use hostctl::topology::{Port, Topology, Transport};

use super::{Context, Failure, line, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send packets from one subnet to another, and hold what becomes of them
    /// against the spec.
    ///
    /// Fails where they don't do as the spec says. Needs root.
    Connectivity(Connectivity),
    /// Ping from every namespace to every other guest, in both families.
    ///
    /// Fails where a packet doesn't do as the spec says. VMs are pinged, and
    /// can't be told to ping. Needs root.
    All,
}

#[derive(Debug, Args)]
pub struct Connectivity {
    /// The network to send from.
    #[arg(long)]
    vpc: String,
    /// The subnet to send from.
    #[arg(long)]
    from_subnet: String,
    /// The network to send to; default: the same.
    #[arg(long)]
    to_vpc: Option<String>,
    /// The subnet to send to.
    #[arg(long)]
    to_subnet: String,
    /// The port to try; default: a ping.
    #[arg(long, requires = "protocol")]
    port: Option<u16>,
    /// The port's protocol.
    #[arg(long, value_enum, requires = "port")]
    protocol: Option<Protocol>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
}

pub fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let topology = super::vm::applied(context)?;
    let tests = match command {
        Command::All => host::connectivity_tests(&topology),
        Command::Connectivity(pair) => {
            let to_vpc = pair.to_vpc.as_ref().unwrap_or(&pair.vpc);
            let from = port(&topology, &pair.vpc, &pair.from_subnet)?;
            let to = port(&topology, to_vpc, &pair.to_subnet)?;
            let asked = pair.port.zip(pair.protocol).map(|(port, protocol)| match protocol {
                Protocol::Tcp => (Transport::Tcp, port),
                Protocol::Udp => (Transport::Udp, port),
            });
            host::connectivity_between(&topology, from, to, asked)
        }
    };
    report(context, &host::measure_connectivity(tests))
}

fn port<'t>(topology: &'t Topology, vpc: &str, subnet: &str) -> Result<(&'t str, &'t Port), Failure> {
    let same = |port: &Port| port.network.as_str() == vpc && port.subnet.as_str() == subnet;
    let found = topology.namespaces.iter().find(|namespace| same(&namespace.port));
    found.map(|namespace| (namespace.name.as_str(), &namespace.port)).ok_or_else(|| {
        let names: Vec<_> = topology.namespaces.iter().map(|one| one.name.as_str()).collect();
        let names = if names.is_empty() { "none".into() } else { names.join(", ") };
        Failure::other(format!(
            "subnet {subnet} of {vpc} has no namespace in what was applied; there are: {names}"
        ))
    })
}

fn report(context: &Context, tested: &[Tested]) -> Result<(), Failure> {
    let word = |reached: bool| if reached { "reached" } else { "not reached" };
    if context.json {
        output::json(&tested)?;
    } else {
        let rows = tested.iter().map(|one| {
            let ConnectivityTest { from, to, address, port, expected } = &one.test;
            let what = port.map_or_else(
                || format!("ping {address}"),
                |(protocol, port)| format!("{} {address} port {port}", protocol.as_str()),
            );
            let ok = if one.is_ok() { "ok" } else { "DIFFERENT" };
            [
                from.clone(),
                to.clone(),
                what,
                word(*expected).into(),
                format!("{}: {}", word(one.reached), one.seen),
                ok.into(),
            ]
        });
        output::table(&["FROM", "TO", "WHAT", "EXPECTED", "MEASURED", ""], rows)?;
    }
    match tested.iter().filter(|one| !one.is_ok()).count() {
        0 if context.json => Ok(()),
        0 => line(format!("\n{} tests, all as the spec says", tested.len())),
        wrong => Err(Failure::other(format!("{wrong} of {} tests differ from the spec", tested.len()))),
    }
}
