//! How QEMU runs a machine: its command line, its files, its sockets.

pub(super) mod accel;
pub(super) mod adopt;
pub(super) mod agent;
pub(super) mod boot_files;
pub(super) mod card;
pub(super) mod command_line;
pub(super) mod disk_header;
pub(in crate::vm) mod disk_io;
pub(super) mod launch;
pub(super) mod opened;
pub(super) mod qmp;
pub(super) mod watch;
