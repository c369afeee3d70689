//! What a role may do with an object: memberships, and what a list of grants means to a role. Manual, 5.7 and 22.3.
//!
//! Nothing here changes anything. An object without a list has its kind's built-in one. Superusers may do everything;
//! so may the server itself, which asks as no role at all. Answers come from the asker's view of the catalog, so that
//! they are as new as the view is, on a standby too.

use std::sync::Arc;

use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::schema::PG_CATALOG;
use crate::catalog::view::{CatalogError, CatalogView, Database, Schema};
use crate::ids::Oid;
use crate::types::acl::{AclItem, Privileges};

type Result<T> = std::result::Result<T, CatalogError>;

/// `datacl`, `nspacl`, `relacl`; `None` is the kind's built-in list.
pub type Acl = Option<Arc<[AclItem]>>;

/// The role whose only member is the owner of the database that one is in.
pub const DATABASE_OWNER: Oid = Oid::new(6171);
const READ_ALL_DATA: Oid = Oid::new(6181);
const WRITE_ALL_DATA: Oid = Oid::new(6182);
pub const READ_ALL_SETTINGS: Oid = Oid::new(3374);
pub const READ_ALL_STATS: Oid = Oid::new(3375);
/// `pg_monitor`
pub const MONITOR: Oid = Oid::new(3373);
pub const CHECKPOINT: Oid = Oid::new(4544);
pub const SIGNAL_BACKEND: Oid = Oid::new(4200);

/// What privileges can be granted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    Sequence,
    Database,
    Schema,
}

impl Kind {
    /// Everything that can be granted on it.
    pub const fn all(self) -> Privileges {
        match self {
            Kind::Table => Privileges::OF_TABLE,
            Kind::Sequence => Privileges::OF_SEQUENCE,
            Kind::Database => Privileges::OF_DATABASE,
            Kind::Schema => Privileges::OF_SCHEMA,
        }
    }

    /// What everybody may do where nothing was granted or revoked.
    const fn of_everybody(self) -> Privileges {
        match self {
            Kind::Database => Privileges::TEMPORARY.and(Privileges::CONNECT),
            Kind::Table | Kind::Sequence | Kind::Schema => Privileges::NONE,
        }
    }

    /// The list that an object without one has (`acldefault`).
    pub fn default_acl(self, owner: Oid) -> Vec<AclItem> {
        let to = |grantee, privileges| AclItem {
            grantee,
            grantor: owner,
            privileges,
            grantable: Privileges::NONE,
        };
        let mut items = Vec::with_capacity(2);
        if !self.of_everybody().is_none() {
            items.push(to(Oid::INVALID, self.of_everybody()));
        }
        items.push(to(owner, self.all()));
        items
    }
}

/// An object as far as rights go.
#[derive(Debug, Clone, Copy)]
pub struct Guarded<'a> {
    pub kind: Kind,
    pub owner: Oid,
    pub acl: Option<&'a [AclItem]>,
}

impl<'a> From<&'a Relation> for Guarded<'a> {
    fn from(relation: &'a Relation) -> Guarded<'a> {
        Guarded {
            kind: match relation.kind {
                RelationKind::Sequence => Kind::Sequence,
                _ => Kind::Table,
            },
            owner: relation.owner,
            acl: relation.acl.as_deref(),
        }
    }
}

impl<'a> From<&'a Schema> for Guarded<'a> {
    fn from(schema: &'a Schema) -> Guarded<'a> {
        Guarded {
            kind: Kind::Schema,
            owner: schema.owner,
            acl: schema.acl.as_deref(),
        }
    }
}

impl<'a> From<&'a Database> for Guarded<'a> {
    fn from(database: &'a Database) -> Guarded<'a> {
        Guarded {
            kind: Kind::Database,
            owner: database.owner,
            acl: database.acl.as_deref(),
        }
    }
}

/// What somebody has on an object, and what of it may be granted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    pub privileges: Privileges,
    pub grantable: Privileges,
}

impl Held {
    fn add(&mut self, item: &AclItem) {
        self.privileges = self.privileges.and(item.privileges);
        self.grantable = self.grantable.and(item.grantable);
    }
}

/// A list's items for whom `counts` says yes; PUBLIC's always count (`aclmask`). `owns`: as the owner, who may grant
/// everything whatever the list says.
pub fn held(
    object: Guarded<'_>,
    owns: bool,
    counts: &mut dyn FnMut(Oid) -> Result<bool>,
) -> Result<Held> {
    let mut found = Held::default();
    if owns {
        found.grantable = object.kind.all();
    }
    let default;
    let items = match object.acl {
        Some(items) => items,
        None => {
            default = object.kind.default_acl(object.owner);
            &default
        }
    };
    for item in items {
        if !item.grantee.is_valid() || counts(item.grantee)? {
            found.add(item);
        }
    }
    Ok(found)
}

/// Which memberships count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    /// Those by which rights are inherited: not those of roles with NOINHERIT.
    Inheritance,
    All,
}

/// The roles that `member` is, itself first (`roles_is_member_of`).
fn roles_of(view: &dyn CatalogView, member: Oid, through: Through) -> Result<Vec<Oid>> {
    let database = view.database(view.current_database())?;
    let database_owner = database.map(|d| d.owner);
    let mut found = vec![member];
    let mut at = 0;
    while let Some(&one) = found.get(at) {
        at += 1;
        let inherits = || Ok::<_, CatalogError>(view.role(one)?.is_some_and(|r| r.inherit));
        if through == Through::Inheritance && !inherits()? {
            continue;
        }
        for membership in view.memberships(one)?.iter() {
            if !found.contains(&membership.role) {
                found.push(membership.role);
            }
        }
        if database_owner == Some(one) && !found.contains(&DATABASE_OWNER) {
            found.push(DATABASE_OWNER);
        }
    }
    Ok(found)
}

