//! What the figures were measured on. No names, no paths.

use std::fs;
use std::process::Command;

/// One line.
pub fn describe() -> String {
    let processor = value("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory =
        value("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What a distribution or a cloud appends says where it runs.
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_string();
    format!(
        "{processor}, {cores} cores, {:.0} GiB of memory, Linux {kernel}, {}, {}, {}",
        memory.unwrap_or_default() / 1_048_576.0,
        version("nft", "nftables v"),
        version("iptables", "iptables v"),
        version("qemu-system-x86_64", "QEMU emulator version "),
    )
}

fn value(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// A program's name and version, from its first line.
fn version(program: &str, before: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let number = text.lines().next().and_then(|line| line.strip_prefix(before)?.split([' ', '(']).next());
    let program = program.split('-').next().unwrap_or(program);
    number.map_or_else(|| format!("no {program}"), |number| format!("{program} {number}"))
}
