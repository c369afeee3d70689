//! Who has to have a commit before it is released, and how far they all have come.
//!
//! Pure: positions in, limits out. Manual, 20.6.2 (`synchronous_standby_names`) and 27.2.8.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::ids::{Lsn, Term};
use crate::txn::release::CommitLevel;

/// The identity of one data directory of a managed cluster; a new seed is a new id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    pub fn new(id: &str) -> InstanceId {
        InstanceId(Arc::from(id))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleasePolicy {
    /// The local flush is enough.
    Local,
    /// `synchronous_standby_names`
    Names(SyncNames),
    /// A managed primary: `required` of the members, whatever their names. 0: it acknowledges alone.
    InSyncSet {
        term: Term,
        counter: u64,
        members: Vec<InstanceId>,
        required: usize,
    },
    /// Nothing is acknowledged, not even what asks for no standby.
    Closed,
}

/// Who is waited for, in words of `synchronous_standby_names` where it names them.
impl fmt::Display for ReleasePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleasePolicy::Local => f.write_str("the local disk"),
            ReleasePolicy::Names(names) => {
                let method = if names.any { "ANY" } else { "FIRST" };
                write!(f, "{method} {} ({})", names.count, names.names.join(", "))
            }
            ReleasePolicy::InSyncSet {
                members, required, ..
            } => {
                let members: Vec<&str> = members.iter().map(InstanceId::as_str).collect();
                write!(f, "{required} of {}", members.join(", "))
            }
            ReleasePolicy::Closed => {
                f.write_str("an in-sync set, which no operator has given yet,")
            }
        }
    }
}

impl ReleasePolicy {
    /// A managed primary that has nobody to wait for. (One that has somebody and waits for none is `durability: async`.)
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, ReleasePolicy::InSyncSet { members, required: 0, .. } if members.is_empty())
    }

    /// Whether commits wait for others than the local disk.
    pub fn is_synchronous(&self) -> bool {
        match self {
            ReleasePolicy::Local => false,
            ReleasePolicy::InSyncSet { required, .. } => *required > 0,
            ReleasePolicy::Names(_) | ReleasePolicy::Closed => true,
        }
    }
}

/// A parsed `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncNames {
    any: bool,
    count: usize,
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncNamesError {
    #[error("syntax error at or near \"{0}\"")]
    Syntax(String),
    #[error("syntax error at end of input")]
    UnexpectedEnd,
    #[error("unterminated quoted identifier")]
    UnterminatedQuote,
    #[error("number of synchronous standbys ({0}) must be greater than zero")]
    CountNotPositive(i64),
}

#[derive(Debug, PartialEq)]
enum Token {
    /// Also `*`.
    Name(String),
    Quoted(String),
    Number(String),
    Open,
    Close,
    Comma,
}

impl Token {
    fn into_syntax_error(self) -> SyncNamesError {
        SyncNamesError::Syntax(match self {
            Token::Name(s) | Token::Quoted(s) | Token::Number(s) => s,
            Token::Open => "(".to_owned(),
            Token::Close => ")".to_owned(),
            Token::Comma => ",".to_owned(),
        })
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, SyncNamesError> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let mut while_in = |inside: fn(char) -> bool| {
            let mut end = at + c.len_utf8();
            while let Some((i, next)) = chars.peek().copied() {
                if !inside(next) {
                    break;
                }
                end = i + next.len_utf8();
                chars.next();
            }
            text[at..end].to_owned()
        };
        match c {
            ' ' | '\t' | '\n' | '\r' | '\x0C' => {}
            '(' => out.push(Token::Open),
            ')' => out.push(Token::Close),
            ',' => out.push(Token::Comma),
            '*' => out.push(Token::Name("*".to_owned())),
            '0'..='9' => out.push(Token::Number(while_in(|c| c.is_ascii_digit()))),
            c if is_name_start(c) => out.push(Token::Name(while_in(|c| {
                is_name_start(c) || c.is_ascii_digit() || c == '$'
            }))),
            '"' => {
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some((_, '"')) if chars.next_if(|(_, c)| *c == '"').is_some() => {
                            name.push('"');
                        }
                        Some((_, '"')) => break,
                        Some((_, c)) => name.push(c),
                        None => return Err(SyncNamesError::UnterminatedQuote),
                    }
                }
                out.push(Token::Quoted(name));
            }
            other => return Err(SyncNamesError::Syntax(other.to_string())),
        }
    }
    Ok(out)
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

