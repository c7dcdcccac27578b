//! What a disk's first bytes say of it. A header can name other files, which
//! QEMU would open, or silently do without. Pure; the formats are QEMU's
//! (docs/interop/qcow2.txt, block/*.c).

use crate::topology::DiskFormat;

/// As many bytes as are looked at.
pub(in crate::vm) const LENGTH: usize = 512;

const QCOW: &[u8] = b"QFI\xfb";

/// Other formats that programs write disks in, by what they begin with. What
/// isn't here can be a guest's own: LUKS, a partition table, a file system.
const OTHERS: [(usize, &[u8], &str); 11] = [
    (0, b"QED\0", "QED"),
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\n", "cloop"),
];

/// Incompatible features of a qcow2, in the order of their bits.
const EXTERNAL_DATA: u64 = 1 << 2;

/// How a disk is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vm) struct Header {
    /// What the guest sees, in bytes, where the header says it.
    pub size: Option<u64>,
}

/// Reads the first bytes of a disk that the spec says is of that format.
///
/// # Errors
/// What is wrong, and what to do.
pub(in crate::vm) fn read(format: DiskFormat, start: &[u8]) -> Result<Header, String> {
    match format {
        DiskFormat::Raw => raw(start).map(|()| Header { size: None }),
        DiskFormat::Qcow2 => qcow2(start),
    }
}

fn raw(start: &[u8]) -> Result<(), String> {
    if start.starts_with(QCOW) {
        return Err(
            "the spec says raw, and it begins as a qcow2 does: say format = \"qcow2\", or, where the \
                    guest wrote that itself, clear its first bytes"
                .into(),
        );
    }
    let other =
        OTHERS.iter().find(|(at, magic, _)| start.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    other.map_or(Ok(()), |(_, _, name)| {
        Err(format!(
            "the spec says raw, and it begins as a {name} does: make a raw one of it (qemu-img convert -O raw), or, \
             where the guest wrote that itself, clear its first bytes"
        ))
    })
}

fn qcow2(start: &[u8]) -> Result<Header, String> {
    if !start.starts_with(QCOW) {
        return Err(
            "the spec says qcow2, and it is not in qcow2 format: say format = \"raw\", or convert it \
                    (qemu-img convert -O qcow2)"
                .into(),
        );
    }
    let short = || "its qcow2 header is cut short".to_owned();
    let version = u32_at(start, 4).ok_or_else(short)?;
    if !matches!(version, 2 | 3) {
        return Err(format!("its qcow version is {version}: convert it (qemu-img convert -O qcow2)"));
    }
    if u64_at(start, 8).ok_or_else(short)? != 0 {
        return Err(
            "it has a backing file, which isn't opened, so the guest would find an empty disk: make \
                    one of both (qemu-img convert -O qcow2, or qemu-img rebase -b '')"
                .into(),
        );
    }
    if u32_at(start, 32).ok_or_else(short)? != 0 {
        return Err(
            "it is encrypted, and nobody could give QEMU its key: decrypt it (qemu-img convert)".into()
        );
    }
    if version == 3 && u64_at(start, 72).ok_or_else(short)? & EXTERNAL_DATA != 0 {
        return Err(
            "it has an external data file, and a disk is one file: make one of both (qemu-img convert \
                    -O qcow2)"
                .into(),
        );
    }
    Ok(Header { size: Some(u64_at(start, 24).ok_or_else(short)?) })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(version: u32) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        bytes[..4].copy_from_slice(QCOW);
        bytes[4..8].copy_from_slice(&version.to_be_bytes());
        bytes[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        bytes
    }

    fn with(version: u32, at: usize, value: u8) -> Vec<u8> {
        let mut bytes = header(version);
        bytes[at] = value;
        bytes
    }

    #[test]
    fn a_qcow2_of_one_file_is_taken_with_its_size() {
        for version in [2, 3] {
            assert_eq!(read(DiskFormat::Qcow2, &header(version)), Ok(Header { size: Some(1 << 30) }));
        }
        // What version 2 has at a feature's place is none.
        assert!(read(DiskFormat::Qcow2, &with(2, 79, 4)).is_ok());
    }

    #[test]
    fn one_of_several_files_is_refused() {
        for (bytes, expected) in [
            (with(2, 8, 1), "backing file"),
            (with(3, 15, 0x70), "backing file"),
            (with(3, 79, 4), "external data file"),
            (with(3, 79, 5), "external data file"),
            (with(3, 35, 2), "encrypted"),
            (with(1, 8, 0), "version is 1"),
            (with(9, 8, 0), "version is 9"),
            (b"QFI\xfb\0\0\0\x03".to_vec(), "cut short"),
            (Vec::new(), "not in qcow2 format"),
            (vec![0; LENGTH], "not in qcow2 format"),
        ] {
            let text = read(DiskFormat::Qcow2, &bytes).unwrap_err();
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn a_raw_disk_that_is_something_else_is_refused() {
        for version in [1, 2, 3] {
            assert!(read(DiskFormat::Raw, &header(version)).unwrap_err().contains("format = \"qcow2\""));
        }
        for (at, magic, name) in OTHERS {
            let mut bytes = vec![0; LENGTH];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            assert!(read(DiskFormat::Raw, &bytes).unwrap_err().contains(name));
        }
        // A guest's own.
        for start in [b"LUKS\xba\xbe".as_slice(), b"\xeb\x63\x90", b"hello", b""] {
            assert_eq!(read(DiskFormat::Raw, start), Ok(Header { size: None }));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..LENGTH)) {
            let mut qcow = QCOW.to_vec();
            qcow.extend(&bytes);
            for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
                let _ = read(format, &bytes);
                let _ = read(format, &qcow);
            }
            prop_assert!(read(DiskFormat::Raw, &qcow).is_err());
        }
    }
}
