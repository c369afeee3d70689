//! What a pod does that has, or has just had, the primary's role, when it is handed over: until clients know, they are
//! passed on to the new primary (`stand_in`), and a pod that is to end stays for them.
//!
//! kube-proxy moves up to a second after the Service was written, and for so long clients come here. The engine that starts
//! as a standby leaves its port to whoever passes them on. In a pod that goes it never has it; in one that stays it is told
//! to take it when clients know and the stand-in has closed its socket; whoever is passed on yet comes to the end of a statement.
//! A supervisor that begins anew knows of no handover: its engine has the port from the start.
//!
//! A drain tells the operator and the pod at the same time. Either word may be the first to have its effect: SIGTERM finds
//! the primary, which then waits for a switchover; or the switchover finds it, and SIGTERM comes to a pod whose role is
//! elsewhere already, with clients that do not know it. Both stay.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::stand_in::StandIn;
use crate::instance::engine::Engine;
use crate::instance::supervisor::Supervisor;
use crate::render::{POSTGRES_PORT, tells_addresses_apart};

/// How long a pod stays whose role went over: it passes clients on, or refuses them at once, and the address of a pod that
/// is gone lets them wait. kube-proxy leads them elsewhere within a second; where the pod was deleted by force there are
/// two in all.
const STAYS_FOR: Duration = Duration::from_millis(1_500);
/// A handover that began longer ago, and led nowhere, has nothing to do with the pod's end.
const LATELY: Duration = Duration::from_secs(10);
/// What the engine gets to open its port.
const LISTEN_LIMIT: Duration = Duration::from_millis(500);

/// The role was asked for, in order.
#[derive(Clone, Copy, Debug)]
struct Handover {
    at: Instant,
    /// How many could take over.
    heirs: usize,
}

/// Of a pod that may have to end.
#[derive(Debug, Default)]
pub struct Leave {
    /// It was told to end, and stays until then at most.
    by: Option<Instant>,
    /// How many could take over when it had the role.
    heirs: usize,
    handover: Option<Handover>,
    /// Since when it follows another.
    follows_since: Option<Instant>,
    /// Passes clients on to whom it follows.
    stand_in: Option<StandIn>,
    /// What it takes to do that is not to be had.
    cannot_stand_in: bool,
    /// The cluster object is gone, or about to be: every pod of it goes, and nobody moves the role.
    is_deleted: bool,
}

impl Leave {
    pub fn has_begun(&self) -> bool {
        self.by.is_some()
    }

    /// What was heard last of the cluster object.
    pub fn note_deletion(&mut self, is_deleted: bool) {
        self.is_deleted = is_deleted;
    }

    /// It has followed another for so long that clients know.
    fn is_known(&self, now: Instant) -> bool {
        self.follows_since
            .is_some_and(|since| now >= since + STAYS_FOR)
    }
}

impl Supervisor {
    /// It was told to end: a primary that somebody can follow stays a while, and so does one that was, until just now.
    pub(in crate::instance) fn take_leave(&mut self) {
        let now = Instant::now();
        let heirs = if self.serves_as_primary() {
            self.members()
        } else {
            self.heirs_lately(now)
        };
        if heirs == 0 || self.waits_in_vain() {
            return;
        }
        let Some(duty) = &mut self.duty else { return };
        let within = Duration::from_millis(duty.cluster.failover.switchover_within_ms);
        tracing::info!(
            ?within,
            "told to end; waiting until the role is elsewhere and clients know"
        );
        duty.leave.by = Some(now + within);
        duty.leave.heirs = heirs;
    }

    fn serves_as_primary(&self) -> bool {
        self.engine.is_some()
            && self.demotion.is_none()
            && self.promise.is_for_primary()
            // One that waits for a word can hand over as well as one that has it.
            && self.status.as_ref().is_some_and(|s| s.writable || s.held.is_some())
    }

    fn members(&self) -> usize {
        let set = self.promise.set.as_ref();
        set.map_or(0, |set| set.members.len())
    }

