//! A bridge with a guest's TAP, whose frames carry a virtio header, and another
//! guest's, whose don't: what arrives there was completed by the kernel.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hostctl::guard::Program;
use hostctl::ownership::GUARDED;
use hostctl::testbed::{Netns, Tap};
use nix::libc;

use super::headers::Header;

/// What stands between the guest and the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    None,
    /// The guard, and the firewall's rule about its mark.
    Guard,
}

pub struct Stage {
    netns: Netns,
    guest: File,
    other: Tap,
    buffer: Vec<u8>,
}

static HEADER: i32 = 12;
static ONE: i32 = 1;
/// `linux/if_tun.h`: all that a guest could agree to.
const ALL_OFFLOADS: i32 = 0x7f;

#[allow(unsafe_code)]
mod ioctl {
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, 4), [u8; 40]);
    nix::ioctl_write_int_bad!(tun_set_offload, nix::request_code_write!(b'T', 208, 4));
    nix::ioctl_write_ptr_bad!(tun_set_header_size, nix::request_code_write!(b'T', 216, 4), i32);
    nix::ioctl_write_ptr_bad!(tun_set_little_endian, nix::request_code_write!(b'T', 220, 4), i32);
}

/// Opens the TAP `name` of the calling thread's namespace with a header, or
/// makes it.
#[allow(unsafe_code)]
pub fn open_with_header(name: &str) -> std::io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    request[16..18].copy_from_slice(&0x5002_u16.to_ne_bytes());
    // SAFETY: each reads what it is given, which lives here.
    unsafe {
        ioctl::tun_set_iff(file.as_raw_fd(), &raw const request)?;
        ioctl::tun_set_header_size(file.as_raw_fd(), &raw const HEADER)?;
        ioctl::tun_set_little_endian(file.as_raw_fd(), &raw const ONE)?;
        // Newer kernels know more of them.
        if ioctl::tun_set_offload(file.as_raw_fd(), ALL_OFFLOADS).is_err() {
            ioctl::tun_set_offload(file.as_raw_fd(), 0x1f)?;
        }
    }
    Ok(file)
}

impl Stage {
    pub fn new(protection: Protection) -> Self {
        let program = (protection == Protection::Guard).then(|| Program::load().unwrap());
        Self::with(program.as_ref())
    }

    pub fn guarded_by(program: &Program) -> Self {
        Self::with(Some(program))
    }

    fn with(program: Option<&Program>) -> Self {
        let netns = Netns::new().unwrap();
        let guest = netns.run(|| open_with_header("guest")).unwrap();
        let other = Tap::open(&netns, "other").unwrap();
        netns
            .links(async |links| {
                links.add_bridge("bridge").await?;
                for port in ["guest", "other"] {
                    links.enslave(port, "bridge").await?;
                    links.up(port).await?;
                }
                links.up("bridge").await
            })
            .unwrap();
        for setting in ["iptables", "ip6tables", "arptables"] {
            let _ = netns.sysctl_set(&format!("net/bridge/bridge-nf-call-{setting}"), "0");
        }
        let stage = Self { netns, guest, other, buffer: vec![0; 70_000] };
        if let Some(program) = program {
            let index = stage.index();
            stage.netns.run(|| program.attach(index)).unwrap();
            stage.nft(&format!(
                "table bridge t {{\nchain c {{\ntype filter hook prerouting priority 0\n\
                 iifname guest meta mark & {GUARDED:#x} != {GUARDED:#x} counter drop\n}}\n}}\n"
            ));
        }
        let mut stage = stage;
        // Neighbours, and the bridge's own MLD.
        std::thread::sleep(Duration::from_millis(100));
        stage.arrived();
        stage
    }

    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    pub fn index(&self) -> u32 {
        self.netns.ifindex("guest").unwrap()
    }

    /// Whether the kernel took it.
    pub fn send(&mut self, header: &Header, frame: &[u8]) -> bool {
        self.guest.write(&[header.bytes(), frame.to_vec()].concat()).is_ok()
    }

    /// What arrived at the other guest, but for what the kernel says itself.
    pub fn arrived(&mut self) -> Vec<Vec<u8>> {
        // What the guest is sent is nobody's interest here.
        while self.guest.read(&mut self.buffer).is_ok() {}
        let mut found = Vec::new();
        while let Ok(Some(frame)) = self.other.receive(&mut self.buffer) {
            if frame.get(6) == Some(&0x02) && frame.get(7) == Some(&0xaa) {
                found.push(frame.to_vec());
            }
        }
        found
    }

    /// What arrives within a time.
    pub fn late(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let (end, mut found) = (Instant::now() + time, Vec::new());
        while Instant::now() < end {
            found.extend(self.arrived());
            std::thread::sleep(Duration::from_millis(5));
        }
        found
    }

    pub fn tc(&self, arguments: &str) {
        let output = self.netns.run(|| Command::new("tc").args(arguments.split(' ')).output()).unwrap();
        assert!(output.status.success(), "tc {arguments}: {output:?}");
    }

    fn nft(&self, text: &str) {
        let mut nft =
            self.netns.run(|| Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap());
        nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
    }
}
