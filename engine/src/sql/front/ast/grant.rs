//! GRANT and REVOKE, and what else names whole roles: REASSIGN OWNED, DROP OWNED.

use super::ddl::RoleSpec;
use super::expr::{Ident, ObjectName};

/// GRANT and REVOKE of privileges on objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    pub is_grant: bool,
    /// `None`: ALL.
    pub privileges: Option<Vec<Ident>>,
    /// Columns stand behind one of them, first where.
    pub columns_at: Option<u32>,
    pub target: GrantTarget,
    pub grantees: Vec<RoleSpec>,
    /// WITH GRANT OPTION; GRANT OPTION FOR.
    pub option: bool,
    /// GRANTED BY
    pub grantor: Option<RoleSpec>,
    pub cascade: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum GrantTarget {
    /// Tables, and sequences and views by the same words.
    Tables(Vec<ObjectName>),
    Sequences(Vec<ObjectName>),
    Databases(Vec<Ident>),
    Schemas(Vec<Ident>),
    AllTablesIn(Vec<Ident>),
    AllSequencesIn(Vec<Ident>),
}

/// GRANT and REVOKE of membership.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantRole {
    pub is_grant: bool,
    pub roles: Vec<Ident>,
    /// Columns stand behind one of them.
    pub columns_at: Option<u32>,
    pub members: Vec<RoleSpec>,
    /// WITH ADMIN OPTION; ADMIN OPTION FOR.
    pub admin: bool,
    /// GRANTED BY
    pub grantor: Option<RoleSpec>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReassignOwned {
    pub roles: Vec<RoleSpec>,
    pub to: RoleSpec,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DropOwned {
    pub roles: Vec<RoleSpec>,
    pub cascade: bool,
}
