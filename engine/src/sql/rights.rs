//! Whether the asker may do what a statement does with its relations (`ExecCheckRTPerms`).
//!
//! The analyzer lists what is needed; the answer is made with the plan, kept with it, and told when the statement is
//! run: a plan is made anew when the role or the catalog's generation changes, and only they can change the answer. So
//! a run of a kept plan pays one comparison.

use crate::catalog::relation::Relation;
use crate::catalog::rights::{Holder, SIGNAL_BACKEND};
use crate::catalog::view::{CatalogError, CatalogView};
use crate::ids::Oid;
use crate::sql::bound::Disclosure;
use crate::sql::error::{SqlError, no_right_to};
use crate::types::acl::Privileges;

/// Privileges that a statement needs, all of them, for each relation.
pub type Needed = Vec<(Oid, Privileges)>;

/// 42501 for the first relation on which something is missing.
pub fn check(view: &dyn CatalogView, needed: &[(Oid, Privileges)]) -> Result<(), SqlError> {
    // The server itself may do everything.
    if !view.asker().is_valid() || needed.is_empty() {
        return Ok(());
    }
    let asker = Holder::asker(view)?;
    if asker.is_superuser() {
        return Ok(());
    }
    for (oid, wanted) in needed {
        if let Some(relation) = view.relation(*oid)? {
            must_hold(&asker, &relation, *wanted)?;
        }
    }
    Ok(())
}

/// What errors may show the asker of rows of `table` that his statement, which gives the columns `written`, could not
/// write.
pub fn disclosure(
    view: &dyn CatalogView,
    table: &Relation,
    written: &[usize],
) -> Result<Disclosure, SqlError> {
    let may = Holder::asker(view)?.on_relation(table)?;
    if may.contains(Privileges::SELECT) {
        return Ok(Disclosure::WholeRow);
    }
    let mut written = written.to_vec();
    written.sort_unstable();
    Ok(Disclosure::Columns(written.into()))
}

/// Whether somebody may end another one's session or cancel its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaySignal {
    Yes,
    /// Sessions of superusers are for superusers only.
    NotSuperuser,
    NotMember,
}

/// What is said to whoever may not end a session.
pub const NOT_SUPERUSER: &str = "must be a superuser to terminate superuser process";
pub const NOT_MEMBER: &str = "must be a member of the role whose process is being terminated or member of \
                              pg_signal_backend";

/// Of the asker and a session of `target`'s.
pub fn may_signal(view: &dyn CatalogView, target: Oid) -> Result<MaySignal, CatalogError> {
    let me = Holder::asker(view)?;
    if me.is_superuser() {
        return Ok(MaySignal::Yes);
    }
    if Holder::new(view, target)?.is_superuser() {
        return Ok(MaySignal::NotSuperuser);
    }
    let may = me.acts_as(target)? || me.acts_as(SIGNAL_BACKEND)?;
    Ok(if may {
        MaySignal::Yes
    } else {
        MaySignal::NotMember
    })
}

/// 42501 unless `asker` has all of `wanted`.
pub fn must_hold(
    asker: &Holder<'_>,
    relation: &Relation,
    wanted: Privileges,
) -> Result<(), SqlError> {
    if asker.on_relation(relation)?.contains(wanted) {
        return Ok(());
    }
    Err(no_right_to(relation))
}
