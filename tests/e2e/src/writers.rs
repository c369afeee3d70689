//! Clients that write all the time, and keep what they are told in the ledger.
//!
//! The write Service has two: one that keeps its session until it breaks, and one that opens a session for each row.
//! Both are on the machine, whose way to Services goes through a kube-proxy of its own. Each instance has one on its own
//! node, by the pod's address: a thread in the node's network, so that what cuts the node off does not cut it off from
//! its instance. What these are told is the instance's own word.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use understudy_cluster::layout::Layout;
use understudy_tests::local::now_ms;

use crate::database::{Database, Instance, POSTGRES_PORT};
use crate::ledger::{Acknowledged, Ledger, Way, missing, overtaken};
use crate::results::Entry;
use crate::session::{Access, CONNECT_LIMIT, Session};

pub const TABLE: &str = "ledger";
/// How long anything may take until rows are acknowledged again.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two attempts to open a session.
const RETRY: Duration = Duration::from_millis(5);
/// A client that is not answered for so long may be that of an instance that was about to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// A standby's answer to a write.
const READ_ONLY: &str = "25006";

/// How one client behaves.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// Between two rows.
    pace: Duration,
    /// Whoever talks to an instance itself has time: a frozen one answers when it is woken.
    answer_limit: Duration,
    keeps_session: bool,
}

fn manner(way: &Way) -> Manner {
    let (pace_ms, limit_s, keeps_session) = match way {
        Way::Service => (5, 2, true),
        Way::Fresh => (40, 1, false),
        Way::Own(_) => (20, 30, true),
    };
    Manner {
        pace: Duration::from_millis(pace_ms),
        answer_limit: Duration::from_secs(limit_s),
        keeps_session,
    }
}

/// Who writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The Service's clients and one for each instance.
    Everybody,
    /// The Service's clients only.
    ServiceOnly,
}

/// All clients of a database, from [`Writers::start`] to [`Writers::finish`].
pub struct Writers {
    stop: Arc<AtomicBool>,
    ledger: Arc<Ledger>,
    threads: Vec<JoinHandle<()>>,
    /// Where each writes to, and how often it was answered, by whatever its server thinks of writes.
    answered: Vec<(Way, SocketAddr, Arc<AtomicU64>)>,
    /// When they began, milliseconds since 1970.
    pub began_ms: u64,
}

/// Puts this thread, and every socket that it opens from now on, into a network namespace.
fn enter_network(namespace: &Path) -> Result<()> {
    let failed = || format!("enter the network {}", namespace.display());
    let file = File::open(namespace).with_context(failed)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).with_context(failed)
}

impl Writers {
    /// Starts them, and waits until the Service's rows are acknowledged and every client has been answered.
    ///
    /// # Panics
    /// If there is no database to write to, or an instance that does not answer its client.
    #[track_caller]
    pub fn start(database: &Database<'_>, ledger: &Arc<Ledger>, who: Who) -> Writers {
        if ledger.is_new() {
            // Another test's, of the database that it has left.
            database.rows(&format!("DROP TABLE IF EXISTS {TABLE}"));
        }
        database.rows(&format!(
            "CREATE TABLE IF NOT EXISTS {TABLE} (id bigint PRIMARY KEY)"
        ));
        let access = database.access();
        let service = database.service("primary");
        let mut writers = Writers {
            stop: Arc::default(),
            ledger: Arc::clone(ledger),
            threads: Vec::new(),
            answered: Vec::new(),
            began_ms: now_ms(),
        };
        for way in [Way::Service, Way::Fresh] {
            writers.begin(&access, service, way, None);
        }
        if who == Who::Everybody {
            let layout = Layout::new(database.space.cluster.dir()).expect("an absolute path");
            for instance in database.instances() {
                let network = layout.network_namespace(&instance.node.name());
                let to = SocketAddr::new(instance.address, POSTGRES_PORT);
                let way = Way::Own(instance.name.into());
                writers.begin(&access, to, way, Some(network));
            }
        }
        writers.wait_for(20);
        writers.wait_answered(database);
        writers
    }

    /// Waits until each client was answered: one that never got through has nothing to say against anybody. A pod that was
    /// ending when its client began answers nobody, and is waited for no longer than it is there.
    #[track_caller]
    fn wait_answered(&self, database: &Database<'_>) {
        let begin = Instant::now();
        for (way, to, answered) in &self.answered {
            while answered.load(Ordering::Relaxed) == 0 {
                if begin.elapsed() > PATIENCE && has_left(database, way, *to) {
                    println!("the client {way:?} has nobody at {to} any more");
                    break;
                }
                assert!(
                    begin.elapsed() < LIMIT,
                    "the client {way:?} is not answered: {:#?}",
                    self.ledger.failures(self.began_ms)
                );
                std::thread::sleep(RETRY);
            }
        }
    }

