//! The rows of the system heap tables as structs, and their way to and from values.
//!
//! Field order is column order in `schema/heap_tables.rs`; a test holds the two together. A row that does not
//! read back is damage, reported by the caller with the table's name.

use std::sync::Arc;

use crate::ids::Oid;
use crate::types::acl::AclItem;
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::oids;

/// A row of the system table `TABLE`.
pub trait CatalogRow: Sized {
    const TABLE: Oid;
    fn to_row(&self) -> Vec<Datum>;
    /// `None` if a value has not the form that its column must have.
    fn from_row(row: &[Datum]) -> Option<Self>;
}

/// A value that one column of a system table holds.
trait Field: Sized {
    fn to_datum(&self) -> Datum;
    fn from_datum(datum: &Datum) -> Option<Self>;
}

macro_rules! plain_field {
    ($rust:ty, $variant:ident) => {
        impl Field for $rust {
            fn to_datum(&self) -> Datum {
                Datum::$variant(*self)
            }
            fn from_datum(datum: &Datum) -> Option<Self> {
                match datum {
                    Datum::$variant(v) => Some(*v),
                    _ => None,
                }
            }
        }
    };
}
plain_field!(bool, Bool);
plain_field!(i16, Int2);
plain_field!(i32, Int4);
plain_field!(i64, Int8);
plain_field!(f32, Float4);
plain_field!(Oid, Oid);
plain_field!(u8, Char);
plain_field!(AclItem, AclItem);

impl Field for String {
    fn to_datum(&self) -> Datum {
        Datum::text(self)
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Text(v) => Some(v.to_string()),
            _ => None,
        }
    }
}

/// `xid` columns that mean nothing here and are always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnusedXid;

impl Field for UnusedXid {
    fn to_datum(&self) -> Datum {
        Datum::Xid(0)
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        matches!(datum, Datum::Xid(_)).then_some(UnusedXid)
    }
}

/// A nullable column of an array type that this version never fills (grants on columns, options).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AlwaysNull;

impl Field for AlwaysNull {
    fn to_datum(&self) -> Datum {
        Datum::Null
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        datum.is_null().then_some(AlwaysNull)
    }
}

impl<T: Field> Field for Option<T> {
    fn to_datum(&self) -> Datum {
        self.as_ref().map_or(Datum::Null, Field::to_datum)
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        if datum.is_null() {
            Some(None)
        } else {
            T::from_datum(datum).map(Some)
        }
    }
}

/// A one-dimensional array column; the const parameters are the element type's oid and the lower bound
/// (0 for `int2vector` and `oidvector`, 1 otherwise).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List<T, const ELEMENT: u32, const LOWER: i32>(pub Vec<T>);

impl<T: Field, const ELEMENT: u32, const LOWER: i32> Field for List<T, ELEMENT, LOWER> {
    fn to_datum(&self) -> Datum {
        let dimensions = if self.0.is_empty() {
            vec![]
        } else {
            vec![(self.0.len(), LOWER)]
        };
        Datum::Array(Arc::new(Array {
            element: Oid::new(ELEMENT),
            dimensions,
            items: self.0.iter().map(Field::to_datum).collect(),
        }))
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Array(array) => array
                .items
                .iter()
                .map(T::from_datum)
                .collect::<Option<Vec<T>>>()
                .map(List),
            _ => None,
        }
    }
}

/// An array whose element type is that of some column (`anyarray`): the array itself says which.
#[derive(Clone, Debug)]
pub struct AnyArray(pub Arc<Array>);

impl AnyArray {
    pub fn of_one(element: Oid, value: Datum) -> AnyArray {
        AnyArray(Arc::new(Array {
            element,
            dimensions: vec![(1, 1)],
            items: vec![value],
        }))
    }
}

impl PartialEq for AnyArray {
    fn eq(&self, other: &AnyArray) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

impl Field for AnyArray {
    fn to_datum(&self) -> Datum {
        Datum::Array(Arc::clone(&self.0))
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::Array(array) => Some(AnyArray(Arc::clone(array))),
            _ => None,
        }
    }
}

impl<T, const ELEMENT: u32, const LOWER: i32> List<T, ELEMENT, LOWER> {
    pub fn from_items(items: impl IntoIterator<Item = T>) -> Self {
        List(items.into_iter().collect())
    }
}