impl SyncNames {
    /// `None` for an empty setting: nobody is waited for.
    pub fn parse(text: &str) -> Result<Option<SyncNames>, SyncNamesError> {
        let tokens = tokens(text)?;
        if tokens.is_empty() {
            return Ok(None);
        }
        let has_list = tokens.contains(&Token::Open);
        let mut rest = tokens.into_iter().peekable();
        let (mut any, mut count) = (false, 1_i64);
        if has_list {
            let mut head = rest.next();
            if let Some(Token::Name(word)) = &head {
                any = word.eq_ignore_ascii_case("any");
                if any || word.eq_ignore_ascii_case("first") {
                    head = rest.next();
                }
            }
            count = match head {
                Some(Token::Number(digits)) => digits.parse().unwrap_or(i64::from(i32::MAX)),
                Some(other) => return Err(other.into_syntax_error()),
                None => return Err(SyncNamesError::UnexpectedEnd),
            };
            expect(rest.next(), &Token::Open)?;
        }
        let mut names = Vec::new();
        loop {
            match rest.next() {
                Some(Token::Name(name) | Token::Quoted(name) | Token::Number(name)) => {
                    names.push(name);
                }
                Some(other) => return Err(other.into_syntax_error()),
                None => return Err(SyncNamesError::UnexpectedEnd),
            }
            if rest.next_if_eq(&Token::Comma).is_none() {
                break;
            }
        }
        if has_list {
            expect(rest.next(), &Token::Close)?;
        }
        if let Some(extra) = rest.next() {
            return Err(extra.into_syntax_error());
        }
        if count <= 0 {
            return Err(SyncNamesError::CountNotPositive(count));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Some(SyncNames { any, count, names }))
    }

    /// 1 for the first name in the list; 0: not listed.
    fn priority(&self, application_name: &str) -> u32 {
        let matches = |name: &String| name == "*" || name.eq_ignore_ascii_case(application_name);
        self.names
            .iter()
            .position(matches)
            .map_or(0, |i| i as u32 + 1)
    }

    /// Indexes of the listed standbys, best priority first; among equals the order given.
    fn candidates(&self, standbys: &[StandbyPosition]) -> Vec<(u32, usize)> {
        let mut listed: Vec<(u32, usize)> = standbys
            .iter()
            .enumerate()
            .map(|(i, s)| (self.priority(&s.application_name), i))
            .filter(|(priority, _)| *priority > 0)
            .collect();
        listed.sort_unstable();
        listed
    }

    /// `sync_priority` and `sync_state` of each standby, for `pg_stat_replication`.
    pub fn states(&self, standbys: &[StandbyPosition]) -> Vec<(u32, SyncState)> {
        let mut states = vec![(0, SyncState::Async); standbys.len()];
        for (rank, (priority, i)) in self.candidates(standbys).into_iter().enumerate() {
            states[i] = if self.any {
                (1, SyncState::Quorum)
            } else if rank < self.count {
                (priority, SyncState::Sync)
            } else {
                (priority, SyncState::Potential)
            };
        }
        states
    }

    /// The position that the required standbys have reached; `INVALID` while they are too few.
    fn reached(&self, standbys: &[StandbyPosition], of: fn(&StandbyPosition) -> Lsn) -> Lsn {
        let listed = self.candidates(standbys);
        let mut positions: Vec<Lsn> = listed.iter().map(|(_, i)| of(&standbys[*i])).collect();
        if self.any {
            nth_highest(&mut positions, self.count)
        } else {
            positions.truncate(self.count);
            nth_highest(&mut positions, self.count)
        }
    }
}

fn expect(found: Option<Token>, wanted: &Token) -> Result<(), SyncNamesError> {
    match found {
        Some(token) if token == *wanted => Ok(()),
        Some(other) => Err(other.into_syntax_error()),
        None => Err(SyncNamesError::UnexpectedEnd),
    }
}

fn nth_highest(positions: &mut [Lsn], n: usize) -> Lsn {
    positions.sort_unstable_by(|a, b| b.cmp(a));
    n.checked_sub(1)
        .and_then(|i| positions.get(i))
        .copied()
        .unwrap_or(Lsn::INVALID)
}

/// `pg_stat_replication.sync_state`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    Async,
    Potential,
    Sync,
    Quorum,
}

impl SyncState {
    pub const fn name(self) -> &'static str {
        match self {
            SyncState::Async => "async",
            SyncState::Potential => "potential",
            SyncState::Sync => "sync",
            SyncState::Quorum => "quorum",
        }
    }
}

