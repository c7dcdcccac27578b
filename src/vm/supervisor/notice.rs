//! What QEMU and the guest's agent say, and what comes of it: above all why a
//! guest is held, and when it may go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::supervise::lifecycle::Next;
use crate::topology::Image;

use super::{Supervisor, now};
use crate::vm::held::{Held, IoError};
use crate::vm::qemu::qmp::QmpEvent;
use crate::vm::qemu::watch::{self, Noticed};
use crate::vm::record::VmRecord;
use crate::vm::state::{Event, State};

/// How often it is looked whether a disk that was full has room again, and
/// how much of it, in bytes.
const ROOM: Duration = Duration::from_secs(5);
const ROOM_LEAST: u64 = 1 << 20;

impl Supervisor {
    pub(super) fn notice(&mut self, noticed: Noticed) -> Next {
        let Some(qemu) = &mut self.qemu else { return Next::Wait };
        match noticed {
            Noticed::Up { qmp, held } => {
                let paused = held.is_some();
                self.silent_since = None;
                if self.stopping.is_some() {
                    qemu.accompany(watch::power_off(Some(qmp.clone()), self.agent.clone(), paused));
                }
                qemu.qmp = Some(qmp);
                let fresh = qemu.answer_by.take().is_some();
                let agent = qemu.record.agent.get().copied().unwrap_or(false);
                self.hold(held);
                match (fresh, paused) {
                    (true, _) => self.on(Event::Up { paused, agent }),
                    (false, true) => self.on(Event::Paused),
                    (false, false) => self.on(Event::Resumed),
                }
            }
            Noticed::Down => {
                qemu.qmp = None;
                self.silent_since.get_or_insert_with(now);
                Next::Wait
            }
            Noticed::Silent => {
                self.silent_since.get_or_insert_with(now);
                Next::Wait
            }
            Noticed::Answered(held) => {
                self.silent_since = None;
                let paused = held.is_some();
                if paused != (self.life.state == State::Paused) {
                    self.hold(held);
                }
                self.on(if paused { Event::Paused } else { Event::Resumed })
            }
            Noticed::Event(event) => self.machine_event(event),
            Noticed::Agent(answered) => {
                self.agent_answers = answered;
                if answered { self.on(Event::AgentAnswered) } else { Next::Wait }
            }
        }
    }

    pub(super) fn machine_event(&mut self, event: QmpEvent) -> Next {
        match event {
            QmpEvent::GuestShutdown => self.on(Event::GuestShutdown),
            // QEMU ends, and that decides.
            QmpEvent::GuestPanic => {
                self.panicked = true;
                Next::Wait
            }
            QmpEvent::HostShutdown => Next::Wait,
            // That it is held for it, the next event says.
            QmpEvent::IoError(error) if error.stops => {
                self.hold(Some(error.held()));
                Next::Wait
            }
            QmpEvent::IoError(error) => {
                self.told(&error);
                Next::Wait
            }
            QmpEvent::Reset => {
                self.agent_answers = false;
                self.on(Event::Reset)
            }
            QmpEvent::Paused => {
                if self.held.is_none() {
                    self.hold(Held::of("paused"));
                }
                self.on(Event::Paused)
            }
            QmpEvent::Resumed => {
                self.hold(None);
                self.on(Event::Resumed)
            }
        }
    }

    /// Takes note of why the guest is held, or that it isn't.
    pub(super) fn hold(&mut self, held: Option<Held>) {
        let no_space = held.as_ref().is_some_and(|held| held.no_space);
        self.resume_at = no_space.then(|| Instant::now() + ROOM);
        self.held = held;
    }

    /// Takes note of an error that the guest was told of.
    fn told(&mut self, error: &IoError) {
        let disk = self.disk(&error.disk).map_or_else(|| error.disk.clone(), |(disk, _)| disk);
        let errors = self.disk_errors.get_or_insert_default();
        errors.count = errors.count.saturating_add(1);
        errors.last = format!("{} of {disk}: {}", error.operation, error.reason);
        errors.at = now();
    }

    /// Lets a guest go on that is held for want of room, once there is some.
    pub(super) fn resume_with_room(&mut self) {
        self.resume_at = Some(Instant::now() + ROOM);
        let held = self.held.as_ref().and_then(|held| held.disk.as_deref());
        let path = held.and_then(|disk| self.disk(disk)).map(|(_, path)| path);
        if path.is_none_or(|path| has_room(&path)) {
            self.go_on();
        }
    }

    pub(super) fn go_on(&mut self) {
        let Some(qemu) = &mut self.qemu else { return };
        if let Some(qmp) = qemu.qmp.clone() {
            qemu.accompany(async move { drop(qmp.execute("cont").await) });
        }
    }

    /// A disk by QEMU's name of it: what the spec calls it, with its file.
    pub(super) fn disk(&self, node: &str) -> Option<(String, PathBuf)> {
        let launched = self.qemu.as_ref().and_then(|qemu| qemu.record.vm.get());
        let (key, disk) = match node.strip_prefix("volume") {
            Some(number) => {
                let index = number.parse::<usize>().ok()?.checked_sub(1)?;
                let volumes = launched.and_then(VmRecord::volumes);
                let volumes = volumes.unwrap_or_else(|| self.vm.volumes.clone());
                (format!("volumes[{index}]"), volumes.into_iter().nth(index)?)
            }
            None => match launched.and_then(VmRecord::image).unwrap_or_else(|| self.vm.image.clone()) {
                Image::Files(files) => ("disk".into(), files.disk?),
                Image::Named(_) => return None,
            },
        };
        Some((format!("{key} {}", disk.path.display()), disk.path))
    }
}

/// Whether a user without privileges may write more to the file's file system;
/// of what can't be asked, a try tells.
fn has_room(path: &Path) -> bool {
    match rustix::fs::statvfs(path) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize) >= ROOM_LEAST,
        Err(_) => true,
    }
}
