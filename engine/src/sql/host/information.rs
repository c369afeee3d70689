//! Who and where: the session, its settings, its schemas, sizes, visibility, privileges.

use std::path::Path;
use std::sync::Arc;

use crate::catalog::relation::Relation;
use crate::catalog::rights::{Holder, READ_ALL_SETTINGS, READ_ALL_STATS};
use crate::catalog::view::CatalogView;
use crate::config::registry::registry;
use crate::config::{Asker, SettingError};
use crate::ids::{DEFAULT_TABLESPACE, Fork, GLOBAL_TABLESPACE, Oid, PAGE_SIZE, RelFile};
use crate::sql::host::describe::is_visible;
use crate::sql::host::encodings;
use crate::sql::host::environment::{Environment, to_type_error};
use crate::sql::host::{boolean, int, oid, text};
use crate::sql::pg_catalog::row::array;
use crate::types::acl::Privileges;
use crate::types::datum::{Datum, SqlType};
use crate::types::error::TypeError;
use crate::types::function::Function;
use crate::types::{codec, oids, opclass, operators, registry};

type Answer = Result<Datum, TypeError>;

pub(super) fn call(env: &Environment, function: &Function, args: &[Datum]) -> Option<Answer> {
    let facts = &env.facts;
    Some(match function.name {
        "version" => Ok(Datum::text(&format!(
            "PostgreSQL {} on {}-linux, 64-bit",
            crate::sql::SERVER_VERSION,
            std::env::consts::ARCH
        ))),
        "pg_jit_available" => Ok(Datum::Bool(false)),
        "current_user" => Ok(Datum::Text(Arc::clone(&facts.current_role().name))),
        "session_user" => Ok(Datum::Text(Arc::clone(&facts.roles.load().session.name))),
        "current_database" => Ok(Datum::Text(Arc::clone(&facts.database_name))),
        "current_query" => Ok(Datum::text(facts.backend.activity.lock().query.whole())),
        "pg_client_encoding" => setting(env, "client_encoding"),
        "getdatabaseencoding" => Ok(Datum::text("UTF8")),
        "pg_encoding_to_char" => Ok(Datum::text(encodings::name(int(args, 0)))),
        "pg_char_to_encoding" => Ok(Datum::Int4(encodings::number(text(args, 0)))),
        "current_schema" => env.with_catalog(|catalog| {
            let schema = catalog.creation_schema()?;
            let name = schema
                .map(|oid| catalog.schema_name(oid))
                .transpose()?
                .flatten();
            Ok(name.map_or(Datum::Null, |name| Datum::text(&name)))
        }),
        "current_schemas" => schemas(env, boolean(args, 0)),
        "pg_backend_pid" => Ok(Datum::Int4(
            i32::try_from(facts.backend.pid.get()).unwrap_or(i32::MAX),
        )),
        "pg_postmaster_start_time" => Ok(Datum::TimestampTz(env.instance.started_at)),
        "current_setting" => current_setting(env, args),
        "set_config" => set_config(env, args),
        "pg_get_userbyid" => user_name(env, oid(args, 0)),
        "pg_table_is_visible" => visible(env, oid(args, 0)),
        "pg_type_is_visible"
        | "pg_operator_is_visible"
        | "pg_opclass_is_visible"
        | "pg_opfamily_is_visible"
        | "pg_collation_is_visible"
        | "pg_function_is_visible" => Ok(built_in(function.name, oid(args, 0))),
        "pg_tablespace_location" => tablespace_location(oid(args, 0)),
        "pg_tablespace_size" => tablespace_size(env, args),
        "pg_relation_size" => relation_size(env, oid(args, 0), Parts::Heap),
        "pg_table_size" => relation_size(env, oid(args, 0), Parts::Table),
        "pg_indexes_size" => relation_size(env, oid(args, 0), Parts::Indexes),
        "pg_total_relation_size" => relation_size(env, oid(args, 0), Parts::All),
        "pg_database_size" => database_size(env, args),
        "format_type" => Ok(format_type(args)),
        _ => return None,
    })
}

