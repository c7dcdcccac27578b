//! Sets of services: what may be opened from one end to another.

use std::fmt;

use serde::{Serialize, Serializer};

/// Ports, in ranges that neither overlap nor touch, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Every port.
    pub fn all() -> Self {
        Self(vec![(0, u16::MAX)])
    }

    /// Adds a range that begins behind all that are there.
    pub fn push(&mut self, first: u16, last: u16) {
        match self.0.last_mut() {
            Some(previous) if previous.1.checked_add(1) == Some(first) => previous.1 = last,
            _ => self.0.push((first, last)),
        }
    }

    /// Those that aren't in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for &(first, last) in &self.0 {
            // Where what is left of the range begins; nothing is behind 65535.
            let mut next = Some(first);
            for &(from, to) in other.0.iter().filter(|(from, to)| *from <= last && *to >= first) {
                if let Some(start) = next.filter(|start| *start < from) {
                    rest.push(start, from - 1);
                }
                next = to.checked_add(1).filter(|start| *start <= last);
            }
            if let Some(start) = next {
                rest.push(start, last);
            }
        }
        rest
    }

    /// These and those in `other`.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self::all().minus(&Self::all().minus(self).minus(other))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_all(&self) -> bool {
        self.0 == [(0, u16::MAX)]
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More aren't written out.
        const MOST: usize = 12;
        for (index, (first, last)) in self.0.iter().take(MOST).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more ranges"),
        }
    }
}

impl Serialize for Ports {
    /// As a list of `"22"` and `"8000-8080"`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0.iter().map(
                |(first, last)| {
                    if first == last { first.to_string() } else { format!("{first}-{last}") }
                },
            ),
        )
    }
}

/// What may be opened, in one family. Rules tell no more apart than this.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Services {
    /// TCP ports.
    pub tcp: Ports,
    /// UDP ports.
    pub udp: Ports,
    /// ICMP of the family.
    pub ping: bool,
    /// Every other protocol.
    pub other: bool,
}

impl Services {
    /// Everything.
    pub fn all() -> Self {
        Self { tcp: Ports::all(), udp: Ports::all(), ping: true, other: true }
    }

    /// What isn't in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self {
            tcp: self.tcp.minus(&other.tcp),
            udp: self.udp.minus(&other.udp),
            ping: self.ping && !other.ping,
            other: self.other && !other.other,
        }
    }

    /// These and those in `other`.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            tcp: self.tcp.plus(&other.tcp),
            udp: self.udp.plus(&other.udp),
            ping: self.ping || other.ping,
            other: self.other || other.other,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && !self.ping && !self.other
    }

    fn listed(&self) -> String {
        let ports = |protocol: &str, ports: &Ports| match (ports.is_empty(), ports.is_all()) {
            (true, _) => None,
            (_, true) => Some(protocol.to_string()),
            _ => Some(format!("{protocol} {ports}")),
        };
        let parts = [
            ports("tcp", &self.tcp),
            ports("udp", &self.udp),
            self.ping.then(|| "ping".into()),
            self.other.then(|| "other protocols".into()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = Self::all().minus(self);
        if self.is_empty() {
            f.write_str("nothing")
        } else if rest.is_empty() {
            f.write_str("everything")
        } else {
            let (listed, but) = (self.listed(), format!("everything but {}", rest.listed()));
            f.write_str(if self.other && but.len() < listed.len() { &but } else { &listed })
        }
    }
}

/// What may be opened in each family.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Both {
    /// By IPv4.
    pub v4: Services,
    /// By IPv6; nothing where an end has none.
    pub v6: Services,
}

impl Both {
    /// What isn't in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self { v4: self.v4.minus(&other.v4), v6: self.v6.minus(&other.v6) }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.v4.is_empty(), self.v6.is_empty()) {
            _ if self.v4 == self.v6 => write!(f, "{}", self.v4),
            (_, true) => write!(f, "{} (IPv4)", self.v4),
            (true, _) => write!(f, "{} (IPv6)", self.v6),
            _ => write!(f, "{} (IPv4), {} (IPv6)", self.v4, self.v6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(set: &std::collections::BTreeSet<u16>) -> Ports {
        let mut ports = Ports::default();
        set.iter().for_each(|port| ports.push(*port, *port));
        ports
    }

    proptest! {
        #[test]
        fn a_difference_is_one_of_sets(
            a in proptest::collection::btree_set(prop_oneof![0u16..20, 65520..=u16::MAX], 0..20),
            b in proptest::collection::btree_set(prop_oneof![0u16..20, 65520..=u16::MAX], 0..20),
        ) {
            prop_assert_eq!(ports(&a).minus(&ports(&b)), ports(&(&a - &b)));
            prop_assert_eq!(ports(&a).plus(&ports(&b)), ports(&(&a | &b)));
            prop_assert_eq!(Ports::all().minus(&Ports::all().minus(&ports(&a))), ports(&a));
        }
    }

    #[test]
    fn sets_are_said_briefly() {
        let mut some = Services::default();
        assert_eq!(some.to_string(), "nothing");
        some.tcp.push(80, 80);
        some.tcp.push(8000, 8080);
        some.ping = true;
        assert_eq!(some.to_string(), "tcp 80, 8000-8080; ping");
        assert_eq!(Services::all().minus(&some).to_string(), "everything but tcp 80, 8000-8080; ping");
        assert_eq!(Services::all().to_string(), "everything");
        assert_eq!(Both { v4: some.clone(), v6: some.clone() }.to_string(), "tcp 80, 8000-8080; ping");
        assert_eq!(Both { v4: some, ..Both::default() }.to_string(), "tcp 80, 8000-8080; ping (IPv4)");
    }
}
