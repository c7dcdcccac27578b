//! Every process of an app: the descendants of its supervisor, which adopts
//! those whose parents ended (PR_SET_CHILD_SUBREAPER(2const)), so that no
//! double fork and no new session leads out of the family.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use crate::bounded::read_bounded;
use crate::supervise::process::{Process, Stat, pids};

/// How often the family is read again for what was born meanwhile.
const ROUNDS: usize = 20;
/// And how often its youngest in between.
const GLANCES: usize = 100;
/// The longest list of children that is read, in bytes.
const CHILDREN_MAX: u64 = 1024 * 1024;

/// This process's living descendants.
fn descendants() -> io::Result<Vec<Process>> {
    let stats = pids()?.into_iter().filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
    let family = family(std::process::id(), &stats);
    // The start time tells a descendant from a stranger that was given its
    // number in between.
    let find = |pid: u32| Process::find(pid, stats.get(&pid)?.start_time);
    Ok(family.into_iter().filter_map(find).collect())
}

fn family(ancestor: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in stats {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut generation = vec![ancestor];
    while let Some(parent) = generation.pop() {
        // Removed, so that no two readings of a pid make a circle.
        let born = children.remove(&parent).unwrap_or_default();
        found.extend(&born);
        generation.extend(born);
    }
    found
}

/// Asks every descendant to end; a stopped one is woken to hear it.
pub(super) fn terminate() -> io::Result<()> {
    for process in descendants()? {
        // What can't be signalled is killed later, or said to live on.
        let _ = process.signal(Signal::TERM);
        let _ = process.signal(Signal::CONT);
    }
    Ok(())
}

/// Kills the descendants that it finds. They are stopped first, until no new
/// one is found: a stopped process doesn't fork. To be called until none is
/// left; see [`Reaped`].
pub(super) fn kill() -> io::Result<()> {
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let known = stopped.len();
        for process in descendants()? {
            if stopped.insert(process.pid) {
                let _ = process.signal(Signal::STOP);
            }
        }
        // Reading all of /proc takes longer than some processes live. Those
        // that start the next and end are children of ours by then.
        for _ in 0..GLANCES {
            for child in children() {
                if stopped.insert(child.as_raw_pid().unsigned_abs()) {
                    let _ = kill_process(child, Signal::STOP);
                }
            }
        }
        if stopped.len() == known {
            break;
        }
    }
    for process in descendants()? {
        let _ = process.signal(Signal::KILL);
    }
    Ok(())
}

/// This process's own children, living or not: nobody else buries them, so
/// their numbers stay theirs. Empty where the kernel has no such list
/// (proc_tid_children(5)).
fn children() -> Vec<Pid> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let text = read_bounded(Path::new(&path), CHILDREN_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// What [`reap`] found.
#[derive(Debug)]
pub(super) struct Reaped {
    /// What the program ended with, where it was among them.
    pub main: Option<WaitStatus>,
    /// Whether no child is left, and so no descendant: the kernel says so,
    /// and it misses none.
    pub all: bool,
}

/// Buries children that ended, born here or adopted; `main` is the program.
pub(super) fn reap(main: u32) -> Reaped {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_pid()) == Ok(main) => ended = Some(status),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Reaped { main: ended, all: false },
            Err(_) => return Reaped { main: ended, all: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_all_below_and_nobody_else() {
        let stat = |parent| Stat { parent, start_time: 1 };
        // 7 and 8 were read while pids changed hands: a circle.
        let stats = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 8), (8, 7)];
        let stats = stats.into_iter().map(|(pid, parent)| (pid, stat(parent))).collect();
        let mut found = family(2, &stats);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert_eq!(family(9, &stats), [0_u32; 0]);
        assert_eq!(family(7, &stats).len(), 2);
    }
}
