//! The ways in which a primary can be lost, one after the other on one database: the short form of `faults`. Each fault
//! finds what the one before has left, which has to be a database at full strength.

use understudy_e2e::faults::Fault;
use understudy_e2e::round::run_in_turn;

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_database_outlives_one_fault_after_the_other() {
    // An engine's second crash within five minutes counts as a loss: the one before has made another one primary. A node
    // that is dead comes last, as it takes the most to get over it.
    run_in_turn(&[
        Fault::SupervisorKilled,
        Fault::EngineKilled,
        Fault::PodForceDeleted,
        Fault::EngineStopped,
        Fault::ContainerFrozen,
        Fault::NodeCutOff,
        Fault::NodeDead,
    ]);
}
