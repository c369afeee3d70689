//! Every way in which a primary can be lost, with clients that write all the time and keep a ledger: nothing that was
//! acknowledged is missing, nobody acknowledges in an older term once a newer one has, and at the end everything is as
//! strong as before. `FAULT` names one of them, `ROUNDS` says how often.

use understudy_e2e::faults::Fault;
use understudy_e2e::round::run;

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_container_dies() {
    run(Fault::SupervisorKilled);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_pod_is_force_deleted() {
    run(Fault::PodForceDeleted);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn an_engine_that_dies_is_restarted_in_place() {
    run(Fault::EngineKilled);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_engine_stands_still_and_wakes_up_later() {
    run(Fault::EngineStopped);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_whole_container_stands_still_and_wakes_up_later() {
    run(Fault::ContainerFrozen);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_node_is_cut_off_and_the_old_primary_acknowledges_nothing() {
    run(Fault::NodeCutOff);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_node_that_never_comes_back_costs_an_instance_until_it_is_replaced() {
    run(Fault::NodeDead);
}

#[test]
#[ignore = "needs the cluster that `make e2e` brings up"]
fn a_standby_takes_over_when_the_disk_completes_no_write() {
    run(Fault::DiskFrozen);
}
