//! The netlink socket that hostctl's tables belong to. While it is open, no
//! other program's `flush ruleset` takes them, and nobody else changes them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, getsockname, recv, send};

use super::batch::{flagging, set_flags};
use super::delta::Delta;
use super::lent_socket::nft_by;
use super::nft::{NftError, in_scratch_namespace};
use super::tables::{GUARDED, Tables};
use super::transaction;
use crate::ownership::{INET, table};

/// The socket. A copy of it, in whatever process, is as good as the first.
#[derive(Debug)]
pub struct Owner(OwnedFd);

impl Owner {
    /// Opens one in the calling thread's network namespace, which owns nothing
    /// yet.
    ///
    /// # Errors
    /// Where there is no netlink.
    pub fn open() -> io::Result<Self> {
        transaction::open().map(Self)
    }

    /// Somebody else's, which was handed over.
    ///
    /// # Errors
    /// Where it is another kind of descriptor.
    pub fn received(socket: OwnedFd) -> io::Result<Self> {
        let owner = Self(socket);
        owner.port().map(|_| owner)
    }

    /// By what the kernel knows it (`nl_pid` of netlink(7)).
    ///
    /// # Errors
    /// Where it is no netlink socket.
    pub fn port(&self) -> io::Result<u32> {
        let address: SocketAddrNetlink = getsockname(&self.0)?.try_into()?;
        Ok(address.pid())
    }

    /// Makes the tables its own that outlived their owner.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn adopt(&self) -> io::Result<()> {
        let orphans: Vec<u8> = Tables::read()?.orphans().collect();
        let batch = flagging(orphans.iter().copied(), GUARDED);
        if orphans.is_empty() {
            return Ok(());
        }
        send(&self.0, &batch, SendFlags::empty())?;
        // struct nlmsghdr, then the error's number, negative.
        let mut answer = [0; 1024];
        for _ in orphans {
            let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
            let error = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
            match error.map(i32::from_ne_bytes) {
                Some(0) => {}
                Some(errno) => return Err(io::Error::from_raw_os_error(-errno)),
                None => return Err(io::Error::other("the kernel's answer is too short")),
            }
        }
        Ok(())
    }

    /// As [`super::nft::load`], by this socket. Tables that are made become
    /// its own where it is to `guard` them, and are anybody's otherwise.
    ///
    /// # Errors
    /// As [`super::nft::load`].
    pub fn load(&self, text: &str, guard: bool) -> Result<(), NftError> {
        self.nft(&["-f", "-"], text, guard)
    }

    /// As [`super::nft::change`], by this socket.
    ///
    /// # Errors
    /// As [`super::nft::change`].
    pub fn change(&self, delta: &Delta, guard: bool) -> Result<(), NftError> {
        if let Some(parts) = delta.parts() {
            let result = transaction::change(self.as_fd(), parts, &flagged(guard)?);
            if !delta.is_nfts(&result) {
                return result;
            }
        }
        let (json, input) = delta.input();
        let arguments: &[&str] = if json { &["-j", "-f", "-"] } else { &["-f", "-"] };
        self.nft(arguments, input, guard)
    }

    fn nft(&self, arguments: &[&str], input: &str, guard: bool) -> Result<(), NftError> {
        let edit = flagged(guard)?;
        nft_by(self.0.as_fd(), arguments, input, |batch| edit(batch).map(|()| true)).map(drop)
    }
}

/// Sets the flags of hostctl's tables in what nft sends.
fn flagged(guard: bool) -> Result<impl Fn(&mut [u8]) -> io::Result<()>, NftError> {
    let there = Tables::read().map_err(NftError::Lend)?.flags();
    let new = if guard { GUARDED } else { 0 };
    Ok(move |batch: &mut [u8]| {
        set_flags(batch, &there, new).map_err(|_| io::Error::from_raw_os_error(libc::EBADMSG))
    })
}

