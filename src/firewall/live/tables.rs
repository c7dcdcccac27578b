//! Which of hostctl's tables the kernel has, and who may change them
//! (`linux/netfilter/nf_tables.h`).

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{NLM_F_DUMP, NetlinkPayload};
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;

use crate::firewall::netfilter::{is_end, open, receive, send};
use crate::ownership::{TABLE, TABLE_FAMILIES};

/// `NFT_TABLE_F_OWNER`: only the socket that set it may change the table, and
/// nobody else's flush takes it.
const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST`: the table stays when its owner goes (Linux 6.9).
const PERSIST: u32 = 4;
/// Both, as hostctl sets them. An owner alone would take the table along.
pub(in crate::firewall) const GUARDED: u32 = OWNER | PERSIST;

/// One of hostctl's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// The kernel's number for it.
    pub(in crate::firewall) handle: u64,
    /// Its flags.
    pub(in crate::firewall) flags: u32,
    /// The netlink port of the socket that it belongs to.
    owner: Option<u32>,
}

/// Hostctl's tables, by family (`NFPROTO_*`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables(pub(in crate::firewall) BTreeMap<u8, Table>);

impl Tables {
    /// Those of the calling thread's network namespace.
    ///
    /// # Errors
    /// Where the kernel doesn't answer; it wants root.
    pub fn read() -> io::Result<Self> {
        Self::read_by(&open()?)
    }

    pub(in crate::firewall) fn read_by(socket: &Socket) -> io::Result<Self> {
        let get = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
        send(socket, NLM_F_DUMP, NetfilterProtoFamily::Unspec, get)?;
        let mut tables = BTreeMap::new();
        receive(socket, |payload| {
            let end = is_end(&payload)?;
            if let NetlinkPayload::InnerMessage(message) = payload {
                tables.extend(ours(message));
            }
            Ok(end)
        })?;
        Ok(Self(tables))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are there.
    pub fn are_complete(&self) -> bool {
        self.0.len() == TABLE_FAMILIES.len()
    }

    /// The port of a socket that one of them belongs to.
    pub fn owner(&self) -> Option<u32> {
        self.0.values().find_map(|table| table.owner)
    }

    /// Whether one outlives its owner.
    pub fn persist(&self) -> bool {
        self.0.values().any(|table| table.flags & PERSIST != 0)
    }

    /// Whether nobody but the owner can take or change any that is there.
    pub fn are_guarded(&self) -> bool {
        let guarded = |table: &Table| table.flags & GUARDED == GUARDED && table.owner.is_some();
        self.0.values().all(guarded)
    }

    /// The families of those that outlived their owner.
    pub(in crate::firewall) fn orphans(&self) -> impl Iterator<Item = u8> {
        self.0.iter().filter(|(_, table)| table.flags & GUARDED == PERSIST).map(|(family, _)| *family)
    }

    /// The flags of each.
    pub(in crate::firewall) fn flags(&self) -> BTreeMap<u8, u32> {
        self.0.iter().map(|(family, table)| (*family, table.flags)).collect()
    }
}

fn ours(message: NetfilterMessage) -> Option<(u8, Table)> {
    let family = u8::from(message.header.family);
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = message.inner else {
        return None;
    };
    let (mut named, mut found) = (false, Table { handle: 0, flags: 0, owner: None });
    for attribute in &table.attributes {
        match attribute {
            TableAttribute::Name(name) => named = name.trim_end_matches('\0') == TABLE,
            TableAttribute::Handle(handle) => found.handle = *handle,
            TableAttribute::Flags(flags) => found.flags = flags.bits(),
            TableAttribute::Owner(port) => found.owner = Some(*port),
            _ => {}
        }
    }
    named.then_some((family, found))
}
