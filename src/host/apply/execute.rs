//! Carries steps out, one after the other.

use std::time::Duration;

use crate::app;
use crate::firewall::{FlowPolicy, conntrack, nft};
use crate::link::{self, Netlink};
use crate::topology::{Name, NamespaceName};
use crate::vm;

use super::carry_out::Host;
use super::step::Step;
use super::watch::Watch;
use crate::host::{HostError, hold};
use crate::kill_point::kill_point;

/// How long a guest has to shut down before it is switched off.
const STOP: Duration = Duration::from_secs(20);

impl Host {
    pub(in crate::host) async fn execute(
        &self,
        steps: &[Step],
        watch: &mut dyn Watch,
    ) -> Result<(), HostError> {
        let netlink = Netlink::open()?;
        let failed = |index: usize, source: HostError| HostError::Step {
            number: index + 1,
            total: steps.len(),
            step: steps.get(index).and_then(|step| step.commands().into_iter().next()).unwrap_or_default(),
            source: Box::new(source),
            consequence: String::new(),
        };
        // Steps of links are done together, and before any other step.
        let mut links = netlink.queue();
        let unlinked = |(index, error): link::StepError| failed(index, error.into());
        let mut leaving = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            if let Err(stopped) = watch.before(index + 1, steps.len(), step) {
                // What it was told of before is done.
                links.finish().map_err(unlinked)?;
                return Err(failed(index, stopped));
            }
            kill_point("before a step");
            match step {
                Step::Link(step) => {
                    links.add(index, step).await.map_err(unlinked)?;
                    continue;
                }
                Step::KeepApart(change) => {
                    links.keep_apart(index, change).map_err(unlinked)?;
                    continue;
                }
                _ => links.finish().map_err(unlinked)?,
            }
            // Guests that go take their time side by side.
            if let Step::StopVm { name, .. } = step {
                leaving.push((index, name));
                if matches!(steps.get(index + 1), Some(Step::StopVm { .. })) {
                    continue;
                }
                self.stop(&mut leaving).map_err(|(index, source)| failed(index, source))?;
            } else {
                self.execute_step(step).map_err(|source| failed(index, source))?;
            }
        }
        links.finish().map_err(unlinked)
    }

    fn stop(&self, leaving: &mut Vec<(usize, &Name)>) -> Result<(), (usize, HostError)> {
        std::thread::scope(|scope| {
            let stop = |(index, name): (usize, &Name)| {
                vm::stop(&self.root, name, STOP).map_err(|error| (index, HostError::from(error)))
            };
            let threads: Vec<_> = leaving.drain(..).map(|guest| scope.spawn(move || stop(guest))).collect();
            let ended = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            // Every one is waited for, also where one fails.
            ended.fold(Ok(()), Result::and)
        })
    }

    fn execute_step(&self, step: &Step) -> Result<(), HostError> {
        match step {
            // The caller does them, many at a time.
            Step::Link(_) | Step::KeepApart(_) => {}
            Step::LoadFirewall { text, .. } => hold::way(&self.root)?.load(text)?,
            Step::ChangeFirewall(delta) => hold::way(&self.root)?.change(delta)?,
            Step::RemoveFirewall => hold::way(&self.root)?.load(&nft::removal())?,
            Step::StopVm { name, .. } => vm::stop(&self.root, name, STOP)?,
            Step::StopApp { namespace, name, gone: false, .. } => {
                app::stop(&self.root, namespace, name, STOP)?
            }
            Step::StopApp { namespace, name, .. } => app::remove(&self.root, namespace, name, STOP)?,
            Step::Evict { namespace } => {
                app::evict(&NamespaceName::new(namespace.as_str())?)?;
            }
            Step::StartApp { app } => {
                app::write_desired(&self.root, app)?;
                app::spawn_supervisor(&self.root, app, &self.program)?;
            }
            Step::ForgetMarks(forget) => {
                let count = forget.carry_out().map_err(HostError::Marks)?;
                tracing::info!(count, "took back marks of older rules");
            }
            Step::CutFlows(policy) => cut_flows(policy)?,
            Step::EndStray { pid, .. } => vm::kill_stray(&self.root, *pid)?,
            Step::StartVm { vm, .. } => {
                vm::write_desired(&self.root, vm)?;
                vm::spawn_supervisor(&self.root, &vm.name, &self.program)?;
            }
        }
        Ok(())
    }
}

/// A kernel that can't list its flows goes on judging each packet that a
/// guest sends; only answers to what it sent before still arrive.
pub(in crate::host) fn cut_flows(policy: &FlowPolicy) -> Result<(), HostError> {
    match conntrack::cut(policy) {
        Ok(count) => tracing::info!(count, "ended flows that are no longer allowed"),
        Err(error) if unsupported(&error) => {
            tracing::warn!("this kernel doesn't list its tracked flows (nf_conntrack_netlink): {error}");
        }
        Err(error) => return Err(HostError::Flows(error)),
    }
    Ok(())
}

/// Whether a kernel can't list or change tracked flows by netlink at all.
pub(in crate::host) fn unsupported(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::INVAL))
}
