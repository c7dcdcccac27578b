//! The template against the model, for every host: what a set holds is left
//! open, and what is asked of it is a fact that is true of a packet or isn't.
//! Rules and model are held against each other for all packets and all facts,
//! as far as they keep [`laws`]; so a change of the template is judged before
//! any host has it. That a host's sets hold what the facts say, is
//! another question.

mod answer;
mod case;
mod compare;
mod fact;
mod laws;
mod on_host;
mod schematic;
mod sets;
mod subject;
mod table;

pub use answer::{Answer, Counterexample};
pub use compare::{first_difference, template};
pub use fact::Fact;
pub use schematic::{Parts, Schematic};
pub use sets::{Misfit, Sets, sets};
