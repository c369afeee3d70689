//! `aclitem`: what one role was granted on one object, and by whom. Manual, 5.7.
//!
//! The privileges and their letters are PostgreSQL's, those of kinds of objects that are not here included, so that
//! whatever PostgreSQL prints reads back. What an object's list of items means to a role is the catalog's business
//! (`catalog::rights`); here it is a value with a text form.

use crate::ids::Oid;
use crate::types::error::TypeError;

/// A set of privileges, one bit each (`AclMode`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Privileges(u16);

impl Privileges {
    pub const NONE: Privileges = Privileges(0);
    pub const INSERT: Privileges = Privileges(1 << 0);
    pub const SELECT: Privileges = Privileges(1 << 1);
    pub const UPDATE: Privileges = Privileges(1 << 2);
    pub const DELETE: Privileges = Privileges(1 << 3);
    pub const TRUNCATE: Privileges = Privileges(1 << 4);
    pub const REFERENCES: Privileges = Privileges(1 << 5);
    pub const TRIGGER: Privileges = Privileges(1 << 6);
    pub const EXECUTE: Privileges = Privileges(1 << 7);
    pub const USAGE: Privileges = Privileges(1 << 8);
    pub const CREATE: Privileges = Privileges(1 << 9);
    pub const TEMPORARY: Privileges = Privileges(1 << 10);
    pub const CONNECT: Privileges = Privileges(1 << 11);
    pub const SET: Privileges = Privileges(1 << 12);
    pub const ALTER_SYSTEM: Privileges = Privileges(1 << 13);

    /// Everything that can be granted on a table.
    pub const OF_TABLE: Privileges = Privileges(0x7F);
    /// What of it can be granted on single columns.
    pub const OF_COLUMN: Privileges = Privileges::INSERT
        .and(Privileges::SELECT)
        .and(Privileges::UPDATE)
        .and(Privileges::REFERENCES);
    pub const OF_SEQUENCE: Privileges = Privileges::USAGE
        .and(Privileges::SELECT)
        .and(Privileges::UPDATE);
    pub const OF_DATABASE: Privileges = Privileges::CREATE
        .and(Privileges::TEMPORARY)
        .and(Privileges::CONNECT);
    pub const OF_SCHEMA: Privileges = Privileges::CREATE.and(Privileges::USAGE);

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Privileges) -> Privileges {
        Privileges(self.0 | other.0)
    }
    /// What both have.
    #[must_use]
    pub const fn common(self, other: Privileges) -> Privileges {
        Privileges(self.0 & other.0)
    }
    #[must_use]
    pub const fn without(self, other: Privileges) -> Privileges {
        Privileges(self.0 & !other.0)
    }
    pub const fn contains(self, other: Privileges) -> bool {
        self.0 & other.0 == other.0
    }
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
    pub const fn bits(self) -> u16 {
        self.0
    }
    pub const fn from_bits(bits: u16) -> Privileges {
        Privileges(bits)
    }

    /// One by one, in the order of the bits, with the keyword of each.
    pub fn each(self) -> impl Iterator<Item = (Privileges, &'static str)> {
        KINDS
            .iter()
            .filter(move |(one, _, _)| self.contains(*one))
            .map(|(one, _, word)| (*one, *word))
    }

    /// By its keyword, in any case.
    pub fn named(word: &str) -> Option<Privileges> {
        if word.eq_ignore_ascii_case("temp") {
            return Some(Privileges::TEMPORARY);
        }
        let found = KINDS.iter().find(|(_, _, w)| w.eq_ignore_ascii_case(word));
        found.map(|(one, _, _)| *one)
    }
}

/// Each privilege, its letter in an `aclitem` and its keyword, in the order in which they are printed.
const KINDS: [(Privileges, char, &str); 14] = [
    (Privileges::INSERT, 'a', "INSERT"),
    (Privileges::SELECT, 'r', "SELECT"),
    (Privileges::UPDATE, 'w', "UPDATE"),
    (Privileges::DELETE, 'd', "DELETE"),
    (Privileges::TRUNCATE, 'D', "TRUNCATE"),
    (Privileges::REFERENCES, 'x', "REFERENCES"),
    (Privileges::TRIGGER, 't', "TRIGGER"),
    (Privileges::EXECUTE, 'X', "EXECUTE"),
    (Privileges::USAGE, 'U', "USAGE"),
    (Privileges::CREATE, 'C', "CREATE"),
    (Privileges::TEMPORARY, 'T', "TEMPORARY"),
    (Privileges::CONNECT, 'c', "CONNECT"),
    (Privileges::SET, 's', "SET"),
    (Privileges::ALTER_SYSTEM, 'A', "ALTER SYSTEM"),
];

