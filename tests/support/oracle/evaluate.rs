//! Packets through chains (nft(8), "Verdict statement").

use super::Unknown;
use super::listing::{Chain, Table, Tables};
use super::packet::Packet;
use super::set::{Element, Key, Set};
use super::statement::{Action, Right, Statement};

/// Where in the kernel a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    pub family: &'static str,
    pub hook: &'static str,
}

/// What of the rules a packet touched, by places in the listing.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The rules that matched.
    pub matched: Vec<usize>,
    /// The elements that were found: their set and place in it.
    pub elements: Vec<(usize, usize)>,
}

impl Trace {
    /// Looks a key up.
    pub fn found(&mut self, set: &Set, key: &Key) -> Option<Element> {
        let element = set.find(key)?;
        self.elements.extend(set.place.map(|place| (place, element.place)));
        Some(element)
    }
}

/// What a chain makes of a packet.
enum End {
    Accepted,
    Masqueraded,
    Dropped,
    /// Its end was reached: the caller goes on.
    Returned,
}

/// Deeper jumps than the kernel allows (NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;

/// When connection tracking sees a packet.
const CONNTRACK: i64 = -200;

impl Tables {
    /// Whether a packet passes a hook, and whether it is masqueraded there.
    pub fn pass(&self, hook: Hook, packet: &Packet, trace: &mut Trace) -> Result<(bool, bool), Unknown> {
        let mut masqueraded = false;
        for (table, chain, base) in self.at(hook) {
            let tracked = hook.family == "inet" && (hook.hook != "prerouting" || base.priority > CONNTRACK);
            let packet = Packet { tracked, ..*packet };
            match table.run(chain, &packet, trace, 0)? {
                End::Dropped => return Ok((false, false)),
                End::Returned if base.drops => return Ok((false, false)),
                End::Masqueraded if base.nat => masqueraded = true,
                End::Masqueraded => return Err(Unknown("masquerade in a filter chain".into())),
                // Ends this chain; those of a later priority go on.
                End::Accepted | End::Returned => {}
            }
        }
        Ok((true, masqueraded))
    }
}

impl Table {
    fn run(&self, chain: &Chain, packet: &Packet, trace: &mut Trace, depth: usize) -> Result<End, Unknown> {
        if depth > DEEPEST {
            return Err(Unknown("jumps without end".into()));
        }
        for rule in &chain.rules {
            let Some(action) = self.rule(&rule.statements, packet, trace)? else { continue };
            trace.matched.push(rule.place);
            match action {
                Action::Accept => return Ok(End::Accepted),
                Action::Drop => return Ok(End::Dropped),
                Action::Masquerade => return Ok(End::Masqueraded),
                Action::Return => return Ok(End::Returned),
                Action::Goto(target) => return self.run(self.chain(target)?, packet, trace, depth + 1),
                Action::Jump(target) => match self.run(self.chain(target)?, packet, trace, depth + 1)? {
                    End::Returned => {}
                    end => return Ok(end),
                },
            }
        }
        Ok(End::Returned)
    }

    fn chain(&self, index: usize) -> Result<&Chain, Unknown> {
        self.chains.get(index).ok_or_else(|| Unknown(format!("chain {index}")))
    }

    /// A rule's action, where all of it matches. A rule with a limit has none,
    /// which the listing's parser sees to.
    fn rule(
        &self,
        statements: &[Statement],
        packet: &Packet,
        trace: &mut Trace,
    ) -> Result<Option<Action>, Unknown> {
        for statement in statements {
            match statement {
                Statement::Match(condition) if !condition.holds(packet, &self.sets, trace)? => {
                    return Ok(None);
                }
                Statement::Match(_) | Statement::Aside => {}
                Statement::Limit | Statement::Bound => return Ok(None),
                Statement::Act(action) => return Ok(Some(*action)),
                Statement::Map(key, right) => {
                    let Some(key) = key.read(packet)? else { return Ok(None) };
                    let set = match right {
                        Right::Anonymous(set) => set,
                        Right::Named(index) => self.sets.get(*index)?,
                    };
                    return Ok(trace.found(set, &key).and_then(|element| element.action));
                }
            }
        }
        Ok(None)
    }
}
