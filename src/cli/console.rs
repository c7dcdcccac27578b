//! A terminal on a guest's serial console.

use std::io::{IsTerminal, Write};

use hostctl::root_dir::RootDir;
use hostctl::topology::Name;
use hostctl::vm;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Failure;

/// Ctrl-].
const DETACH: u8 = 0x1d;

/// The terminal as it was, given back when the console is left.
pub struct Raw(Option<Termios>);

impl Raw {
    /// Lets every key through, where standard input is a terminal.
    pub fn enter() -> Self {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Self(None);
        }
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(&stdin, OptionalActions::Now, &raw) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone; then nothing is left to restore.
            _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Joins the terminal and the console until either side ends.
pub async fn attach(root: &RootDir, name: &Name) -> Result<(), Failure> {
    let stream = vm::attach_console(root, name)?;
    stream.set_nonblocking(true).map_err(broken)?;
    let (mut output, mut input) = tokio::net::UnixStream::from_std(stream).map_err(broken)?.into_split();
    eprintln!("connected to {name}; Ctrl-] detaches");
    let raw = Raw::enter();
    let keys = async {
        let mut stdin = tokio::io::stdin();
        let mut buffer = [0; 1024];
        loop {
            let length = stdin.read(&mut buffer).await.map_err(broken)?;
            let typed = buffer.get(..length).unwrap_or_default();
            let detach = typed.iter().position(|byte| *byte == DETACH);
            let sent = typed.get(..detach.unwrap_or(length)).unwrap_or_default();
            input.write_all(sent).await.map_err(broken)?;
            if detach.is_some() || length == 0 {
                return Ok::<_, Failure>(detach.is_some());
            }
        }
    };
    let screen = async {
        let mut buffer = [0; 4096];
        loop {
            let length = output.read(&mut buffer).await.map_err(broken)?;
            if length == 0 {
                return Ok::<_, Failure>(());
            }
            let mut stdout = std::io::stdout();
            stdout.write_all(buffer.get(..length).unwrap_or_default()).map_err(broken)?;
            stdout.flush().map_err(broken)?;
        }
    };
    tokio::pin!(keys, screen);
    let ended = tokio::select! {
        // The end of a piped input leaves the output on.
        typed = &mut keys => match typed {
            Ok(false) => screen.await,
            other => other.map(drop),
        },
        shown = &mut screen => shown,
    };
    drop(raw);
    eprintln!("\ndetached from {name}");
    ended?;
    // Tokio's thread for standard input can't be stopped; the process can.
    std::process::exit(0)
}

fn broken(error: std::io::Error) -> Failure {
    Failure::other(format!("the console is gone: {error}"))
}
