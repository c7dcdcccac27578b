//! The nft program: the way to the kernel's tables for all but elements.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

use super::delta::Delta;
use super::listing::{Listing, UnexpectedListing};
use super::transaction::{self, ElementsError};
use crate::ownership::{TABLE, TABLE_FAMILIES};

/// Why nft didn't do as told.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program can't be started.
    #[error("can't run nft: {0} (install the package nftables)")]
    Run(#[source] io::Error),
    /// The program, or the kernel, refused.
    #[error("nft {arguments} failed: {stderr}")]
    Refused {
        /// What was asked for.
        arguments: String,
        /// What it said, shortened.
        stderr: String,
    },
    /// Its answer can't be read.
    #[error(transparent)]
    Listing(#[from] UnexpectedListing),
    /// No namespace to try a ruleset in.
    #[error("can't make a network namespace to check the ruleset in: {0} (run as root)")]
    Namespace(#[source] io::Error),
    /// Elements, which hostctl changes itself.
    #[error(transparent)]
    Elements(#[from] ElementsError),
    /// nft can't work on the socket that the tables belong to.
    #[error("nft can't be had to change tables that are held against other programs: {0}")]
    Lend(#[source] io::Error),
}

impl NftError {
    /// That its answer isn't JSON.
    pub(crate) fn unexpected(error: &serde_json::Error) -> Self {
        Self::Listing(UnexpectedListing(error.to_string()))
    }
}

pub(in crate::firewall) fn nft(arguments: &[&str], input: Option<&str>) -> Result<String, NftError> {
    let mut command = Command::new("nft");
    command.args(arguments).env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(NftError::Run)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A refusal shows in the status; nft may stop reading before the end.
        if let Err(error) = stdin.write_all(input.as_bytes())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(NftError::Run(error));
        }
    }
    let output = child.wait_with_output().map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
    Err(NftError::Refused { arguments: arguments.join(" "), stderr: stderr.trim().into() })
}

/// Hostctl's tables as this network namespace has them.
///
/// # Errors
/// Where nft can't be run or understood.
pub fn observe() -> Result<Listing, NftError> {
    let mut listing = Listing::default();
    for family in TABLE_FAMILIES {
        match nft(&["-j", "list", "table", family, TABLE], None) {
            Ok(text) => listing.add_here(family, &text, &|name| if_nametoindex(name).ok())?,
            Err(NftError::Refused { stderr, .. }) if stderr.contains("No such file or directory") => {}
            // It says why it refuses; where it doesn't, it crashed.
            Err(NftError::Refused { stderr, .. }) if stderr.is_empty() => listing.add_unreadable(family),
            Err(error) => return Err(error),
        }
    }
    Ok(listing)
}

/// Loads a text in a namespace of its own that is thrown away: what the kernel
/// makes of it, without touching anything.
///
/// # Errors
/// Where nft or the kernel refuses the text.
pub fn rehearse(text: &str) -> Result<Listing, NftError> {
    in_scratch_namespace(|| {
        nft(&["-f", "-"], Some(text))?;
        observe()
    })
}

/// As [`rehearse`], in nft's own JSON: what `nft -j list ruleset` shows once
/// the text is loaded.
///
/// # Errors
/// Where nft or the kernel refuses the text.
pub fn rehearse_json(text: &str) -> Result<String, NftError> {
    in_scratch_namespace(|| {
        nft(&["-f", "-"], Some(text))?;
        nft(&["-j", "list", "ruleset"], None)
    })
}

/// All tables of this network namespace, in nft's own JSON.
///
/// # Errors
/// Where nft can't be run.
pub fn list_json() -> Result<String, NftError> {
    nft(&["-j", "list", "ruleset"], None)
}

/// Hostctl's tables as this network namespace has them, in nft's own text, which
/// loads them again.
///
/// # Errors
/// Where nft can't be run, or there is no such table.
pub fn list_text() -> Result<String, NftError> {
    TABLE_FAMILIES.iter().map(|family| nft(&["list", "table", family, TABLE], None)).collect()
}

/// Whether this nft and this kernel take a text, for `doctor`.
///
/// # Errors
/// Where they don't, with what nft said.
pub fn probe(text: &str) -> Result<(), NftError> {
    in_scratch_namespace(|| nft(&["-f", "-"], Some(text)).map(drop))
}

pub(in crate::firewall) fn in_scratch_namespace<T: Send>(
    work: impl FnOnce() -> Result<T, NftError> + Send,
) -> Result<T, NftError> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NftError::Namespace(errno.into()))?;
            work()
        });
        // The closure has no way to panic; if it does, so does this thread.
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Loads a text in one transaction.
///
/// # Errors
/// Where nft or the kernel refuses it; then nothing was changed.
pub fn load(text: &str) -> Result<(), NftError> {
    nft(&["-f", "-"], Some(text)).map(drop)
}

/// Changes the tables in one transaction, without nft where elements alone
/// change. Each is read back.
///
/// # Errors
/// Where nft or the kernel refuses; then nothing was changed. Where the kernel
/// has other elements than it took.
pub fn change(delta: &Delta) -> Result<(), NftError> {
    if let Some(parts) = delta.parts() {
        let socket = transaction::open().map_err(ElementsError::Netlink)?;
        let result = transaction::change(socket.as_fd(), parts, &|_| Ok(()));
        if !delta.is_nfts(&result) {
            return result;
        }
    }
    let (json, input) = delta.input();
    let arguments: &[&str] = if json { &["-j", "-f", "-"] } else { &["-f", "-"] };
    nft(arguments, Some(input)).map(drop)
}

/// The text that removes hostctl's tables, whether they are there or not.
pub fn removal() -> String {
    TABLE_FAMILIES
        .iter()
        .map(|family| format!("table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n"))
        .collect()
}

/// What `nft --version` prints.
///
/// # Errors
/// Where nft can't be run.
pub fn version() -> Result<String, NftError> {
    nft(&["--version"], None).map(|text| text.trim().into())
}
