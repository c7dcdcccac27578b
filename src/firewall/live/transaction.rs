//! Changes of elements by messages of hostctl's own: no start of nft, and no
//! reading of sets of intervals, whose cost grows with the host. One transaction,
//! whatever else is in it, and read back by the elements' keys.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use super::delta::Parts;
use super::element_message::{SetElements, Verb, Written};
use super::lent_socket::nft_by;
use super::message::{
    GENERIC, HEADER, Message, Unexpected, attribute, attributes, be32, messages, request, u32_at,
};
use super::nft::NftError;
use super::read_back;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`, `NFNL_BATCH_GENID`.
const BEGIN: u16 = 16;
const END: u16 = 17;
const GENERATION: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`, and of it `NFT_MSG_GETGEN`, `NFT_MSG_NEWGEN`, `NFTA_GEN_ID`.
const NF_TABLES: u16 = 10;
const GET_GENERATION: u16 = NF_TABLES << 8 | 16;
const NEW_GENERATION: u16 = NF_TABLES << 8 | 15;
const GENERATION_ID: u16 = 1;

/// `NLMSG_ERROR`, which is an acknowledgement where its number is 0.
const ANSWER: u16 = 2;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_OFFS`.
const PLACE: u16 = 2;

/// How often another program may have changed something while this one was at
/// it; each of its transactions takes milliseconds.
const ATTEMPTS: usize = 50;
/// nft counts its messages from 0 on.
const OURS: u32 = 1 << 30;
/// An answer may have the whole message that was refused.
const BUFFER: usize = 128 * 1024;
/// Room for as many answers as there are messages in a transaction.
const ANSWERS: usize = 8 << 20;

/// Why elements aren't as they should be.
#[derive(Debug, thiserror::Error)]
pub enum ElementsError {
    /// No netlink.
    #[error("can't talk to the kernel's nf_tables: {0}")]
    Netlink(#[source] io::Error),
    /// The kernel refused one; nothing was changed.
    #[error("the kernel doesn't {verb} element {element} of set {set}: {source}")]
    Refused {
        /// `add` or `delete`.
        verb: &'static str,
        /// The set.
        set: String,
        /// The element, as nft writes it; the first of several, where this
        /// kernel doesn't say which.
        element: String,
        /// What it said.
        source: io::Error,
    },
    /// The kernel refused something besides; nothing was changed.
    #[error("the kernel refused the transaction: {0}")]
    Transaction(#[source] io::Error),
    /// Others are always at it; nothing was changed.
    #[error(
        "other programs changed the kernel's tables {ATTEMPTS} times meanwhile; once they are done, try again"
    )]
    Busy,
    /// An answer is cut short, or isn't as the kernel's headers say.
    #[error("the kernel's answer can't be read")]
    Answer,
    /// It took them, and has something else.
    #[error("set {set} hasn't the element {element} as it should, though the kernel took the change")]
    Otherwise {
        /// The set.
        set: String,
        /// The element, as nft writes it.
        element: String,
    },
}

impl From<Unexpected> for ElementsError {
    fn from(Unexpected: Unexpected) -> Self {
        Self::Answer
    }
}

/// A netfilter socket of the calling thread's network namespace.
///
/// # Errors
/// Where there is no netlink.
pub(in crate::firewall) fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Makes the change by that socket, in one transaction, and reads it back.
/// `edit` may change what nft says of tables before it is sent.
///
/// # Errors
/// Where nft or the kernel refuses: then nothing was changed. Where the kernel
/// has something else than it took.
pub(in crate::firewall) fn change(
    socket: BorrowedFd<'_>,
    parts: &Parts,
    edit: &dyn Fn(&mut [u8]) -> io::Result<()>,
) -> Result<(), NftError> {
    let deleted = written(&parts.deleted, Verb::Delete, OURS);
    let after = OURS + u32::try_from(deleted.len()).unwrap_or_default();
    let added = written(&parts.added, Verb::Add, after);
    prepare(socket);
    for _ in 0..ATTEMPTS {
        // Before nft looks: what comes in between is a later one.
        let generation = generation(socket).map_err(ElementsError::Netlink)?;
        let rules = match parts.rules.as_str() {
            "" => Vec::new(),
            rules => {
                let unlike = |Unexpected| NftError::Lend(io::Error::other("nft sent no transaction"));
                unframed(&capture(socket, rules, edit)?).map_err(unlike)?
            }
        };
        let batch = framed(generation, &deleted, &rules, &added);
        match send_batch(socket, &batch, deleted.iter().chain(&added)) {
            Ok(()) => {
                read_back::check(&parts.deleted, &parts.added)?;
                return Ok(());
            }
            Err(Stopped::Overtaken) => {}
            Err(Stopped::By(error)) => return Err(error.into()),
        }
    }
    Err(ElementsError::Busy.into())
}

fn written(sets: &[SetElements], verb: Verb, first: u32) -> Vec<Written<'_>> {
    let mut found = Vec::new();
    for set in sets {
        let sequence = first + u32::try_from(found.len()).unwrap_or_default();
        found.extend(set.messages(verb, sequence));
    }
    found
}

/// Has the kernel say which element it means, and keeps room for its answers.
fn prepare(socket: BorrowedFd<'_>) {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        // Without it the first element of a message is named.
        _ = set_netlink_option(socket, option);
    }
    _ = setsockopt(&socket, sockopt::RcvBufForce, &ANSWERS);
}

fn set_netlink_option(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one int, which lives here.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A transaction that the kernel refuses where there was another since that one.
/// What refers goes before what is referred to, and comes after it.
fn framed(generation: u32, deleted: &[Written<'_>], rules: &[u8], added: &[Written<'_>]) -> Vec<u8> {
    let generation = attribute(GENERATION, &generation.to_be_bytes());
    let bytes = |written: &[Written<'_>]| {
        written.iter().flat_map(|message| message.bytes.iter().copied()).collect::<Vec<u8>>()
    };
    [
        request(BEGIN, 0, 0, (0, NF_TABLES), &generation),
        bytes(deleted),
        rules.to_vec(),
        bytes(added),
        request(END, 0, u32::MAX, (0, NF_TABLES), &[]),
    ]
    .concat()
}

/// What is in nft's transaction. It names no generation in it.
fn unframed(batch: &[u8]) -> Result<Vec<u8>, Unexpected> {
    let found = messages(batch)?;
    let length = |message: &Message<'_>| (HEADER + message.payload.len()).next_multiple_of(4);
    match (found.first(), found.last()) {
        (Some(first), Some(last)) if first.kind == BEGIN && last.kind == END && found.len() > 1 => {
            let end = batch.len().checked_sub(length(last)).ok_or(Unexpected)?;
            batch.get(length(first)..end).map(<[u8]>::to_vec).ok_or(Unexpected)
        }
        _ => Err(Unexpected),
    }
}

/// The transaction that nft makes of a text, unsent.
fn capture(
    socket: BorrowedFd<'_>,
    text: &str,
    edit: &dyn Fn(&mut [u8]) -> io::Result<()>,
) -> Result<Vec<u8>, NftError> {
    let captured = RefCell::new(Vec::new());
    nft_by(socket, &["-f", "-"], text, |message| {
        if !matches!(messages(message).as_deref(), Ok([first, ..]) if first.kind == BEGIN) {
            return Ok(true);
        }
        edit(message)?;
        captured.borrow_mut().extend_from_slice(message);
        Ok(false)
    })?;
    Ok(captured.into_inner())
}

/// The number of the namespace's last transaction.
fn generation(socket: BorrowedFd<'_>) -> io::Result<u32> {
    drain(socket);
    transmit(socket, &request(GET_GENERATION, 0, OURS, (0, 0), &[]))?;
    let lost = || io::Error::other("the kernel counts no transactions");
    let mut found = None;
    answers(socket, |message| {
        if message.kind == NEW_GENERATION {
            let attributes = attributes(message.payload.get(GENERIC..).ok_or(Unexpected)?)?;
            found = attributes.iter().find(|(kind, _)| *kind == GENERATION_ID).map(|(_, value)| be32(value));
        }
        Ok(())
    })
    .map_err(|_| lost())?;
    found.and_then(Result::ok).ok_or_else(lost)
}

enum Stopped {
    /// Somebody else's transaction was between.
    Overtaken,
    By(ElementsError),
}

impl<E: Into<ElementsError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::By(error.into())
    }
}

/// Sends a transaction. Where answers were lost, or somebody else took them from
/// the same socket, reading back shows what became of it.
fn send_batch<'a>(
    socket: BorrowedFd<'_>,
    batch: &[u8],
    written: impl Iterator<Item = &'a Written<'a>> + Clone,
) -> Result<(), Stopped> {
    drain(socket);
    transmit(socket, batch).map_err(ElementsError::Netlink)?;
    let mut refused = None;
    let read = answers(socket, |message| {
        let Some((errno, place)) = refusal(message)? else { return Ok(()) };
        if refused.is_none() {
            refused = Some((message.sequence, errno, place));
        }
        Ok(())
    });
    match read {
        Err(ElementsError::Netlink(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
        read => read?,
    }
    let Some((sequence, errno, place)) = refused else { return Ok(()) };
    if errno == libc::ERESTART {
        return Err(Stopped::Overtaken);
    }
    let source = io::Error::from_raw_os_error(errno);
    let number = sequence.checked_sub(OURS).and_then(|number| usize::try_from(number).ok());
    let message = number.and_then(|number| written.clone().nth(number));
    Err(Stopped::By(match message {
        Some(message) => ElementsError::Refused {
            verb: match message.verb {
                Verb::Add => "add",
                Verb::Delete => "delete",
            },
            set: message.set.into(),
            element: message.element_at(place).into(),
            source,
        },
        None => ElementsError::Transaction(source),
    }))
}

/// The number of a refusal, and the place of what it is about in the message
/// that was refused, where the kernel says it.
pub(in crate::firewall) fn refusal(message: Message<'_>) -> Result<Option<(i32, Option<usize>)>, Unexpected> {
    if message.kind != ANSWER {
        return Ok(None);
    }
    let errno = u32_at(message.payload, 0)?.cast_signed().wrapping_neg();
    if errno == 0 {
        return Ok(None);
    }
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return Ok(Some((errno, None)));
    }
    // The header of what was refused, and without NLM_F_CAPPED all of it.
    let length = match message.flags & NLM_F_CAPPED {
        0 => usize::try_from(u32_at(message.payload, 4)?).map_err(|_| Unexpected)?.max(HEADER),
        _ => HEADER,
    };
    let rest = length.checked_add(4).map(|length| length.next_multiple_of(4));
    let rest = rest.and_then(|rest| message.payload.get(rest..)).ok_or(Unexpected)?;
    let place = attributes(rest)?.into_iter().find(|(kind, _)| *kind == PLACE);
    let place = place.map(|(_, value)| u32_at(value, 0)).transpose()?;
    Ok(Some((errno, place.and_then(|place| usize::try_from(place).ok()))))
}

/// Takes answers off that nobody read.
fn drain(socket: BorrowedFd<'_>) {
    // What didn't fit is told once.
    let more = |result: rustix::io::Result<_>| {
        matches!(result, Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR))
    };
    while more(recv(socket, &mut [0; 64][..], RecvFlags::DONTWAIT)) {}
}

/// Sends one datagram, however large.
pub(in crate::firewall) fn transmit(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let once = || loop {
        match send(socket, bytes, SendFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result,
        }
    };
    let sent = match once() {
        Err(rustix::io::Errno::MSGSIZE) => {
            // The kernel doubles it, and takes what is 32 bytes less.
            setsockopt(&socket, sockopt::SndBufForce, &(bytes.len() + 64))?;
            once()?
        }
        result => result?,
    };
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
}

/// Calls `each` with every answer that there is: the kernel has given all of
/// them when it has taken what was sent.
pub(in crate::firewall) fn answers(
    socket: BorrowedFd<'_>,
    mut each: impl FnMut(Message<'_>) -> Result<(), Unexpected>,
) -> Result<(), ElementsError> {
    let mut buffer = vec![0; BUFFER];
    let mut lost = None;
    loop {
        match recv(socket, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            // `length` is what it would have been.
            Ok((length, whole)) if length == whole => {
                for message in messages(buffer.get(..length).ok_or(Unexpected)?)? {
                    each(message)?;
                }
            }
            Ok(_) => return Err(ElementsError::Answer),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                return lost
                    .map_or(Ok(()), |error: rustix::io::Errno| Err(ElementsError::Netlink(error.into())));
            }
            // The others are still there.
            Err(error @ rustix::io::Errno::NOBUFS) if lost.is_none() => lost = Some(error),
            Err(error) => return Err(ElementsError::Netlink(error.into())),
        }
    }
}

/// As [`open`], with room for many answers.
pub(in crate::firewall) fn open_for_answers() -> Result<OwnedFd, ElementsError> {
    let socket = open().map_err(ElementsError::Netlink)?;
    prepare(socket.as_fd());
    Ok(socket)
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
