//! The system calls of a confined program: a filter of hostctl's own
//! (seccomp(2)), in force before the program is executed. A program's own
//! filter comes on top of it and can't take anything back.
//!
//! An ioctl is refused unless it is listed: a descriptor that a program
//! inherits obeys it whatever its rights, and what its driver knows grows with
//! the kernel. Other calls are refused where they are listed: those that reach
//! outside of a process and are of no use to one that has all it needs open.

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch, sock_filter,
};

/// ioctl_tty(2), and descriptors in general.
const COMMON: [u32; 4] = [
    0x5401, // TCGETS, isatty(3)
    0x541b, // FIONREAD
    0x5421, // FIONBIO
    0x5451, // FIOCLEX
];
/// What a TAP is; nothing changes it (`linux/if_tun.h`).
const TUN: [u32; 3] = [
    0x8004_54cf, // TUNGETFEATURES
    0x8004_54d2, // TUNGETIFF
    0x8004_54d7, // TUNGETVNETHDRSZ
];
/// QEMU begins by turning all offloads off: with 0, and with nothing else.
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
/// What its guest may agree to where frames carry a header: checksums, segments
/// of TCP, with ECN, and of UDP; neither fragments nor tunnels (`TUN_F_*`).
const OFFLOADS: u64 = 0x6f;
/// The size and limits of a block device, whether it may be written to, and giving its blocks back
/// (`linux/fs.h`). Not SG_IO, by which a partition's holder reaches the disk.
const BLOCK: [u32; 12] = [
    0x125e,      // BLKROGET
    0x1260,      // BLKGETSIZE
    0x1267,      // BLKSECTGET
    0x1268,      // BLKSSZGET
    0x1277,      // BLKDISCARD
    0x1278,      // BLKIOMIN
    0x1279,      // BLKIOOPT
    0x127a,      // BLKALIGNOFF
    0x127b,      // BLKPBSZGET
    0x127e,      // BLKROTATIONAL
    0x127f,      // BLKZEROOUT
    0x8008_1272, // BLKGETSIZE64
];
/// KVM's type (`linux/kvm.h`): its device, machines and processors. No other
/// driver that a program has a descriptor of has an ioctl of this type.
const KVM_TYPE: u32 = 0xae;

/// A virtio card's end in the kernel (`linux/vhost.h`): its owner, memory and
/// features, its queues, and the TAP behind each. Not its log of what it wrote,
/// which is for a move to another host, nor its workers.
const VHOST: [u32; 17] = [
    0x0000_af01, // VHOST_SET_OWNER
    0x0000_af02, // VHOST_RESET_OWNER
    0x8008_af00, // VHOST_GET_FEATURES
    0x4008_af00, // VHOST_SET_FEATURES
    0x4008_af03, // VHOST_SET_MEM_TABLE
    0x4008_af10, // VHOST_SET_VRING_NUM
    0x4028_af11, // VHOST_SET_VRING_ADDR
    0x4008_af12, // VHOST_SET_VRING_BASE
    0xc008_af12, // VHOST_GET_VRING_BASE
    0x4008_af13, // VHOST_SET_VRING_ENDIAN
    0x4008_af20, // VHOST_SET_VRING_KICK
    0x4008_af21, // VHOST_SET_VRING_CALL
    0x4008_af22, // VHOST_SET_VRING_ERR
    0x4008_af23, // VHOST_SET_VRING_BUSYLOOP_TIMEOUT
    0x4008_af25, // VHOST_SET_BACKEND_FEATURES
    0x8008_af26, // VHOST_GET_BACKEND_FEATURES
    0x4008_af30, // VHOST_NET_SET_BACKEND
];

/// What creates namespaces (clone(2)).
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    0x80, // CLONE_NEWTIME
];

/// Refused with EPERM.
const REFUSED: [c_long; 72] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Other programs. execve is a program's beginning.
    libc::SYS_execveat,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files by number, past every path.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mknodat,
    // A lock that others wait for; QEMU's are fcntl(2)'s.
    libc::SYS_flock,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    // Memory that no limit of a process counts.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_memfd_secret,
    libc::SYS_mlockall,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Whose signals a process gets is its own affair, whom it bothers isn't.
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
];

/// As a kernel without them answers, which programs cope with: glibc falls
/// back to clone, QEMU to threads. No filter sees clone3's flags, nor what is
/// asked for by way of a ring; and memfd's files are counted by no limit.
const UNKNOWN: [c_long; 2] = [libc::SYS_clone3, libc::SYS_memfd_create];

