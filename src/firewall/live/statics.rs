//! Whether the rules are those that were there before, without reading what they
//! say: the kernel numbers every rule and chain that is made, and gives no number
//! twice. Others' transactions, of which it counts all, needn't be looked into
//! then.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};

use super::message::{GENERIC, attributes, be64, messages, name, request, text};
use super::tables::Tables;
use super::transaction::{ElementsError, open_for_answers, refusal, transmit};
use crate::ownership::TABLE;

/// `NFNL_SUBSYS_NFTABLES << 8 |` `NFT_MSG_NEWCHAIN`, `GETCHAIN`, `NEWRULE` and
/// `GETRULE` (`linux/netfilter/nf_tables.h`).
const NEW_CHAIN: u16 = 10 << 8 | 3;
const GET_CHAIN: u16 = 10 << 8 | 4;
const NEW_RULE: u16 = 10 << 8 | 6;
const GET_RULE: u16 = 10 << 8 | 7;
/// `NLM_F_DUMP`, `NLM_F_DUMP_INTR`, and the ends of an answer.
const DUMP: u16 = 0x300;
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NFTA_RULE_TABLE` and `NFTA_CHAIN_TABLE`.
const OF_TABLE: u16 = 1;
/// One part of an answer fits.
const BUFFER: usize = 64 * 1024;

/// What of hostctl's tables isn't elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statics {
    /// Family, number and flags of each table.
    tables: Vec<(u8, u64, u32)>,
    /// Of every chain and rule, in their order.
    digest: u64,
}

impl Statics {
    /// Those of now.
    ///
    /// # Errors
    /// Where the kernel doesn't answer, or somebody changed them meanwhile.
    pub fn read() -> Result<Self, ElementsError> {
        let tables = Tables::read().map_err(ElementsError::Netlink)?;
        let socket = open_for_answers()?;
        let mut digest = DefaultHasher::new();
        for family in tables.0.keys() {
            read_chains(socket.as_fd(), *family, &mut digest)?;
            read_rules(socket.as_fd(), *family, &mut digest)?;
        }
        let of = |(family, table): (&u8, &super::tables::Table)| (*family, table.handle, table.flags);
        Ok(Self { tables: tables.0.iter().map(of).collect(), digest: digest.finish() })
    }
}

/// How each chain is hooked, and what it does at its end. How often it is
/// referred to follows from elements.
fn read_chains(socket: BorrowedFd<'_>, family: u8, digest: &mut DefaultHasher) -> Result<(), ElementsError> {
    const NAME: u16 = 3;
    const KEPT: [u16; 6] = [2, NAME, 4, 5, 7, 10];
    ask(socket, &request(GET_CHAIN, DUMP, 1, (family, 0), &[]), NEW_CHAIN, |found| {
        // The kernel lists those of other tables, too.
        let table = found.iter().find(|(kind, _)| *kind == OF_TABLE);
        if table.is_some_and(|(_, value)| text(value) == Ok(TABLE)) {
            family.hash(digest);
            found.iter().filter(|(kind, _)| KEPT.contains(kind)).for_each(|part| part.hash(digest));
        }
        Ok(())
    })
}

fn read_rules(socket: BorrowedFd<'_>, family: u8, digest: &mut DefaultHasher) -> Result<(), ElementsError> {
    const CHAIN: u16 = 2;
    const HANDLE: u16 = 3;
    let asked = request(GET_RULE, DUMP, 2, (family, 0), &name(OF_TABLE, TABLE));
    ask(socket, &asked, NEW_RULE, |found| {
        for (kind, value) in found {
            match *kind {
                CHAIN => value.hash(digest),
                HANDLE => be64(value)?.hash(digest),
                _ => {}
            }
        }
        Ok(())
    })
}

/// Asks, and calls `each` with the attributes of every answer of a kind.
fn ask(
    socket: BorrowedFd<'_>,
    question: &[u8],
    wanted: u16,
    mut each: impl FnMut(&[(u16, &[u8])]) -> Result<(), super::message::Unexpected>,
) -> Result<(), ElementsError> {
    transmit(socket, question).map_err(ElementsError::Netlink)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            received => received.map_err(|error| ElementsError::Netlink(error.into()))?.0,
        };
        for message in messages(buffer.get(..length).unwrap_or_default())? {
            match message.kind {
                DONE => return Ok(()),
                ERROR => {
                    let errno = refusal(message)?.map_or(libc::EIO, |(errno, _)| errno);
                    return Err(ElementsError::Netlink(std::io::Error::from_raw_os_error(errno)));
                }
                _ if message.flags & INTERRUPTED != 0 => {
                    return Err(ElementsError::Netlink(std::io::ErrorKind::Interrupted.into()));
                }
                kind if kind == wanted => {
                    each(&attributes(message.payload.get(GENERIC..).unwrap_or_default())?)?;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::firewall::live::nft;

    const OURS: &str = "table inet hostctl { set s { type ifname; }; map m { type ifname : verdict; }; \
        chain a { type filter hook forward priority 0; policy drop; iifname vmap @m; \
        counter accept; }; chain b { counter drop; }; }\n";

    #[test]
    fn others_and_elements_change_nothing_and_every_rule_does() {
        let thread = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            nft::load(OURS).unwrap();
            let before = Statics::read().unwrap();
            for same in [
                "table inet other { chain a { type filter hook forward priority 1; accept; }; }",
                "table ip third { chain a { accept; }; }",
                "add element inet hostctl s { a }",
                "add element inet hostctl m { a : jump b }",
                "delete table inet other",
            ] {
                nft::load(same).unwrap();
                assert_eq!(Statics::read().unwrap(), before, "{same}");
            }
            let mut seen = vec![before];
            for other in [
                "add rule inet hostctl b accept",
                "insert rule inet hostctl a accept",
                "add chain inet hostctl a { policy accept; }",
                "add chain inet hostctl c { type filter hook input priority 0; }",
                "flush chain inet hostctl b",
                "add table inet hostctl { flags dormant; }",
                "delete table inet hostctl",
                OURS,
            ] {
                nft::load(other).unwrap();
                let now = Statics::read().unwrap();
                assert!(!seen.contains(&now), "{other}");
                seen.push(now);
            }
        });
        thread.join().unwrap();
    }
}
