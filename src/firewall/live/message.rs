//! Messages and attributes of netlink(7), written and read. Pure; whatever the
//! bytes say, reading them ends.

/// `struct nlmsghdr`.
pub(in crate::firewall) const HEADER: usize = 16;
/// `struct nfgenmsg`.
pub(in crate::firewall) const GENERIC: usize = 4;
const ATTRIBUTE: usize = 4;
/// `NLA_F_NESTED`; the kernel sets it in some answers and in others not.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`.
const KIND: u16 = 0x3fff;

/// Bytes that aren't as the kernel's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer can't be read")]
pub(in crate::firewall) struct Unexpected;

/// A message's header and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram.
pub(in crate::firewall) fn messages(mut bytes: &[u8]) -> Result<Vec<Message<'_>>, Unexpected> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32_at(bytes, 0)?).map_err(|_| Unexpected)?;
        found.push(Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: bytes.get(HEADER..length).ok_or(Unexpected)?,
        });
        // Messages are aligned to four bytes; nothing need follow the last.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// The attributes that `bytes` are: each one's kind and value.
pub(in crate::firewall) fn attributes(mut bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, Unexpected> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND;
        found.push((kind, bytes.get(ATTRIBUTE..length).ok_or(Unexpected)?));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

pub(in crate::firewall) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Unexpected> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(in crate::firewall) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Unexpected> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Unexpected> {
    let end = at.checked_add(N).ok_or(Unexpected)?;
    bytes.get(at..end).and_then(|bytes| bytes.try_into().ok()).ok_or(Unexpected)
}

/// A whole value of four bytes, in the network's order.
pub(in crate::firewall) fn be32(value: &[u8]) -> Result<u32, Unexpected> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Unexpected)
}

/// A whole value of eight bytes, in the network's order.
pub(in crate::firewall) fn be64(value: &[u8]) -> Result<u64, Unexpected> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| Unexpected)
}

/// A text, without the zero that ends it.
pub(in crate::firewall) fn text(value: &[u8]) -> Result<&str, Unexpected> {
    std::str::from_utf8(value.strip_suffix(b"\0").unwrap_or(value)).map_err(|_| Unexpected)
}

/// A request of netfilter's: its header, `struct nfgenmsg`, its attributes.
pub(in crate::firewall) fn request(
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    attributes: &[u8],
) -> Vec<u8> {
    const NLM_F_REQUEST: u16 = 1;
    let length = u32::try_from(HEADER + GENERIC + attributes.len()).unwrap_or(u32::MAX);
    [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &(NLM_F_REQUEST | flags).to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &0_u32.to_ne_bytes(),
        &[family, 0],
        &resource.to_be_bytes(),
        attributes,
    ]
    .concat()
}

pub(in crate::firewall) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute of attributes.
pub(in crate::firewall) fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &inner.concat())
}

/// A text as the kernel reads one: a zero ends it.
pub(in crate::firewall) fn name(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), b"\0"].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = [name(1, "hostctl"), nested(2, &[attribute(3, &[7])])];
        let both = [request(5, 4, 9, (1, 10), &inner.concat()), request(6, 0, 10, (7, 0), &[])].concat();
        let read = messages(&both).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (5, 5, 9));
        let found = attributes(&read[0].payload[GENERIC..]).unwrap();
        assert_eq!(found[0], (1, &b"hostctl\0"[..]));
        assert_eq!(text(found[0].1), Ok("hostctl"));
        assert_eq!(attributes(found[1].1).unwrap(), [(3, &[7][..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            _ = attributes(&bytes);
            for message in messages(&bytes).into_iter().flatten() {
                for (_, value) in attributes(message.payload).into_iter().flatten() {
                    _ = (attributes(value), be32(value), be64(value), text(value));
                }
            }
        }

        #[test]
        fn a_length_that_lies_is_refused(length in any::<u16>(), rest in 0_usize..40) {
            let bytes = [&length.to_ne_bytes()[..], &[1, 0], &vec![0; rest]].concat();
            let fits = usize::from(length) >= ATTRIBUTE && usize::from(length) <= ATTRIBUTE + rest;
            if !fits {
                prop_assert_eq!(attributes(&bytes), Err(Unexpected));
            }
        }
    }
}
