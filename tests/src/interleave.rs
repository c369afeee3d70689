//! Interleavings: the steps of several sessions in a given order, here and on PostgreSQL 15, compared.
//!
//! A `.spec` file says what the sessions do and in which orders:
//!
//! ```text
//! # comment
//! setup CREATE TABLE t (a int)          once before each order, in a session of its own
//! teardown DROP TABLE t                 after it
//! session one                           the lines that follow are this session's
//!   setup SET deadlock_timeout = '10s'  before each order
//!   step b1 BEGIN
//!   step u1 UPDATE t SET a = a + 1
//!           WHERE a > 0                 a deeper line goes on with the one above it
//! session two
//!   step u2 UPDATE t SET a = a + 10
//!   pause p2 300                        milliseconds in which nothing is sent
//! apart 200                             milliseconds before each further step while somebody waits
//! order b1 u1 u2 c1 c2                  one order; or
//! orders all                            every one that keeps each session's own order
//! ```
//!
//! `{pid:two}` in a step stands for the process id of session two. A session that has sent something and got no
//! answer *waits* if the server's `pg_blocking_pids` says so; nobody declares it. After each step everything settles:
//! every session has its answer or waits. No expected results are written down: the referee gives them. A step of a
//! session that still waits is put off until it has its answer, by a time-out or the deadlock detector; if nothing
//! happens the rest of the order is impossible, which both servers have to find at the same step.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wire::{Answer, Client};

/// Until then everything that can happen without a time-out has happened.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// How long a waiting session may take to be freed by a time-out or the deadlock detector.
const FREED_WITHIN: Duration = Duration::from_millis(2500);
const POLL: Duration = Duration::from_millis(2);

#[derive(Debug, Clone)]
pub struct Step {
    pub name: String,
    pub session: usize,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    Sql(String),
    Pause(Duration),
}

