//! `has_table_privilege` and its relatives, `pg_has_role`; the text form of `aclitem`. Manual, 9.26.2.
//!
//! Rights on functions, types and languages cannot be granted or revoked: everybody has them, but for functions that initdb
//! keeps from everybody, and only superusers may grant them on.

use std::sync::Arc;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rights::{Held, Holder, Kind, MONITOR};
use crate::catalog::schema::BOOTSTRAP_SUPERUSER;
use crate::catalog::view::{CatalogError, CatalogView};
use crate::ids::{DEFAULT_TABLESPACE, GLOBAL_TABLESPACE, Oid};
use crate::sql::bind;
use crate::sql::error::{SqlError, state};
use crate::sql::host::environment::Environment;
use crate::sql::host::names::class_named;
use crate::sql::host::{int, oid, text};
use crate::types::acl::{self, AclItem, Privileges};
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::error::TypeError;
use crate::types::function::{Function, Rows};
use crate::types::functions::{self, Execute};
use crate::types::record::Record;
use crate::types::{codec, oids, registry};

type Answer = Result<Datum, TypeError>;

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    let call = Call {
        env,
        function,
        args,
    };
    Some(match function.name {
        "has_table_privilege" => call.on_relation(TABLE, false),
        "has_any_column_privilege" => call.on_relation(COLUMN, false),
        "has_column_privilege" => call.on_column(),
        "has_sequence_privilege" => call.on_relation(SEQUENCE, true),
        "has_schema_privilege" => call.on_schema(),
        "has_database_privilege" => call.on_database(),
        "has_function_privilege" => call.on_function(),
        "has_type_privilege" => call.on_other(&["USAGE"], true, type_exists),
        "has_language_privilege" => call.on_other(&["USAGE"], true, |_| Ok(true)),
        "has_tablespace_privilege" => call.on_other(&["CREATE"], false, tablespace_exists),
        "has_parameter_privilege" => call.on_other(&["SET", "ALTER SYSTEM"], false, |_| Ok(true)),
        "has_foreign_data_wrapper_privilege" => call.on_other(&["USAGE"], false, |object| {
            is_none_of("foreign-data wrapper", object)
        }),
        "has_server_privilege" => {
            call.on_other(&["USAGE"], false, |object| is_none_of("server", object))
        }
        "pg_has_role" => call.has_role(),
        "aclitemin" => item_in(env, text(args, 0)),
        "aclitemout" => item_out(env, args),
        "acldefault" => default_list(args),
        _ => return None,
    })
}

pub(super) fn call_set(function: &Function, args: &[Datum]) -> Option<Result<Rows, TypeError>> {
    if function.name != "aclexplode" {
        return None;
    }
    let items = match args.first() {
        Some(Datum::Array(array)) if array.dimensions.len() != 1 => {
            let message = "ACL arrays must be one-dimensional";
            return Some(Err(TypeError::new("22023", message)));
        }
        Some(Datum::Array(array)) => array.items.clone(),
        _ => Vec::new(),
    };
    if items.iter().any(Datum::is_null) {
        let message = "ACL arrays must not contain null values";
        return Some(Err(TypeError::new("22004", message)));
    }
    let types = function.out_types();
    let rows = items.into_iter().flat_map(move |item| match item {
        Datum::AclItem(item) => exploded(&types, item),
        _ => Vec::new(),
    });
    Some(Ok(Box::new(rows.map(Ok))))
}

/// A row for each privilege of an item.
fn exploded(types: &Arc<[Oid]>, item: AclItem) -> Vec<Datum> {
    let row = |(one, word): (Privileges, &str)| {
        let fields = vec![
            Datum::Oid(item.grantor),
            Datum::Oid(item.grantee),
            Datum::text(word),
            Datum::Bool(item.grantable.contains(one)),
        ];
        Record::new(types, fields).into()
    };
    item.privileges.each().map(row).collect()
}

/// `acldefault`: what an object of the kind begins with.
fn default_list(args: &[Datum]) -> Answer {
    let owner = oid(args, 1);
    let letter = match args.first() {
        Some(Datum::Char(letter)) => *letter,
        _ => 0,
    };
    let (of_everybody, of_owner) = match letter {
        b'r' => return Ok(list(&Kind::Table.default_acl(owner))),
        b's' => return Ok(list(&Kind::Sequence.default_acl(owner))),
        b'd' => return Ok(list(&Kind::Database.default_acl(owner))),
        b'n' => return Ok(list(&Kind::Schema.default_acl(owner))),
        b'c' => return Ok(list(&[])),
        b'f' => (Privileges::EXECUTE, Privileges::EXECUTE),
        b'l' | b'T' => (Privileges::USAGE, Privileges::USAGE),
        b'L' => (Privileges::NONE, Privileges::SELECT.and(Privileges::UPDATE)),
        b'p' => (
            Privileges::NONE,
            Privileges::SET.and(Privileges::ALTER_SYSTEM),
        ),
        b't' => (Privileges::NONE, Privileges::CREATE),
        b'F' | b'S' => (Privileges::NONE, Privileges::USAGE),
        other => {
            let what = format!("unrecognized objtype abbreviation: {}", char::from(other));
            return Err(TypeError::new("XX000", what));
        }
    };
    let to = |grantee, privileges| AclItem {
        grantee,
        grantor: owner,
        privileges,
        grantable: Privileges::NONE,
    };
    let mut items = Vec::with_capacity(2);
    if !of_everybody.is_none() {
        items.push(to(Oid::INVALID, of_everybody));
    }
    items.push(to(owner, of_owner));
    Ok(list(&items))
}