/// Unknown likewise, but to a program that may have them.
const IO_URING: [c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// What a program has, and so may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// `/dev/kvm`, and KVM's ioctls.
    pub kvm: bool,
    /// io_uring. What is asked for by a ring no filter sees.
    pub io_uring: bool,
    /// A TAP whose guest may agree to offloads.
    pub offload: bool,
    /// A descriptor of `/dev/vhost-net`, and its ioctls.
    pub vhost: bool,
}

/// The filters, each to be put in force; the kernel heeds the strictest.
pub(super) fn programs(calls: Calls) -> Result<[BpfProgram; 2], BackendError> {
    let Calls { kvm, io_uring, offload, vhost } = calls;
    let mut refused: BTreeMap<i64, Vec<Rule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    refused.extend(
        [libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_mknod]
            .map(|call| (call, Vec::new())),
    );
    refused.insert(libc::SYS_ioctl, ioctls(kvm, offload, vhost)?);
    // Of AF_UNIX alone: not every other family keeps to its network namespace (vsock(7)).
    let foreign = Rule::new(vec![argument(0, Compare::Ne, libc::AF_UNIX as u32)?])?;
    refused.insert(libc::SYS_socket, vec![foreign.clone()]);
    refused.insert(libc::SYS_socketpair, vec![foreign]);
    let namespaces = NAMESPACES.iter().map(|flag| {
        let flag = *flag as u32;
        Rule::new(vec![argument(0, Compare::MaskedEq(u64::from(flag)), flag)?])
    });
    refused.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let rings = if io_uring { &[] } else { IO_URING.as_slice() };
    let unknown = UNKNOWN.iter().chain(rings).map(|call| (*call, Vec::new())).collect();
    Ok([program(refused, libc::EPERM)?, program(unknown, libc::ENOSYS)?])
}

/// What is refused: every number that differs from each one that is listed.
fn ioctls(kvm: bool, offload: bool, vhost: bool) -> Result<Vec<Rule>, BackendError> {
    let vhost = VHOST.into_iter().filter(|_| vhost);
    let listed = COMMON.into_iter().chain(TUN).chain(BLOCK).chain([TUNSETOFFLOAD]).chain(vhost);
    // The kernel looks at 32 bits of the number.
    let unlisted: Vec<Condition> =
        listed.map(|number| argument(1, Compare::Ne, number)).collect::<Result<_, _>>()?;
    // One that has a bit that isn't allowed.
    let allowed = if offload { OFFLOADS } else { 0 };
    let mut rules = Vec::new();
    for bit in (0..64).map(|bit| 1_u64 << bit).filter(|bit| bit & allowed == 0) {
        rules.push(Rule::new(vec![
            argument(1, Compare::Eq, TUNSETOFFLOAD)?,
            Condition::new(2, Length::Qword, Compare::MaskedEq(bit), bit)?,
        ])?);
    }
    if kvm {
        // Of another type than KVM's: one that differs from it in some bit.
        for bit in (8..16).map(|bit| 1_u32 << bit) {
            let other = !(KVM_TYPE << 8) & bit;
            let mut rule = vec![argument(1, Compare::MaskedEq(u64::from(bit)), other)?];
            rule.extend(unlisted.iter().cloned());
            rules.push(Rule::new(rule)?);
        }
    } else {
        rules.push(Rule::new(unlisted)?);
    }
    Ok(rules)
}

fn argument(index: u8, compare: Compare, value: u32) -> Result<Condition, BackendError> {
    Condition::new(index, Length::Dword, compare, u64::from(value))
}