    /// How many could take over in a handover that clients need not know of yet.
    fn heirs_lately(&self, now: Instant) -> usize {
        let has_role = self.promise.is_for_primary() && self.demotion.is_none();
        let leave = self.duty.as_ref().map(|duty| &duty.leave);
        let Some((leave, handover)) = leave.and_then(|leave| Some((leave, leave.handover?))) else {
            return 0;
        };
        // However long it took to close writes: from then on it counts when clients could know.
        let is_over = match leave.follows_since.filter(|_| self.follows()) {
            Some(_) => leave.is_known(now),
            None => self.demotion.is_none() && now >= handover.at + LATELY,
        };
        if has_role || is_over {
            return 0;
        }
        handover.heirs
    }

    /// Whoever could move the role does not: there is no cluster any more, or it is to be left alone. Who follows another
    /// already waits for clients, and for nobody else.
    fn waits_in_vain(&self) -> bool {
        self.duty
            .as_ref()
            .is_some_and(|duty| duty.leave.is_deleted || (duty.cluster.paused && !self.follows()))
    }

    /// A switchover begins: the promise still says who can take over.
    pub(in crate::instance) fn note_handover(&mut self) {
        let heirs = self.members();
        if let Some(duty) = &mut self.duty {
            let at = Instant::now();
            duty.leave.handover = Some(Handover { at, heirs });
            duty.leave.follows_since = None;
            duty.leave.cannot_stand_in = false;
        }
    }

    /// Writes are closed, however long that took: from now on clients are led elsewhere.
    pub(in crate::instance) fn note_closed(&mut self) {
        let duty = self.duty.as_mut();
        if let Some(handover) = duty.and_then(|duty| duty.leave.handover.as_mut()) {
            handover.at = Instant::now();
        }
    }

    /// It has the role again, or another copy: no handover of before counts any more.
    pub(in crate::instance) fn forget_handover(&mut self) {
        if let Some(duty) = &mut self.duty {
            duty.leave.handover = None;
            duty.leave.follows_since = None;
        }
    }

    /// It was told whom to follow, or has to know since when it does.
    pub(in crate::instance) fn note_following(&mut self) {
        let follows = self.follows();
        if let Some(duty) = &mut self.duty {
            let since = &mut duty.leave.follows_since;
            *since = follows.then(|| since.unwrap_or_else(Instant::now));
        }
    }

    /// It follows another one, as far as the record's word goes.
    fn follows(&self) -> bool {
        !self.promise.is_for_primary() && !self.promise.sealed && self.demotion.is_none()
    }

    /// Whether an engine that starts now leaves its port to whoever passes clients on. It is a standby's then, and says so:
    /// nobody is led to it who wants just that one (`decide/standbys.rs`).
    pub(in crate::instance) fn gives_way(&self) -> bool {
        self.passes_clients_on() && !self.promise.is_for_primary()
    }

    /// Whether clients that are still led here get to the new primary, once the role is there: until they know, and those
    /// of a pod that goes to its end. Not where the new primary would judge them by this pod's address. Nor where it has
    /// nobody else: then the Service of the standbys leads here too, if this pod is the last that could answer for it.
    fn passes_clients_on(&self) -> bool {
        self.duty.as_ref().is_some_and(|duty| {
            let leave = &duty.leave;
            let heirs = match leave.by {
                Some(_) => leave.heirs,
                None => self.heirs_lately(Instant::now()),
            };
            heirs > 1 && !leave.cannot_stand_in && !tells_addresses_apart(&duty.cluster.hba)
        })
    }

    /// Its engine runs and has left its port to others.
    pub(in crate::instance) fn gave_way(&self) -> bool {
        self.engine.as_ref().is_some_and(|e| !e.serves_clients())
    }

