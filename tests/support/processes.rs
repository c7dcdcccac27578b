//! Processes of others, and waiting for what they do.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// More than anything takes, on a machine that is busy with other tests.
const LONG: Duration = Duration::from_secs(120);

#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "too long until: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Neither gone nor a zombie.
pub fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn signal(pid: impl TryInto<i32, Error: std::fmt::Debug>, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}
