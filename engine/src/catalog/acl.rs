//! Changing an object's list of grants, as GRANT and REVOKE do (PostgreSQL's `acl.c`).
//!
//! A list has one item for each pair of grantee and grantor. Privileges that rest on a grant option go when the
//! option goes: with CASCADE, else that is refused. Nothing here reads or writes the catalog; who has whose rights
//! the caller says.

use crate::catalog::rights::{Guarded, Kind, held};
use crate::catalog::view::CatalogError;
use crate::ids::Oid;
use crate::types::acl::{AclItem, Privileges};

/// Whether the first role has the rights of the second.
pub type ActsAs<'f> = &'f dyn Fn(Oid, Oid) -> Result<bool, CatalogError>;

#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("grant options can only be granted to roles")]
    OptionToPublic,
    #[error("grant options cannot be granted back to your own grantor")]
    Circular,
    /// REVOKE ... RESTRICT, and others have been granted what goes.
    #[error("dependent privileges exist")]
    Dependent,
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What a GRANT or REVOKE does to a list.
#[derive(Debug, Clone, Copy)]
pub struct Modification<'a> {
    pub is_grant: bool,
    /// WITH GRANT OPTION, or GRANT OPTION FOR.
    pub option: bool,
    pub cascade: bool,
    /// `Oid::INVALID`: PUBLIC.
    pub grantees: &'a [Oid],
    pub privileges: Privileges,
    pub grantor: Oid,
}

/// A list being changed.
pub struct AclEditor<'f> {
    kind: Kind,
    owner: Oid,
    items: Vec<AclItem>,
    acts_as: ActsAs<'f>,
}

impl<'f> AclEditor<'f> {
    /// `None` begins with the kind's built-in list.
    pub fn new(object: Guarded<'_>, acts_as: ActsAs<'f>) -> AclEditor<'f> {
        let items = match object.acl {
            Some(items) => items.to_vec(),
            None => object.kind.default_acl(object.owner),
        };
        AclEditor {
            kind: object.kind,
            owner: object.owner,
            items,
            acts_as,
        }
    }

    pub fn into_items(self) -> Vec<AclItem> {
        self.items
    }

    /// `merge_acl_with_grant`
    pub fn apply(&mut self, m: Modification<'_>) -> Result<(), GrantError> {
        for &grantee in m.grantees {
            if m.is_grant && m.option && !grantee.is_valid() {
                return Err(GrantError::OptionToPublic);
            }
            let part = |yes: bool| if yes { m.privileges } else { Privileges::NONE };
            let item = AclItem {
                grantee,
                grantor: m.grantor,
                privileges: part(m.is_grant || !m.option),
                grantable: part(!m.is_grant || m.option),
            };
            if m.is_grant {
                self.grant(item)?;
            } else {
                self.revoke(item, m.cascade)?;
            }
        }
        Ok(())
    }

    fn grant(&mut self, new: AclItem) -> Result<(), GrantError> {
        if !new.grantable.is_none() {
            self.check_circularity(new)?;
        }
        match self.position(new) {
            Some(at) => {
                let old = &mut self.items[at];
                old.privileges = old.privileges.and(new.privileges);
                old.grantable = old.grantable.and(new.grantable);
            }
            // Of an item without privileges nothing is kept.
            None if new.privileges.is_none() && new.grantable.is_none() => {}
            None => self.items.push(new),
        }
        Ok(())
    }

    fn position(&self, of: AclItem) -> Option<usize> {
        self.items
            .iter()
            .position(|i| i.grantee == of.grantee && i.grantor == of.grantor)
    }

    /// Takes privileges and options away, and what rests on those.
    fn revoke(&mut self, what: AclItem, cascade: bool) -> Result<(), GrantError> {
        let Some(at) = self.position(what) else {
            return Ok(());
        };
        let item = &mut self.items[at];
        let lost = item.grantable.common(what.grantable);
        item.privileges = item.privileges.without(what.privileges);
        item.grantable = item.grantable.without(what.grantable);
        if item.privileges.is_none() && item.grantable.is_none() {
            self.items.remove(at);
        }
        if lost.is_none() || !what.grantee.is_valid() {
            return Ok(());
        }
        self.abandon(what.grantee, lost, cascade)
    }

    /// `recursive_revoke`: what `grantor` has granted and may not grant any more.
    fn abandon(&mut self, grantor: Oid, lost: Privileges, cascade: bool) -> Result<(), GrantError> {
        if grantor == self.owner {
            return Ok(());
        }
        // Somebody else may have given the same option.
        let lost = lost.without(self.grantable_by(grantor)?);
        let rests = |i: &&AclItem| i.grantor == grantor && !i.privileges.common(lost).is_none();
        while let Some(&item) = self.items.iter().find(rests) {
            if !cascade {
                return Err(GrantError::Dependent);
            }
            let what = AclItem {
                privileges: lost,
                grantable: lost,
                ..item
            };
            self.revoke(what, true)?;
        }
        Ok(())
    }

    fn grantable_by(&self, role: Oid) -> Result<Privileges, CatalogError> {
        let object = Guarded {
            kind: self.kind,
            owner: self.owner,
            acl: Some(&self.items),
        };
        let owns = (self.acts_as)(role, self.owner)?;
        Ok(held(object, owns, &mut |grantee| (self.acts_as)(role, grantee))?.grantable)
    }

    /// Without the grantee's own options the grantor must still have what it grants (`check_circularity`).
    fn check_circularity(&self, new: AclItem) -> Result<(), GrantError> {
        if new.grantor == self.owner {
            return Ok(());
        }
        let mut without = AclEditor {
            items: self.items.clone(),
            ..*self
        };
        let has_options = |i: &&AclItem| i.grantee == new.grantee && !i.grantable.is_none();
        while let Some(&item) = without.items.iter().find(has_options) {
            without.revoke(item, true)?;
        }
        let own = without.grantable_by(new.grantor)?;
        if own.contains(new.grantable) {
            Ok(())
        } else {
            Err(GrantError::Circular)
        }
    }
}

