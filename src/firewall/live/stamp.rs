//! By what hostctl sees, without listing anything, that nobody changed the
//! kernel's tables since it did.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use serde::{Deserialize, Serialize};

use super::tables::Tables;
use crate::firewall::netfilter::{is_end, open, receive, send};

/// The state of a network namespace's nf_tables: the kernel counts the
/// transactions, whoever makes them (`NFTA_GEN_ID` in
/// `linux/netfilter/nf_tables.h`), and gives each table that is made a number
/// of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    transaction: u32,
    /// Hostctl's tables, by family.
    tables: BTreeMap<u8, u64>,
}

impl Stamp {
    /// The stamp of now.
    ///
    /// # Errors
    /// Where the kernel doesn't answer; it wants root.
    pub fn read() -> io::Result<Self> {
        let socket = open()?;
        // Tables first: what comes in between is a later transaction.
        let tables = Tables::read_by(&socket)?;
        let tables = tables.0.into_iter().map(|(family, table)| (family, table.handle)).collect();
        let get = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        send(&socket, 0, NetfilterProtoFamily::Unspec, get)?;
        let mut transaction = None;
        receive(&socket, |payload| {
            let end = is_end(&payload)?;
            if let NetlinkPayload::InnerMessage(message) = payload {
                transaction = number(message);
            }
            Ok(end || transaction.is_some())
        })?;
        let transaction = transaction.ok_or_else(|| io::Error::other("the kernel counts no transactions"))?;
        Ok(Self { transaction, tables })
    }

    /// Whether there is no table of hostctl's.
    pub fn is_bare(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether the tables are those of another stamp, and not others of their names.
    pub fn has_tables_of(&self, other: &Self) -> bool {
        self.tables == other.tables
    }

    /// Whether exactly `count` transactions lie between an earlier stamp and
    /// this one.
    pub fn is_after(&self, earlier: &Self, count: u32) -> bool {
        // The kernel's counter leaves out zero (nf_tables_commit in
        // `net/netfilter/nf_tables_api.c`); once in 2³² that looks as if
        // somebody else had been there.
        self.transaction == earlier.transaction.wrapping_add(count)
    }
}

fn number(message: NetfilterMessage) -> Option<u32> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(generation)) = message.inner else {
        return None;
    };
    generation.attributes.iter().find_map(|attribute| match attribute {
        GenAttribute::Id(id) => Some(*id),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::firewall::live::nft;

    #[test]
    fn every_transaction_changes_the_stamp() {
        let thread = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let bare = Stamp::read().unwrap();
            assert!(bare.is_bare());
            assert_eq!(Stamp::read().unwrap(), bare);
            nft::load("table inet hostctl { set s { type ifname; }; }\ntable inet other {}").unwrap();
            let first = Stamp::read().unwrap();
            assert!(first.is_after(&bare, 1) && !first.is_bare());
            assert_eq!(first.tables.len(), 1);
            nft::observe().unwrap();
            assert_eq!(Stamp::read().unwrap(), first, "looking changes nothing");
            nft::load("add element inet hostctl s { a }").unwrap();
            nft::load("add table inet another").unwrap();
            let third = Stamp::read().unwrap();
            assert!(third.is_after(&first, 2) && !third.is_after(&first, 1));
            assert_eq!(third.tables, first.tables);
            nft::load(&nft::removal()).unwrap();
            nft::load("table inet hostctl {}").unwrap();
            assert_ne!(Stamp::read().unwrap().tables, first.tables, "a table made again is another");
        });
        thread.join().unwrap();
    }
}