#[derive(Debug, Clone, Default)]
pub struct Member {
    pub name: String,
    pub setup: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Spec {
    pub setup: Vec<String>,
    pub teardown: Vec<String>,
    pub sessions: Vec<Member>,
    pub steps: Vec<Step>,
    /// Before each further step while a session waits: so that of two who wait the first is first by more than a busy
    /// machine may be late.
    pub apart: Duration,
    /// Some time-out is set, so that waits may end by themselves.
    pub has_timeouts: bool,
    /// Indexes into `steps`.
    pub orders: Vec<Vec<usize>>,
}

impl Spec {
    /// Panics with file and line where the file is wrong.
    pub fn read(path: &Path) -> Spec {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Spec::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Spec, String> {
        let mut spec = Spec {
            has_timeouts: text.contains("SET lock_timeout")
                || text.contains("SET statement_timeout"),
            ..Spec::default()
        };
        let mut all = false;
        let mut orders: Vec<String> = Vec::new();
        for line in logical_lines(text) {
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let rest = rest.trim();
            match word {
                "setup" => match spec.sessions.last_mut() {
                    Some(session) => session.setup.push(rest.to_owned()),
                    None => spec.setup.push(rest.to_owned()),
                },
                "teardown" => spec.teardown.push(rest.to_owned()),
                "session" => spec.sessions.push(Member {
                    name: rest.to_owned(),
                    setup: Vec::new(),
                }),
                "step" | "pause" => spec.add_step(word, rest)?,
                "apart" => {
                    let ms = rest.parse().map_err(|e| format!("apart {rest:?}: {e}"))?;
                    spec.apart = Duration::from_millis(ms);
                }
                "order" => orders.push(rest.to_owned()),
                "orders" if rest == "all" => all = true,
                _ => return Err(format!("unknown line {line:?}")),
            }
        }
        for order in orders {
            let order = order.split_whitespace().map(|name| spec.step_named(name));
            spec.orders.push(order.collect::<Result<_, _>>()?);
        }
        if all {
            spec.orders.extend(spec.all_orders());
        }
        if spec.orders.is_empty() {
            return Err("it has no order".to_owned());
        }
        Ok(spec)
    }

    fn add_step(&mut self, kind: &str, rest: &str) -> Result<(), String> {
        let (name, body) = rest
            .split_once(' ')
            .ok_or_else(|| format!("step {rest:?} does nothing"))?;
        let session = self.sessions.len().checked_sub(1);
        let session = session.ok_or_else(|| format!("step {name:?} belongs to no session"))?;
        let body = body.trim();
        let action = if kind == "pause" {
            let ms = body.parse().map_err(|e| format!("pause {name:?}: {e}"))?;
            Action::Pause(Duration::from_millis(ms))
        } else {
            Action::Sql(body.to_owned())
        };
        self.steps.push(Step {
            name: name.to_owned(),
            session,
            action,
        });
        Ok(())
    }

    fn step_named(&self, name: &str) -> Result<usize, String> {
        let found = self.steps.iter().position(|s| s.name == name);
        found.ok_or_else(|| format!("an order names the unknown step {name:?}"))
    }

    /// Every merge of the sessions' steps that keeps each session's own order.
    fn all_orders(&self) -> Vec<Vec<usize>> {
        let mut queues = vec![Vec::new(); self.sessions.len()];
        for (number, step) in self.steps.iter().enumerate() {
            queues[step.session].push(number);
        }
        let mut orders = Vec::new();
        merge(
            &queues,
            &mut vec![0; queues.len()],
            &mut Vec::new(),
            &mut orders,
        );
        orders
    }

    pub fn order_text(&self, order: &[usize]) -> String {
        let names: Vec<&str> = order.iter().map(|s| self.steps[*s].name.as_str()).collect();
        names.join(" ")
    }
}

/// Lines without comments and empty ones; a line indented deeper than its beginner is part of it.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let starts = [
            "setup ",
            "teardown ",
            "session ",
            "step ",
            "pause ",
            "apart ",
            "order",
        ]
        .iter()
        .any(|w| trimmed.starts_with(w));
        match lines.last_mut() {
            Some((above, whole)) if !starts && indent > *above => {
                whole.push('\n');
                whole.push_str(trimmed);
            }
            _ => lines.push((indent, trimmed.to_owned())),
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

fn merge(
    queues: &[Vec<usize>],
    at: &mut Vec<usize>,
    prefix: &mut Vec<usize>,
    into: &mut Vec<Vec<usize>>,
) {
    let mut done = true;
    for i in 0..queues.len() {
        if let Some(step) = queues[i].get(at[i]) {
            done = false;
            at[i] += 1;
            prefix.push(*step);
            merge(queues, at, prefix, into);
            prefix.pop();
            at[i] -= 1;
        }
    }
    if done {
        into.push(prefix.clone());
    }
}

/// What a statement came to; `lost` if the connection broke off.
struct Reply {
    answers: Vec<Answer>,
    lost: bool,
}

/// One session on one server; a thread of its own waits for its answers.
struct Session {
    pid: String,
    to: Option<Sender<String>>,
    from: Receiver<Reply>,
    /// The step that has been sent and not answered.
    busy: Option<String>,
    lost: bool,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    fn open(port: u16) -> Session {
        let mut client = Client::connect(port).expect("a session opens");
        client.set_read_timeout(Duration::from_secs(120));
        let pid = client.value("SELECT pg_backend_pid()");
        let (to, orders) = mpsc::channel::<String>();
        let (replies, from) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for sql in orders {
                let mut answers = Vec::new();
                let sent = client.send(&sql);
                let lost = client.answers_into(&mut answers).is_err() || sent.is_err();
                if replies.send(Reply { answers, lost }).is_err() {
                    return;
                }
            }
        });
        Session {
            pid,
            to: Some(to),
            from,
            busy: None,
            lost: false,
            thread: Some(thread),
        }
    }

    fn send(&mut self, step: &str, sql: String) {
        assert!(self.busy.is_none(), "{step}: the session is busy");
        self.busy = Some(step.to_owned());
        if let Some(to) = &self.to {
            to.send(sql).expect("the session's thread lives");
        }
    }

