//! What holds on every host, whatever its sets hold: without it the sets could
//! say together what no spec says.

use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::fact::Fact::*;
use super::fact::Facts;
use super::fact::Term::{self, FromLinkLocal, Ipv4, No, Yes};

/// Where all of `when` hold, one of `then` does.
pub struct Law {
    pub words: &'static str,
    when: &'static [Term],
    then: &'static [Term],
}

const fn law(words: &'static str, when: &'static [Term], then: &'static [Term]) -> Law {
    Law { words, when, then }
}

/// Each of them, of packets that are routed, and of frames.
pub const LAWS: &[Law] = &[
    law("a port is no bridge", &[Yes(FromPort)], &[No(FromBridge)]),
    law("only networks are open to the tailnet", &[Yes(FromTailscaleNetwork)], &[Yes(FromBridge)]),
    law("only networks have imds", &[Yes(FromImdsNetwork)], &[Yes(FromBridge)]),
    law("IPv4's forwarding is a link's, not the family's", &[Ipv4], &[No(UnforwardedFamily)]),
    law("guests send from bridges", &[Yes(FromGuest)], &[Yes(FromBridge)]),
    law("a guest's address comes with its MAC: its port saw to it", &[Yes(FromGuest)], &[Yes(FromGuestsMac)]),
    law(
        "guests' addresses are link-local, or in their network's prefix",
        &[Yes(FromGuest)],
        &[Yes(FromNetworks), FromLinkLocal],
    ),
    law("guests are at bridges", &[Yes(ToGuest)], &[Yes(ToBridge)]),
    law("who is connected is a network", &[Yes(ToConnected)], &[Yes(ToBridge)]),
    law("a bridge is no uplink", &[Yes(ToBridge)], &[No(ToUplink)]),
    law("where a network goes out is an exit", &[Yes(ToOwnExit)], &[Yes(ToExit)]),
    law("an exit bears an uplink's name", &[Yes(ToExit)], &[Yes(ToUplink)]),
    law("what is denied isn't the internet", &[Yes(ToDenied)], &[Yes(ToClosed)]),
    law("nor are the clouds' services", &[Yes(ToMetadata)], &[Yes(ToClosed)]),
    law("a metadata service is one of them", &[Yes(ToService)], &[Yes(ToMetadata)]),
    law("a sender's policy is a guest's", &[Yes(HasEgress)], &[Yes(FromGuest)]),
    law("a receiver's policy is a guest's", &[Yes(HasIngress)], &[Yes(ToGuest)]),
    law("whose bridge is one of receivers", &[Yes(HasIngress)], &[Yes(ToReceivers)]),
    law("which are networks'", &[Yes(ToReceivers)], &[Yes(ToBridge)]),
    law("parts of the ports are guests'", &[Yes(HasShare)], &[Yes(FromNetworks)]),
];

impl Law {
    /// Whether it is about where packets come in.
    pub fn is_of_way_in(&self) -> bool {
        let is = |term: &Term| matches!(term, Yes(fact) | No(fact) if fact.is_of_way_in());
        self.when.iter().chain(self.then).any(is)
    }

    /// Where it is kept.
    pub fn diagram(&self, diagrams: &mut Diagrams, header: &Header, facts: &Facts) -> Diagram {
        let when = Term::all(self.when, diagrams, header, facts);
        let then = self.then.iter().fold(Diagram::NEVER, |any, term| {
            let one = term.diagram(diagrams, header, facts);
            diagrams.or(any, one)
        });
        diagrams.choose(when, then, Diagram::ALWAYS)
    }

    /// Where all are kept.
    pub fn all(diagrams: &mut Diagrams, header: &Header, facts: &Facts) -> Diagram {
        LAWS.iter().fold(Diagram::ALWAYS, |all, law| {
            let one = law.diagram(diagrams, header, facts);
            diagrams.and(all, one)
        })
    }
}
