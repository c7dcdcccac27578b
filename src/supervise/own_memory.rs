//! Gives back what a process needed to begin, and doesn't need to go on: one that
//! watches a guest for months needs few of its program's pages, and little of what
//! it has read to start.

use std::fs;
use std::path::Path;

use nix::libc;

/// Gives back free memory, and lets go of the pages of this program that nobody
/// has written to: those that are needed are read from its file again, which stays
/// open, whoever renames another one to its name.
pub(crate) fn give_back() {
    trim_heap();
    let Ok(program) = fs::read_link("/proc/self/exe") else { return };
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, end) in unwritten(&maps, &program) {
        let_go(start, end - start);
    }
}

#[allow(unsafe_code)]
fn trim_heap() {
    // Whoever isn't glibc has no such call, and keeps less.
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and only gives back what is free (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[allow(unsafe_code)]
fn let_go(start: usize, length: usize) {
    // SAFETY: the range is a private mapping of a file that nobody can write to and
    // that has no page of its own: each is the same when it is read again
    // (madvise(2)). Where that fails, all stays as it is.
    unsafe {
        libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
    }
}

/// The program's mappings that can't be written to, and of which no page was
/// (proc_pid_smaps(5)): relocations are written to pages that are read-only later.
fn unwritten(maps: &str, program: &Path) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in maps.lines() {
        if let Some(range) = mapping(line, program) {
            current = range;
        } else if let Some(("Anonymous", "0 kB")) =
            line.split_once(':').map(|(key, value)| (key, value.trim()))
        {
            found.extend(current.take());
        }
    }
    found
}

/// A mapping's first line: its range where it is the program's and read-only, and
/// nothing where it isn't. `None` for the lines about it.
fn mapping(line: &str, program: &Path) -> Option<Option<(usize, usize)>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let number = |text: &str| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let permissions = words.next()?;
    // Offset, device and inode, then the path with whatever it has in it.
    let path = line.splitn(6, ' ').nth(5)?.trim_start();
    let ours = Path::new(path) == program && matches!(permissions, "r--p" | "r-xp") && start < end;
    Some(ours.then_some((start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5600-5700 r--p 00000000 fe:01 77                         /usr/bin/a b
Rss:                  12 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
5700-5800 r-xp 00001000 fe:01 77                         /usr/bin/a b
Anonymous:             0 kB
5800-5900 r--p 00002000 fe:01 77                         /usr/bin/a b
Anonymous:             4 kB
5900-5a00 rw-p 00003000 fe:01 77                         /usr/bin/a b
Anonymous:             0 kB
5a00-5b00 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
7f00-7f10 r-xp 00000000 fe:01 78                         /usr/lib/libc.so.6
Anonymous:             0 kB
7f10-7f20 r--p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_the_programs_and_nobody_wrote_to_goes() {
        assert_eq!(unwritten(MAPS, Path::new("/usr/bin/a b")), [(0x5600, 0x5700), (0x5700, 0x5800)]);
        assert_eq!(unwritten(MAPS, Path::new("/usr/bin/a")), []);
        assert_eq!(unwritten("", Path::new("/")), []);
    }

    /// The pages are read again, with what was in them.
    #[test]
    fn a_process_goes_on_as_before() {
        let mapped = || {
            let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            // Whether other tests share a page, and so whose it is, changes meanwhile.
            let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = mapped();
        give_back();
        let after = mapped();
        assert!(after <= before, "{before} kB, then {after} kB");
        assert_eq!(unwritten(MAPS, Path::new("/usr/bin/a b")).len(), 2);
    }
}