fn list(items: &[AclItem]) -> Datum {
    let items = items.iter().map(|i| Datum::AclItem(*i)).collect();
    Datum::Array(Arc::new(Array::of(oids::ACLITEM, items)))
}

/// As a superuser, or a member of the role that initdb makes.
fn owns_system_objects(holder: &Holder<'_>) -> Result<bool, CatalogError> {
    holder.acts_as(BOOTSTRAP_SUPERUSER)
}

fn type_exists(object: &Datum) -> Result<bool, TypeError> {
    match object {
        Datum::Text(name) => registry::parse_type_name(name).map(|_| true),
        Datum::Oid(oid) => Ok(registry::by_oid(*oid).is_some()),
        _ => Ok(false),
    }
}

/// Of kinds that nobody can make.
fn is_none_of(kind: &str, object: &Datum) -> Result<bool, TypeError> {
    match object {
        Datum::Text(name) => {
            let what = format!("{kind} \"{name}\" does not exist");
            Err(TypeError::new("42704", what))
        }
        _ => Ok(false),
    }
}

fn tablespace_exists(object: &Datum) -> Result<bool, TypeError> {
    match object {
        Datum::Text(name) if matches!(&**name, "pg_default" | "pg_global") => Ok(true),
        Datum::Text(name) => {
            let what = format!("tablespace \"{name}\" does not exist");
            Err(TypeError::new("42704", what))
        }
        Datum::Oid(oid) => Ok([DEFAULT_TABLESPACE, GLOBAL_TABLESPACE].contains(oid)),
        _ => Ok(false),
    }
}

const TABLE: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "REFERENCES",
    "TRIGGER",
    "RULE",
];
/// Their attribute numbers.
const SYSTEM_COLUMNS: std::ops::RangeInclusive<i64> = -6..=-1;
const COLUMN: &[&str] = &["SELECT", "INSERT", "UPDATE", "REFERENCES"];
const SEQUENCE: &[&str] = &["USAGE", "SELECT", "UPDATE"];
const SCHEMA: &[&str] = &["CREATE", "USAGE"];
const DATABASE: &[&str] = &["CREATE", "TEMPORARY", "TEMP", "CONNECT"];

/// Whose rights are asked for.
enum Whose {
    Public,
    Role(Oid),
}

impl Whose {
    fn holder<'v>(&self, view: &'v dyn CatalogView) -> Result<Holder<'v>, CatalogError> {
        match self {
            Whose::Role(role) if role.is_valid() => Holder::new(view, *role),
            _ => Ok(Holder::everybody(view)),
        }
    }
}

/// One of the privileges of a list, any of which is enough.
struct Asked<'a> {
    word: &'a str,
    with_option: bool,
}

struct Call<'c> {
    env: &'c Environment,
    function: &'c Function,
    args: &'c [Datum],
}