    /// The answer, if it is there.
    fn take(&mut self) -> Option<(String, Reply)> {
        match self.from.try_recv() {
            Ok(reply) => {
                self.lost |= reply.lost;
                Some((self.busy.take().unwrap_or_default(), reply))
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the session's thread has ended"),
        }
    }

    /// Outside of the order: sends and waits. Errors are for the caller to judge.
    fn run(&mut self, sql: &str) -> Reply {
        self.send("", sql.to_owned());
        let reply = self.from.recv().expect("the session's thread lives");
        self.busy = None;
        self.lost |= reply.lost;
        reply
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// By session, the step and its answer.
type Answered = BTreeMap<usize, (String, String)>;

/// One server under test.
pub struct Stage {
    port: u16,
    control: Client,
    sessions: Vec<Session>,
}

impl Stage {
    pub fn new(port: u16) -> Stage {
        Stage {
            port,
            control: Client::connect(port).expect("the control session opens"),
            sessions: Vec::new(),
        }
    }

    /// Runs one order of a spec; gives what happened, line by line.
    pub fn run(&mut self, spec: &Spec, order: &[usize]) -> Vec<String> {
        let mut log = Vec::new();
        for sql in &spec.setup {
            self.prepare(sql);
        }
        self.open_sessions(spec);
        self.play(spec, order, &mut log);
        self.clear(spec, &mut log);
        for sql in &spec.teardown {
            self.prepare(sql);
        }
        log
    }

    /// Statements around the order must succeed.
    fn prepare(&mut self, sql: &str) {
        let answers = self
            .control
            .query(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let failed = answers.into_iter().find_map(|a| a.error);
        assert!(failed.is_none(), "{sql}: {failed:?}");
    }

    fn open_sessions(&mut self, spec: &Spec) {
        self.sessions.retain(|s| !s.lost);
        self.sessions.truncate(spec.sessions.len());
        while self.sessions.len() < spec.sessions.len() {
            self.sessions.push(Session::open(self.port));
        }
        for (session, member) in self.sessions.iter_mut().zip(&spec.sessions) {
            for sql in &member.setup {
                let reply = session.run(sql);
                let failed = reply.answers.into_iter().find_map(|a| a.error);
                assert!(failed.is_none() && !reply.lost, "{sql}: {failed:?}");
            }
        }
    }

    fn play(&mut self, spec: &Spec, order: &[usize], log: &mut Vec<String>) {
        for number in order {
            if self.sessions.iter().any(|s| s.busy.is_some()) {
                std::thread::sleep(spec.apart);
            }
            let step = &spec.steps[*number];
            let sends = matches!(step.action, Action::Sql(_));
            let busy = self.sessions[step.session].busy.is_some();
            if sends && busy && !self.freed(spec, step.session, log) {
                log.push(format!("{}: impossible, the session waits", step.name));
                return;
            }
            match &step.action {
                Action::Pause(time) => std::thread::sleep(*time),
                Action::Sql(sql) if self.sessions[step.session].lost => {
                    log.push(format!(
                        "{}: the session is gone ({})",
                        step.name,
                        sql.len()
                    ));
                }
                Action::Sql(sql) => {
                    let sql = self.fill_in(spec, sql);
                    self.sessions[step.session].send(&step.name, sql);
                }
            }
            self.settle(Some(&step.name), Answered::new(), log);
        }
    }

    /// `{pid:NAME}`
    fn fill_in(&self, spec: &Spec, sql: &str) -> String {
        let mut sql = sql.to_owned();
        for (member, session) in spec.sessions.iter().zip(&self.sessions) {
            sql = sql.replace(&format!("{{pid:{}}}", member.name), &session.pid);
        }
        sql
    }

    /// Until every session has its answer or waits, and was seen so twice in a row: a session that has just been
    /// woken may wait for another at once. Writes down the step itself first, then those that went on, by session.
    fn settle(&mut self, sent: Option<&str>, mut answered: Answered, log: &mut Vec<String>) {
        let until = Instant::now() + SETTLED_WITHIN;
        let mut quiet = 0;
        while quiet < 2 {
            let mut all_wait = !self.collect(&mut answered);
            for number in 0..self.sessions.len() {
                if self.sessions[number].busy.is_some() && !self.waits(number) {
                    all_wait = false;
                }
            }
            quiet = if all_wait { quiet + 1 } else { 0 };
            assert!(
                Instant::now() < until,
                "a session neither waits nor answers:\n{}",
                log.join("\n")
            );
            if self.sessions.iter().any(|s| s.busy.is_some()) {
                std::thread::sleep(POLL);
            }
        }
        let own = |(_, (step, _)): &(&usize, &(String, String))| Some(step.as_str()) == sent;
        if let Some(own) = answered.iter().find(own).map(|(number, _)| *number) {
            let (step, text) = answered.remove(&own).expect("just found");
            log.push(format!("{step}: {text}"));
        }
        let waits = |s: &&Session| s.busy.as_deref() == sent && sent.is_some();
        let waiting = self.sessions.iter().find(waits);
        if let Some(step) = waiting.and_then(|s| s.busy.as_ref()) {
            log.push(format!("{step}: waits"));
        }
        for (step, text) in answered.into_values() {
            log.push(format!("    {step} goes on: {text}"));
        }
    }

    /// Takes the answers that are there; true if there were any.
    fn collect(&mut self, answered: &mut Answered) -> bool {
        let before = answered.len();
        for (number, session) in self.sessions.iter_mut().enumerate() {
            if let Some((step, reply)) = session.take() {
                answered.insert(number, (step, shown(&reply)));
            }
        }
        answered.len() > before
    }

    fn waits(&mut self, session: usize) -> bool {
        let pid = &self.sessions[session].pid;
        let sql = format!("SELECT cardinality(pg_blocking_pids({pid})) > 0");
        self.control.value(&sql) == "t"
    }

    /// Whether a waiting session may go on without another step: it is part of a ring (or waits for one), or the
    /// spec sets time-outs.
    fn may_be_freed(&mut self, spec: &Spec, session: usize) -> bool {
        if spec.has_timeouts {
            return true;
        }
        let mut seen = Vec::new();
        let mut next = vec![self.sessions[session].pid.clone()];
        while let Some(pid) = next.pop() {
            if seen.contains(&pid) {
                return true;
            }
            let array = self
                .control
                .value(&format!("SELECT pg_blocking_pids({pid})"));
            let inside = array.trim_matches(['{', '}']);
            let pids = inside.split(',').filter(|p| !p.is_empty());
            next.extend(pids.map(str::to_owned));
            seen.push(pid);
        }
        false
    }

    /// Gives a waiting session time to be ended by a time-out or the deadlock detector.
    fn freed(&mut self, spec: &Spec, session: usize, log: &mut Vec<String>) -> bool {
        if !self.may_be_freed(spec, session) {
            return false;
        }
        let until = Instant::now() + FREED_WITHIN;
        while Instant::now() < until {
            let mut answered = Answered::new();
            if self.collect(&mut answered) {
                self.settle(None, answered, log);
            }
            if self.sessions[session].busy.is_none() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }

    /// Ends what is left of the order: a moment for time-outs and deadlocks, then everything is cancelled.
    fn clear(&mut self, spec: &Spec, log: &mut Vec<String>) {
        for session in 0..self.sessions.len() {
            if self.sessions[session].busy.is_some() && !self.freed(spec, session, log) {
                let step = self.sessions[session].busy.clone().unwrap_or_default();
                log.push(format!("{step}: waits to the end"));
            }
        }
        for session in &mut self.sessions {
            if session.busy.is_some() {
                let sql = format!("SELECT pg_cancel_backend({})", session.pid);
                self.control.value(&sql);
                let reply = session.from.recv().expect("the session's thread lives");
                session.busy = None;
                session.lost |= reply.lost;
            }
        }
        for session in &mut self.sessions {
            if !session.lost {
                session.run("ROLLBACK");
            }
            if !session.lost {
                session.run("RESET ALL");
            }
        }
    }
}

/// An answer as it is compared: notices, then column names, rows and tag, or SQLSTATE and message.
fn shown(reply: &Reply) -> String {
    let mut text = String::new();
    for answer in &reply.answers {
        let between = if text.is_empty() { "" } else { "; " };
        text.push_str(between);
        for notice in &answer.notices {
            let _ = write!(text, "[{} {}] ", notice.state, notice.message);
        }
        // What came before an error is not part of any answer.
        if let Some(error) = &answer.error {
            let (severity, state) = (&error.severity, &error.state);
            let _ = write!(text, "{severity} {state} {}", error.message);
            continue;
        }
        if !answer.columns.is_empty() {
            let names: Vec<&str> = answer.columns.iter().map(|c| c.name.as_str()).collect();
            let _ = write!(text, "({})", names.join(","));
        }
        for row in &answer.rows {
            let values: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
            let _ = write!(text, " {}", values.join("|"));
        }
        match &answer.tag {
            Some(tag) => {
                let _ = write!(text, " {tag}");
            }
            None => text.push_str("nothing"),
        }
    }
    if reply.lost {
        text.push_str(" (connection lost)");
    }
    text.trim().to_owned()
}

/// How the orders of one file went.
#[derive(Debug, Default)]
pub struct Outcome {
    pub orders: usize,
    /// How often a step waited, on the referee.
    pub waits: usize,
    pub differences: Vec<String>,
}

/// Runs every order of the file on both servers, side by side.
pub fn compare(path: &Path, ours: u16, reference: u16) -> Outcome {
    let spec = Spec::read(path);
    let play = |port: u16| {
        let mut stage = Stage::new(port);
        let orders = spec.orders.iter();
        orders
            .map(|order| stage.run(&spec, order))
            .collect::<Vec<_>>()
    };
    let (own, theirs) = std::thread::scope(|scope| {
        let own = scope.spawn(|| play(ours));
        let theirs = play(reference);
        (own.join(), theirs)
    });
    let own = own.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let mut outcome = Outcome::default();
    for ((order, own), theirs) in spec.orders.iter().zip(own).zip(theirs) {
        outcome.orders += 1;
        outcome.waits += theirs.iter().filter(|l| l.ends_with(": waits")).count();
        if own != theirs && !agree_again(&spec, order, &own, ours, reference) {
            let at = own.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            outcome.differences.push(format!(
                "{}: {}\n  both:\n    {}\n  ours:\n    {}\n  PostgreSQL:\n    {}\n",
                path.display(),
                spec.order_text(order),
                theirs[..at].join("\n    "),
                own[at..].join("\n    "),
                theirs[at..].join("\n    ")
            ));
        }
    }
    outcome
}

/// Of sessions that wait for one row PostgreSQL lets the first go on first, mostly: when it has found the new version
/// it gives up its place in the queue, and the next one may lock that version before it. What we do must always be the
/// same, and be what PostgreSQL does too.
fn agree_again(spec: &Spec, order: &[usize], own: &[String], ours: u16, reference: u16) -> bool {
    (0..AGAIN).any(|_| {
        let theirs = Stage::new(reference).run(spec, order);
        Stage::new(ours).run(spec, order) == own && theirs == own
    })
}

/// How often an order in which the two differ is run once more.
const AGAIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_and_its_orders_are_made() {
        let text = "# nothing\nsetup CREATE TABLE t\n  (a int)\nsession a\n  setup SET x = 1\n  \
                    step a1 BEGIN\n  step a2 COMMIT\nsession b\n  pause b1 5\napart 7\norder a1 b1 a2\norders all\n";
        let spec = Spec::parse(text).expect("it is right");
        assert_eq!(spec.setup, ["CREATE TABLE t\n(a int)"]);
        assert_eq!(spec.sessions[0].setup, ["SET x = 1"]);
        assert_eq!(spec.apart, Duration::from_millis(7));
        let orders: Vec<String> = spec.orders.iter().map(|o| spec.order_text(o)).collect();
        assert_eq!(orders, ["a1 b1 a2", "a1 a2 b1", "a1 b1 a2", "b1 a1 a2"]);
        assert!(Spec::parse("session a\nstep a1 BEGIN\norder a2").is_err());
    }
}
