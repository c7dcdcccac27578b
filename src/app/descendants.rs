//! Every process of an app: the descendants of its supervisor, which adopts
//! those whose parents ended (PR_SET_CHILD_SUBREAPER(2const)), so that no
//! double fork and no new session leads out of the family.

use std::collections::{HashMap, HashSet};
use std::io;

use rustix::process::{Signal, WaitOptions, WaitStatus, wait};

use crate::process::{Process, Stat, pids};

/// How often the family is read again for what was born meanwhile.
const ROUNDS: usize = 20;

/// This process's living descendants.
pub(super) fn descendants() -> io::Result<Vec<Process>> {
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

/// Kills every descendant. They are stopped first, until a reading finds no
/// new one: a stopped process doesn't fork.
pub(super) fn kill() -> io::Result<()> {
    let mut stopped = HashSet::new();
    let mut last = Vec::new();
    for _ in 0..ROUNDS {
        last = descendants()?;
        let known = stopped.len();
        for process in &last {
            if stopped.insert((process.pid, process.start_time)) {
                let _ = process.signal(Signal::STOP);
            }
        }
        if stopped.len() == known {
            break;
        }
    }
    for process in last {
        let _ = process.signal(Signal::KILL);
    }
    Ok(())
}

/// Buries children that ended, born here or adopted. What `main` ended with,
/// where it is among them.
pub(super) fn reap(main: u32) -> Option<WaitStatus> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if u32::try_from(pid.as_raw_pid()) == Ok(main) {
            ended = Some(status);
        }
    }
    ended
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