/// A role whose rights are asked for; remembers which roles it is.
pub struct Holder<'v> {
    view: &'v dyn CatalogView,
    pub role: Oid,
    superuser: bool,
    inherits_from: std::cell::OnceCell<Vec<Oid>>,
}

impl<'v> Holder<'v> {
    /// An invalid `role` is the server itself. A role that is gone has no rights but everybody's.
    pub fn new(view: &'v dyn CatalogView, role: Oid) -> Result<Holder<'v>> {
        let superuser = !role.is_valid() || view.role(role)?.is_some_and(|r| r.superuser);
        Ok(Holder {
            view,
            role,
            superuser,
            inherits_from: std::cell::OnceCell::new(),
        })
    }

    /// Somebody who has only what everybody has.
    pub fn everybody(view: &'v dyn CatalogView) -> Holder<'v> {
        Holder {
            view,
            role: Oid::INVALID,
            superuser: false,
            inherits_from: std::cell::OnceCell::new(),
        }
    }

    pub fn asker(view: &'v dyn CatalogView) -> Result<Holder<'v>> {
        Holder::new(view, view.asker())
    }

    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// The roles whose rights it has without SET ROLE, itself first.
    pub fn inherits_from(&self) -> Result<&[Oid]> {
        if let Some(known) = self.inherits_from.get() {
            return Ok(known);
        }
        let roles = roles_of(self.view, self.role, Through::Inheritance)?;
        Ok(self.inherits_from.get_or_init(|| roles))
    }

    /// Whether it has the rights of `role` (`has_privs_of_role`).
    pub fn acts_as(&self, role: Oid) -> Result<bool> {
        Ok(self.superuser || role == self.role || self.inherits_from()?.contains(&role))
    }

    /// Whether it may SET ROLE to `role` (`is_member_of_role`).
    pub fn may_become(&self, role: Oid) -> Result<bool> {
        Ok(self.superuser || self.is_member_of(role)?)
    }

    /// The same without what a superuser always may (`is_member_of_role_nosuper`).
    pub fn is_member_of(&self, role: Oid) -> Result<bool> {
        let direct = role == self.role;
        Ok(direct || roles_of(self.view, self.role, Through::All)?.contains(&role))
    }

    /// Whether it may grant membership in `role`, which no role may in itself (`is_admin_of_role`).
    pub fn is_admin_of(&self, role: Oid) -> Result<bool> {
        if self.superuser {
            return Ok(true);
        }
        if role == self.role {
            return Ok(false);
        }
        for one in roles_of(self.view, self.role, Through::All)? {
            let direct = self.view.memberships(one)?;
            if direct.iter().any(|m| m.role == role && m.admin) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the object's list gives it. Superusers have everything.
    pub fn held<'a>(&self, object: impl Into<Guarded<'a>>) -> Result<Held> {
        let object = object.into();
        if self.superuser {
            let all = object.kind.all();
            return Ok(Held {
                privileges: all,
                grantable: all,
            });
        }
        let owns = self.acts_as(object.owner)?;
        held(object, owns, &mut |role| self.acts_as(role))
    }

    /// What it may do with a relation (`pg_class_aclmask`): system tables are nobody's to change but superusers'.
    pub fn on_relation(&self, relation: &Relation) -> Result<Privileges> {
        let mut may = self.held(relation)?.privileges;
        if self.superuser {
            return Ok(may);
        }
        let changes = Privileges::INSERT
            .and(Privileges::UPDATE)
            .and(Privileges::DELETE);
        let is_view = matches!(relation.kind, RelationKind::View | RelationKind::Virtual);
        if self.acts_as(READ_ALL_DATA)? {
            may = may.and(Privileges::SELECT);
        }
        let is_system = relation.schema == PG_CATALOG;
        if !is_system && self.acts_as(WRITE_ALL_DATA)? {
            may = may.and(changes);
        }
        if is_system && !is_view {
            let kept = Privileges::TRUNCATE.and(Privileges::USAGE);
            may = may.without(changes).without(kept);
        }
        Ok(may)
    }

    /// What it may do with a schema (`pg_namespace_aclmask`).
    pub fn on_schema(&self, schema: &Schema) -> Result<Privileges> {
        let may = self.held(schema)?.privileges;
        if may.contains(Privileges::USAGE) || self.superuser {
            return Ok(may);
        }
        let sees_everything = self.acts_as(READ_ALL_DATA)? || self.acts_as(WRITE_ALL_DATA)?;
        Ok(if sees_everything {
            may.and(Privileges::USAGE)
        } else {
            may
        })
    }

    pub fn on_database(&self, database: &Database) -> Result<Privileges> {
        Ok(self.held(database)?.privileges)
    }
}

/// Whether whoever `view` answers may look things up in the schema.
pub fn may_look_into(view: &dyn CatalogView, schema: &Schema) -> Result<bool> {
    let asker = view.asker();
    // Decided without memberships nearly always.
    let at_once = |item: &AclItem| {
        (!item.grantee.is_valid() || item.grantee == asker)
            && item.privileges.contains(Privileges::USAGE)
    };
    let listed = schema.acl.as_deref().is_some_and(|a| a.iter().any(at_once));
    if !asker.is_valid() || listed {
        return Ok(true);
    }
    let may = Holder::new(view, asker)?.on_schema(schema)?;
    Ok(may.contains(Privileges::USAGE))
}
