//! Elements as the kernel has them, asked for by their keys: what a change left
//! is known without listing a set.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;

use super::element::{Element, Kind, Place};
use super::element_message::{SetElements, question, read};
use super::transaction::{ElementsError, answers, open_for_answers, refusal, transmit};
use crate::firewall::Set;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM`.
const ELEMENTS: u16 = 10 << 8 | 12;
/// `NLMSG_ERROR`.
const ANSWER: u16 = 2;
/// Questions that are asked at once. Where their answers don't fit, fewer are.
const AT_ONCE: [usize; 3] = [128, 16, 1];

/// What is asked, and what the answer has to be.
struct Question<'a> {
    family: &'static str,
    set: &'a str,
    element: &'a Element,
    asked: Place,
    /// The place that has to be there, or that mustn't.
    place: &'a Place,
    there: bool,
}

/// That each of `added` is there as it should, and each of `deleted` isn't,
/// unless it was added again.
///
/// # Errors
/// The first that isn't, and where the kernel doesn't answer.
pub(in crate::firewall) fn check(
    deleted: &[SetElements],
    added: &[SetElements],
) -> Result<(), ElementsError> {
    let mut questions: Vec<_> = present(added).collect();
    let again: BTreeSet<_> =
        questions.iter().map(|question| (question.family, question.set, &question.place.key)).collect();
    let gone: Vec<_> = absent(deleted)
        .filter(|question| !again.contains(&(question.family, question.set, &question.place.key)))
        .collect();
    questions.extend(gone);
    match deviating(&questions)?.first() {
        None => Ok(()),
        Some(question) => {
            Err(ElementsError::Otherwise { set: question.set.into(), element: question.element.text.clone() })
        }
    }
}

/// Which of these elements, written as nft reads them, the kernel hasn't just
/// so: with that value and those limits. Each is asked for by its key, in each
/// family that has the set. One that hostctl can't ask for counts as missing.
///
/// # Errors
/// Where the kernel doesn't answer.
pub fn missing<'a>(
    elements: impl IntoIterator<Item = (Set, &'a [String])>,
) -> Result<Vec<(Set, String)>, ElementsError> {
    let (mut sets, mut odd) = (Vec::new(), Vec::new());
    for (set, texts) in elements {
        let kind = Kind::named(set.name());
        let mut elements = Vec::new();
        for text in texts {
            match kind.as_ref().and_then(|kind| kind.element(text)) {
                Some(element) => elements.push(element),
                None => odd.push((set, text.clone())),
            }
        }
        for family in set.definition().families {
            sets.push((set, SetElements { family, set: set.name().into(), elements: elements.clone() }));
        }
    }
    for (set, elements) in &sets {
        let questions: Vec<_> = present(std::slice::from_ref(elements)).collect();
        let texts = deviating(&questions)?.into_iter().map(|question| question.element.text.clone());
        odd.extend(texts.map(|text| (*set, text)));
    }
    odd.dedup();
    Ok(odd)
}

fn present(sets: &[SetElements]) -> impl Iterator<Item = Question<'_>> {
    let questions = sets.iter().flat_map(|set| set.elements.iter().map(move |element| (set, element)));
    questions.flat_map(|(set, element)| {
        let about = move |place, asked, there| Question {
            family: set.family,
            set: &set.set,
            element,
            asked,
            place,
            there,
        };
        // Of plain intervals the kernel gives the last that begins up to a value.
        // That it is this one for its last value, and isn't for the one after,
        // says where it ends and that none is in it. Ends themselves aren't found
        // where another begins (__nft_rbtree_get in `net/netfilter/nft_set_rbtree.c`).
        let begin = element.places.first();
        element.places.iter().filter_map(move |place| {
            let begin = begin?;
            Some(match (&element.last, place.ends) {
                (Some(last), false) => about(place, Place { key: last.clone(), ..place.clone() }, true),
                (Some(_), true) => about(begin, Place { key: place.key.clone(), ..begin.clone() }, false),
                (None, _) => about(place, place.clone(), true),
            })
        })
    })
}

fn absent(sets: &[SetElements]) -> impl Iterator<Item = Question<'_>> {
    let questions = sets.iter().flat_map(|set| set.elements.iter().map(move |element| (set, element)));
    questions.filter_map(|(set, element)| {
        let place = element.places.first()?;
        Some(Question {
            family: set.family,
            set: &set.set,
            element,
            asked: place.clone(),
            place,
            there: false,
        })
    })
}

impl Question<'_> {
    fn is_answered(&self, found: &[Place]) -> bool {
        let place = self.place;
        let same = |found: &Place| {
            (&found.key, &found.key_end, found.ends) == (&place.key, &place.key_end, place.ends)
        };
        let as_wanted = |found: &Place| {
            // Where none are stated, the kernel gives it the set's.
            let states = place.states.is_empty() || found.states == place.states;
            found.value == place.value && states
        };
        match found.iter().find(|found| same(found)) {
            Some(found) => self.there && as_wanted(found),
            None => !self.there,
        }
    }
}

/// The questions whose answers aren't as they have to be.
fn deviating<'q, 'a>(questions: &'q [Question<'a>]) -> Result<Vec<&'q Question<'a>>, ElementsError> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let socket = open_for_answers()?;
    let mut found = None;
    for at_once in AT_ONCE {
        match deviating_by(socket.as_fd(), questions, at_once) {
            Err(ElementsError::Netlink(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                found = Some(Err(ElementsError::Netlink(error)));
            }
            result => return result,
        }
    }
    found.unwrap_or(Err(ElementsError::Answer))
}

fn deviating_by<'q, 'a>(
    socket: BorrowedFd<'_>,
    questions: &'q [Question<'a>],
    at_once: usize,
) -> Result<Vec<&'q Question<'a>>, ElementsError> {
    let mut odd = Vec::new();
    let mut sequence = 0;
    for part in questions.chunks(at_once) {
        let first = sequence;
        let mut bytes = Vec::new();
        for asked in part {
            bytes.extend(question(asked.family, asked.set, &asked.asked, sequence));
            sequence += 1;
        }
        transmit(socket, &bytes).map_err(ElementsError::Netlink)?;
        let mut places: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
        let (mut ended, mut failed) = (BTreeSet::new(), None);
        answers(socket, |message| {
            match message.kind {
                ELEMENTS => places.entry(message.sequence).or_default().extend(read(message.payload)?),
                ANSWER => {
                    ended.insert(message.sequence);
                    failed = failed
                        .take()
                        .or(refusal(message)?.map(|(errno, _)| errno).filter(|errno| *errno != libc::ENOENT));
                }
                _ => {}
            }
            Ok(())
        })?;
        if let Some(errno) = failed {
            return Err(ElementsError::Netlink(std::io::Error::from_raw_os_error(errno)));
        }
        for (number, asked) in (first..).zip(part) {
            if !ended.contains(&number) {
                return Err(ElementsError::Answer);
            }
            if !asked.is_answered(places.get(&number).map(Vec::as_slice).unwrap_or_default()) {
                odd.push(asked);
            }
        }
    }
    Ok(odd)
}
