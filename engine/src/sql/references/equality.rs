//! Which operators compare a reference with a key, as `ATAddForeignKeyConstraint` finds them: those of the operator
//! family of the key's index, across types where it has some, else the key's own after an implicit cast.

use crate::ids::Oid;
use crate::types::function::{CastContext, Operator};
use crate::types::{casts, oids, operators, registry};

/// How one column refers to one of the key's.
#[derive(Debug, Clone, Copy)]
pub struct Equality {
    /// Key = reference (`conpfeqop`).
    pub across: &'static Operator,
    /// Key = key (`conppeqop`).
    pub keys: &'static Operator,
    /// Reference = reference (`conffeqop`).
    pub references: &'static Operator,
}

/// The type that the operator class of a column of type `ty` takes (`opcintype`).
fn operand(ty: Oid) -> Oid {
    match ty {
        oids::VARCHAR => oids::TEXT,
        oids::REGCLASS
        | oids::REGTYPE
        | oids::REGPROC
        | oids::REGPROCEDURE
        | oids::REGOPER
        | oids::REGOPERATOR
        | oids::REGNAMESPACE
        | oids::REGROLE => oids::OID,
        oids::OIDVECTOR => ty,
        ty if registry::by_oid(ty).is_some_and(registry::Type::is_array) => oids::ANYARRAY,
        ty => ty,
    }
}

/// The equality that a family has for two types. Those that sorts may use are the families' own.
fn member(left: Oid, right: Oid) -> Option<&'static Operator> {
    operators::named("=")
        .iter()
        .copied()
        .find(|o| o.left == left && o.right == right && o.can_merge)
}

fn implicitly(from: Oid, to: Oid) -> bool {
    from == to || casts::find(from, to).is_some_and(|c| c.context == CastContext::Implicit)
}

/// `None`: values of the two types cannot be compared (42804).
pub fn equality(key: Oid, reference: Oid) -> Option<Equality> {
    let operand = operand(key);
    let keys = member(operand, operand)?;
    if let (Some(across), Some(references)) =
        (member(operand, reference), member(reference, reference))
    {
        return Some(Equality {
            across,
            keys,
            references,
        });
    }
    let fits = match operand {
        oids::ANYARRAY => key == reference,
        operand => implicitly(reference, operand),
    };
    fits.then_some(Equality {
        across: keys,
        keys,
        references: keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn across(key: Oid, reference: Oid) -> Option<u32> {
        equality(key, reference).map(|e| e.across.oid.raw())
    }

    #[test]
    fn families_compare_across_types() {
        assert_eq!(across(oids::INT4, oids::INT4), Some(96));
        assert_eq!(across(oids::INT4, oids::INT8), Some(15));
        assert_eq!(across(oids::INT8, oids::INT2), Some(1868));
        assert_eq!(across(oids::TIMESTAMP, oids::DATE), Some(2373));
        assert_eq!(across(oids::TEXT, oids::NAME), Some(260));
    }

    #[test]
    fn others_need_an_implicit_cast() {
        assert_eq!(across(oids::NUMERIC, oids::INT4), Some(1752));
        assert_eq!(across(oids::INT4, oids::NUMERIC), None);
        assert_eq!(across(oids::TEXT, oids::VARCHAR), Some(98));
        assert_eq!(across(oids::VARCHAR, oids::VARCHAR), Some(98));
        assert_eq!(across(oids::INT4, oids::TEXT), None);
        assert_eq!(across(oids::UUID, oids::TEXT), None);
        assert_eq!(across(oids::INT4_ARRAY, oids::INT4_ARRAY), Some(1070));
        assert_eq!(across(oids::INT4_ARRAY, oids::INT8_ARRAY), None);
    }
}
