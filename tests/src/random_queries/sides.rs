//! A server of each kind, asked the same. Whatever becomes of our session or our server, the next question finds one.

use std::io;
use std::time::Duration;

use super::settings::Settings;
use super::world::World;
use crate::reference::Reference;
use crate::server::Server;
use crate::wire::{Answer, Client};

/// A session that says nothing for so long is lost: statements have to end before.
const PATIENCE: Duration = Duration::from_secs(30);

/// What both sessions begin with.
const BEGINNING: &[&str] = &[
    "SET statement_timeout = '10s'",
    "SET timezone = 'UTC'",
    "SET client_min_messages = error",
    // What is switched off costs so much that everything would be compiled.
    "SET jit = off",
];

/// An answer for each statement that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Answers(Vec<Answer>),
    /// The session ended, or gave no answer at all.
    Lost(String),
}

pub struct Sides {
    server: Server,
    reference: Reference,
    ours: Option<Client>,
    theirs: Option<Client>,
    our_settings: Settings,
    their_settings: Settings,
    /// What both have now.
    world: Option<World>,
}

impl Sides {
    pub fn started() -> Sides {
        Sides {
            server: Server::started(),
            reference: Reference::started(),
            ours: None,
            theirs: None,
            our_settings: Settings::default(),
            their_settings: Settings::default(),
            world: None,
        }
    }

    /// The world, with the same rows on both, unless it is what they have.
    pub fn make(&mut self, world: &World) -> Result<(), String> {
        if self.world.as_ref() == Some(world) {
            return Ok(());
        }
        self.world = None;
        let mut sent = [
            "BEGIN",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
        ]
        .map(str::to_owned)
        .to_vec();
        sent.extend(world.tables());
        sent.push("COMMIT".to_owned());
        self.both(&sent, false)?;
        for sql in world.indexes() {
            self.both(&[sql], true)?;
        }
        self.world = Some(world.clone());
        Ok(())
    }

    /// Runs what must succeed, on both; what ours refuses with 0A000 may be left out, if so `dispensable`.
    fn both(&mut self, sent: &[String], dispensable: bool) -> Result<(), String> {
        let theirs = failure(sent, self.ask_theirs(sent));
        let own = failure(sent, self.ask_ours(sent));
        let own = own.filter(|why| !dispensable || !why.contains("0A000"));
        let failed = match (theirs, own) {
            (None, None) => return Ok(()),
            (Some(why), _) => format!("PostgreSQL: {why}"),
            (None, Some(why)) => format!("ours: {why}"),
        };
        // What comes next finds no transaction that has failed.
        let rollback = ["ROLLBACK".to_owned()];
        self.ask_theirs(&rollback);
        self.ask_ours(&rollback);
        Err(failed)
    }

    pub fn set_ours(&mut self, settings: &Settings) {
        if self.our_settings != *settings {
            self.our_settings = settings.clone();
            if let Reply::Lost(why) = self.ask_ours(&[settings.sql()]) {
                eprintln!("the session was lost while it was set up: {why}");
            }
        }
    }

    pub fn set_theirs(&mut self, settings: &Settings) {
        if self.their_settings != *settings {
            self.their_settings = settings.clone();
            self.ask_theirs(&[settings.sql()]);
        }
    }

    pub fn ask_ours(&mut self, sent: &[String]) -> Reply {
        let client = match self.ours.take() {
            Some(client) => Ok(client),
            None => self.session(),
        };
        let mut client = match client {
            Ok(client) => client,
            Err(error) => return Reply::Lost(format!("no new session: {error}")),
        };
        let reply = ask(&mut client, sent);
        if matches!(reply, Reply::Answers(_)) {
            self.ours = Some(client);
        }
        reply
    }

    pub fn ask_theirs(&mut self, sent: &[String]) -> Reply {
        let mut client = self.theirs.take().unwrap_or_else(|| {
            let mut client = self.reference.client();
            begin(&mut client, &self.their_settings).expect("the referee answers");
            client
        });
        let reply = ask(&mut client, sent);
        if matches!(reply, Reply::Answers(_)) {
            self.theirs = Some(client);
        }
        reply
    }

    /// A session of ours, of the server started again if it has ended.
    fn session(&mut self) -> io::Result<Client> {
        if let Some(status) = self.server.exit_status() {
            eprintln!("our server ended with {status}; it is started again");
            self.server.start();
        }
        let mut client = Client::connect_within(self.server.port, PATIENCE)?;
        begin(&mut client, &self.our_settings)?;
        Ok(client)
    }
}

/// The first that failed, and why.
fn failure(sent: &[String], reply: Reply) -> Option<String> {
    let answers = match reply {
        Reply::Answers(answers) => answers,
        Reply::Lost(why) => return Some(why),
    };
    sent.iter().zip(answers).find_map(|(sql, answer)| {
        let error = answer.error?;
        Some(format!("{sql}: {} {}", error.state, error.message))
    })
}

fn begin(client: &mut Client, settings: &Settings) -> io::Result<()> {
    let beginning = BEGINNING.iter().map(|sql| (*sql).to_owned());
    for sql in beginning.chain(settings.lines()) {
        client.query(&sql)?;
    }
    Ok(())
}

fn ask(client: &mut Client, sent: &[String]) -> Reply {
    let mut all = Vec::with_capacity(sent.len());
    for sql in sent {
        let mut answers = Vec::new();
        let done = client
            .send(sql)
            .and_then(|()| client.answers_into(&mut answers));
        let last = answers.pop();
        if let Err(error) = done {
            let said = last.and_then(|answer| answer.error);
            let said = said.map(|report| format!(" after {}: {}", report.state, report.message));
            return Reply::Lost(format!("{error}{}", said.unwrap_or_default()));
        }
        all.push(last.unwrap_or_default());
    }
    Reply::Answers(all)
}
