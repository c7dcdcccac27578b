//! One step of a plan, and the command that does it by hand.

use std::fmt;

use crate::firewall::{Delta, FlowPolicy, Forget};
use crate::link;
use crate::ownership::{TABLE_FAMILIES, table};
use crate::topology::{App, Name, NamespaceName, Vm};

/// A change of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A guest is shut down.
    StopVm {
        /// The VM.
        name: Name,
        /// Why, for people.
        reason: String,
    },
    /// A guest whose runtime files are lost is switched off.
    EndStray {
        /// Its QEMU's process.
        pid: u32,
        /// The VM that it was.
        name: String,
    },
    /// An app is stopped.
    StopApp {
        /// Its namespace.
        namespace: NamespaceName,
        /// Its name.
        name: Name,
        /// Whether its files go too.
        gone: bool,
        /// Why, for people.
        reason: String,
    },
    /// Whoever is in a namespace that goes is ended.
    Evict {
        /// The namespace.
        namespace: String,
    },
    /// An app is started, with a supervisor.
    StartApp {
        /// The app.
        app: Box<App>,
    },
    /// A link, an address or a kernel setting.
    Link(link::Step),
    /// The firewall's tables are replaced whole.
    LoadFirewall {
        /// The text for nft.
        text: String,
        /// Why, for people.
        reason: String,
    },
    /// Elements of the firewall's sets.
    ChangeFirewall(Delta),
    /// Routes and rules that keep networks apart where the firewall is gone.
    KeepApart(link::ApartChange),
    /// Marks by which rules know flows that they have judged are taken back.
    ForgetMarks(Forget),
    /// Tracked flows that the new rules don't allow are ended.
    CutFlows(Box<FlowPolicy>),
    /// The firewall's tables are removed.
    RemoveFirewall,
    /// A guest is booted, or its supervisor replaced.
    StartVm {
        /// The VM.
        vm: Box<Vm>,
        /// Why, for people.
        reason: String,
    },
}

impl Step {
    /// The commands that do it by hand, one a line.
    pub fn commands(&self) -> Vec<String> {
        match self {
            Self::StopVm { name, .. } => vec![format!("hostctl vm down {name}")],
            Self::EndStray { pid, name } => {
                vec![format!("kill -9 {pid}    # VM {name}, its runtime files are lost")]
            }
            Self::StopApp { name, .. } => vec![format!("hostctl app stop {name}")],
            Self::Evict { namespace } => vec![format!("ip netns pids {namespace} | xargs -r kill -9")],
            Self::StartApp { app } => vec![format!("hostctl app start {}", app.name)],
            Self::Link(step) => vec![step.to_string()],
            Self::LoadFirewall { .. } => vec!["hostctl render | nft -f -".into()],
            Self::ChangeFirewall(delta) => delta.commands(),
            Self::KeepApart(change) => change.commands(),
            Self::ForgetMarks(forget) => forget.commands(),
            Self::CutFlows(_) => vec!["conntrack -D …    # each flow that the new rules don't allow".into()],
            Self::RemoveFirewall => {
                TABLE_FAMILIES.map(|family| format!("nft delete table {}", table(family))).into()
            }
            Self::StartVm { vm, .. } => vec![format!("hostctl vm up {}", vm.name)],
        }
    }

    /// What it is for, where the command doesn't say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::StopVm { reason, .. }
            | Self::StopApp { reason, .. }
            | Self::LoadFirewall { reason, .. }
            | Self::StartVm { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, command) in self.commands().iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            f.write_str(command)?;
        }
        match self.reason() {
            Some(reason) => write!(f, "    # {reason}"),
            None => Ok(()),
        }
    }
}
