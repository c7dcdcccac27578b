//! Has nft work on a netlink socket that isn't its own.
//!
//! Only the socket that a table belongs to may change it, nft opens one of its
//! own, and no version of it takes another. So nft runs under a seccomp filter
//! (seccomp_unotify(2)) that asks this process about three system calls: where
//! nft opens a netfilter socket it gets the lent one, which is bound already,
//! and what it sends by it is sent by this process, once `edit` has seen it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::sync_channel;
use std::thread;

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::nft::{NftError, nft};

/// More than a transaction of 10,000 networks takes.
const MESSAGE_MAX: usize = 256 << 20;
/// The parts of one message at most (`UIO_MAXIOV`).
const PARTS_MAX: usize = 1024;

#[allow(unsafe_code, missing_docs)]
mod ioctl {
    use nix::libc;
    nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
    nix::ioctl_readwrite!(answer, b'!', 1, libc::seccomp_notif_resp);
    nix::ioctl_write_ptr!(add_fd, b'!', 3, libc::seccomp_notif_addfd);
}

/// As [`nft`], on that socket. `edit` may change each message before it is sent,
/// and says whether it is; where it isn't, or is refused, nft gets no answer.
///
/// # Errors
/// Those of nft, and where this kernel, or a sandbox around this process, has
/// no such filters.
pub(in crate::firewall) fn nft_by(
    socket: BorrowedFd<'_>,
    arguments: &[&str],
    input: &str,
    edit: impl Fn(&mut [u8]) -> io::Result<bool>,
) -> Result<String, NftError> {
    // Answers that an nft left that was killed.
    while recv(socket, &mut [0; 64][..], RecvFlags::DONTWAIT).is_ok() {}
    let (sender, receiver) = sync_channel(1);
    thread::scope(|scope| {
        // The filter is this thread's and its children's.
        let worker = scope.spawn(move || {
            _ = sender.send(listen());
            drop(sender);
            nft(arguments, Some(input))
        });
        let listener = receiver.recv().map_err(io::Error::other).flatten().map_err(NftError::Lend);
        if let Ok(listener) = &listener {
            serve(listener, socket, &edit, || worker.is_finished());
        }
        // The closure has no way to panic; if it does, so does this thread.
        let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        listener.and(result)
    })
}

