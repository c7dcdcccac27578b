//! A space of packets, as the model asks about it: where some packets answer
//! yes and others no, the model is asked again, once for each way of answering.

use std::collections::HashMap;

use crate::packet::Family;
use crate::reach::Flow;
use crate::reach::sets::{Attached, Links, SetId, Sets};
use crate::reach::subject::{Condition, Delivery, Field, Judges, Kind, Subject};
use crate::topology::{Action, IfName};

use super::diagram::{Diagram, Diagrams};
use super::header::{Boxes, Header, truth};
use super::links::LinkNumbers;

/// What is known of the model's sets whose diagrams don't depend on who sends.
#[derive(Debug, Default)]
pub struct Known {
    sets: HashMap<(SetId, Field), Diagram>,
    /// What a policy's list denies, by the policy and the field of the far end.
    lists: HashMap<(String, Field), Diagram>,
}

/// The answers so far, of one way of answering.
struct Open {
    answers: Vec<bool>,
    rest: Diagram,
}

/// The packets that are judged.
pub struct Space<'s> {
    diagrams: &'s mut Diagrams,
    header: &'s Header,
    links: &'s LinkNumbers,
    known: &'s mut Known,
    delivery: Delivery,
    /// The addresses that guests have, for what asks whether two addresses are
    /// one guest's.
    senders: &'s [Vec<u128>],
    flow: OneOf<'s>,
    answers: Vec<bool>,
    place: usize,
    rest: Diagram,
    open: Vec<Open>,
}

/// A flow that a space is the first packet of, with the link that it goes out
/// by.
pub type OneOf<'s> = Option<(&'s Flow, Option<&'s IfName>)>;

/// What a space is a space of.
#[derive(Clone, Copy)]
pub struct Of<'s> {
    pub header: &'s Header,
    pub links: &'s LinkNumbers,
    pub delivery: Delivery,
    /// The addresses of each guest that may have sent it.
    pub senders: &'s [Vec<u128>],
    /// A flow of the space, where it is one packet's: for reasons.
    pub flow: OneOf<'s>,
}

