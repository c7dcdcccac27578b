//! `make demo KEEP=1`: the demo goes on in the background.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::Failure;
use super::report::say;
use super::stage::{Stage, top};

/// The line that ends the show; what follows isn't for the terminal.
const KEPT: &str = "\u{4}kept";

fn pid_file() -> PathBuf {
    top().join("target/demo.pid")
}

/// Runs the demo in a process of its own, shows what it says until all is
/// shown, and leaves it.
pub fn in_background() -> Result<ExitCode, Failure> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--keeper").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // Ctrl-C is for the one who watches; see below.
    command.process_group(0);
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().ok_or("no output to read")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if line == KEPT {
            return Ok(ExitCode::SUCCESS);
        }
        say(&line);
    }
    let status = child.wait()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says how to look around, and how to end it.
pub fn announce(stage: &Stage) -> Result<(), Failure> {
    let pid = std::process::id();
    fs::write(pid_file(), pid.to_string())?;
    // Whoever enters this process's namespace shall be on the host.
    stage.world().hypervisor.enter_current_thread()?;
    let hostctl = format!(
        "nsenter --net=/proc/{pid}/ns/net {} --root-dir {}",
        stage.program().display(),
        stage.root().path().display()
    );
    say(&format!(
        "\nThe demo is still up. To look around:\n\
         \x20 {hostctl} status\n\
         \x20 {hostctl} vm console vm1        # Ctrl-] leaves\n\
         \x20 {hostctl} vm exec vm1 -- /bin/probe icmp/10.2.0.2 tcp/203.0.113.1/80\n\
         \x20 nsenter --net=/proc/{pid}/ns/net nft list ruleset\n\
         To take it down:\n\
         \x20 make demo-down\n{KEPT}"
    ));
    Ok(())
}

/// Ends a demo that was left up.
pub fn take_down() -> Result<ExitCode, Failure> {
    let file = pid_file();
    let text = fs::read_to_string(&file).map_err(|_| "no demo is up")?;
    let number: i32 = text.trim().parse()?;
    let pid = Pid::from_raw(number).ok_or("no demo is up")?;
    let program = fs::read_link(format!("/proc/{number}/exe")).unwrap_or_default();
    // A demo that was built anew meanwhile is "… (deleted)".
    let name = |path: &Path| {
        path.to_string_lossy().trim_end_matches(" (deleted)").rsplit('/').next().map(String::from)
    };
    if name(&program) != name(&std::env::current_exe()?) {
        fs::remove_file(&file)?;
        return Err("no demo is up".into());
    }
    kill_process(pid, Signal::TERM)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while test_kill_process(pid).is_ok() {
        if Instant::now() > deadline {
            return Err(format!("process {number} doesn't end").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_file(&file)?;
    say("the demo is down; nothing is left");
    Ok(ExitCode::SUCCESS)
}
