//! The vm room: QEMU guests, each under a supervisor of its own.
//!
//! The decisions are pure: [`command_line`] (what QEMU is told), and the life
//! of a VM in `state`. The effects: [`supervise`] starts and watches one VM,
//! [`Client`] talks to its supervisor, [`observe`] finds out what there is.

mod booted;
mod client;
mod confined;
mod console;
mod control;
mod error;
mod held;
mod observe;
mod pending;
pub mod program;
mod qemu;
mod record;
#[cfg(test)]
mod record_tests;
mod running;
mod runtime_dir;
mod state;
mod supervisor;
#[cfg(test)]
mod test_vm;
mod trouble;

pub use crate::supervise::error::SystemError;
pub use booted::Booted;
pub use client::{Client, attach_console, read_desired, spawn_supervisor, wait_until, write_desired};
pub use confined::confined;
pub use control::VmReport;
pub use error::VmError;
pub use held::{DiskErrors, Held};
pub use observe::{Observed, elsewhere, find_strays, kill_stray, observe, observe_one, stop};
pub use pending::{Pending, differences};
pub use qemu::accel::{accelerator, kvm};
pub use qemu::agent::ExecOutput;
pub use qemu::boot_files::BootFiles;
pub use qemu::card::{Card, vhost};
pub use qemu::command_line::{Accelerator, DiskFd, Fds, QemuCommand, command_line};
pub use qemu::disk_io::Way as DiskWay;
pub use qemu::launch::can_start;
pub use record::VmRecord;
pub use state::State;
pub use supervisor::{Options, supervise};
pub use trouble::Trouble;