/// What a connected, streaming standby has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandbyPosition {
    pub application_name: String,
    /// Only for an authenticated stream of a member, of the timeline that is its term's own.
    pub instance: Option<InstanceId>,
    /// The term of that stream: it counts for sets of the same term only.
    pub term: Term,
    pub write: Lsn,
    pub flush: Lsn,
    pub apply: Lsn,
}

/// The walsenders, as the release queue asks for them. In the order of their slots.
pub trait StandbyPositions {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition));
}

impl StandbyPositions for [StandbyPosition] {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition)) {
        self.iter().for_each(visit);
    }
}

impl StandbyPositions for Vec<StandbyPosition> {
    fn each(&self, visit: &mut dyn FnMut(&StandbyPosition)) {
        self.iter().for_each(visit);
    }
}

/// How far commits of each level may be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Limits([Lsn; 5]);

impl Limits {
    pub(crate) fn of(&self, level: CommitLevel) -> Lsn {
        self.0[level as usize]
    }
    /// Nothing above this can be released of what waits for something.
    pub(crate) fn highest(&self) -> Lsn {
        self.0[1..].iter().copied().max().unwrap_or(Lsn::INVALID)
    }
    /// What is durable in the sense of the policy.
    pub(crate) fn durable(&self) -> Lsn {
        self.of(CommitLevel::On)
    }
    /// The same, but what waits for others no further than `before`.
    pub(crate) fn no_further_than(mut self, before: Limits) -> Limits {
        for level in [
            CommitLevel::RemoteWrite,
            CommitLevel::On,
            CommitLevel::RemoteApply,
        ] {
            self.0[level as usize] = self.of(level).min(before.of(level));
        }
        self
    }
}

/// The positions that count: of connected standbys, and of members that were connected.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(crate) flush: Lsn,
    standbys: Vec<StandbyPosition>,
    /// Write and flush positions that members have confirmed: what an instance has flushed stays flushed
    /// under its id, though its stream may be cut.
    members: HashMap<(InstanceId, Term), (Lsn, Lsn)>,
}

impl Positions {
    pub(crate) fn update(&mut self, standbys: &dyn StandbyPositions) {
        self.standbys.clear();
        standbys.each(&mut |s| self.standbys.push(s.clone()));
        for standby in &self.standbys {
            if let Some(id) = &standby.instance {
                let known = self.members.entry((id.clone(), standby.term)).or_default();
                known.0 = known.0.max(standby.write);
                known.1 = known.1.max(standby.flush);
            }
        }
    }

    pub(crate) fn standbys(&self) -> &[StandbyPosition] {
        &self.standbys
    }

