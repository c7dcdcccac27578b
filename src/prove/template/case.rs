//! Packets of which the model's lines ask the same, and what it says of them.

use crate::reach::{Decision, Judgement};

use super::super::answer::Claimed;
use super::super::diagram::{Diagram, Diagrams};
use super::super::header::Header;
use super::super::rules::Unknown;
use super::super::slice::{Judged, Stop};
use super::fact::Facts;
use super::laws::Law;
use super::schematic::{Case, From};
use super::subject::{EveryHost, Means, Of, judge};

impl Case<'_> {
    /// The link that it comes in by.
    pub fn link(&self) -> Option<&str> {
        match self.from {
            From::Port(port) => Some(port.interface.as_str()),
            From::Bridge(network) => Some(network.bridge.as_str()),
            From::Link(link) => Some(link),
            From::Host => None,
        }
    }

    /// Where what is true of all of its packets is.
    pub fn fixed(&self, diagrams: &mut Diagrams, header: &Header) -> Diagram {
        let facts = Facts::open(diagrams, header);
        self.fixed.iter().fold(Diagram::ALWAYS, |all, (fact, yes)| {
            if *yes { diagrams.and(all, facts.is(*fact)) } else { diagrams.minus(all, facts.is(*fact)) }
        })
    }

    /// What there can be of a space, on any host.
    pub fn possible(&self, diagrams: &mut Diagrams, header: &Header, space: Diagram) -> Diagram {
        let facts = Facts::open(diagrams, header);
        let laws = Law::all(diagrams, header, &facts);
        let fixed = self.fixed(diagrams, header);
        let possible = diagrams.and(laws, fixed);
        diagrams.and(space, possible)
    }

    /// What the model says of packets that come to a stop.
    pub fn asked(
        &self,
        diagrams: &mut Diagrams,
        judged: &Judged,
        space: Diagram,
        reasons: bool,
    ) -> Result<Vec<(Diagram, Claimed)>, Unknown> {
        let (port, network) = match (&self.from, judged.stop) {
            (From::Port(port), Stop::Port | Stop::PastPort) => (Some(*port), None),
            (From::Bridge(network), _) => (None, self.model.network_of_bridge(network.bridge.as_str())),
            _ => (None, None),
        };
        let (means, facts) = (Means::new(&self.model, port, network), Facts::open(diagrams, &judged.header));
        let delivery = judged.stop.delivery();
        let of = Of { header: &judged.header, delivery, means: &means, facts: &facts };
        let (model, link) = (&self.model, self.link());
        let mut said = |subject: &mut EveryHost<'_>| match (judged.stop, port) {
            (Stop::Port, Some(port)) => Claimed::Port(model.refused_at(subject, port)),
            (Stop::Port | Stop::PastPort, _) => {
                Claimed::Port(model.is_to_switches(subject).then_some("a guest is no switch"))
            }
            (Stop::Host | Stop::Out, _) if reasons => Claimed::Judged(model.reasons(subject, link)),
            (Stop::Host | Stop::Out, _) => {
                let Decision { verdict, masqueraded } = model.decide(subject, link);
                Claimed::Judged(Judgement { verdict, masqueraded, way: Vec::new() })
            }
        };
        judge(diagrams, of, None, space, &mut said)
    }
}
