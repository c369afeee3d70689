//! The supervisor in a pod: where its settings come from, who may call it, what it looks after besides the engine.

mod bootstrap;
mod calls;
mod checked;
mod duty;
mod handover;
mod health;
mod kept;
mod mounted;
mod orphans;
mod passwords;
mod place;
mod roles;
mod run;
mod source;
mod stand_in;
mod taken;
mod waiting;

pub use duty::Duty;
pub use place::Place;
pub use run::run;
pub use source::{Judge, News};
