//! The virtio header of a frame (virtio 1.2, 5.1.6), as a guest writes it.

pub const NEEDS_CSUM: u8 = 1;
pub const DATA_VALID: u8 = 2;
pub const RSC_INFO: u8 = 4;

pub const GSO_TCPV4: u8 = 1;
pub const GSO_UDP: u8 = 3;
pub const GSO_TCPV6: u8 = 4;
pub const GSO_UDP_L4: u8 = 5;
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr_mrg_rxbuf`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    pub length: u16,
    pub gso_size: u16,
    pub start: u16,
    pub offset: u16,
    pub buffers: u16,
}

impl Header {
    /// One that asks for a checksum there.
    pub fn checksum(start: usize, offset: usize) -> Self {
        Self { flags: NEEDS_CSUM, start: start as u16, offset: offset as u16, ..Self::default() }
    }

    /// And for segments of that size.
    pub fn segments(self, gso_type: u8, gso_size: u16) -> Self {
        Self { gso_type, gso_size, length: self.start + 20, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.flags, self.gso_type];
        for word in [self.length, self.gso_size, self.start, self.offset, self.buffers] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}