/// What `grantor` has granted to `grantee`; `Oid::INVALID` as the grantee is PUBLIC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AclItem {
    pub grantee: Oid,
    pub grantor: Oid,
    pub privileges: Privileges,
    /// Those that the grantee may grant on; kept apart from `privileges`, as in PostgreSQL.
    pub grantable: Privileges,
}

/// Bytes of an item: grantee, grantor, grantable and plain privileges, all little-endian.
pub const WIDTH: usize = 12;

impl AclItem {
    pub fn to_bytes(self) -> [u8; WIDTH] {
        let mut out = [0; WIDTH];
        out[..4].copy_from_slice(&self.grantee.raw().to_le_bytes());
        out[4..8].copy_from_slice(&self.grantor.raw().to_le_bytes());
        out[8..10].copy_from_slice(&self.privileges.bits().to_le_bytes());
        out[10..].copy_from_slice(&self.grantable.bits().to_le_bytes());
        out
    }

    pub fn from_bytes(bytes: [u8; WIDTH]) -> AclItem {
        let [a, b, c, d, e, f, g, h, p, q, r, s] = bytes;
        AclItem {
            grantee: Oid::new(u32::from_le_bytes([a, b, c, d])),
            grantor: Oid::new(u32::from_le_bytes([e, f, g, h])),
            privileges: Privileges::from_bits(u16::from_le_bytes([p, q])),
            grantable: Privileges::from_bits(u16::from_le_bytes([r, s])),
        }
    }

    /// `grantee=privileges/grantor`, a star behind what may be granted on. `name` names a role.
    pub fn show(self, name: impl Fn(Oid) -> String) -> String {
        let mut out = String::new();
        if self.grantee.is_valid() {
            out.push_str(&quoted(&name(self.grantee)));
        }
        out.push('=');
        for (one, letter, _) in KINDS {
            if self.privileges.contains(one) {
                out.push(letter);
            }
            if self.grantable.contains(one) {
                out.push('*');
            }
        }
        out.push('/');
        out.push_str(&quoted(&name(self.grantor)));
        out
    }
}

/// `putid`: in double quotes unless it is made of ASCII letters, digits and underscores.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An item as it is written, its roles not looked up yet.
#[derive(Debug, PartialEq, Eq)]
pub struct WrittenItem {
    /// Empty: PUBLIC.
    pub grantee: String,
    /// `None`: nobody is named; PostgreSQL takes the bootstrap superuser, and warns.
    pub grantor: Option<String>,
    pub privileges: Privileges,
    pub grantable: Privileges,
}

fn malformed(message: String) -> TypeError {
    TypeError::new("22P02", message)
}

