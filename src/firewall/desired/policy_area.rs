//! Whether all that a policy's sets hold is held by another's: sets are compared as
//! what they cover, however it is cut into elements. Pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::policy_chain::PolicyChain;
use super::set::PolicySet;
use crate::packet::protocol::{TCP, UDP};

/// Addresses, protocols, ports.
type Area = [(u128, u128); 3];

/// Pieces that a comparison may come to; beyond them it isn't known.
const PIECES_MAX: usize = 20_000;

/// All ports, and what has none or can't be read.
const ANY_PORT: (u128, u128) = (0, u16::MAX as u128 + 1);

/// Whether `inner` holds nothing that `outer` doesn't; false also where that can't be
/// said.
pub(super) fn is_within(inner: &PolicyChain, outer: &PolicyChain) -> bool {
    [[PolicySet::Ports4, PolicySet::Protocols4], [PolicySet::Ports6, PolicySet::Protocols6]]
        .into_iter()
        .all(|sets| is_family_within(inner, outer, sets) == Some(true))
}

fn is_family_within(inner: &PolicyChain, outer: &PolicyChain, sets: [PolicySet; 2]) -> Option<bool> {
    if sets.iter().all(|set| inner.sets.of(set) == outer.sets.of(set)) {
        return Some(true);
    }
    let areas = |policy: &PolicyChain| -> Option<Vec<Area>> {
        sets.iter().flat_map(|set| policy.sets.of(set)).map(|element| area(element)).collect()
    };
    let (inner, outer) = (areas(inner)?, areas(outer)?);
    let mut budget = PIECES_MAX;
    for area in inner {
        if !is_covered(area, &outer, &mut budget)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether every point of an area is in one of `cover`; none where that takes too
/// long.
fn is_covered(area: Area, cover: &[Area], budget: &mut usize) -> Option<bool> {
    let mut rest = vec![area];
    for other in cover {
        // Most of them are elsewhere.
        if !rest.iter().any(|piece| overlap(piece, other)) {
            continue;
        }
        let mut left = Vec::new();
        for piece in rest {
            cut(piece, other, &mut left);
        }
        *budget = budget.checked_sub(left.len())?;
        rest = left;
        if rest.is_empty() {
            return Some(true);
        }
    }
    Some(false)
}

fn overlap(a: &Area, b: &Area) -> bool {
    a.iter().zip(b).all(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
}

/// What of `piece` isn't in `other`.
fn cut(mut piece: Area, other: &Area, left: &mut Vec<Area>) {
    if !overlap(&piece, other) {
        left.push(piece);
        return;
    }
    for axis in 0..piece.len() {
        let (Some((first, last)), Some((from, to))) = (piece.get(axis).copied(), other.get(axis).copied())
        else {
            return;
        };
        let mut keep = |range: (u128, u128)| {
            let mut side = piece;
            if let Some(place) = side.get_mut(axis) {
                *place = range;
            }
            left.push(side);
        };
        if first < from {
            keep((first, from - 1));
        }
        if last > to {
            keep((to + 1, last));
        }
        if let Some(place) = piece.get_mut(axis) {
            *place = (first.max(from), last.min(to));
        }
    }
}

/// An element: addresses, a protocol or several, and ports where it has any.
fn area(element: &str) -> Option<Area> {
    let mut parts = element.split(" . ");
    let (addresses, protocols) = (parts.next()?, parts.next()?);
    let ports = parts.next().map_or(Some(ANY_PORT), numbers)?;
    let protocols = match protocols {
        "tcp" => (u128::from(TCP), u128::from(TCP)),
        "udp" => (u128::from(UDP), u128::from(UDP)),
        numbered => numbers(numbered)?,
    };
    parts.next().is_none().then_some([self::addresses(addresses)?, protocols, ports])
}

fn numbers(text: &str) -> Option<(u128, u128)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    ordered(first.parse().ok()?..=last.parse().ok()?)
}

fn addresses(text: &str) -> Option<(u128, u128)> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    if let Ok(net) = text.parse::<IpNet>() {
        return ordered(number(net.network())..=number(net.broadcast()));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    ordered(number(first.parse().ok()?)..=number(last.parse().ok()?))
}

fn ordered(range: RangeInclusive<u128>) -> Option<(u128, u128)> {
    (!range.is_empty()).then(|| range.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(ports: &[&str], protocols: &[&str]) -> PolicyChain {
        let mut policy = PolicyChain {
            chain: "policy_p_in".into(),
            what: String::new(),
            far: "saddr".into(),
            open: false,
            sets: Default::default(),
        };
        policy.sets.extend(PolicySet::Ports4, ports.iter().map(ToString::to_string));
        policy.sets.extend(PolicySet::Protocols4, protocols.iter().map(ToString::to_string));
        policy
    }

    #[test]
    fn areas_are_compared_however_they_are_cut() {
        let one = policy(&["10.0.0.0/8 . tcp . 80-90"], &[]);
        let halves = policy(
            &[
                "10.0.0.0/9 . tcp . 80-90",
                "10.128.0.0-10.255.255.255 . tcp . 80-85",
                "10.128.0.0/9 . tcp . 86-90",
            ],
            &[],
        );
        assert!(is_within(&one, &halves) && is_within(&halves, &one));
        let hole = policy(
            &["10.0.0.0/9 . tcp . 80-90", "10.128.0.0/9 . tcp . 80-85", "10.128.0.0/9 . tcp . 87-90"],
            &[],
        );
        assert!(!is_within(&one, &hole) && is_within(&hole, &one));
        let protocol = policy(&[], &["10.0.0.0/8 . 6"]);
        assert!(is_within(&one, &protocol));
        // It has ports that can't be read, and port 0.
        assert!(!is_within(&policy(&[], &["10.0.0.0/8 . 6"]), &policy(&["10.0.0.0/8 . tcp . 0-65535"], &[])));
        assert!(!is_within(&policy(&["10.0.0.0/8 . udp . 80"], &[]), &one));
        assert!(is_within(&policy(&[], &[]), &one) && !is_within(&one, &policy(&[], &[])));
    }

    #[test]
    fn what_isnt_understood_isnt_within() {
        for odd in
            ["10.0.0.0/8", "10.0.0.0/8 . tcp . x", "x . tcp . 1", "10.0.0.0/8 . tcp . 9-1", "a . b . c . d"]
        {
            assert_eq!(area(odd), None, "{odd}");
        }
        assert!(!is_within(&policy(&["odd"], &[]), &policy(&["odder"], &[])));
    }
}
