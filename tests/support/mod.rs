//! What several tests stand on.

pub mod app_host;
pub mod commands;
pub mod docs_support;
pub mod lab;
pub mod oracle;
pub mod probe_table;
pub mod processes;
pub mod random_hosts;
pub mod random_policies;
pub mod running_hostctl;
pub mod spec_parts;
pub mod spec_support;
pub mod systemd_host;
pub mod vm_host;
