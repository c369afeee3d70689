//! The commands of a replication connection. Manual, 55.4.

use crate::ids::{Lsn, TimelineId};
use crate::sql::error::{SqlError, state};
use crate::sql::front::ast::{OptionValue, UtilityOption};
use crate::sql::front::lexer::TokenKind;
use crate::sql::front::parser::Parser;

#[derive(Debug, Clone, PartialEq)]
pub enum ReplicationCommand {
    IdentifySystem,
    /// The setting's name, lower case.
    Show(String),
    /// Options under their modern names, lower case.
    BaseBackup(Vec<UtilityOption>),
    StartReplication {
        slot: Option<String>,
        start: Lsn,
        timeline: Option<TimelineId>,
    },
    /// Logical decoding: known, refused by whoever runs it.
    StartLogicalReplication {
        slot: String,
        start: Lsn,
    },
    TimelineHistory(TimelineId),
    CreateSlot(CreateSlot),
    DropSlot {
        name: String,
        wait: bool,
    },
    ReadSlot(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateSlot {
    pub name: String,
    pub temporary: bool,
    pub kind: SlotKind,
    pub options: Vec<UtilityOption>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotKind {
    Physical,
    Logical { plugin: String },
}

/// `None` if the text is not a replication command: a walsender with a database then takes it for SQL, one
/// without refuses it.
pub fn parse(text: &str) -> Result<Option<ReplicationCommand>, SqlError> {
    let mut words = Words {
        p: Parser::new(text)?,
    };
    let command = words.command();
    match command {
        Ok(None) => Ok(None),
        Ok(Some(command)) => {
            words.end().map_err(|e| e.located(text))?;
            Ok(Some(command))
        }
        Err(e) => Err(e.located(text)),
    }
}

/// `repl_gram.y` over the SQL lexer: its keywords are plain words, in either case.
struct Words<'a> {
    p: Parser<'a>,
}

impl Words<'_> {
    fn peek_word(&self) -> Option<String> {
        match self.p.peek() {
            TokenKind::Ident | TokenKind::Keyword(_) => {
                Some(self.p.text(self.p.token()).to_ascii_uppercase())
            }
            _ => None,
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let yes = self.peek_word().as_deref() == Some(word);
        if yes {
            self.p.bump();
        }
        yes
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.eat(word) {
            Ok(())
        } else {
            Err(self.p.unexpected())
        }
    }

    fn end(&mut self) -> Result<(), SqlError> {
        if self.p.peek() == TokenKind::Char(b';') {
            self.p.bump();
        }
        self.p.expect_end()
    }

    fn command(&mut self) -> Result<Option<ReplicationCommand>, SqlError> {
        let Some(word) = self.peek_word() else {
            return Ok(None);
        };
        if word == "SHOW" {
            self.p.bump();
            return Ok(Some(ReplicationCommand::Show(self.setting()?)));
        }
        let known = [
            "IDENTIFY_SYSTEM",
            "BASE_BACKUP",
            "START_REPLICATION",
            "TIMELINE_HISTORY",
            "CREATE_REPLICATION_SLOT",
            "DROP_REPLICATION_SLOT",
            "READ_REPLICATION_SLOT",
        ];
        if !known.contains(&word.as_str()) {
            return Ok(None);
        }
        self.p.bump();
        Ok(Some(match word.as_str() {
            "IDENTIFY_SYSTEM" => ReplicationCommand::IdentifySystem,
            "BASE_BACKUP" => ReplicationCommand::BaseBackup(self.backup_options()?),
            "START_REPLICATION" => self.start_replication()?,
            "TIMELINE_HISTORY" => ReplicationCommand::TimelineHistory(self.timeline()?),
            "CREATE_REPLICATION_SLOT" => self.create_slot()?,
            "DROP_REPLICATION_SLOT" => {
                let name = self.name()?;
                let wait = self.eat("WAIT");
                ReplicationCommand::DropSlot { name, wait }
            }
            _ => ReplicationCommand::ReadSlot(self.name()?),
        }))
    }

    fn setting(&mut self) -> Result<String, SqlError> {
        let mut name = self.name()?.to_ascii_lowercase();
        while self.p.peek() == TokenKind::Char(b'.') {
            self.p.bump();
            name.push('.');
            name.push_str(&self.name()?.to_ascii_lowercase());
        }
        Ok(name)
    }

    /// An identifier, quoted or not.
    fn name(&mut self) -> Result<String, SqlError> {
        Ok(self.p.col_id()?.name)
    }

    fn timeline(&mut self) -> Result<TimelineId, SqlError> {
        match self.p.peek() {
            TokenKind::Int(n) if n > 0 => {
                self.p.bump();
                Ok(TimelineId::new(n as u32))
            }
            TokenKind::Int(_) => Err(SqlError::new(state::SYNTAX_ERROR, "invalid timeline 0")),
            _ => Err(self.p.unexpected()),
        }
    }

    /// `X/X`: two hexadecimal numbers, which the SQL lexer cuts in its own way; so it is read from the text.
    fn lsn(&mut self) -> Result<Lsn, SqlError> {
        let token = self.p.token();
        let rest = &self.p.rest_of_source();
        let length = rest
            .bytes()
            .take_while(|b| b.is_ascii_hexdigit() || *b == b'/')
            .count();
        let Ok(lsn) = rest[..length].parse::<Lsn>() else {
            return Err(self.p.unexpected());
        };
        self.p.skip_to(token.start + length as u32);
        Ok(lsn)
    }

    fn start_replication(&mut self) -> Result<ReplicationCommand, SqlError> {
        let slot = if self.eat("SLOT") {
            Some(self.name()?)
        } else {
            None
        };
        if self.eat("LOGICAL") {
            let start = self.lsn()?;
            self.p.skip_to_end();
            return Ok(ReplicationCommand::StartLogicalReplication {
                slot: slot.unwrap_or_default(),
                start,
            });
        }
        self.eat("PHYSICAL");
        let start = self.lsn()?;
        let timeline = if self.eat("TIMELINE") {
            Some(self.timeline()?)
        } else {
            None
        };
        Ok(ReplicationCommand::StartReplication {
            slot,
            start,
            timeline,
        })
    }

    fn create_slot(&mut self) -> Result<ReplicationCommand, SqlError> {
        let name = self.name()?;
        let temporary = self.eat("TEMPORARY");
        let kind = if self.eat("PHYSICAL") {
            SlotKind::Physical
        } else {
            self.expect("LOGICAL")?;
            SlotKind::Logical {
                plugin: self.name()?,
            }
        };
        let mut options = Vec::new();
        if self.p.peek() == TokenKind::Char(b'(') {
            options = self.p.generic_options()?;
        } else {
            while let Some(word) = self.peek_word() {
                let at = self.p.at();
                let (name, value) = match word.as_str() {
                    "RESERVE_WAL" => ("reserve_wal", None),
                    "EXPORT_SNAPSHOT" => ("snapshot", Some("export")),
                    "NOEXPORT_SNAPSHOT" => ("snapshot", Some("nothing")),
                    "USE_SNAPSHOT" => ("snapshot", Some("use")),
                    "TWO_PHASE" => ("two_phase", None),
                    _ => return Err(self.p.unexpected()),
                };
                self.p.bump();
                options.push(option(name, value, at));
            }
        }
        Ok(ReplicationCommand::CreateSlot(CreateSlot {
            name,
            temporary,
            kind,
            options,
        }))
    }

    /// The list in parentheses, or the words of servers before 15.
    fn backup_options(&mut self) -> Result<Vec<UtilityOption>, SqlError> {
        if self.p.peek() == TokenKind::Char(b'(') {
            return self.p.generic_options();
        }
        let mut out = Vec::new();
        while let Some(word) = self.peek_word() {
            let at = self.p.at();
            let fault = self.p.unexpected();
            self.p.bump();
            let text = match word.as_str() {
                "LABEL" | "MANIFEST" | "MANIFEST_CHECKSUMS" => Some(self.p.string()?),
                "MAX_RATE" => match self.p.peek() {
                    TokenKind::Int(n) => {
                        self.p.bump();
                        Some(n.to_string())
                    }
                    _ => return Err(self.p.unexpected()),
                },
                _ => None,
            };
            out.push(match (word.as_str(), &text) {
                ("FAST", _) => option("checkpoint", Some("fast"), at),
                ("NOWAIT", _) => option("wait", Some("false"), at),
                ("NOVERIFY_CHECKSUMS", _) => option("verify_checksums", Some("false"), at),
                ("PROGRESS" | "WAL" | "TABLESPACE_MAP", _) | (_, Some(_)) => {
                    option(&word.to_ascii_lowercase(), text.as_deref(), at)
                }
                _ => return Err(fault),
            });
        }
        Ok(out)
    }
}

fn option(name: &str, value: Option<&str>, at: u32) -> UtilityOption {
    UtilityOption {
        name: name.to_owned(),
        value: value.map(|v| OptionValue::Text(v.to_owned())),
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_as_the_clients_send_them() {
        let parse = |text| parse(text).expect("it is valid").expect("it is a command");
        assert_eq!(parse("IDENTIFY_SYSTEM"), ReplicationCommand::IdentifySystem);
        assert_eq!(
            parse("SHOW wal_segment_size"),
            ReplicationCommand::Show("wal_segment_size".to_owned())
        );
        assert_eq!(
            parse("SHOW understudy.term;"),
            ReplicationCommand::Show("understudy.term".to_owned())
        );
        assert_eq!(
            parse("START_REPLICATION SLOT \"s1\" 0/30000A0 TIMELINE 2"),
            ReplicationCommand::StartReplication {
                slot: Some("s1".to_owned()),
                start: "0/30000A0".parse().expect("an LSN"),
                timeline: Some(TimelineId::new(2)),
            }
        );
        assert_eq!(
            parse("START_REPLICATION 1F/E5000000"),
            ReplicationCommand::StartReplication {
                slot: None,
                start: "1F/E5000000".parse().expect("an LSN"),
                timeline: None,
            }
        );
        assert_eq!(
            parse("START_REPLICATION PHYSICAL A/1E5"),
            ReplicationCommand::StartReplication {
                slot: None,
                start: "A/1E5".parse().expect("an LSN"),
                timeline: None,
            }
        );
        let ReplicationCommand::BaseBackup(options) = parse(
            "BASE_BACKUP ( LABEL 'pg_basebackup base backup',  PROGRESS,  CHECKPOINT 'fast',  WAIT 0,  MANIFEST 'yes',  TARGET 'client')",
        ) else {
            panic!("it is a base backup");
        };
        let shown: Vec<_> = options
            .iter()
            .map(|o| (o.name.as_str(), o.text()))
            .collect();
        assert_eq!(
            shown,
            [
                ("label", Some("pg_basebackup base backup")),
                ("progress", None),
                ("checkpoint", Some("fast")),
                ("wait", Some("0")),
                ("manifest", Some("yes")),
                ("target", Some("client")),
            ]
        );
        let ReplicationCommand::CreateSlot(slot) =
            parse("CREATE_REPLICATION_SLOT \"pg_basebackup_17\" TEMPORARY PHYSICAL ( RESERVE_WAL)")
        else {
            panic!("it makes a slot");
        };
        assert!(slot.temporary);
        assert_eq!(slot.options[0].boolean(), Some(true));
        assert_eq!(
            parse("TIMELINE_HISTORY 7"),
            ReplicationCommand::TimelineHistory(TimelineId::new(7))
        );
    }

    #[test]
    fn other_text_is_no_command_and_a_broken_one_is_an_error() {
        assert_eq!(super::parse("SELECT 1"), Ok(None));
        assert_eq!(super::parse(""), Ok(None));
        let e = super::parse("START_REPLICATION 0/XYZ").expect_err("no LSN");
        assert_eq!(e.state, "42601");
        super::parse("TIMELINE_HISTORY").expect_err("no timeline");
        super::parse("IDENTIFY_SYSTEM now").expect_err("too much");
    }
}