impl Call<'_> {
    /// A role may stand in front of `behind` arguments.
    fn whose(&self, behind: usize) -> Result<Whose, TypeError> {
        if self.args.len() == behind {
            return Ok(Whose::Role(self.env.facts.current_role().oid));
        }
        if self.function.args[0] != oids::NAME {
            return Ok(Whose::Role(oid(self.args, 0)));
        }
        match text(self.args, 0) {
            "public" => Ok(Whose::Public),
            name => role_named(self.env, name).map(Whose::Role),
        }
    }

    /// The last argument's privileges.
    fn asked(&self, known: &'static [&'static str]) -> Result<Vec<Asked<'static>>, TypeError> {
        let list = text(self.args, self.args.len() - 1);
        list.split(',').map(|word| asked(word, known)).collect()
    }

    /// The relation of an argument; `None`: there is none of that number.
    fn relation(&self, at: usize) -> Result<Option<Arc<Relation>>, TypeError> {
        let oid = match self.function.args[at] {
            oids::TEXT => match class_named(self.env, text(self.args, at))? {
                Datum::Oid(oid) => oid,
                _ => return Ok(None),
            },
            _ => oid(self.args, at),
        };
        self.env.with_catalog(|catalog| catalog.relation(oid))
    }

    fn on_relation(&self, known: &'static [&'static str], sequence: bool) -> Answer {
        let whose = self.whose(2)?;
        let relation = self.relation(self.args.len() - 2)?;
        let asked = self.asked(known)?;
        let Some(relation) = relation else {
            return Ok(Datum::Null);
        };
        if sequence && relation.kind != RelationKind::Sequence {
            let message = format!("\"{}\" is not a sequence", relation.name);
            return Err(TypeError::new("42809", message));
        }
        self.answer(&whose, &asked, |holder| {
            Ok(Held {
                privileges: holder.on_relation(&relation)?,
                ..holder.held(&*relation)?
            })
        })
    }

    fn on_column(&self) -> Answer {
        let whose = self.whose(3)?;
        let at = self.args.len() - 2;
        let relation = self.relation(at - 1)?;
        let Some(relation) = relation else {
            return Ok(Datum::Null);
        };
        let kind = relation.kind;
        let has_system_columns = matches!(kind, RelationKind::Table | RelationKind::Sequence);
        if self.function.args[at] == oids::TEXT {
            let name = text(self.args, at);
            let of_system = has_system_columns && bind::system_column(name).is_some();
            if relation.column_named(name).is_none() && !of_system {
                let message = format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    relation.name
                );
                return Err(TypeError::new("42703", message));
            }
        } else {
            let number = int(self.args, at);
            let of_system = has_system_columns && SYSTEM_COLUMNS.contains(&number);
            let mut own = relation.live_columns();
            let there = of_system || own.any(|(_, c)| i64::from(c.attribute) == number);
            if !there {
                return Ok(Datum::Null);
            }
        }
        let asked = self.asked(COLUMN)?;
        self.answer(&whose, &asked, |holder| {
            Ok(Held {
                privileges: holder.on_relation(&relation)?,
                ..holder.held(&*relation)?
            })
        })
    }

    fn on_schema(&self) -> Answer {
        let whose = self.whose(2)?;
        let at = self.args.len() - 2;
        let found = self.env.with_catalog(|catalog| {
            let oid = match self.function.args[at] {
                oids::TEXT => catalog.schema_named(text(self.args, at))?,
                _ => Some(oid(self.args, at)),
            };
            oid.map_or(Ok(None), |oid| catalog.schema(oid))
        })?;
        let asked = self.asked(SCHEMA)?;
        let Some(schema) = found else {
            return self.missing(at, "3F000", "schema");
        };
        self.answer(&whose, &asked, |holder| {
            Ok(Held {
                privileges: holder.on_schema(&schema)?,
                ..holder.held(&*schema)?
            })
        })
    }

    fn on_database(&self) -> Answer {
        let whose = self.whose(2)?;
        let at = self.args.len() - 2;
        let found = self
            .env
            .with_catalog(|catalog| match self.function.args[at] {
                oids::TEXT => catalog.database_named(text(self.args, at)),
                _ => catalog.database(oid(self.args, at)),
            })?;
        let asked = self.asked(DATABASE)?;
        let Some(database) = found else {
            return self.missing(at, "3D000", "database");
        };
        self.answer(&whose, &asked, |holder| holder.held(&database))
    }

    /// A name must exist, a number may not.
    fn missing(&self, at: usize, code: &'static str, what: &str) -> Answer {
        if self.function.args[at] != oids::TEXT {
            return Ok(Datum::Null);
        }
        let name = text(self.args, at);
        Err(TypeError::new(
            code,
            format!("{what} \"{name}\" does not exist"),
        ))
    }

    /// Rights on functions are those that initdb gives.
    fn on_function(&self) -> Answer {
        let whose = self.whose(2)?;
        let function = match &self.args[self.args.len() - 2] {
            Datum::Text(signature) => codec::signature(signature)?,
            _ => oid(self.args, self.args.len() - 2),
        };
        let asked = self.asked(&["EXECUTE"])?;
        if !codec::is_function(function) {
            return Ok(Datum::Null);
        }
        let plain = asked.iter().any(|a| !a.with_option);
        self.env.with_catalog(|catalog| {
            let holder = whose.holder(catalog)?;
            let may = match functions::facts(function).execute {
                _ if owns_system_objects(&holder)? => true,
                Execute::Everybody => plain,
                Execute::Owner => false,
                Execute::Monitor => plain && holder.acts_as(MONITOR)?,
            };
            Ok(Datum::Bool(may))
        })
    }

    /// Of objects whose rights cannot be changed. `exists` is an error for a name that nothing has, and false for a number.
    fn on_other(
        &self,
        known: &'static [&'static str],
        everybody: bool,
        exists: fn(&Datum) -> Result<bool, TypeError>,
    ) -> Answer {
        let whose = self.whose(2)?;
        let exists = exists(&self.args[self.args.len() - 2])?;
        let asked = self.asked(known)?;
        if !exists {
            return Ok(Datum::Null);
        }
        let owns = self
            .env
            .with_catalog(|catalog| owns_system_objects(&whose.holder(catalog)?))?;
        let open = everybody && asked.iter().any(|a| !a.with_option);
        Ok(Datum::Bool(open || owns))
    }

    fn answer(
        &self,
        whose: &Whose,
        asked: &[Asked<'_>],
        held: impl FnOnce(&Holder<'_>) -> Result<Held, CatalogError>,
    ) -> Answer {
        let held = self
            .env
            .with_catalog(|catalog| held(&whose.holder(catalog)?))?;
        let has = |a: &Asked<'_>| {
            let of = if a.with_option {
                held.grantable
            } else {
                held.privileges
            };
            Privileges::named(a.word).is_some_and(|one| of.contains(one))
        };
        Ok(Datum::Bool(asked.iter().any(has)))
    }

    fn has_role(&self) -> Answer {
        let member = match self.args.len() {
            2 => self.env.facts.current_role().oid,
            _ => self.role_argument(0)?,
        };
        let role = self.role_argument(self.args.len() - 2)?;
        let asked = self.asked(&["USAGE", "MEMBER"])?;
        self.env.with_catalog(|catalog| {
            let holder = Whose::Role(member).holder(catalog)?;
            for one in &asked {
                let has = match (one.with_option, one.word) {
                    (true, _) => holder.is_admin_of(role)?,
                    (false, "MEMBER") => holder.may_become(role)?,
                    (false, _) => holder.acts_as(role)?,
                };
                if has {
                    return Ok(Datum::Bool(true));
                }
            }
            Ok(Datum::Bool(false))
        })
    }

    fn role_argument(&self, at: usize) -> Result<Oid, TypeError> {
        match self.function.args[at] {
            oids::NAME => role_named(self.env, text(self.args, at)),
            _ => Ok(oid(self.args, at)),
        }
    }
}