/// Puts the calling thread under the filter: the other end of its questions.
fn listen() -> io::Result<OwnedFd> {
    // Without it, only CAP_SYS_ADMIN may (seccomp(2)); nft needs none anyway.
    rustix::thread::set_no_new_privs(true)?;
    let mut filter = filter();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` names `filter`, and both live until the call is over.
    #[allow(unsafe_code)]
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call made it, for nobody else.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The three calls are asked about, all others pass. No confinement: nft may do
/// what it likes, and has to send by the lent socket what nobody else may.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn filter() -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let equal = |value, jt, jf| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, jt, jf);
    let end = |verdict| statement(libc::BPF_RET | libc::BPF_K, verdict, 0, 0);
    // struct seccomp_data: the call's number, then its arguments of 8 bytes
    // from 16 on; their lower halves are what matters here.
    let argument = |index: u32| 16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 };
    vec![
        load(0),
        equal(libc::SYS_bind as u32, 6, 0),
        equal(libc::SYS_sendmsg as u32, 5, 0),
        equal(libc::SYS_socket as u32, 0, 5),
        load(argument(0)),
        equal(libc::AF_NETLINK as u32, 0, 3),
        load(argument(2)),
        equal(libc::NETLINK_NETFILTER as u32, 0, 1),
        end(libc::SECCOMP_RET_USER_NOTIF),
        end(libc::SECCOMP_RET_ALLOW),
    ]
}

/// Answers until everybody under the filter is gone.
fn serve(
    listener: &OwnedFd,
    socket: BorrowedFd<'_>,
    edit: &dyn Fn(&mut [u8]) -> io::Result<bool>,
    finished: impl Fn() -> bool,
) {
    let mut lent = BTreeSet::new();
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        match poll(&mut fds, Some(&second)) {
            Ok(0) if !finished() => continue,
            Err(rustix::io::Errno::INTR) => continue,
            Ok(1) if fds.iter().any(|fd| fd.revents().contains(PollFlags::IN)) => {}
            _ => return,
        }
        let Some(asked) = receive(listener) else { continue };
        let [fd, pointer, ..] = asked.data.args;
        let answer = if i64::from(asked.data.nr) == libc::SYS_socket {
            match lend(listener, socket, asked.id) {
                Ok(number) => {
                    lent.insert(number);
                    continue;
                }
                Err(error) => Some(Err(error)),
            }
        } else if !u32::try_from(fd).is_ok_and(|fd| lent.contains(&fd)) {
            None
        } else if i64::from(asked.data.nr) == libc::SYS_bind {
            // It is, and its address is asked for by getsockname.
            Some(Ok(0))
        } else {
            Some(forward(asked.pid, pointer, socket, edit))
        };
        respond(listener, asked.id, answer);
    }
}

fn receive(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    // SAFETY: a struct of numbers; the kernel wants them zeroed.
    #[allow(unsafe_code)]
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor and the pointer are valid during the call.
    #[allow(unsafe_code)]
    let result = unsafe { ioctl::receive(listener.as_raw_fd(), &raw mut asked) };
    // Who asked may have been killed meanwhile.
    result.ok().map(|_| asked)
}

/// Gives whoever asked the socket as the result of its call: the number that
/// it has there.
fn lend(listener: &OwnedFd, socket: BorrowedFd<'_>, id: u64) -> io::Result<u32> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SEND).map_err(io::Error::other)?,
        srcfd: u32::try_from(socket.as_raw_fd()).map_err(io::Error::other)?,
        newfd: 0,
        newfd_flags: u32::try_from(libc::O_CLOEXEC).map_err(io::Error::other)?,
    };
    // SAFETY: as above.
    #[allow(unsafe_code)]
    let number = unsafe { ioctl::add_fd(listener.as_raw_fd(), &raw const request) }?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Lets the call happen (`None`), or gives it a result.
fn respond(listener: &OwnedFd, id: u64, answer: Option<io::Result<i64>>) {
    let (val, error, flags) = match answer {
        None => (0, 0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or_default()),
        Some(Ok(value)) => (value, 0, 0),
        Some(Err(error)) => (0, -error.raw_os_error().unwrap_or(libc::EPERM), 0),
    };
    let mut response = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: as above. Who asked may be gone, and needs no answer then.
    #[allow(unsafe_code)]
    let _ = unsafe { ioctl::answer(listener.as_raw_fd(), &raw mut response) };
}

/// Does a sendmsg(2) of the process `pid`, which waits for it.
fn forward(
    pid: u32,
    header: u64,
    socket: BorrowedFd<'_>,
    edit: &dyn Fn(&mut [u8]) -> io::Result<bool>,
) -> io::Result<i64> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    // struct msghdr on 64 bits: msg_iov at 16, msg_iovlen at 24.
    let mut place = [0; 16];
    memory.read_exact_at(&mut place, header + 16)?;
    let (parts, count) = pair(&place).ok_or_else(invalid)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= PARTS_MAX).ok_or_else(invalid)?;
    let mut table = vec![0; 16 * count];
    memory.read_exact_at(&mut table, parts)?;
    let mut message = Vec::new();
    for part in table.chunks_exact(16) {
        let (from, length) = pair(part).ok_or_else(invalid)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let begin = message.len();
        let end = begin + length.min(MESSAGE_MAX);
        if end > MESSAGE_MAX {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        message.resize(end, 0);
        memory.read_exact_at(message.get_mut(begin..).unwrap_or_default(), from)?;
    }
    let sent = if edit(&mut message)? { send(socket, &message, SendFlags::empty())? } else { message.len() };
    i64::try_from(sent).map_err(io::Error::other)
}

/// Two numbers of 8 bytes.
fn pair(bytes: &[u8]) -> Option<(u64, u64)> {
    let number =
        |range| bytes.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).map(u64::from_ne_bytes);
    Some((number(0..8)?, number(8..16)?))
}
