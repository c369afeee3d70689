//! What engine, supervisor and operator say to each other: JSON, the same on the socket and in the files.
//!
//! ARCHITECTURE.md, "instance, server, operator", has the contract with the engine. Fields that a newer or older
//! partner does not send are absent here, never guessed.

mod engine;
mod promise;
mod supervisor;

pub use engine::{Confirmation, EngineRole, EngineStatus, Fork, Receiver, StandbyStream};
pub use promise::{EngineSet, Promise};
pub use supervisor::{
    BootstrapState, DemoteRequest, FollowRequest, PromoteRequest, Refusal, ReseedRequest,
    RestartRequest, SealRequest, SeedSource, SeedingReport, SetRequest, SupervisorState,
    SupervisorStatus, Upstream,
};