impl AsFd for Owner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Tries, in a network namespace of its own, whether tables can be guarded
/// here.
///
/// # Errors
/// Where they can't: Linux before 6.9, or no seccomp filter for nft.
pub fn probe() -> Result<(), NftError> {
    in_scratch_namespace(|| {
        let owner = Owner::open().map_err(NftError::Lend)?;
        let ours = table(INET);
        let text = format!("table {ours} {{}}\ndelete table {ours}\ntable {ours} {{}}\n");
        owner.load(&text, true)?;
        let tables = Tables::read().map_err(NftError::Lend)?;
        let held = !tables.is_empty() && tables.are_guarded();
        let lost = || io::Error::other("the kernel took the flags and doesn't show them");
        if held { Ok(()) } else { Err(NftError::Lend(lost())) }
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::firewall::Ruleset;
    use crate::firewall::desired::render::render;
    use crate::firewall::live::nft;

    fn alone(test: impl FnOnce() + Send + 'static) {
        let thread = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            test();
        });
        thread.join().unwrap();
    }

    fn flush() {
        nft::load("flush ruleset").unwrap();
    }

    /// Says so and returns where this machine can't.
    fn possible() -> bool {
        let result = probe();
        if let Err(error) = &result {
            println!("SKIPPED: tables can't be guarded here: {error}");
        }
        result.is_ok()
    }

    #[test]
    fn held_tables_outlive_a_flush_and_their_owner() {
        if !possible() {
            return;
        }
        alone(|| {
            let text = render(&Ruleset::default()).unwrap();
            nft::load(&text).unwrap();
            assert!(!Tables::read().unwrap().are_guarded());
            let owner = Owner::open().unwrap();
            // From anybody's to its own, in one transaction, and again.
            for _ in 0..2 {
                owner.load(&text, true).unwrap();
                let tables = Tables::read().unwrap();
                assert!(tables.are_complete() && tables.are_guarded());
                assert_eq!(tables.owner(), Some(owner.port().unwrap()));
            }
            let listed = nft::observe().unwrap();
            assert_eq!(listed, nft::rehearse(&text).unwrap(), "flags are no difference");
            flush();
            assert_eq!(nft::observe().unwrap(), listed);
            assert!(nft::load("add element inet hostctl bridges { x }").is_err());
            assert!(nft::load("delete table bridge hostctl").is_err());
            drop(owner);
            let tables = Tables::read().unwrap();
            assert!(tables.are_complete() && tables.persist() && tables.owner().is_none());
            let heir = Owner::open().unwrap();
            heir.adopt().unwrap();
            flush();
            assert_eq!(nft::observe().unwrap(), listed);
            heir.load("add element inet hostctl bridges { x }\ntable inet hostctl { chain y {}; }", true)
                .unwrap();
            assert!(Tables::read().unwrap().are_guarded());
            heir.load(&nft::removal(), true).unwrap();
            assert!(Tables::read().unwrap().is_empty());
        });
    }

    #[test]
    fn tables_that_outlived_their_owner_can_be_anybodys_again() {
        if !possible() {
            return;
        }
        alone(|| {
            let text = render(&Ruleset::default()).unwrap();
            Owner::open().unwrap().load(&text, true).unwrap();
            assert!(nft::load(&text).is_err(), "nft alone has no way back");
            Owner::open().unwrap().load(&text, false).unwrap();
            assert!(!Tables::read().unwrap().persist());
            nft::load(&text).unwrap();
        });
    }

    #[test]
    fn a_refused_text_changes_nothing_and_says_why() {
        if !possible() {
            return;
        }
        alone(|| {
            let owner = Owner::open().unwrap();
            owner.load("table inet hostctl { set s { type ifname; }; }", true).unwrap();
            let error = owner.load("delete element inet hostctl s { a }", true).unwrap_err();
            assert!(error.to_string().contains("No such file"), "{error}");
            let error = owner.load("table inet hostctl { nonsense }", true).unwrap_err();
            assert!(error.to_string().contains("syntax error"), "{error}");
            owner.load("add element inet hostctl s { a }", true).unwrap();
        });
    }
}
