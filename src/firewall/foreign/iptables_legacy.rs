//! Reads iptables-legacy's tables, which nft doesn't show, with the programs
//! that come with iptables.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::process::Stdio;

use rustix::fs::MemfdFlags;

use super::read::output;
use super::{Foreign, untranslated};
use crate::firewall::live::nft::rehearse_json;

/// Family, the kernel's list of tables, what prints them, what puts them into
/// nft's words.
const FAMILIES: [(&str, &str, &str, &str); 2] = [
    ("ip", "ip_tables_names", "iptables-legacy-save", "iptables-restore-translate"),
    ("ip6", "ip6_tables_names", "ip6tables-legacy-save", "ip6tables-restore-translate"),
];

/// Adds what is loaded. Where nothing is, nothing is run: the programs would
/// load the kernel's modules.
pub(in crate::firewall) fn observe(foreign: &mut Foreign) {
    for (family, names, save, translate) in FAMILIES {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        if names.trim().is_empty() {
            continue;
        }
        if let Err(why) = read(foreign, save, translate, family) {
            let names: Vec<&str> = names.split_whitespace().collect();
            foreign.add_unjudged_legacy(family, format!("{} ({why})", names.join(", ")));
        }
    }
}

fn read(foreign: &mut Foreign, save: &str, translate: &str, family: &str) -> Result<(), String> {
    let saved = output(save, &[], Stdio::null()).map_err(|_| format!("{save} can't be run"))?;
    let file = memory_file(&saved).map_err(|error| error.to_string())?;
    let translation = output(translate, &["-f", "/dev/stdin"], file.into())
        .map_err(|_| format!("{translate} can't be run"))?;
    let json = rehearse_json(&translation).map_err(|_| "nft doesn't take its translation".to_string())?;
    foreign.add_legacy(&json).map_err(|error| error.to_string())?;
    let rest = untranslated(&translation);
    if let Some(first) = rest.first() {
        let more = if rest.len() > 1 { format!(", and {} more", rest.len() - 1) } else { String::new() };
        foreign.add_unjudged_legacy(family, format!("{first}{more}"));
    }
    Ok(())
}

/// The text to read from: the program doesn't begin to print before it has
/// read a table, and a pipe has an end.
fn memory_file(text: &str) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("hostctl-rules", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