/// Judges `space`: what `judge` says, each answer with the packets that it is
/// said of. Nobody's packet is in two, and none in none.
pub fn judge<T>(
    diagrams: &mut Diagrams,
    known: &mut Known,
    of: Of<'_>,
    space: Diagram,
    judge: &mut impl FnMut(&mut Space<'_>) -> T,
) -> Vec<(Diagram, T)> {
    let mut open = vec![Open { answers: Vec::new(), rest: space }];
    let mut found = Vec::new();
    while let Some(Open { answers, rest }) = open.pop() {
        if rest == Diagram::NEVER {
            continue;
        }
        let Of { header, links, delivery, senders, flow } = of;
        let mut space = Space {
            diagrams,
            header,
            links,
            known,
            delivery,
            senders,
            flow,
            answers,
            place: 0,
            rest,
            open: Vec::new(),
        };
        let said = judge(&mut space);
        found.push((space.rest, said));
        open.append(&mut space.open);
    }
    found
}

impl Space<'_> {
    /// Goes on with the packets of which the answer is the same.
    fn answer(&mut self, holds: Diagram) -> bool {
        if let Some(answer) = self.answers.get(self.place) {
            self.place += 1;
            return *answer;
        }
        self.place += 1;
        let yes = self.diagrams.and(self.rest, holds);
        let no = self.diagrams.minus(self.rest, holds);
        let answer = yes != Diagram::NEVER;
        if answer && no != Diagram::NEVER {
            let mut answers = self.answers.clone();
            answers.push(false);
            self.open.push(Open { answers, rest: no });
            self.rest = yes;
        }
        self.answers.push(answer);
        answer
    }

    fn holds(&mut self, condition: &Condition<'_>) -> Diagram {
        let header = self.header;
        match condition {
            Condition::Any => Diagram::ALWAYS,
            Condition::Is(field, values) => {
                let there = header.present(self.diagrams, *field);
                let among = header.among(self.diagrams, *field, values);
                self.diagrams.and(there, among)
            }
            Condition::Among(field, addresses) => {
                let ranges = addresses.ranges(header.family());
                self.kept(addresses.id, *field, |diagrams| header.among(diagrams, *field, ranges))
            }
            Condition::By(links) => self.by(links),
            Condition::To(guests) => self.to(guests),
            Condition::SameGuest(a, b) => {
                let mut boxes = Boxes::new(2);
                for guest in self.senders {
                    for first in guest {
                        for second in guest {
                            boxes.push(&[(*first, *first), (*second, *second)], Diagram::ALWAYS);
                        }
                    }
                }
                header.boxes(self.diagrams, &[*a, *b], &boxes)
            }
        }
    }

    fn by(&mut self, links: &Links) -> Diagram {
        let (numbers, header) = (self.links, self.header);
        self.kept(links.id, Field::Out, |diagrams| {
            let ranges = links.names.iter().filter_map(|name| numbers.known(name.as_str()));
            let ranges =
                ranges.map(|(first, last)| if links.by_name { (first, last) } else { (first, first) });
            header.among(diagrams, Field::Out, &ranges.collect::<Vec<_>>())
        })
    }

    fn to(&mut self, guests: &Attached) -> Diagram {
        let (numbers, header) = (self.links, self.header);
        self.kept(guests.id, Field::Destination, |diagrams| {
            let mut boxes = Boxes::new(2);
            for (link, addresses) in &guests.by_link {
                let Some(link) = numbers.known(link.as_str()) else { continue };
                for range in addresses.ranges(header.family()) {
                    boxes.push(&[link, *range], Diagram::ALWAYS);
                }
            }
            header.boxes(diagrams, &[Field::Out, Field::Destination], &boxes)
        })
    }

    /// Made once for all headers, but where a field is the same in all packets of
    /// this one.
    fn kept(&mut self, id: SetId, field: Field, make: impl FnOnce(&mut Diagrams) -> Diagram) -> Diagram {
        let asked: &[Field] = if field == Field::Destination { &[Field::Out, field] } else { &[field] };
        if asked.iter().any(|field| self.header.is_own(*field)) {
            return make(self.diagrams);
        }
        if let Some(known) = self.known.sets.get(&(id, field)) {
            return *known;
        }
        let made = make(self.diagrams);
        self.known.sets.insert((id, field), made);
        made
    }

    fn all(&mut self, conditions: &[Condition<'_>]) -> Diagram {
        let mut all = Diagram::ALWAYS;
        for condition in conditions {
            let holds = self.holds(condition);
            all = self.diagrams.and(all, holds);
        }
        all
    }

    /// What a policy's list denies of all packets there are.
    fn list<'t>(&mut self, sets: &Sets<'t>, policy: &str, judges: Judges<'_, 't>) -> Diagram {
        let Some(list) = sets.list(policy, judges.direction()) else { return Diagram::NEVER };
        let key = (policy.to_string(), judges.far());
        let own = self.header.is_own(judges.far());
        if let Some(known) = self.known.lists.get(&key).filter(|_| !own) {
            return *known;
        }
        let of = Of {
            header: self.header,
            links: self.links,
            delivery: self.delivery,
            senders: self.senders,
            flow: None,
        };
        let far = judges.far();
        let said =
            judge(self.diagrams, self.known, of, Diagram::ALWAYS, &mut |space| list.decide(space, far).0);
        let mut denied = Diagram::NEVER;
        for (space, action) in said {
            if action == Action::Deny {
                denied = self.diagrams.or(denied, space);
            }
        }
        if !own {
            self.known.lists.insert(key, denied);
        }
        denied
    }

    /// What the policies of those who judge deny.
    fn denied_by<'t>(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> Diagram {
        let (family, header) = (self.header.family(), self.header);
        let mut denied = Diagram::NEVER;
        match judges {
            Judges::Senders(network) => {
                for (policy, addresses) in &network.policed(judges.direction()).lists {
                    let these = header.among(self.diagrams, Field::Source, addresses.ranges(family));
                    let list = self.list(sets, policy, judges);
                    let these = self.diagrams.and(these, list);
                    denied = self.diagrams.or(denied, these);
                }
            }
            Judges::Receivers => {
                let owners = self.owners(sets, judges);
                let found = self.diagrams.choose(self.rest, owners, Diagram::NEVER);
                let policies: Vec<&str> = sets.lists.keys().copied().collect();
                for terminal in self.diagrams.terminals(found) {
                    let index = terminal.checked_sub(POLICIES).and_then(|index| usize::try_from(index).ok());
                    let Some(policy) = index.and_then(|index| policies.get(index)) else { continue };
                    let these = self.diagrams.rename(found, &|other| truth(other == terminal));
                    let list = self.list(sets, policy, judges);
                    let these = self.diagrams.and(these, list);
                    denied = self.diagrams.or(denied, these);
                }
            }
        }
        denied
    }

    /// Whose policy judges what goes to a guest: a terminal a policy.
    fn owners<'t>(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> Diagram {
        let (numbers, header) = (self.links, self.header);
        self.kept(sets.guests.id, Field::Out, |diagrams| {
            let numbered: HashMap<&str, u32> = sets.lists.keys().copied().zip(POLICIES..).collect();
            let mut boxes = Boxes::new(2);
            for network in sets.networks.values() {
                let Some(link) = numbers.known(network.network.bridge.as_str()) else { continue };
                for (policy, addresses) in &network.policed(judges.direction()).lists {
                    let Some(number) = numbered.get(policy) else { continue };
                    for range in addresses.ranges(header.family()) {
                        boxes.push(&[link, *range], Diagram::terminal(*number));
                    }
                }
            }
            header.boxes(diagrams, &[Field::Out, Field::Destination], &boxes)
        })
    }
}

/// The first policy's terminal.
const POLICIES: u32 = 16;

impl<'t> Subject<'t> for Space<'_> {
    fn family(&self) -> Family {
        self.header.family()
    }

    fn kind(&self) -> Kind {
        self.header.kind
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn has(&mut self, conditions: &[Condition<'_>]) -> bool {
        // What was answered isn't worked out again.
        let holds = if self.place < self.answers.len() { Diagram::NEVER } else { self.all(conditions) };
        self.answer(holds)
    }

    fn flow(&self) -> Option<(&Flow, Option<&IfName>)> {
        self.flow
    }

    fn denied(&mut self, sets: &Sets<'t>, judges: Judges<'_, 't>) -> bool {
        let holds =
            if self.place < self.answers.len() { Diagram::NEVER } else { self.denied_by(sets, judges) };
        self.answer(holds)
    }
}