/// The list under another owner: what the old one had and granted is now the new one's (`aclnewowner`).
pub fn with_new_owner(items: &[AclItem], old: Oid, new: Oid) -> Vec<AclItem> {
    let replaced = |role: Oid| if role == old { new } else { role };
    let mut out: Vec<AclItem> = Vec::with_capacity(items.len());
    for item in items {
        let (grantee, grantor) = (replaced(item.grantee), replaced(item.grantor));
        let same = |i: &&mut AclItem| i.grantee == grantee && i.grantor == grantor;
        match out.iter_mut().find(same) {
            Some(known) => {
                known.privileges = known.privileges.and(item.privileges);
                known.grantable = known.grantable.and(item.grantable);
            }
            None => out.push(AclItem {
                grantee,
                grantor,
                ..*item
            }),
        }
    }
    out.retain(|i| !i.privileges.is_none() || !i.grantable.is_none());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Oid = Oid::new(100);
    const A: Oid = Oid::new(101);
    const B: Oid = Oid::new(102);
    const C: Oid = Oid::new(103);

    fn nobody_else(role: Oid, other: Oid) -> Result<bool, CatalogError> {
        Ok(role == other)
    }

    fn table(acl: Option<&[AclItem]>) -> Guarded<'_> {
        Guarded {
            kind: Kind::Table,
            owner: OWNER,
            acl,
        }
    }

    fn granting(grantor: Oid, grantees: &[Oid], option: bool) -> Modification<'_> {
        Modification {
            is_grant: true,
            option,
            cascade: false,
            grantees,
            privileges: Privileges::SELECT,
            grantor,
        }
    }

    fn shown(editor: AclEditor<'_>) -> Vec<String> {
        let items = editor.into_items();
        items.iter().map(|i| i.show(|r| r.to_string())).collect()
    }

    /// The owner grants to A, A to B and B to C, all with options.
    fn chain() -> AclEditor<'static> {
        let mut editor = AclEditor::new(table(None), &nobody_else);
        for (from, to) in [(OWNER, A), (A, B), (B, C)] {
            editor
                .apply(granting(from, &[to], true))
                .expect("each has the option");
        }
        editor
    }

    #[test]
    fn the_first_grant_writes_the_built_in_list_down() {
        let mut editor = AclEditor::new(table(None), &nobody_else);
        editor
            .apply(granting(OWNER, &[A, Oid::INVALID], false))
            .expect("the owner grants");
        assert_eq!(shown(editor), ["100=arwdDxt/100", "101=r/100", "=r/100"]);
    }

    #[test]
    fn a_revoked_option_takes_what_rests_on_it_along_or_is_refused() {
        let revoke = |cascade| Modification {
            is_grant: false,
            option: true,
            cascade,
            ..granting(OWNER, &[A], true)
        };
        let refused = chain().apply(revoke(false));
        assert!(matches!(refused, Err(GrantError::Dependent)));
        let mut editor = chain();
        editor.apply(revoke(true)).expect("with CASCADE");
        assert_eq!(shown(editor), ["100=arwdDxt/100", "101=r/100"]);
    }

    #[test]
    fn a_second_grantor_keeps_what_the_first_one_revokes() {
        let mut editor = chain();
        editor
            .apply(granting(OWNER, &[B], true))
            .expect("the owner grants");
        let all_from_a = Modification {
            is_grant: false,
            option: false,
            cascade: true,
            ..granting(OWNER, &[A], false)
        };
        editor.apply(all_from_a).expect("with CASCADE");
        assert_eq!(
            shown(editor),
            ["100=arwdDxt/100", "103=r*/102", "102=r*/100"]
        );
    }

    #[test]
    fn options_do_not_go_in_circles_nor_to_everybody() {
        let mut editor = chain();
        let back = editor.apply(granting(C, &[A], true));
        assert!(matches!(back, Err(GrantError::Circular)));
        let public = editor.apply(granting(OWNER, &[Oid::INVALID], true));
        assert!(matches!(public, Err(GrantError::OptionToPublic)));
    }

    #[test]
    fn a_new_owner_takes_the_old_ones_place() {
        let items = chain().into_items();
        let moved = with_new_owner(&items, OWNER, A);
        let shown: Vec<String> = moved.iter().map(|i| i.show(|r| r.to_string())).collect();
        assert_eq!(
            shown,
            ["101=ar*wdDxt/101", "102=r*/101", "103=r*/102"],
            "what the old owner granted to the new one is one with its own"
        );
    }
}
