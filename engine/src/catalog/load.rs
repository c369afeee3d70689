//! Making descriptions from catalog rows.

use std::sync::Arc;

use crate::catalog::access::CatalogCx;
use crate::catalog::relation::{
    Check, Column, ForeignKey, Identity, Index, IndexKey, ReferentialAction, Relation, RelationKind,
};
use crate::catalog::rights::Acl;
use crate::catalog::rows::{
    AclArray, AttrdefRow, AttributeRow, AuthMembersRow, AuthidRow, CatalogRow, ClassRow,
    ConstraintRow, DatabaseRow, DependRow, IndexRow, Int2Array, NamespaceRow, StatisticRow,
};
use crate::catalog::schema::index_relation;
use crate::catalog::view::{CatalogError, ColumnStatistics, Database, Membership, Role, Schema};
use crate::ids::{GLOBAL_TABLESPACE, Oid, RelFile};
use crate::txn::Snapshot;
use crate::types::datum::{Datum, SqlType};

const CLASS_BY_OID: Oid = Oid::new(2662);
const CLASS_BY_NAME: Oid = Oid::new(2663);
const ATTRIBUTE_BY_NUMBER: Oid = Oid::new(2659);
const ATTRDEF_BY_COLUMN: Oid = Oid::new(2656);
const CONSTRAINT_BY_RELATION: Oid = Oid::new(2665);
const CONSTRAINT_BY_OID: Oid = Oid::new(2667);
const DEPEND_BY_REFERENCE: Oid = Oid::new(2674);
const INDEX_BY_TABLE: Oid = Oid::new(2678);
const INDEX_BY_OID: Oid = Oid::new(2679);
const NAMESPACE_BY_NAME: Oid = Oid::new(2684);
const NAMESPACE_BY_OID: Oid = Oid::new(2685);
const ROLE_BY_NAME: Oid = Oid::new(2676);
const ROLE_BY_OID: Oid = Oid::new(2677);
const MEMBERSHIP_BY_MEMBER: Oid = Oid::new(2695);
const DATABASE_BY_NAME: Oid = Oid::new(2671);
const DATABASE_BY_OID: Oid = Oid::new(2672);
const STATISTIC_BY_COLUMN: Oid = Oid::new(2696);

/// `pg_constraint.contype`
pub const FOREIGN_KEY: u8 = b'f';

/// Bits of `pg_index.indoption`.
pub const INDEX_DESCENDING: i16 = 1;
pub const INDEX_NULLS_FIRST: i16 = 2;