/// `aclparse`
pub fn parse(text: &str) -> Result<WrittenItem, TypeError> {
    let (mut name, mut rest) = identifier(text)?;
    if !rest.starts_with('=') {
        if name != "group" && name != "user" {
            return Err(malformed(format!("unrecognized key word: \"{name}\""))
                .with_hint("ACL key word must be \"group\" or \"user\"."));
        }
        (name, rest) = identifier(rest)?;
        if name.is_empty() {
            return Err(malformed("missing name".to_owned())
                .with_hint("A name must follow the \"group\" or \"user\" key word."));
        }
    }
    let Some(mut rest) = rest.strip_prefix('=') else {
        return Err(malformed("missing \"=\" sign".to_owned()));
    };
    let (mut privileges, mut grantable) = (Privileges::NONE, Privileges::NONE);
    let mut last = Privileges::NONE;
    while let Some(c) = rest
        .chars()
        .next()
        .filter(|c| *c == '*' || c.is_ascii_alphabetic())
    {
        rest = &rest[1..];
        if c == '*' {
            grantable = grantable.and(last);
            continue;
        }
        let Some((one, _, _)) = KINDS.iter().find(|(_, letter, _)| *letter == c) else {
            let letters: String = KINDS.iter().map(|(_, letter, _)| letter).collect();
            return Err(malformed(format!(
                "invalid mode character: must be one of \"{letters}\""
            )));
        };
        last = *one;
        privileges = privileges.and(last);
    }
    let mut grantor = None;
    if let Some(behind) = rest.strip_prefix('/') {
        let (name, behind) = identifier(behind)?;
        if name.is_empty() {
            return Err(malformed("a name must follow the \"/\" sign".to_owned()));
        }
        grantor = Some(name);
        rest = behind;
    }
    if !rest.trim_start().is_empty() {
        return Err(malformed(
            "extra garbage at the end of the ACL specification".to_owned(),
        ));
    }
    Ok(WrittenItem {
        grantee: name,
        grantor,
        privileges,
        grantable,
    })
}

/// `getid`: a name at the front, in quotes or not, and what follows it.
fn identifier(text: &str) -> Result<(String, &str), TypeError> {
    let text = text.trim_start();
    let (mut name, mut quoted) = (String::new(), false);
    let mut chars = text.char_indices().peekable();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        if c == '"' {
            // Two in a row within quotes are one.
            if quoted && chars.peek().is_some_and(|(_, c)| *c == '"') {
                chars.next();
                name.push('"');
            } else {
                quoted = !quoted;
            }
        } else if quoted || c.is_alphanumeric() || c == '_' {
            name.push(c);
        } else {
            end = at;
            break;
        }
    }
    if name.len() > 63 {
        return Err(TypeError::new("42622", "identifier too long")
            .with_detail("Identifier must be less than 64 characters."));
    }
    Ok((name, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(privileges: Privileges, grantable: Privileges) -> AclItem {
        AclItem {
            grantee: Oid::new(16384),
            grantor: Oid::new(10),
            privileges,
            grantable,
        }
    }

    fn named(oid: Oid) -> String {
        match oid.raw() {
            10 => "postgres".to_owned(),
            16384 => "Web user".to_owned(),
            other => other.to_string(),
        }
    }

    #[test]
    fn items_print_as_postgresql_prints_them() {
        let all = item(Privileges::OF_TABLE, Privileges::SELECT);
        assert_eq!(all.show(named), "\"Web user\"=ar*wdDxt/postgres");
        let public = AclItem {
            grantee: Oid::INVALID,
            ..item(Privileges::OF_DATABASE, Privileges::NONE)
        };
        assert_eq!(public.show(named), "=CTc/postgres");
    }

    #[test]
    fn what_is_printed_reads_back() {
        let all = item(Privileges::OF_TABLE, Privileges::SELECT);
        let read = parse(&all.show(named)).expect("as it was printed");
        assert_eq!(read.grantee, "Web user");
        assert_eq!(read.grantor.as_deref(), Some("postgres"));
        assert_eq!(read.privileges, all.privileges);
        assert_eq!(read.grantable, all.grantable);
        assert_eq!(AclItem::from_bytes(all.to_bytes()), all);
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for (text, message) in [
            ("bob", "unrecognized key word: \"bob\""),
            ("group /a=r/a", "missing name"),
            (
                "bob=q/a",
                "invalid mode character: must be one of \"arwdDxtXUCTcsA\"",
            ),
            ("bob=r/", "a name must follow the \"/\" sign"),
            (
                "bob=r/a b",
                "extra garbage at the end of the ACL specification",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text).message, message);
        }
    }

    #[test]
    fn privileges_are_found_by_their_keywords() {
        assert_eq!(Privileges::named("select"), Some(Privileges::SELECT));
        assert_eq!(Privileges::named("TEMP"), Some(Privileges::TEMPORARY));
        assert_eq!(Privileges::named("rule"), None);
        let words: Vec<&str> = Privileges::OF_SEQUENCE.each().map(|(_, w)| w).collect();
        assert_eq!(words, ["SELECT", "UPDATE", "USAGE"]);
    }
}