    fn begin(&mut self, access: &Access, to: SocketAddr, way: Way, network: Option<PathBuf>) {
        let answered = Arc::<AtomicU64>::default();
        self.answered.push((way.clone(), to, Arc::clone(&answered)));
        let client = Client {
            access: access.clone(),
            to,
            manner: manner(&way),
            way,
            ledger: Arc::clone(&self.ledger),
            stop: Arc::clone(&self.stop),
            answered,
            open: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("{:?}", client.way))
            .spawn(move || {
                if let Some(network) = network
                    && let Err(error) = enter_network(&network)
                {
                    client.ledger.fail(&client.way, format!("{error:#}"));
                    return;
                }
                client.write();
            });
        self.threads.push(thread.expect("a thread"));
    }

    /// Waits until so many more rows were acknowledged through the Service, some of them by each of its clients.
    ///
    /// # Panics
    /// If one of them is not acknowledged anything for long.
    #[track_caller]
    pub fn wait_for(&self, more: usize) {
        let begin = Instant::now();
        let since = now_ms();
        loop {
            let kept = self.ledger.count(since, |way| *way == Way::Service);
            let fresh = self.ledger.count(since, |way| *way == Way::Fresh);
            if kept > 0 && fresh > 0 && kept + fresh >= more {
                return;
            }
            assert!(
                begin.elapsed() < LIMIT,
                "in {} s only {kept} rows of the Service's kept session and {fresh} of its fresh ones were \
                 acknowledged; of late:\n{:#?}",
                LIMIT.as_secs(),
                self.ledger.failures(since)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends them; those that wait for a silent server are waited for.
    ///
    /// # Panics
    /// If one of them has panicked.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
    }
}

/// Whether the instance that a client writes to has no pod at this address any more.
fn has_left(database: &Database<'_>, way: &Way, to: SocketAddr) -> bool {
    let Way::Own(name) = way else { return false };
    let is_there = |i: &Instance| *i.name == **name && i.address == to.ip();
    let all = database.try_instances();
    all.is_ok_and(|all| !all.iter().any(is_there))
}

/// Writers that were not finished belong to a test that failed.
impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What became of everything that was ever acknowledged by a database.
#[derive(Debug)]
struct Tally {
    acknowledged: usize,
    missing: Vec<Acknowledged>,
    /// In an older term after a newer one's first.
    late: Vec<Acknowledged>,
}

impl Tally {
    fn of(rows: &[Acknowledged], there: &HashSet<i64>) -> Tally {
        let owned = |found: Vec<&Acknowledged>| found.into_iter().cloned().collect();
        Tally {
            acknowledged: rows.len(),
            missing: owned(missing(rows, there)),
            late: owned(overtaken(rows)),
        }
    }

    fn is_broken(&self) -> bool {
        !self.missing.is_empty() || !self.late.is_empty()
    }

    fn put_into(&self, entry: &mut Entry) {
        entry.count("acknowledged", self.acknowledged);
        entry.count("missing", self.missing.len());
        entry.count("in an older term", self.late.len());
    }

    #[track_caller]
    fn judge(&self, history: impl Fn() -> String) {
        let Tally { missing, late, .. } = self;
        let shown = |rows: &[Acknowledged]| format!("{:#?}", &rows[..rows.len().min(20)]);
        assert!(
            missing.is_empty(),
            "{} acknowledged rows are missing, the first: {}\n{}",
            missing.len(),
            shown(missing),
            history()
        );
        assert!(
            late.is_empty(),
            "{} rows were acknowledged in an older term after a newer one's first: {}\n{}",
            late.len(),
            shown(late),
            history()
        );
    }
}

#[track_caller]
fn tally(database: &Database<'_>, ledger: &Ledger) -> Tally {
    let tally = Tally::of(&ledger.rows(), &database.ids(TABLE));
    println!(
        "{}: {} rows acknowledged, {} missing, {} in an older term after a newer one's first",
        database.name,
        tally.acknowledged,
        tally.missing.len(),
        tally.late.len()
    );
    tally
}

/// Both promises, over everything that was ever acknowledged by this database, for the line of results of a round: what was
/// counted is in it before anything fails. Gives the number of rows.
///
/// # Panics
/// If one of them was broken.
#[track_caller]
pub fn judge_into(database: &Database<'_>, ledger: &Ledger, entry: &mut Entry) -> usize {
    let tally = tally(database, ledger);
    tally.put_into(entry);
    tally.judge(|| database.history.shown());
    tally.acknowledged
}

/// The same where nothing is measured: there is a line of results only where a promise was broken.
///
/// # Panics
/// As [`judge_into`].
#[track_caller]
pub fn judge(database: &Database<'_>, ledger: &Ledger) -> usize {
    let tally = tally(database, ledger);
    if tally.is_broken() {
        let space = database.space;
        let mut entry = Entry::begin(&space.settings, &space.test, "", 1);
        tally.put_into(&mut entry);
        tally.judge(|| database.history.shown());
    }
    tally.acknowledged
}

/// Whoever writes through the write Service, by a session that is kept or by a new one for each row, was told of every row
/// since that moment that it is written.
///
/// # Panics
/// If one was refused, or not answered in time.
#[track_caller]
pub fn no_write_failed(ledger: &Ledger, since_ms: u64) {
    let mut failed = ledger.failures(since_ms);
    failed.retain(|failed| failed.way.is_service());
    assert!(failed.is_empty(), "writes failed: {failed:#?}");
}

/// One client.
struct Client {
    access: Access,
    to: SocketAddr,
    way: Way,
    manner: Manner,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    open: Option<Session>,
}

/// What became of a row.
enum Outcome {
    Acknowledged(u32),
    /// A standby, which may be promoted under this very session.
    Standby,
    Broken(String),
}

impl Client {
    fn write(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.connect() {
                self.ledger.fail(&self.way, format!("connect: {error}"));
                std::thread::sleep(RETRY);
                continue;
            }
            let (id, sent_ms) = (self.ledger.next_id(), now_ms());
            let outcome = self.insert(id);
            if !matches!(outcome, Outcome::Broken(_)) {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            match outcome {
                Outcome::Acknowledged(term) => self.ledger.acknowledge(Acknowledged {
                    id,
                    term,
                    sent_ms,
                    at_ms: now_ms(),
                    way: self.way.clone(),
                }),
                Outcome::Standby => {
                    // The Service leads to a primary: this session is an old one's.
                    if self.way.is_service() {
                        self.ledger.fail(&self.way, "a standby answers".to_owned());
                        self.open = None;
                    }
                }
                Outcome::Broken(why) => {
                    self.ledger.fail(&self.way, why);
                    self.open = None;
                }
            }
            if !self.manner.keeps_session {
                self.open = None;
            }
            std::thread::sleep(self.manner.pace);
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            let session = Session::open(&self.access, self.to, CONNECT_LIMIT)?;
            session.set_limit(self.manner.answer_limit)?;
            self.open = Some(session);
        }
        Ok(())
    }

    fn insert(&mut self, id: i64) -> Outcome {
        let Some(session) = &mut self.open else {
            return Outcome::Broken("no session".to_owned());
        };
        let sql = format!(
            "INSERT INTO {TABLE} VALUES ({id}) RETURNING substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        );
        match session.query(&sql) {
            Err(error) => Outcome::Broken(error.to_string()),
            Ok(answer) => match answer.error {
                Some(failure) if failure.state == READ_ONLY => Outcome::Standby,
                Some(failure) => Outcome::Broken(failure.to_string()),
                None => {
                    let row = answer.rows.first().and_then(|row| row.first()?.as_deref());
                    let term = row.and_then(|name| u32::from_str_radix(name, 16).ok());
                    term.map_or_else(
                        || Outcome::Broken(format!("no timeline: {:?}", answer.rows)),
                        Outcome::Acknowledged,
                    )
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::results::{Line, read};

    fn row(id: i64, term: u32, at_ms: u64) -> Acknowledged {
        Acknowledged {
            id,
            term,
            sent_ms: at_ms,
            at_ms,
            way: Way::Service,
        }
    }

    #[test]
    fn a_loss_and_a_split_are_in_the_results_file_and_fail() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("results.jsonl");
        let rows = [row(1, 1, 10), row(2, 2, 20), row(3, 1, 30), row(4, 2, 40)];
        let judged = |there: &[i64], rows: &[Acknowledged]| {
            let tally = Tally::of(rows, &there.iter().copied().collect());
            let failed = catch_unwind(AssertUnwindSafe(|| {
                let mut entry = Entry::of(path.clone(), Line::default());
                tally.put_into(&mut entry);
                tally.judge(String::new);
            }))
            .is_err();
            assert_eq!(failed, tally.is_broken());
        };
        judged(&[1, 2, 3, 4], &rows[..2]);
        judged(&[2, 4], &rows[..2]);
        judged(&[1, 2, 3, 4], &rows);
        let lines = read(&path).expect("a line of each");
        let of = |line: &Line| {
            let names = ["acknowledged", "missing", "in an older term", "failed"];
            names.map(|name| line.counts[name])
        };
        let found: Vec<_> = lines.iter().map(of).collect();
        assert_eq!(found, [[2, 0, 0, 0], [2, 1, 0, 1], [4, 0, 1, 1]]);
    }

    #[test]
    fn a_write_that_fails_is_told_of_whichever_client_of_the_service_it_was() {
        let failed_by = |way: &Way| {
            let ledger = Ledger::default();
            ledger.fail(way, "connect: refused".to_owned());
            catch_unwind(AssertUnwindSafe(|| no_write_failed(&ledger, 0))).is_err()
        };
        assert!(failed_by(&Way::Service) && failed_by(&Way::Fresh));
        // A standby refuses every write that its own client sends.
        assert!(!failed_by(&Way::Own("a-1".into())));
        let ledger = Ledger::default();
        ledger.fail(&Way::Fresh, "before".to_owned());
        no_write_failed(&ledger, now_ms() + 1_000);
    }
}