/// A program that is of another architecture than this one's (32-bit calls)
/// is killed.
fn program(rules: BTreeMap<i64, Vec<Rule>>, errno: i32) -> Result<BpfProgram, BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    let mut program = if cfg!(target_arch = "x86_64") { without_x32(errno).to_vec() } else { Vec::new() };
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// x32's calls are those of x86_64 with another bit in their number, which no
/// rule has: none of them (Documentation/userspace-api/seccomp_filter.rst).
fn without_x32(errno: i32) -> [sock_filter; 3] {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_GE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    [
        // seccomp_data's first word is the number.
        instruction(LOAD, 0, 0, 0),
        instruction(JUMP_GE, 0, 1, 0x4000_0000),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would (classic BPF).
    fn verdict(program: &[sock_filter], call: c_long, arguments: [u64; 3]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        verdict_on(program, call as u32, arch, arguments)
    }

    fn verdict_on(program: &[sock_filter], call: u32, arch: u32, arguments: [u64; 3]) -> u32 {
        let mut data = [0_u8; 64];
        data[..4].copy_from_slice(&call.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (index, argument) in arguments.iter().enumerate() {
            data[16 + 8 * index..][..8].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { jt } else { jf });
            match u32::from(code) {
                0x20 => accumulator = u32::from_le_bytes(data[k as usize..][..4].try_into().unwrap()),
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(accumulator == k),
                0x25 => at += jump(accumulator > k),
                0x35 => at += jump(accumulator >= k),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALL: Calls = Calls { kvm: true, io_uring: true, offload: true, vhost: true };
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn ioctl(kvm: bool, number: u64, argument: u64) -> u32 {
        let calls = Calls { kvm, ..Calls::default() };
        verdict(&programs(calls).unwrap()[0], libc::SYS_ioctl, [5, number, argument])
    }

    #[test]
    fn every_ioctl_that_changes_a_tap_is_refused_whatever_its_upper_half() {
        let tap = [
            0x8924,      // SIOCSIFHWADDR
            0x8927,      // SIOCGIFHWADDR
            0x4004_54c8, // TUNSETNOCSUM
            0x4004_54c9, // TUNSETDEBUG
            0x4004_54ca, // TUNSETIFF
            0x4004_54cb, // TUNSETPERSIST
            0x4004_54cc, // TUNSETOWNER
            0x4004_54cd, // TUNSETLINK
            0x4004_54ce, // TUNSETGROUP
            0x4004_54d1, // TUNSETTXFILTER
            0x4004_54d4, // TUNSETSNDBUF
            0x4010_54d5, // TUNATTACHFILTER
            0x4010_54d6, // TUNDETACHFILTER
            0x4004_54d8, // TUNSETVNETHDRSZ
            0x4004_54d9, // TUNSETQUEUE
            0x4004_54da, // TUNSETIFINDEX
            0x8010_54db, // TUNGETFILTER
            0x4004_54dc, // TUNSETVNETLE
            0x4004_54de, // TUNSETVNETBE
            0x8004_54e0, // TUNSETSTEERINGEBPF
            0x8004_54e1, // TUNSETFILTEREBPF
            0x4004_54e2, // TUNSETCARRIER
            0x54e3,      // TUNGETDEVNETNS
            0x894c,      // SIOCGSKNS
            0x2285,      // SG_IO
            0x5412,      // TIOCSTI
            0x4004_6602, // FS_IOC_SETFLAGS, 32 bits
            0x4008_6602, // FS_IOC_SETFLAGS
            0x4004_9409, // FICLONE
        ];
        for kvm in [false, true] {
            for number in tap {
                for upper in [0, 1 << 32, 0xffff_ffff << 32] {
                    assert_eq!(ioctl(kvm, number | upper, 0), EPERM, "{number:#x} {upper:#x}");
                }
            }
            for number in COMMON.into_iter().chain(TUN).chain(BLOCK) {
                assert_eq!(ioctl(kvm, number.into(), 1), ALLOW, "{number:#x}");
                // Signed numbers are extended.
                assert_eq!(ioctl(kvm, u64::from(number) | 0xffff_ffff << 32, 1), ALLOW, "{number:#x}");
            }
        }
    }

    #[test]
    fn offloads_are_turned_off_and_never_on() {
        for kvm in [false, true] {
            assert_eq!(ioctl(kvm, TUNSETOFFLOAD.into(), 0), ALLOW);
            for argument in [1, 0x11, 1 << 32, u64::MAX] {
                assert_eq!(ioctl(kvm, TUNSETOFFLOAD.into(), argument), EPERM, "{argument:#x}");
            }
        }
    }

    #[test]
    fn with_a_header_a_guest_agrees_to_checksums_and_segments_and_to_nothing_else() {
        for kvm in [false, true] {
            let [program, _] = programs(Calls { kvm, offload: true, ..Calls::default() }).unwrap();
            let ioctl = |argument| verdict(&program, libc::SYS_ioctl, [5, TUNSETOFFLOAD.into(), argument]);
            for argument in 0..0x400 {
                let wanted = if argument & !OFFLOADS == 0 { ALLOW } else { EPERM };
                assert_eq!(ioctl(argument), wanted, "{argument:#x}");
                assert_eq!(ioctl(argument | 1 << 33), EPERM, "{argument:#x}");
            }
        }
    }

    #[test]
    fn the_kernels_end_of_a_card_is_for_those_who_have_one() {
        for kvm in [false, true] {
            for vhost in [false, true] {
                let [program, _] = programs(Calls { kvm, vhost, ..Calls::default() }).unwrap();
                for low in 0..=0xff_u32 {
                    for direction in [0, 0x4008_0000, 0x4028_0000, 0x8008_0000, 0xc008_0000] {
                        let number = direction | 0xaf00 | low;
                        let wanted = if vhost && VHOST.contains(&number) { ALLOW } else { EPERM };
                        let found = verdict(&program, libc::SYS_ioctl, [5, number.into(), 1]);
                        assert_eq!(found, wanted, "{number:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn kvm_is_for_those_who_use_it() {
        for number in [0xae00, 0xae01, 0xae80, 0x4090_ae82, 0xc008_aeba] {
            assert_eq!(ioctl(true, number, 7), ALLOW, "{number:#x}");
            assert_eq!(ioctl(false, number, 7), EPERM, "{number:#x}");
        }
        // Types that differ from KVM's in one bit.
        for bit in 8..16 {
            assert_eq!(ioctl(true, 0xae00 ^ 1 << bit, 0), EPERM, "bit {bit}");
        }
    }

    #[test]
    fn no_ioctl_but_the_listed_is_allowed() {
        let listed: Vec<u32> = COMMON.into_iter().chain(TUN).chain(BLOCK).chain([TUNSETOFFLOAD]).collect();
        let [program, _] = programs(Calls::default()).unwrap();
        let ioctl = |number: u32| verdict(&program, libc::SYS_ioctl, [3, number.into(), 0]);
        for direction in [0, 0x4004_0000, 0x4008_0000, 0x4010_0000, 0x8004_0000, 0x8008_0000_u32] {
            for low in 0..=0xffff {
                let number = direction | low;
                let wanted = if listed.contains(&number) { ALLOW } else { EPERM };
                assert_eq!(ioctl(number), wanted, "{number:#x}");
            }
        }
    }

    #[test]
    fn rings_are_for_those_who_may_have_them_and_change_nothing_else() {
        let [[own, unknown], [others, strict]] =
            [programs(ALL).unwrap(), programs(Calls { io_uring: false, ..ALL }).unwrap()];
        assert_eq!(own, others);
        for call in IO_URING {
            assert_eq!(verdict(&unknown, call, [0; 3]), ALLOW, "{call}");
            assert_ne!(verdict(&strict, call, [0; 3]), ALLOW, "{call}");
        }
        for call in UNKNOWN {
            assert_eq!(verdict(&unknown, call, [0; 3]), verdict(&strict, call, [0; 3]), "{call}");
        }
    }

    #[test]
    fn what_reaches_outside_is_refused_and_the_rest_isnt() {
        let [refused, unknown] = programs(Calls { io_uring: false, ..ALL }).unwrap();
        for call in REFUSED {
            assert_eq!(verdict(&refused, call, [0; 3]), EPERM, "{call}");
        }
        for call in UNKNOWN.into_iter().chain(IO_URING) {
            let nosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
            assert_eq!(verdict(&unknown, call, [0; 3]), nosys, "{call}");
        }
        for call in [libc::SYS_read, libc::SYS_mmap, libc::SYS_execve, libc::SYS_futex, libc::SYS_prctl] {
            assert_eq!(verdict(&refused, call, [0; 3]), ALLOW, "{call}");
            assert_eq!(verdict(&unknown, call, [0; 3]), ALLOW, "{call}");
        }
        for (family, wanted) in [(libc::AF_UNIX, ALLOW), (libc::AF_INET, EPERM), (libc::AF_VSOCK, EPERM)] {
            let family = [u64::try_from(family).unwrap(), 1, 0];
            assert_eq!(verdict(&refused, libc::SYS_socket, family), wanted, "{family:?}");
        }
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        assert_eq!(verdict(&refused, libc::SYS_clone, [thread as u64, 0, 0]), ALLOW);
        for flag in NAMESPACES {
            assert_eq!(verdict(&refused, libc::SYS_clone, [(thread | flag) as u32 as u64, 0, 0]), EPERM);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn other_abis_are_no_way_around() {
        const X86_64: u32 = 0xc000_003e;
        const I386: u32 = 0x4000_0003;
        for program in programs(ALL).unwrap() {
            // x32 has an ioctl of its own, 514, and understands 16 too.
            for call in [16, 514, 0, 1] {
                let verdict = verdict_on(&program, 0x4000_0000 | call, X86_64, [3, 0x5401, 0]);
                assert_eq!(verdict & 0xffff_0000, libc::SECCOMP_RET_ERRNO, "x32 {call}");
            }
            let verdict = verdict_on(&program, 54, I386, [3, 0x5401, 0]);
            assert_eq!(verdict, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}