    pub(crate) fn limits(&self, policy: &ReleasePolicy) -> Limits {
        let local = self.flush;
        let (write, flush, apply) = match policy {
            ReleasePolicy::Closed => return Limits::default(),
            ReleasePolicy::Local => (local, local, local),
            ReleasePolicy::InSyncSet { required: 0, .. } => (local, local, local),
            ReleasePolicy::Names(names) => (
                names.reached(&self.standbys, |s| s.write),
                names.reached(&self.standbys, |s| s.flush),
                names.reached(&self.standbys, |s| s.apply),
            ),
            ReleasePolicy::InSyncSet {
                term,
                members,
                required,
                ..
            } => {
                let known = |id: &InstanceId| {
                    let of = (id.clone(), *term);
                    self.members.get(&of).copied().unwrap_or_default()
                };
                let applied = |id: &InstanceId| {
                    let mut of = self.standbys.iter();
                    of.find(|s| s.instance.as_ref() == Some(id) && s.term == *term)
                        .map_or(Lsn::INVALID, |s| s.apply)
                };
                let reached = |of: &dyn Fn(&InstanceId) -> Lsn| {
                    nth_highest(&mut members.iter().map(of).collect::<Vec<_>>(), *required)
                };
                (
                    reached(&|id| known(id).0),
                    reached(&|id| known(id).1),
                    reached(&applied),
                )
            }
        };
        Limits([
            Lsn::MAX,
            local,
            local.min(write),
            local.min(flush),
            local.min(flush).min(apply),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(bool, usize, Vec<String>)> {
        let names = SyncNames::parse(text).expect(text)?;
        Some((names.any, names.count, names.names))
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn names_parse_as_postgresqls() {
        assert_eq!(parse("  "), None);
        assert_eq!(parse("s1, s2"), Some((false, 1, names(&["s1", "s2"]))));
        assert_eq!(parse("2 (a, b)"), Some((false, 2, names(&["a", "b"]))));
        assert_eq!(parse("FIRST 3(*)"), Some((false, 3, names(&["*"]))));
        assert_eq!(
            parse("any 1 (\"a \"\"b\", 7)"),
            Some((true, 1, names(&["a \"b", "7"])))
        );
        assert_eq!(parse("first"), Some((false, 1, names(&["first"]))));
        for bad in [
            "a b",
            "2 a",
            "(a)",
            "ANY (a)",
            "2 (a",
            "2 ()",
            ",",
            "a,",
            "a-b",
            "\"a",
            "FIRST a (b)",
        ] {
            assert!(SyncNames::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(
            SyncNames::parse("0 (a)"),
            Err(SyncNamesError::CountNotPositive(0))
        );
    }

    fn standby(name: &str, flush: u64) -> StandbyPosition {
        StandbyPosition {
            application_name: name.to_owned(),
            instance: Some(InstanceId::new(name)),
            term: Term::new(2),
            write: Lsn::new(flush + 8),
            flush: Lsn::new(flush),
            apply: Lsn::new(flush - 8),
        }
    }

    fn flush_limit(policy: &ReleasePolicy, standbys: Vec<StandbyPosition>) -> u64 {
        let mut positions = Positions {
            flush: Lsn::new(1000),
            ..Positions::default()
        };
        positions.update(&standbys);
        positions.limits(policy).of(CommitLevel::On).raw()
    }

    #[test]
    fn first_waits_for_the_best_and_any_for_the_fastest() {
        let policy =
            |text| ReleasePolicy::Names(SyncNames::parse(text).expect("valid").expect("not empty"));
        let all = || vec![standby("c", 300), standby("a", 100), standby("B", 200)];
        assert_eq!(flush_limit(&policy("a, b"), all()), 100);
        assert_eq!(flush_limit(&policy("b, a"), all()), 200);
        assert_eq!(flush_limit(&policy("2 (c, b, a)"), all()), 200);
        assert_eq!(flush_limit(&policy("ANY 1 (a, b, c)"), all()), 300);
        assert_eq!(flush_limit(&policy("ANY 2 (a, b, c)"), all()), 200);
        assert_eq!(flush_limit(&policy("*"), all()), 300);
        assert_eq!(flush_limit(&policy("ANY 4 (*)"), all()), 0);
        assert_eq!(flush_limit(&policy("x"), all()), 0);
        assert_eq!(flush_limit(&policy("c"), vec![standby("c", 5000)]), 1000);
        let ReleasePolicy::Names(first) = policy("b, c") else {
            unreachable!("made from names")
        };
        let states: Vec<_> = first.states(&all()).into_iter().collect();
        assert_eq!(
            states,
            [
                (2, SyncState::Potential),
                (0, SyncState::Async),
                (1, SyncState::Sync)
            ]
        );
    }

    #[test]
    fn members_count_by_identity_and_keep_what_they_confirmed() {
        let set = |required| ReleasePolicy::InSyncSet {
            term: Term::new(2),
            counter: 1,
            members: vec![InstanceId::new("a"), InstanceId::new("b")],
            required,
        };
        let mut stranger = standby("a", 900);
        stranger.instance = None;
        assert_eq!(flush_limit(&set(1), vec![stranger, standby("b", 300)]), 300);
        let mut older = standby("a", 900);
        older.term = Term::new(1);
        assert_eq!(flush_limit(&set(1), vec![older, standby("b", 300)]), 300);
        assert_eq!(flush_limit(&set(2), vec![standby("b", 300)]), 0);
        // More than there are members: nothing is acknowledged.
        assert_eq!(
            flush_limit(&set(3), vec![standby("a", 900), standby("b", 300)]),
            0
        );
        assert_eq!(flush_limit(&set(0), vec![]), 1000);
        let mut positions = Positions {
            flush: Lsn::new(1000),
            ..Positions::default()
        };
        positions.update(&vec![standby("a", 500)]);
        positions.update(&vec![standby("b", 300)]);
        assert_eq!(positions.limits(&set(1)).of(CommitLevel::On), Lsn::new(500));
        assert_eq!(positions.limits(&set(2)).of(CommitLevel::On), Lsn::new(300));
        assert_eq!(
            positions.limits(&ReleasePolicy::Closed).highest(),
            Lsn::INVALID
        );
    }
}
