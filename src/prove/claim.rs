//! What the model says of one packet of a space, with its reasons.

use crate::reach::Model;
use crate::reach::subject::Subject;
use crate::topology::{IfName, Port};

use super::answer::Claimed;
use super::diagram::{Diagram, Path};
use super::ground::Ground;
use super::links::LinkNumbers;
use super::packet::Packet;
use super::rules::Unknown;
use super::slice::{Judged, Stop};
use super::space::{Of, judge};

/// What a model is asked about.
#[derive(Clone, Copy)]
pub struct Asked<'a, 't> {
    pub model: &'a Model<'t>,
    pub links: &'a LinkNumbers,
    /// Where the packet is, and of what space.
    pub judged: &'a Judged,
    /// The link that it comes in by; none of the host's own.
    pub link: Option<&'a str>,
    /// The guest's port that this is.
    pub port: Option<&'t Port>,
}

impl<'a, 't> Asked<'a, 't> {
    /// What the model says, of a flow's first packet or of a space.
    pub fn said<S: Subject<'t>>(&self, subject: &mut S) -> Claimed {
        match (self.judged.stop, self.port) {
            (Stop::Port, Some(port)) => Claimed::Port(self.model.refused_at(subject, port)),
            (Stop::Port | Stop::PastPort, _) => {
                Claimed::Port(self.model.is_to_switches(subject).then_some("a guest is no switch"))
            }
            (Stop::Host | Stop::Out, _) => Claimed::Judged(self.model.reasons(subject, self.link)),
        }
    }

    /// What the packets are that the model is asked about.
    pub fn of(&self, flow: super::space::OneOf<'a>) -> Of<'a> {
        Of {
            header: &self.judged.header,
            links: self.links,
            delivery: self.judged.stop.delivery(),
            senders: &self.judged.senders,
            flow,
        }
    }

    /// The packet at the end of a way, and what the model says of it.
    ///
    /// # Errors
    /// Where it says nothing.
    pub fn claim(&self, ground: &mut Ground, path: &Path) -> Result<(Packet, Claimed), Unknown> {
        let judged = self.judged;
        let packet = Packet::new(&judged.header, self.links, path, self.link, judged.stop == Stop::Out)
            .at(judged.stop);
        let mut only = Diagram::ALWAYS;
        for (bit, one) in path.iter().rev() {
            let (zero, one) = if *one { (Diagram::NEVER, only) } else { (only, Diagram::NEVER) };
            only = ground.diagrams.decide(*bit, zero, one);
        }
        let flow = packet.flow();
        let out = packet.out.as_deref().and_then(|out| IfName::new(out).ok());
        let of = Of { flow: Some((&flow, out.as_ref())), ..self.of(None) };
        let mut said = |subject: &mut super::space::Space<'_>| self.said(subject);
        match judge(&mut ground.diagrams, &mut ground.known, of, only, &mut said).pop() {
            Some((_, claimed)) => Ok((packet, claimed)),
            None => Err(Unknown(format!("what the model says of {packet}"))),
        }
    }
}