impl CatalogCx<'_> {
    fn damaged(&self, what: String) -> CatalogError {
        CatalogError::Damaged {
            database: self.database,
            what,
        }
    }

    /// The relation's description, from code for system relations.
    pub fn load_relation(
        &self,
        snapshot: &Snapshot,
        oid: Oid,
    ) -> Result<Option<Arc<Relation>>, CatalogError> {
        if let Some(system) = self.system.get(oid) {
            return Ok(Some(Arc::clone(system)));
        }
        let Some((_, class)) =
            self.find_one::<ClassRow>(snapshot, CLASS_BY_OID, &[Datum::Oid(oid)])?
        else {
            return Ok(None);
        };
        if class.relkind == RelationKind::Index.letter() {
            return self.load_index_relation(snapshot, oid);
        }
        Ok(Some(Arc::new(self.describe(snapshot, class)?)))
    }

    /// An index is described by its table.
    fn load_index_relation(
        &self,
        snapshot: &Snapshot,
        oid: Oid,
    ) -> Result<Option<Arc<Relation>>, CatalogError> {
        let found = self.find_one::<IndexRow>(snapshot, INDEX_BY_OID, &[Datum::Oid(oid)])?;
        let Some((_, row)) = found else {
            return Ok(None);
        };
        let Some(table) = self.load_relation(snapshot, row.indrelid)? else {
            return Ok(None);
        };
        let index = table.indexes.iter().find(|i| i.oid == oid);
        Ok(index.map(|index| Arc::new(index_relation(&table, index))))
    }

    fn describe(&self, snapshot: &Snapshot, class: ClassRow) -> Result<Relation, CatalogError> {
        let kind = match class.relkind {
            b'r' => RelationKind::Table,
            b'S' => RelationKind::Sequence,
            b'v' => RelationKind::View,
            other => {
                let what = format!("relation {} has kind {:?}", class.oid, char::from(other));
                return Err(self.damaged(what));
            }
        };
        let columns = self.load_columns(snapshot, class.oid)?;
        let constraints =
            self.find::<ConstraintRow>(snapshot, CONSTRAINT_BY_RELATION, &[Datum::Oid(class.oid)])?;
        let constraints: Vec<ConstraintRow> = constraints.into_iter().map(|(_, c)| c).collect();
        let schema_name = self
            .load_schema(snapshot, class.relnamespace)?
            .map(|schema| schema.name.clone())
            .ok_or_else(|| {
                self.damaged(format!(
                    "schema {} of relation {} is missing",
                    class.relnamespace, class.oid
                ))
            })?;
        Ok(Relation {
            oid: class.oid,
            schema: class.relnamespace,
            schema_name,
            kind,
            owner: class.relowner,
            acl: list(class.relacl.as_ref()),
            file: self.file(&class, class.relfilenode),
            overflow: class
                .reltoastrelid
                .is_valid()
                .then(|| self.file(&class, class.reltoastrelid)),
            indexes: self.load_indexes(snapshot, &class, &columns, &constraints)?,
            columns,
            checks: checks_of(&constraints),
            foreign_keys: self.foreign_keys(&constraints)?,
            referenced_by: self.load_referenced_by(snapshot, &class)?,
            estimated_rows: f64::from(class.reltuples),
            estimated_pages: u32::try_from(class.relpages).unwrap_or(0),
            name: class.relname,
        })
    }

    fn file(&self, class: &ClassRow, number: Oid) -> RelFile {
        if class.reltablespace == GLOBAL_TABLESPACE {
            RelFile::shared(number)
        } else {
            RelFile::of_database(self.database, number)
        }
    }

    fn load_columns(
        &self,
        snapshot: &Snapshot,
        relation: Oid,
    ) -> Result<Vec<Column>, CatalogError> {
        let key = [Datum::Oid(relation)];
        let defaults = self.find::<AttrdefRow>(snapshot, ATTRDEF_BY_COLUMN, &key)?;
        let default_of = |number: i16| {
            defaults
                .iter()
                .find(|(_, d)| d.adnum == number)
                .map(|(_, d)| d.adbin.clone())
        };
        let mut columns = Vec::new();
        for (_, row) in self.find::<AttributeRow>(snapshot, ATTRIBUTE_BY_NUMBER, &key)? {
            if usize::try_from(row.attnum).ok() != Some(columns.len() + 1) {
                return Err(
                    self.damaged(format!("columns of relation {relation} are not numbered"))
                );
            }
            let default = match default_of(row.attnum) {
                None if row.attidentity != 0 => {
                    self.identity_default(snapshot, relation, row.attnum)?
                }
                default => default,
            };
            columns.push(Column {
                attribute: row.attnum,
                ty: SqlType {
                    oid: row.atttypid,
                    modifier: row.atttypmod,
                },
                not_null: row.attnotnull,
                dropped: row.attisdropped,
                default,
                identity: match row.attidentity {
                    b'a' => Identity::Always,
                    b'd' => Identity::ByDefault,
                    _ => Identity::No,
                },
                missing: row
                    .attmissingval
                    .and_then(|array| array.0.items.first().cloned()),
                name: row.attname,
            });
        }
        Ok(columns)
    }

    /// What an identity column takes its numbers from: the sequence that it owns.
    fn identity_default(
        &self,
        snapshot: &Snapshot,
        relation: Oid,
        attribute: i16,
    ) -> Result<Option<String>, CatalogError> {
        let class = ClassRow::TABLE;
        let key = [
            Datum::Oid(class),
            Datum::Oid(relation),
            Datum::Int4(i32::from(attribute)),
        ];
        let rows = self.find::<DependRow>(snapshot, DEPEND_BY_REFERENCE, &key)?;
        let own = rows
            .into_iter()
            .find(|(_, d)| d.classid == class && d.deptype == b'i');
        Ok(own.map(|(_, d)| format!("nextval('{}'::regclass)", d.objid.raw())))
    }

    fn load_indexes(
        &self,
        snapshot: &Snapshot,
        table: &ClassRow,
        columns: &[Column],
        constraints: &[ConstraintRow],
    ) -> Result<Vec<Arc<Index>>, CatalogError> {
        if !table.relhasindex {
            return Ok(Vec::new());
        }
        let rows = self.find::<IndexRow>(snapshot, INDEX_BY_TABLE, &[Datum::Oid(table.oid)])?;
        let mut indexes = Vec::with_capacity(rows.len());
        for (tid, row) in rows {
            let key = [Datum::Oid(row.indexrelid)];
            let Some((_, class)) = self.find_one::<ClassRow>(snapshot, CLASS_BY_OID, &key)? else {
                return Err(
                    self.damaged(format!("index {} has no row in pg_class", row.indexrelid))
                );
            };
            let only_if_sees = if row.indcheckxmin {
                self.writer_of::<IndexRow>(snapshot, tid)?
            } else {
                None
            };
            let described = self.describe_index(row, &class, columns, constraints)?;
            indexes.push(Arc::new(Index {
                only_if_sees,
                ..described
            }));
        }
        indexes.sort_by_key(|index| index.oid);
        Ok(indexes)
    }

    fn describe_index(
        &self,
        row: IndexRow,
        class: &ClassRow,
        columns: &[Column],
        constraints: &[ConstraintRow],
    ) -> Result<Index, CatalogError> {
        let bad = || {
            self.damaged(format!(
                "index {} names columns that its table has not",
                class.oid
            ))
        };
        let position = |number: &i16| {
            let at = usize::try_from(*number).ok()?.checked_sub(1)?;
            (at < columns.len()).then_some(at)
        };
        let columns_at: Option<Vec<usize>> = row.indkey.0.iter().map(position).collect();
        let columns_at = columns_at.ok_or_else(bad)?;
        let key_count = usize::try_from(row.indnkeyatts).map_err(|_| bad())?;
        if key_count > columns_at.len() || row.indoption.0.len() < key_count {
            return Err(bad());
        }
        let classes = row.indclass.0.iter().copied();
        let classes = classes.chain(std::iter::repeat(Oid::INVALID));
        let keys = columns_at[..key_count].iter().zip(&row.indoption.0);
        // A foreign key names the index of the key that it refers to, which may be in this table.
        let constraint = constraints
            .iter()
            .find(|c| c.conindid == class.oid && c.contype != FOREIGN_KEY);
        Ok(Index {
            oid: class.oid,
            name: class.relname.clone(),
            table: row.indrelid,
            file: self.file(class, class.relfilenode),
            keys: keys
                .zip(classes)
                .map(|((&column, option), class)| IndexKey {
                    column,
                    ty: columns[column].ty,
                    class,
                    descending: option & INDEX_DESCENDING != 0,
                    nulls_first: option & INDEX_NULLS_FIRST != 0,
                })
                .collect(),
            included: columns_at[key_count..].to_vec(),
            unique: row.indisunique,
            primary: row.indisprimary,
            nulls_not_distinct: row.indnullsnotdistinct,
            valid: row.indisvalid,
            constraint: constraint.map(|c| (c.oid, c.conname.clone())),
            deferrable: !row.indimmediate,
            only_if_sees: None,
        })
    }

    fn foreign_keys(
        &self,
        constraints: &[ConstraintRow],
    ) -> Result<Vec<Arc<ForeignKey>>, CatalogError> {
        let own = constraints.iter().filter(|c| c.contype == FOREIGN_KEY);
        let mut made = own
            .map(|row| self.foreign_key(row))
            .collect::<Result<Vec<_>, _>>()?;
        made.sort_by_key(|key| key.oid);
        Ok(made)
    }

    /// The foreign keys of any table that depend on this one.
    fn load_referenced_by(
        &self,
        snapshot: &Snapshot,
        table: &ClassRow,
    ) -> Result<Vec<Arc<ForeignKey>>, CatalogError> {
        // As in PostgreSQL, where a foreign key's triggers are found by this. Tables without any are not looked up.
        if !table.relhastriggers {
            return Ok(Vec::new());
        }
        let key = [Datum::Oid(ClassRow::TABLE), Datum::Oid(table.oid)];
        let rows = self.find::<DependRow>(snapshot, DEPEND_BY_REFERENCE, &key)?;
        let mut constraints: Vec<Oid> = rows
            .into_iter()
            .filter(|(_, row)| row.classid == ConstraintRow::TABLE)
            .map(|(_, row)| row.objid)
            .collect();
        constraints.sort_unstable();
        constraints.dedup();
        let mut found = Vec::new();
        for oid in constraints {
            let key = [Datum::Oid(oid)];
            let row = self.find_one::<ConstraintRow>(snapshot, CONSTRAINT_BY_OID, &key)?;
            if let Some((_, row)) = row
                && row.contype == FOREIGN_KEY
                && row.confrelid == table.oid
            {
                found.push(self.foreign_key(&row)?);
            }
        }
        Ok(found)
    }

    fn foreign_key(&self, row: &ConstraintRow) -> Result<Arc<ForeignKey>, CatalogError> {
        let bad = || self.damaged(format!("foreign key {} cannot be read", row.oid));
        let positions = |numbers: Option<&Int2Array>| {
            let numbers = numbers.map_or(&[][..], |n| n.0.as_slice());
            let position = |n: &i16| usize::try_from(*n).ok()?.checked_sub(1);
            numbers.iter().map(position).collect::<Option<Vec<usize>>>()
        };
        let action = |letter| ReferentialAction::from_letter(letter).ok_or_else(bad);
        let columns = positions(row.conkey.as_ref()).ok_or_else(bad)?;
        let key = positions(row.confkey.as_ref()).ok_or_else(bad)?;
        if columns.is_empty() || columns.len() != key.len() {
            return Err(bad());
        }
        Ok(Arc::new(ForeignKey {
            oid: row.oid,
            name: row.conname.clone(),
            table: row.conrelid,
            columns,
            referenced: row.confrelid,
            key,
            index: row.conindid,
            match_full: row.confmatchtype == b'f',
            on_update: action(row.confupdtype)?,
            on_delete: action(row.confdeltype)?,
            set_columns: positions(row.confdelsetcols.as_ref()).ok_or_else(bad)?,
            deferrable: row.condeferrable,
            initially_deferred: row.condeferred,
        }))
    }

    pub fn load_relation_oid(
        &self,
        snapshot: &Snapshot,
        schema: Oid,
        name: &str,
    ) -> Result<Option<Oid>, CatalogError> {
        let key = [Datum::text(name), Datum::Oid(schema)];
        Ok(self
            .find_one::<ClassRow>(snapshot, CLASS_BY_NAME, &key)?
            .map(|(_, row)| row.oid))
    }

    pub fn load_schema_oid(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Option<Oid>, CatalogError> {
        let key = [Datum::text(name)];
        Ok(self
            .find_one::<NamespaceRow>(snapshot, NAMESPACE_BY_NAME, &key)?
            .map(|(_, row)| row.oid))
    }

    pub fn load_schema(
        &self,
        snapshot: &Snapshot,
        oid: Oid,
    ) -> Result<Option<Arc<Schema>>, CatalogError> {
        let key = [Datum::Oid(oid)];
        let row = self.find_one::<NamespaceRow>(snapshot, NAMESPACE_BY_OID, &key)?;
        Ok(row.map(|(_, row)| {
            Arc::new(Schema {
                oid: row.oid,
                acl: list(row.nspacl.as_ref()),
                name: row.nspname,
                owner: row.nspowner,
            })
        }))
    }

    pub fn load_memberships(
        &self,
        snapshot: &Snapshot,
        member: Oid,
    ) -> Result<Arc<[Membership]>, CatalogError> {
        let key = [Datum::Oid(member)];
        let rows = self.find::<AuthMembersRow>(snapshot, MEMBERSHIP_BY_MEMBER, &key)?;
        let found = rows.into_iter().map(|(_, row)| Membership {
            role: row.roleid,
            admin: row.admin_option,
        });
        Ok(found.collect())
    }

    pub fn load_role_named(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Option<Role>, CatalogError> {
        let row = self.find_one::<AuthidRow>(snapshot, ROLE_BY_NAME, &[Datum::text(name)])?;
        Ok(row.map(|(_, row)| role(row)))
    }

    pub fn load_role(&self, snapshot: &Snapshot, oid: Oid) -> Result<Option<Role>, CatalogError> {
        let row = self.find_one::<AuthidRow>(snapshot, ROLE_BY_OID, &[Datum::Oid(oid)])?;
        Ok(row.map(|(_, row)| role(row)))
    }

    pub fn load_database_named(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Option<Database>, CatalogError> {
        let row = self.find_one::<DatabaseRow>(snapshot, DATABASE_BY_NAME, &[Datum::text(name)])?;
        Ok(row.map(|(_, row)| database(row)))
    }

    pub fn load_database(
        &self,
        snapshot: &Snapshot,
        oid: Oid,
    ) -> Result<Option<Database>, CatalogError> {
        let row = self.find_one::<DatabaseRow>(snapshot, DATABASE_BY_OID, &[Datum::Oid(oid)])?;
        Ok(row.map(|(_, row)| database(row)))
    }

    pub fn load_statistics(
        &self,
        snapshot: &Snapshot,
        relation: Oid,
        attribute: i16,
    ) -> Result<Option<Arc<ColumnStatistics>>, CatalogError> {
        let key = [Datum::Oid(relation), Datum::Int2(attribute)];
        let row = self.find_one::<StatisticRow>(snapshot, STATISTIC_BY_COLUMN, &key)?;
        Ok(row.map(|(_, row)| Arc::new(statistics(row))))
    }
}

fn checks_of(constraints: &[ConstraintRow]) -> Vec<Check> {
    let mut checks: Vec<Check> = constraints
        .iter()
        .filter(|c| c.contype == b'c')
        .filter_map(|c| {
            let expression = c.conbin.clone()?;
            Some(Check {
                oid: c.oid,
                name: c.conname.clone(),
                expression,
            })
        })
        .collect();
    // PostgreSQL checks in order of name.
    checks.sort_by(|a, b| a.name.cmp(&b.name));
    checks
}

fn list(stored: Option<&AclArray>) -> Acl {
    stored.map(|items| Arc::from(items.0.as_slice()))
}

fn role(row: AuthidRow) -> Role {
    Role {
        oid: row.oid,
        name: row.rolname,
        superuser: row.rolsuper,
        inherit: row.rolinherit,
        create_role: row.rolcreaterole,
        create_db: row.rolcreatedb,
        login: row.rolcanlogin,
        replication: row.rolreplication,
        bypass_rls: row.rolbypassrls,
        connection_limit: row.rolconnlimit,
        password: row.rolpassword,
        valid_until: row.rolvaliduntil.map(|t| t.0),
    }
}

fn database(row: DatabaseRow) -> Database {
    Database {
        oid: row.oid,
        name: row.datname,
        owner: row.datdba,
        acl: list(row.datacl.as_ref()),
        is_template: row.datistemplate,
        allow_connections: row.datallowconn,
        connection_limit: row.datconnlimit,
    }
}

/// Kinds of `pg_statistic` slots.
pub const STATISTIC_MOST_COMMON: i16 = 1;
pub const STATISTIC_HISTOGRAM: i16 = 2;
pub const STATISTIC_CORRELATION: i16 = 3;

fn statistics(row: StatisticRow) -> ColumnStatistics {
    let slots = [
        (row.stakind1, row.stanumbers1, row.stavalues1),
        (row.stakind2, row.stanumbers2, row.stavalues2),
        (row.stakind3, row.stanumbers3, row.stavalues3),
        (row.stakind4, row.stanumbers4, row.stavalues4),
        (row.stakind5, row.stanumbers5, row.stavalues5),
    ];
    let mut decoded = ColumnStatistics {
        null_fraction: f64::from(row.stanullfrac),
        average_width: f64::from(row.stawidth),
        distinct: f64::from(row.stadistinct),
        most_common: Vec::new(),
        histogram: Vec::new(),
        correlation: 0.0,
    };
    for (kind, numbers, values) in slots {
        let numbers = numbers.map(|n| n.0).unwrap_or_default();
        let values = values.map(|v| v.0).unwrap_or_default();
        match kind {
            STATISTIC_MOST_COMMON => {
                decoded.most_common = values
                    .into_iter()
                    .zip(numbers.iter().map(|n| f64::from(*n)))
                    .collect();
            }
            STATISTIC_HISTOGRAM => decoded.histogram = values,
            STATISTIC_CORRELATION => {
                decoded.correlation = numbers.first().map_or(0.0, |n| f64::from(*n));
            }
            _ => {}
        }
    }
    decoded
}
