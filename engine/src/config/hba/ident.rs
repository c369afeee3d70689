//! `pg_ident.conf`: which outside names may come in as which roles, where a record of `pg_hba.conf` says `map=`.
//!
//! Manual, 21.2. Reading and matching are pure. Regular expressions are the `regex` crate's, so that none takes longer
//! than its input; what only PostgreSQL's dialect has (look-around, back references) is refused when the file is read.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;

use super::HbaError;
use super::parse::{Fault, Field, as_text, fault, fields_of, logical_lines};

#[derive(Debug, Clone)]
struct MapLine {
    map: String,
    outside: Outside,
    /// May hold `\1`, for what the expression's first group matched.
    role: String,
}

#[derive(Debug, Clone)]
enum Outside {
    Name(String),
    Pattern(Regex),
}

#[derive(Debug, Clone, Default)]
pub struct IdentMaps {
    lines: Arc<[MapLine]>,
}

/// Why nobody's name fits; for the log only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    #[error("provided user name ({role}) and authenticated user name ({outside}) do not match")]
    Different { role: String, outside: String },
    #[error("no match in usermap \"{map}\" for user \"{role}\" authenticated as \"{outside}\"")]
    NotInMap {
        map: String,
        role: String,
        outside: String,
    },
    #[error(
        "regular expression \"{pattern}\" has no subexpressions as requested by backreference in \"{role}\""
    )]
    NoGroup { pattern: String, role: String },
}

impl IdentMaps {
    /// Reads a whole file; any error means that none of it is used.
    pub fn parse(text: &[u8], path: &Path) -> Result<IdentMaps, Vec<HbaError>> {
        let mut lines = Vec::new();
        let mut errors = Vec::new();
        let folder = path.parent().unwrap_or(Path::new(""));
        for (number, line) in logical_lines(&as_text(text)) {
            let fields = match fields_of(&line, folder, 1) {
                Ok(fields) if fields.is_empty() => continue,
                other => other,
            };
            match fields.and_then(|f| map_line(&f)) {
                Ok(line) => lines.push(line),
                Err(f) => errors.push(HbaError {
                    line: number,
                    message: f.message,
                    hint: f.hint,
                    context: (!f.in_tokens).then(|| {
                        format!("line {number} of configuration file \"{}\"", path.display())
                    }),
                }),
            }
        }
        if errors.is_empty() {
            Ok(IdentMaps {
                lines: lines.into(),
            })
        } else {
            Err(errors)
        }
    }

    /// Whether somebody whom the world outside calls `outside` may come in as `role`. Without a map both are the same.
    pub fn check(&self, map: Option<&str>, role: &str, outside: &str) -> Result<(), NoMatch> {
        let Some(map) = map.filter(|m| !m.is_empty()) else {
            if role == outside {
                return Ok(());
            }
            return Err(NoMatch::Different {
                role: role.to_owned(),
                outside: outside.to_owned(),
            });
        };
        for line in self.lines.iter().filter(|l| l.map == map) {
            if line.lets_in(role, outside)? {
                return Ok(());
            }
        }
        Err(NoMatch::NotInMap {
            map: map.to_owned(),
            role: role.to_owned(),
            outside: outside.to_owned(),
        })
    }
}

impl MapLine {
    fn lets_in(&self, role: &str, outside: &str) -> Result<bool, NoMatch> {
        let pattern = match &self.outside {
            Outside::Name(name) => return Ok(name == outside && self.role == role),
            Outside::Pattern(pattern) => pattern,
        };
        let Some(found) = pattern.captures(outside) else {
            return Ok(false);
        };
        let Some((before, after)) = self.role.split_once("\\1") else {
            return Ok(self.role == role);
        };
        let group = found.get(1).ok_or_else(|| NoMatch::NoGroup {
            pattern: pattern.as_str().to_owned(),
            role: self.role.clone(),
        })?;
        Ok(format!("{before}{}{after}", group.as_str()) == role)
    }
}

fn map_line(fields: &[Field]) -> Result<MapLine, Fault> {
    let mut fields = fields.iter();
    let mut next = || match fields.next().map(Vec::as_slice) {
        None => Err(fault("missing entry at end of line")),
        Some([one]) => Ok(one.text.clone()),
        Some(_) => Err(fault("multiple values in ident field")),
    };
    let (map, outside, role) = (next()?, next()?, next()?);
    let outside = match outside.strip_prefix('/') {
        None => Outside::Name(outside),
        Some(pattern) => Outside::Pattern(Regex::new(pattern).map_err(|e| {
            let why = e.to_string().replace('\n', " ");
            fault(format!("invalid regular expression \"{pattern}\": {why}"))
        })?),
    };
    Ok(MapLine { map, outside, role })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r"
# MAPNAME  SYSTEM-USERNAME    PG-USERNAME
os         root               postgres
os         root               ann
certs      /^(.*)@here\.org$  \1
certs      /^boss             postgres
certs      bob                ann
broken     /^x$               \1
";

    fn maps() -> IdentMaps {
        IdentMaps::parse(FILE.as_bytes(), Path::new("/d/pg_ident.conf")).expect("it is right")
    }

    #[test]
    fn a_map_says_who_may_be_whom() {
        let maps = maps();
        for (map, role, outside, right) in [
            (None, "ann", "ann", true),
            (Some(""), "ann", "ann", true),
            (None, "ann", "bob", false),
            (Some("os"), "postgres", "root", true),
            (Some("os"), "ann", "root", true),
            (Some("os"), "root", "root", false),
            (Some("certs"), "eve", "eve@here.org", true),
            (Some("certs"), "eve", "bob@here.org", false),
            (Some("certs"), "postgres", "bosses", true),
            (Some("certs"), "ann", "bob", true),
            (Some("nowhere"), "ann", "ann", false),
        ] {
            assert_eq!(
                maps.check(map, role, outside).is_ok(),
                right,
                "{map:?} {role} {outside}"
            );
        }
        assert_eq!(
            maps.check(Some("broken"), "x", "x").map_err(|e| e.to_string()),
            Err("regular expression \"^x$\" has no subexpressions as requested by backreference in \"\\1\"".to_owned())
        );
        assert_eq!(
            maps.check(Some("os"), "eve", "eve")
                .map_err(|e| e.to_string()),
            Err("no match in usermap \"os\" for user \"eve\" authenticated as \"eve\"".to_owned())
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        let wrong = |text: &str| {
            IdentMaps::parse(text.as_bytes(), Path::new("/d/i"))
                .expect_err("wrong")
                .remove(0)
        };
        assert_eq!(wrong("a b").message, "missing entry at end of line");
        assert_eq!(wrong("a b,c d").message, "multiple values in ident field");
        let e = wrong("ok x y\na /( d");
        assert!(
            e.message.starts_with("invalid regular expression \"(\": "),
            "{e:?}"
        );
        assert_eq!(
            e.context.as_deref(),
            Some("line 2 of configuration file \"/d/i\"")
        );
    }
}