pub type Int2Vector = List<i16, { oids::INT2.raw() }, 0>;
pub type OidVector = List<Oid, { oids::OID.raw() }, 0>;
pub type OidArray = List<Oid, { oids::OID.raw() }, 1>;
pub type Int2Array = List<i16, { oids::INT2.raw() }, 1>;
pub type Float4Array = List<f32, { oids::FLOAT4.raw() }, 1>;
pub type AclArray = List<AclItem, { oids::ACLITEM.raw() }, 1>;
pub type TextArray = List<String, { oids::TEXT.raw() }, 1>;

macro_rules! catalog_rows {
    ($($(#[$doc:meta])* $table:literal $name:ident { $($field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq)]
            pub struct $name { $(pub $field: $ty,)* }

            impl CatalogRow for $name {
                const TABLE: Oid = Oid::new($table);
                fn to_row(&self) -> Vec<Datum> {
                    vec![$(self.$field.to_datum(),)*]
                }
                fn from_row(row: &[Datum]) -> Option<Self> {
                    let mut values = row.iter();
                    let read = $name { $($field: Field::from_datum(values.next()?)?,)* };
                    values.next().is_none().then_some(read)
                }
            }
        )*
        #[cfg(test)]
        const COLUMNS: &[(u32, &[&str])] = &[$(($table, &[$(stringify!($field),)*]),)*];
    };
}

catalog_rows! {
    /// Manual, 53.11.
    1259 ClassRow {
        oid: Oid, relname: String, relnamespace: Oid, reltype: Oid, reloftype: Oid, relowner: Oid,
        relam: Oid, relfilenode: Oid, reltablespace: Oid, relpages: i32, reltuples: f32,
        relallvisible: i32, reltoastrelid: Oid, relhasindex: bool, relisshared: bool,
        relpersistence: u8, relkind: u8, relnatts: i16, relchecks: i16, relhasrules: bool,
        relhastriggers: bool, relhassubclass: bool, relrowsecurity: bool, relforcerowsecurity: bool,
        relispopulated: bool, relreplident: u8, relispartition: bool, relrewrite: Oid,
        relfrozenxid: UnusedXid, relminmxid: UnusedXid, relacl: Option<AclArray>, reloptions: Option<TextArray>,
        relpartbound: Option<String>,
    }
    /// Manual, 53.7.
    1249 AttributeRow {
        attrelid: Oid, attname: String, atttypid: Oid, attstattarget: i32, attlen: i16, attnum: i16,
        attndims: i32, attcacheoff: i32, atttypmod: i32, attbyval: bool, attalign: u8, attstorage: u8,
        attcompression: u8, attnotnull: bool, atthasdef: bool, atthasmissing: bool, attidentity: u8,
        attgenerated: u8, attisdropped: bool, attislocal: bool, attinhcount: i32, attcollation: Oid,
        attacl: AlwaysNull, attoptions: AlwaysNull, attfdwoptions: AlwaysNull,
        attmissingval: Option<AnyArray>,
    }
    /// Manual, 53.32.
    2615 NamespaceRow { oid: Oid, nspname: String, nspowner: Oid, nspacl: Option<AclArray>, }
    /// Manual, 53.26.
    2610 IndexRow {
        indexrelid: Oid, indrelid: Oid, indnatts: i16, indnkeyatts: i16, indisunique: bool,
        indnullsnotdistinct: bool, indisprimary: bool, indisexclusion: bool, indimmediate: bool,
        indisclustered: bool, indisvalid: bool, indcheckxmin: bool, indisready: bool, indislive: bool,
        indisreplident: bool, indkey: Int2Vector, indcollation: OidVector, indclass: OidVector,
        indoption: Int2Vector, indexprs: Option<String>, indpred: Option<String>,
    }
    /// Manual, 53.6; `adbin` holds SQL text.
    2604 AttrdefRow { oid: Oid, adrelid: Oid, adnum: i16, adbin: String, }
    /// Manual, 53.13; `conbin` holds SQL text.
    2606 ConstraintRow {
        oid: Oid, conname: String, connamespace: Oid, contype: u8, condeferrable: bool,
        condeferred: bool, convalidated: bool, conrelid: Oid, contypid: Oid, conindid: Oid,
        conparentid: Oid, confrelid: Oid, confupdtype: u8, confdeltype: u8, confmatchtype: u8,
        conislocal: bool, coninhcount: i32, connoinherit: bool, conkey: Option<Int2Array>,
        confkey: Option<Int2Array>, conpfeqop: Option<OidArray>, conppeqop: Option<OidArray>,
        conffeqop: Option<OidArray>,
        confdelsetcols: Option<Int2Array>, conexclop: AlwaysNull, conbin: Option<String>,
    }
    /// Manual, 53.47.
    2224 SequenceRow {
        seqrelid: Oid, seqtypid: Oid, seqstart: i64, seqincrement: i64, seqmax: i64, seqmin: i64,
        seqcache: i64, seqcycle: bool,
    }
    /// Manual, 53.18.
    2608 DependRow {
        classid: Oid, objid: Oid, objsubid: i32, refclassid: Oid, refobjid: Oid, refobjsubid: i32,
        deptype: u8,
    }
    /// Manual, 53.19.
    2609 DescriptionRow { objoid: Oid, classoid: Oid, objsubid: i32, description: String, }
    /// Manual, 53.15.
    1262 DatabaseRow {
        oid: Oid, datname: String, datdba: Oid, encoding: i32, datlocprovider: u8,
        datistemplate: bool, datallowconn: bool, datconnlimit: i32, datfrozenxid: UnusedXid,
        datminmxid: UnusedXid, dattablespace: Oid, datcollate: String, datctype: String,
        daticulocale: Option<String>, datcollversion: Option<String>, datacl: Option<AclArray>,
    }
    /// Manual, 53.8.
    1260 AuthidRow {
        oid: Oid, rolname: String, rolsuper: bool, rolinherit: bool, rolcreaterole: bool,
        rolcreatedb: bool, rolcanlogin: bool, rolreplication: bool, rolbypassrls: bool,
        rolconnlimit: i32, rolpassword: Option<String>, rolvaliduntil: Option<Timestamptz>,
    }
    /// Manual, 53.9.
    1261 AuthMembersRow { roleid: Oid, member: Oid, grantor: Oid, admin_option: bool, }
    /// Manual, 53.49.
    2396 ShdescriptionRow { objoid: Oid, classoid: Oid, description: String, }
    /// Manual, 53.16.
    2964 DbRoleSettingRow { setdatabase: Oid, setrole: Oid, setconfig: Option<TextArray>, }
    /// Manual, 53.51; values are kept in text form (`text[]`, where PostgreSQL has `anyarray`).
    2619 StatisticRow {
        starelid: Oid, staattnum: i16, stainherit: bool, stanullfrac: f32, stawidth: i32,
        stadistinct: f32, stakind1: i16, stakind2: i16, stakind3: i16, stakind4: i16, stakind5: i16,
        staop1: Oid, staop2: Oid, staop3: Oid, staop4: Oid, staop5: Oid, stacoll1: Oid, stacoll2: Oid,
        stacoll3: Oid, stacoll4: Oid, stacoll5: Oid, stanumbers1: Option<Float4Array>,
        stanumbers2: Option<Float4Array>, stanumbers3: Option<Float4Array>,
        stanumbers4: Option<Float4Array>, stanumbers5: Option<Float4Array>,
        stavalues1: Option<TextArray>, stavalues2: Option<TextArray>, stavalues3: Option<TextArray>,
        stavalues4: Option<TextArray>, stavalues5: Option<TextArray>,
    }
}

/// Microseconds since 2000-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timestamptz(pub i64);

impl Field for Timestamptz {
    fn to_datum(&self) -> Datum {
        Datum::TimestampTz(self.0)
    }
    fn from_datum(datum: &Datum) -> Option<Self> {
        match datum {
            Datum::TimestampTz(v) => Some(Timestamptz(*v)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::schema::{TableKind, all_tables};

    #[test]
    fn structs_have_the_columns_of_the_schema_in_order() {
        for (oid, fields) in COLUMNS {
            let table = all_tables()
                .find(|t| t.oid == *oid)
                .expect("a system table");
            let columns: Vec<&str> = table
                .columns
                .split(", ")
                .map(|c| c.split_once(' ').expect("name and type").0)
                .collect();
            assert_eq!(&columns, fields, "{}", table.name);
        }
        let heaps = all_tables().filter(|t| t.kind == TableKind::Heap).count();
        assert_eq!(heaps, COLUMNS.len(), "every heap table has its struct");
    }

    #[test]
    fn rows_read_back() {
        let row = IndexRow {
            indexrelid: Oid::new(7),
            indkey: List(vec![1, 3]),
            indexprs: Some("lower(a)".to_owned()),
            ..IndexRow::default()
        };
        assert_eq!(IndexRow::from_row(&row.to_row()), Some(row.clone()));
        assert_eq!(IndexRow::from_row(&row.to_row()[1..]), None);
        assert_eq!(NamespaceRow::from_row(&row.to_row()), None);
    }
}