    fn engine_has_port(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::serves_clients)
    }

    /// Passes clients on to the primary that this instance follows, as long as it does and its own engine has left the port.
    pub(in crate::instance) fn stand_in(&mut self) {
        let port = self.setup.port;
        let told = self.told_primary().filter(|_| self.follows());
        let to = told.map(|primary| SocketAddr::new(primary.address, port));
        let leaves = self
            .duty
            .as_ref()
            .is_some_and(|duty| duty.leave.has_begun());
        // In a pod that stays it is for the engine's port, which somebody gives back.
        let is_due = self.gives_way() && !self.engine_has_port() && (leaves || self.gave_way());
        let Some(duty) = &mut self.duty else { return };
        let leave = &mut duty.leave;
        // Those who are here come to the end of what they are at (`give_port_back`).
        let may_stay = is_due || !leaves;
        let now = leave.stand_in.as_ref().map(StandIn::to);
        if now.is_some() && now == to && may_stay {
            return;
        }
        // One at a time has the port.
        leave.stand_in = None;
        let Some(to) = to.filter(|_| is_due) else {
            return;
        };
        let mut at = duty.place.address(POSTGRES_PORT);
        at.set_port(port);
        match StandIn::begin(at, to) {
            Ok(stand_in) => {
                tracing::info!(%to, "clients that still come here are passed on");
                leave.stand_in = Some(stand_in);
            }
            Err(error) => {
                tracing::warn!(%error, "clients can't be passed on; they are refused");
                leave.cannot_stand_in = true;
            }
        }
    }

    /// In a pod that stays: once clients know who the primary is nobody new is passed on, and the engine has its port again.
    /// Those who are there come to the end of what they are at.
    pub(in crate::instance) async fn give_port_back(&mut self) {
        if !self.engine_has_port() {
            self.note_following();
            if self.gives_way() {
                return self.stand_in();
            }
            if let Some(stand_in) = self.stands_in() {
                stand_in.wind_up();
                if !stand_in.has_left_port() {
                    return;
                }
            }
            self.open_port().await;
        }
        if self.stands_in().is_some_and(StandIn::is_over) {
            self.stand_back();
        }
    }

    fn stands_in(&self) -> Option<&StandIn> {
        let duty = self.duty.as_ref()?;
        duty.leave.stand_in.as_ref()
    }

    /// False: its engine has no port, and can't have it.
    pub(in crate::instance) async fn open_port(&mut self) -> bool {
        let Some(engine) = self.engine.as_mut().filter(|e| !e.serves_clients()) else {
            return true;
        };
        match engine.listen(LISTEN_LIMIT).await {
            Ok(status) => {
                tracing::info!("the engine has its port again");
                self.heard(status);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the engine can't have its port yet");
                false
            }
        }
    }

    /// The port is the engine's again.
    pub(in crate::instance) fn stand_back(&mut self) {
        if let Some(duty) = &mut self.duty {
            duty.leave.stand_in = None;
        }
    }

    /// Whether nothing keeps it any more: the role has gone over, it knows whom to follow, clients know it as well and
    /// nobody is passed on any more; or nobody will see to that, or the time is over.
    pub(in crate::instance) fn may_end(&mut self) -> bool {
        self.stand_in();
        self.note_following();
        if self.waits_in_vain() {
            return true;
        }
        let Some(leave) = self.duty.as_ref().map(|duty| &duty.leave) else {
            return true;
        };
        let Some(by) = leave.by else {
            // Clients know by now; the last of them are waited for all the same.
            return leave.stand_in.as_ref().is_none_or(|stand_in| {
                stand_in.wind_up();
                stand_in.is_over()
            });
        };
        let now = Instant::now();
        let is_known = leave.is_known(now);
        if is_known && let Some(stand_in) = &leave.stand_in {
            stand_in.wind_up();
        }
        let is_over = leave.stand_in.as_ref().is_none_or(StandIn::is_over);
        (is_known && is_over) || now >= by
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::News;
    use super::super::duty::tests::supervisor;
    use super::*;
    use crate::api::EngineSet;
    use crate::ids::InstanceId;
    use crate::instance::supervisor::Demotion;

    fn leave(supervisor: &mut Supervisor) -> &mut Leave {
        &mut supervisor.duty.as_mut().expect("a pod").leave
    }

    /// As the primary of its term, with so many that could take over.
    fn make_primary(supervisor: &mut Supervisor, heirs: usize) {
        supervisor.promise.sealed = false;
        supervisor.promise.set = Some(EngineSet {
            term: supervisor.promise.promised_term,
            counter: 1,
            members: (0..heirs).map(|_| InstanceId::random()).collect(),
            required: u32::from(heirs > 0),
        });
    }

    /// Somebody else has the role of the promised term, at this address.
    fn follow(supervisor: &mut Supervisor) {
        supervisor.promise.sealed = false;
        supervisor.promise.set = None;
        let told = crate::api::Upstream {
            host: "orders-3-0.orders-instances.shop.svc".to_owned(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let term = supervisor.promise.promised_term;
        supervisor.note_upstream(term, Some(&told)).expect("kept");
        supervisor.note_following();
    }

    fn has_followed_for(supervisor: &mut Supervisor, time: Duration) {
        leave(supervisor).follows_since = Instant::now().checked_sub(time);
    }

    #[test]
    fn who_serves_nobody_ends_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        supervisor.take_leave();
        assert!(supervisor.may_end() && !supervisor.duty_report().is_leaving);
    }

    /// The role has to be somewhere else before its holder goes, and it has to know where, unless that takes too long.
    #[test]
    fn a_primary_stays_until_it_follows_another() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        leave(&mut supervisor).by = Some(Instant::now() + Duration::from_secs(600));
        make_primary(&mut supervisor, 1);
        assert!(supervisor.duty_report().is_leaving && !supervisor.may_end());
        supervisor.promise.sealed = true;
        assert!(!supervisor.duty_report().is_leaving && !supervisor.may_end());
        supervisor.promise.sealed = false;
        supervisor.promise.set = None;
        assert!(!supervisor.may_end(), "clients are still led to it");
        has_followed_for(&mut supervisor, STAYS_FOR);
        assert!(supervisor.may_end());
        supervisor.promise.sealed = true;
        leave(&mut supervisor).by = Some(Instant::now());
        assert!(supervisor.may_end());
    }

    /// One that was told to end as the primary, with so many heirs, and follows another by now.
    fn follower(dir: &std::path::Path, heirs: usize, hba: &[&str]) -> Supervisor {
        let mut supervisor = supervisor(dir);
        // Whichever is free.
        supervisor.setup.port = 0;
        let duty = supervisor.duty.as_mut().expect("a pod");
        duty.leave.by = Some(Instant::now() + Duration::from_secs(600));
        duty.leave.heirs = heirs;
        duty.cluster.hba = hba.iter().map(|record| (*record).to_owned()).collect();
        follow(&mut supervisor);
        supervisor
    }

    fn passes_on(supervisor: &mut Supervisor) -> bool {
        supervisor.stand_in();
        leave(supervisor).stand_in.is_some()
    }

    #[test]
    fn clients_are_passed_on_while_another_is_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = follower(dir.path(), 2, &["host all app all md5"]);
        assert!(supervisor.gives_way() && passes_on(&mut supervisor));
        supervisor.promise.sealed = true;
        assert!(supervisor.gives_way() && !passes_on(&mut supervisor));
        supervisor.promise.sealed = false;
        assert!(passes_on(&mut supervisor));
        supervisor.stand_back();
        assert!(passes_on(&mut supervisor));
        // Another term's primary may be anywhere.
        supervisor.promise.promised_term = supervisor.promise.promised_term.next();
        assert!(!passes_on(&mut supervisor));
        // Made the primary again, its engine needs the port.
        make_primary(&mut supervisor, 0);
        assert!(!supervisor.gives_way() && !passes_on(&mut supervisor));
    }

    #[test]
    fn clients_are_not_passed_on_where_that_could_deceive() {
        let by_address = "host all all 10.0.0.0/8 trust";
        for (heirs, hba) in [(1, None), (2, Some(by_address))] {
            let dir = tempfile::tempdir().expect("a folder");
            let mut supervisor = follower(dir.path(), heirs, hba.as_slice());
            assert!(!supervisor.gives_way() && !passes_on(&mut supervisor));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = follower(dir.path(), 2, &[]);
        leave(&mut supervisor).by = None;
        assert!(!supervisor.gives_way() && !passes_on(&mut supervisor));
    }

    #[test]
    fn who_passes_clients_on_ends_when_they_have_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = follower(dir.path(), 2, &[]);
        assert!(!supervisor.may_end(), "clients are still led to it");
        has_followed_for(&mut supervisor, STAYS_FOR);
        let begin = Instant::now();
        while !supervisor.may_end() {
            assert!(begin.elapsed() < Duration::from_secs(60), "it stays");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The operator has seen the cordon before the pod was told to end.
    #[test]
    fn whose_role_went_over_just_now_stays_and_passes_clients_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        supervisor.setup.port = 0;
        make_primary(&mut supervisor, 2);
        supervisor.note_handover();
        supervisor.promise.sealed = true;
        supervisor.take_leave();
        assert!(!supervisor.may_end(), "nobody has the role yet");
        assert!(supervisor.gives_way() && !passes_on(&mut supervisor));
        follow(&mut supervisor);
        assert!(passes_on(&mut supervisor) && !supervisor.may_end());
    }

    /// An engine that has left its port to others, as its control socket answers: whether it could have it now.
    async fn answer_for_engine(listener: tokio::net::UnixListener, is_free: Arc<AtomicBool>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.expect("a call");
            let mut text = [0; 1024];
            let read = stream.read(&mut text).await.expect("read");
            assert!(text[..read].starts_with(b"POST /listen "), "{text:?}");
            let (code, body) = match is_free.load(Ordering::SeqCst) {
                true => (
                    "200 OK",
                    r#"{"system_id": "7", "role": "standby", "timeline": 1}"#,
                ),
                false => ("409 Conflict", r#"{"error": "another has it"}"#),
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {code}\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    }

    /// One that handed its role over just now, and whose pod stays: its engine came up without its port.
    fn handed_over(dir: &std::path::Path) -> (Supervisor, Arc<AtomicBool>) {
        let mut supervisor = supervisor(dir);
        supervisor.setup.port = 0;
        make_primary(&mut supervisor, 2);
        supervisor.note_handover();
        supervisor.promise.sealed = true;
        assert!(supervisor.gives_way() && !supervisor.gave_way());
        let mut program = tokio::process::Command::new("sleep");
        let child = program.arg("600").kill_on_drop(true).spawn();
        let socket = dir.join("its.sock");
        let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
        let is_free = Arc::new(AtomicBool::new(false));
        tokio::spawn(answer_for_engine(listener, Arc::clone(&is_free)));
        let engine = Engine::of_child(child.expect("started"), socket);
        supervisor.engine = Some(engine.without_port());
        (supervisor, is_free)
    }

    async fn give_back_until(supervisor: &mut Supervisor, done: impl Fn(&Supervisor) -> bool) {
        let begin = Instant::now();
        while !done(supervisor) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it stays");
            supervisor.give_port_back().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Its pod stays: nobody new is passed on when clients know, and then the engine has its port again.
    #[tokio::test]
    async fn whoever_stays_passes_clients_on_for_a_while_and_has_its_port_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut supervisor, is_free) = handed_over(dir.path());
        supervisor.give_port_back().await;
        assert!(supervisor.gave_way() && supervisor.stands_in().is_none());
        follow(&mut supervisor);
        supervisor.give_port_back().await;
        assert!(supervisor.gave_way() && supervisor.stands_in().is_some());

        has_followed_for(&mut supervisor, STAYS_FOR);
        assert!(!supervisor.gives_way() && passes_on(&mut supervisor));
        give_back_until(&mut supervisor, |s| s.stands_in().is_none()).await;
        assert!(supervisor.gave_way(), "it is asked again");
        is_free.store(true, Ordering::SeqCst);
        give_back_until(&mut supervisor, |s| !s.gave_way()).await;
        // Nobody is asked for what is there, nor passed on.
        supervisor.give_port_back().await;
        assert!(supervisor.open_port().await && !passes_on(&mut supervisor));
    }

    /// Whoever has no engine is about to be something else.
    #[tokio::test]
    async fn nobody_begins_to_pass_clients_on_without_an_engine() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut supervisor, _) = handed_over(dir.path());
        let engine = supervisor.engine.take();
        follow(&mut supervisor);
        supervisor.give_port_back().await;
        assert!(supervisor.stands_in().is_none());
        supervisor.engine = engine;
        supervisor.give_port_back().await;
        assert!(supervisor.stands_in().is_some());
        // It crashed: those who are there are none the worse, and it comes to its end by itself.
        supervisor.engine = None;
        supervisor.give_port_back().await;
        assert!(supervisor.stands_in().is_some());
        has_followed_for(&mut supervisor, STAYS_FOR);
        give_back_until(&mut supervisor, |s| s.stands_in().is_none()).await;
        // Seeded anew or made the primary: what was handed over counts no more.
        follow(&mut supervisor);
        supervisor.forget_handover();
        supervisor.note_following();
        assert!(!supervisor.gives_way());
    }

    /// A pod that is told to end just when clients know still waits for those whom it passes on.
    #[tokio::test]
    async fn who_is_told_to_end_while_the_last_are_passed_on_lets_them_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut supervisor, _) = handed_over(dir.path());
        follow(&mut supervisor);
        supervisor.give_port_back().await;
        has_followed_for(&mut supervisor, STAYS_FOR);
        supervisor.take_leave();
        assert!(!leave(&mut supervisor).has_begun());
        let begin = Instant::now();
        while !supervisor.may_end() {
            assert!(begin.elapsed() < Duration::from_secs(60), "it stays");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(supervisor.stands_in().is_none_or(StandIn::is_over));
    }

    /// However long it took to close writes.
    #[test]
    fn a_handover_counts_from_the_end_of_the_demotion() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        make_primary(&mut supervisor, 2);
        supervisor.note_handover();
        let at = Instant::now()
            .checked_sub(LATELY)
            .expect("it runs that long");
        leave(&mut supervisor).handover = Some(Handover { at, heirs: 2 });
        supervisor.promise.sealed = true;
        assert!(!supervisor.gives_way());
        supervisor.note_closed();
        assert!(supervisor.gives_way());
    }

    #[test]
    fn who_is_told_to_end_while_it_hands_over_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        make_primary(&mut supervisor, 2);
        supervisor.note_handover();
        supervisor.demotion = Some(Demotion {
            term: supervisor.promise.promised_term.next(),
            deadline: Instant::now() + Duration::from_secs(600),
        });
        supervisor.take_leave();
        assert!(!supervisor.may_end() && !supervisor.gives_way());
        supervisor.demotion = None;
        supervisor.promise.sealed = true;
        assert!(!supervisor.may_end() && supervisor.gives_way());
    }

    /// Its last checkpoint takes long.
    #[test]
    fn who_is_told_to_end_late_in_a_handover_stays_as_well() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        make_primary(&mut supervisor, 2);
        supervisor.note_handover();
        let at = Instant::now()
            .checked_sub(LATELY)
            .expect("it runs that long");
        leave(&mut supervisor).handover = Some(Handover { at, heirs: 2 });
        supervisor.demotion = Some(Demotion {
            term: supervisor.promise.promised_term.next(),
            deadline: Instant::now() + Duration::from_secs(600),
        });
        supervisor.take_leave();
        assert!(leave(&mut supervisor).has_begun());
    }

    /// All pods of a cluster that is deleted are told to end, and nobody takes the role.
    #[test]
    fn nobody_stays_for_a_cluster_that_is_deleted_or_paused() {
        let leaving = |dir: &std::path::Path| {
            let mut supervisor = supervisor(dir);
            make_primary(&mut supervisor, 2);
            leave(&mut supervisor).by = Some(Instant::now() + Duration::from_secs(600));
            assert!(!supervisor.may_end());
            supervisor
        };
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = leaving(dir.path());
        leave(&mut supervisor).note_deletion(true);
        assert!(supervisor.may_end());
        leave(&mut supervisor).note_deletion(false);
        assert!(!supervisor.may_end());
        let duty = supervisor.duty.as_mut().expect("a pod");
        duty.cluster.paused = true;
        assert!(supervisor.may_end());
        // The role has gone over before: clients have to know.
        follow(&mut supervisor);
        assert!(!supervisor.may_end());
        leave(&mut supervisor).note_deletion(true);
        assert!(supervisor.may_end());
        // Nor does any begin to.
        for (is_deleted, paused) in [(true, false), (false, true)] {
            let dir = tempfile::tempdir().expect("a folder");
            let mut supervisor = super::super::duty::tests::supervisor(dir.path());
            make_primary(&mut supervisor, 2);
            supervisor.note_handover();
            supervisor.promise.sealed = true;
            let duty = supervisor.duty.as_mut().expect("a pod");
            duty.leave.note_deletion(is_deleted);
            duty.cluster.paused = paused;
            supervisor.take_leave();
            assert!(!leave(&mut supervisor).has_begun() && supervisor.may_end());
        }
    }

    #[tokio::test]
    async fn that_the_cluster_is_deleted_is_heard() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut supervisor = supervisor(dir.path());
        make_primary(&mut supervisor, 2);
        leave(&mut supervisor).by = Some(Instant::now() + Duration::from_secs(600));
        let object = |deleted_at: Option<&str>| {
            let object = serde_json::json!({
                "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
                "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "generation": 1,
                             "deletionTimestamp": deleted_at},
                "spec": {"storage": {"size": "1Gi"}},
            });
            News::Cluster(Box::new(serde_json::from_value(object).expect("reads")))
        };
        // The object stays until its pods have gone, where that was asked for.
        for (news, may_end) in [
            (object(None), false),
            (object(Some("2026-01-01T00:00:00Z")), true),
            (object(None), false),
            (News::Gone, true),
            (News::Away("nobody answers".to_owned()), true),
        ] {
            supervisor.heed(news);
            assert_eq!(supervisor.may_end(), may_end);
        }
    }

    #[test]
    fn a_handover_that_clients_know_of_keeps_nobody() {
        let told_after = |change: &dyn Fn(&mut Supervisor)| {
            let dir = tempfile::tempdir().expect("a folder");
            let mut supervisor = supervisor(dir.path());
            make_primary(&mut supervisor, 2);
            supervisor.note_handover();
            follow(&mut supervisor);
            // Just now, however slow this machine is.
            let later = Instant::now() + Duration::from_secs(600);
            leave(&mut supervisor).follows_since = Some(later);
            change(&mut supervisor);
            supervisor.take_leave();
            leave(&mut supervisor).has_begun()
        };
        assert!(told_after(&|_| {}));
        assert!(!told_after(&|s| has_followed_for(s, STAYS_FOR)));
        let long_ago = |s: &mut Supervisor| {
            let at = Instant::now()
                .checked_sub(LATELY)
                .expect("it runs that long");
            leave(s).handover = Some(Handover { at, heirs: 2 });
        };
        assert!(told_after(&long_ago), "its writes were closed just now");
        let led_nowhere = |s: &mut Supervisor| {
            long_ago(s);
            s.promise.sealed = true;
        };
        assert!(!told_after(&led_nowhere));
        let seeded_anew = |s: &mut Supervisor| {
            long_ago(s);
            leave(s).follows_since = None;
        };
        assert!(!told_after(&seeded_anew));
        // Made the primary again, and not serving yet.
        assert!(!told_after(&|s| make_primary(s, 2)));
        // Since then it is followed by a handover of its own.
        let again = |s: &mut Supervisor| {
            has_followed_for(s, STAYS_FOR);
            make_primary(s, 2);
            s.note_handover();
            follow(s);
        };
        assert!(told_after(&again));
    }
}