/// `convert_any_priv_string`
fn asked(word: &str, known: &'static [&'static str]) -> Result<Asked<'static>, TypeError> {
    let word = word.trim();
    let upper = word.to_ascii_uppercase();
    let mut plain = upper.as_str();
    for option in [" WITH GRANT OPTION", " WITH ADMIN OPTION"] {
        plain = plain.strip_suffix(option).unwrap_or(plain);
    }
    let of_a_role = known.contains(&"MEMBER");
    let allowed = of_a_role || !upper.ends_with(" WITH ADMIN OPTION");
    match known.iter().find(|k| **k == plain) {
        Some(word) if allowed => Ok(Asked {
            word,
            with_option: plain.len() < upper.len(),
        }),
        _ => Err(TypeError::new(
            "22023",
            format!("unrecognized privilege type: \"{word}\""),
        )),
    }
}

fn role_named(env: &Environment, name: &str) -> Result<Oid, TypeError> {
    let found = env.with_catalog(|catalog| catalog.role_named(name))?;
    found
        .map(|role| role.oid)
        .ok_or_else(|| TypeError::new("42704", format!("role \"{name}\" does not exist")))
}

fn item_in(env: &Environment, text: &str) -> Answer {
    let written = acl::parse(text)?;
    let grantee = match written.grantee.as_str() {
        "" => Oid::INVALID,
        name => role_named(env, name)?,
    };
    let grantor = match &written.grantor {
        Some(name) => role_named(env, name)?,
        None => {
            env.facts.notices.push(SqlError::warning(
                state::INVALID_GRANTOR,
                format!("defaulting grantor to user ID {BOOTSTRAP_SUPERUSER}"),
            ));
            BOOTSTRAP_SUPERUSER
        }
    };
    Ok(Datum::AclItem(AclItem {
        grantee,
        grantor,
        privileges: written.privileges,
        grantable: written.grantable,
    }))
}

/// Roles that are gone are shown by their numbers.
fn item_out(env: &Environment, args: &[Datum]) -> Answer {
    let Some(Datum::AclItem(item)) = args.first() else {
        return Ok(Datum::Null);
    };
    env.with_catalog(|catalog| {
        let mut names = Vec::with_capacity(2);
        for role in [item.grantee, item.grantor] {
            let known = catalog.role(role)?.map(|r| r.name);
            names.push((role, known.unwrap_or_else(|| role.to_string())));
        }
        let name = |role| {
            let found = names.iter().find(|(oid, _)| *oid == role);
            found.map_or_else(String::new, |(_, name)| name.clone())
        };
        Ok(Datum::text(&item.show(name)))
    })
}