fn setting(env: &Environment, name: &str) -> Answer {
    let is_secret = registry().find(name).is_some_and(|d| d.flags.secret);
    let privileged = is_secret && env.acts_as(READ_ALL_SETTINGS)?;
    match env.facts.show(name, privileged) {
        Ok((_, value)) => Ok(Datum::text(&value)),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: SettingError) -> TypeError {
    let mut out = TypeError::new(error.state, error.message);
    out.detail = error.detail;
    out.hint = error.hint;
    out
}

fn current_setting(env: &Environment, args: &[Datum]) -> Answer {
    match setting(env, text(args, 0)) {
        Err(error) if error.state == "42704" && boolean(args, 1) => Ok(Datum::Null),
        other => other,
    }
}

/// SET as a function. What describes the transaction or the user is more than a setting, and left to SET.
fn set_config(env: &Environment, args: &[Datum]) -> Answer {
    let name = match args.first() {
        Some(Datum::Text(name)) => name.to_ascii_lowercase(),
        _ => return Err(TypeError::new("22004", "SET requires parameter name")),
    };
    let for_statements_only = name.starts_with("transaction_")
        || matches!(name.as_str(), "role" | "session_authorization");
    if for_statements_only {
        let what = format!("set_config() of \"{name}\" is not implemented");
        return Err(TypeError::new("0A000", what).with_hint("Use SET."));
    }
    let asker = Asker::Session {
        superuser: env.is_superuser()?,
    };
    let local = boolean(args, 2);
    let changed = {
        let mut store = env.facts.settings.lock();
        match args.get(1) {
            Some(Datum::Text(value)) => store.set(&name, value, local, asker),
            _ => store.reset(&name, local, asker),
        }
    };
    changed.map_err(refused)?;
    let settings = env.facts.current_settings();
    env.facts.backend.socket.apply(settings.keep_alive);
    setting(env, &name)
}

fn schemas(env: &Environment, implicit: bool) -> Answer {
    env.with_catalog(|catalog| {
        let mut names = Vec::new();
        let settings = env.facts.current_settings();
        for oid in catalog.search_path()? {
            let Some(name) = catalog.schema_name(oid)? else {
                continue;
            };
            let named = settings.search_path.contains(&name);
            if implicit || name != "pg_catalog" || named {
                names.push(Datum::text(&name));
            }
        }
        Ok(array(oids::NAME, names))
    })
}

fn user_name(env: &Environment, role: Oid) -> Answer {
    env.with_catalog(|catalog| {
        let name = catalog.role(role)?.map(|r| r.name);
        Ok(Datum::text(
            &name.unwrap_or_else(|| format!("unknown (OID={role})")),
        ))
    })
}

/// Whether the bare name finds this relation and no other.
fn visible(env: &Environment, relation: Oid) -> Answer {
    env.with_catalog(|catalog| match catalog.relation(relation)? {
        Some(described) => Ok(Datum::Bool(is_visible(catalog, &described)?)),
        None => Ok(Datum::Null),
    })
}

/// What only the code makes stands in `pg_catalog`, which is always on the search path; NULL of what is not there.
fn built_in(function: &str, asked: Oid) -> Datum {
    let exists = match function {
        "pg_type_is_visible" => registry::by_oid(asked).is_some(),
        "pg_operator_is_visible" => operators::by_oid(asked).is_some(),
        "pg_opclass_is_visible" => opclass::by_oid(asked).is_some(),
        "pg_opfamily_is_visible" => opclass::FAMILIES.iter().any(|(oid, _)| *oid == asked.raw()),
        "pg_collation_is_visible" => COLLATIONS.contains(&asked.raw()),
        _ => codec::is_function(asked),
    };
    match exists {
        true => Datum::Bool(true),
        false => Datum::Null,
    }
}

/// `default`, `C`, `POSIX`
const COLLATIONS: [u32; 3] = [100, 950, 951];

#[derive(Clone, Copy, PartialEq)]
enum Parts {
    Heap,
    Table,
    Indexes,
    All,
}

fn relation_size(env: &Environment, relation: Oid, parts: Parts) -> Answer {
    let described = env.with_catalog(|catalog| catalog.relation(relation))?;
    let Some(described) = described else {
        return Ok(Datum::Null);
    };
    let bytes = size_of(env, &described, parts)?;
    Ok(Datum::Int8(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

fn size_of(env: &Environment, relation: &Relation, parts: Parts) -> Result<u64, TypeError> {
    let pool = &env.instance.store.pool;
    let fork_size = |file: RelFile, fork: Fork| {
        let blocks = pool
            .block_count(file, fork)
            .map_err(|e| to_type_error(e.into()))?;
        Ok::<u64, TypeError>(u64::from(blocks) * PAGE_SIZE as u64)
    };
    use crate::catalog::relation::RelationKind::{View, Virtual};
    if matches!(relation.kind, View | Virtual) {
        return Ok(0);
    }
    let mut bytes = 0;
    if parts != Parts::Indexes {
        bytes += fork_size(relation.file, Fork::Main)?;
    }
    if matches!(parts, Parts::Table | Parts::All) {
        bytes += fork_size(relation.file, Fork::FreeSpace)?;
        if let Some(overflow) = relation.overflow {
            bytes += fork_size(overflow, Fork::Main)?;
        }
    }
    if matches!(parts, Parts::Indexes | Parts::All) {
        for index in &relation.indexes {
            bytes += fork_size(index.file, Fork::Main)?;
        }
    }
    Ok(bytes)
}

fn database_size(env: &Environment, args: &[Datum]) -> Answer {
    let database = match args.first() {
        Some(Datum::Oid(oid)) => *oid,
        _ => {
            let name = text(args, 0);
            let found = env.with_catalog(|catalog| catalog.database_named(name))?;
            found.map(|d| d.oid).ok_or_else(|| {
                TypeError::new("3D000", format!("database \"{name}\" does not exist"))
            })?
        }
    };
    may_measure(env, database)?;
    let disk = &env.instance.store.disk;
    let dir = Path::new("base").join(database.to_string());
    let entries = disk.list(&dir).unwrap_or_default();
    let size = |name: &str| {
        let file = disk.open(&dir.join(name), crate::io::Access::Read);
        file.and_then(|f| f.len()).unwrap_or(0)
    };
    let bytes: u64 = entries.iter().map(|(name, _)| size(name)).sum();
    Ok(Datum::Int8(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// Both tablespaces are in the data directory; 0 is the database's own.
fn tablespace_location(space: Oid) -> Answer {
    match space {
        Oid::INVALID | DEFAULT_TABLESPACE | GLOBAL_TABLESPACE => Ok(Datum::text("")),
        other => {
            let what =
                format!("could not stat file \"pg_tblspc/{other}\": No such file or directory");
            Err(TypeError::new("58P01", what))
        }
    }
}

fn tablespace_size(env: &Environment, args: &[Datum]) -> Answer {
    let space = match args.first() {
        Some(Datum::Oid(oid)) => *oid,
        _ => match text(args, 0) {
            "pg_default" => DEFAULT_TABLESPACE,
            "pg_global" => GLOBAL_TABLESPACE,
            other => {
                let what = format!("tablespace \"{other}\" does not exist");
                return Err(TypeError::new("42704", what));
            }
        },
    };
    let disk = &env.instance.store.disk;
    let size = |dir: &Path| -> u64 {
        let entries = disk.list(dir).unwrap_or_default();
        let of = |name: &str| {
            let file = disk.open(&dir.join(name), crate::io::Access::Read);
            file.and_then(|f| f.len()).unwrap_or(0)
        };
        entries.iter().map(|(name, _)| of(name)).sum()
    };
    let bytes: u64 = match space {
        DEFAULT_TABLESPACE => {
            let databases = disk.list(Path::new("base")).unwrap_or_default();
            let dirs = databases
                .iter()
                .map(|(name, _)| Path::new("base").join(name));
            dirs.map(|dir| size(&dir)).sum()
        }
        GLOBAL_TABLESPACE if !env.acts_as(READ_ALL_STATS)? => {
            let what = "permission denied for tablespace pg_global";
            return Err(TypeError::new("42501", what));
        }
        GLOBAL_TABLESPACE => size(Path::new("global")),
        _ => return Ok(Datum::Null),
    };
    Ok(Datum::Int8(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// 42501 unless the session's role may connect to the database or read all statistics.
fn may_measure(env: &Environment, database: Oid) -> Result<(), TypeError> {
    let denied = env.with_catalog(|catalog| {
        let asker = Holder::asker(catalog)?;
        let Some(database) = catalog.database(database)? else {
            return Ok(None);
        };
        let may = asker.on_database(&database)?.contains(Privileges::CONNECT)
            || asker.acts_as(READ_ALL_STATS)?;
        Ok((!may).then_some(database.name))
    })?;
    match denied {
        None => Ok(()),
        Some(name) => {
            let message = format!("permission denied for database {name}");
            Err(TypeError::new("42501", message))
        }
    }
}

fn format_type(args: &[Datum]) -> Datum {
    match args.first() {
        None | Some(Datum::Null) => Datum::Null,
        _ => {
            let modifier = match args.get(1) {
                Some(Datum::Int4(modifier)) => *modifier,
                _ => -1,
            };
            Datum::text(&registry::format_type(SqlType {
                oid: oid(args, 0),
                modifier,
            }))
        }
    }
}
