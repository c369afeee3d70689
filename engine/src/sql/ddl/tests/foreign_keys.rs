//! Foreign keys in the descriptions of both tables, and what does not go because of them.

use super::{Server, with_server};
use crate::catalog::relation::ReferentialAction;

/// Names of the foreign keys of a table, and of those that refer to it.
fn keys(server: &Server, table: &str) -> (Vec<String>, Vec<String>) {
    let relation = server.relation(table).expect("it is there");
    let names = |keys: &[std::sync::Arc<crate::catalog::relation::ForeignKey>]| {
        keys.iter().map(|key| key.name.clone()).collect()
    };
    (
        names(&relation.foreign_keys),
        names(&relation.referenced_by),
    )
}

#[test]
fn both_tables_know_a_foreign_key_until_it_is_dropped() {
    with_server(|mut s| async move {
        s.script(&[
            (
                "CREATE TABLE p (id int PRIMARY KEY, u int UNIQUE)",
                "CREATE TABLE",
            ),
            (
                "CREATE TABLE t (a int REFERENCES p ON DELETE CASCADE, b int, FOREIGN KEY (b) REFERENCES p (u))",
                "CREATE TABLE",
            ),
            (
                "ALTER TABLE p ADD up int REFERENCES p ON DELETE SET NULL (up)",
                "ALTER TABLE",
            ),
        ])
        .await;
        assert_eq!(keys(&s, "t").0, ["t_a_fkey", "t_b_fkey"]);
        assert_eq!(keys(&s, "p").0, ["p_up_fkey"]);
        assert_eq!(keys(&s, "p").1, ["t_a_fkey", "t_b_fkey", "p_up_fkey"]);
        let p = s.relation("p").expect("it is there");
        let key = &p.foreign_keys[0];
        assert_eq!(key.on_delete, ReferentialAction::SetNull);
        assert_eq!((&key.columns[..], &key.key[..]), (&[2][..], &[0][..]));
        assert_eq!(key.set_columns, [2]);
        s.script(&[
            (
                "ALTER TABLE t RENAME CONSTRAINT t_b_fkey TO b",
                "ALTER TABLE",
            ),
            ("ALTER TABLE t DROP COLUMN a", "ALTER TABLE"),
        ])
        .await;
        assert_eq!(keys(&s, "p").1, ["b", "p_up_fkey"]);
        s.script(&[("DROP TABLE t", "DROP TABLE")]).await;
        assert_eq!(keys(&s, "p").1, ["p_up_fkey"]);
    });
}

#[test]
fn what_is_referred_to_does_not_go() {
    with_server(|mut s| async move {
        s.script(&[
            ("CREATE TABLE p (id int PRIMARY KEY)", "CREATE TABLE"),
            ("CREATE TABLE t (a int REFERENCES p)", "CREATE TABLE"),
            (
                "DROP TABLE p",
                "2BP01 cannot drop table p because other objects depend on it",
            ),
            (
                "ALTER TABLE p DROP COLUMN id",
                "2BP01 cannot drop column id of table p because other objects depend on it",
            ),
            (
                "ALTER TABLE p DROP CONSTRAINT p_pkey",
                "2BP01 cannot drop constraint p_pkey on table p because other objects depend on it",
            ),
            (
                "TRUNCATE p",
                "0A000 cannot truncate a table referenced in a foreign key constraint",
            ),
            ("TRUNCATE p, t", "TRUNCATE TABLE"),
            ("TRUNCATE p CASCADE", "TRUNCATE TABLE"),
        ])
        .await;
        let notices: Vec<&str> = s.notices.iter().map(|n| n.message.as_str()).collect();
        assert_eq!(notices, ["truncate cascades to table \"t\""]);
        s.script(&[("DROP TABLE p CASCADE", "DROP TABLE")]).await;
        assert_eq!(
            s.notices[0].message,
            "drop cascades to constraint t_a_fkey on table t"
        );
        assert!(keys(&s, "t").0.is_empty());
    });
}

#[test]
fn definitions_that_cannot_be_are_refused() {
    with_server(|mut s| async move {
        s.script(&[
            (
                "CREATE TABLE p (id int PRIMARY KEY, a int, b int, UNIQUE (a, b))",
                "CREATE TABLE",
            ),
            ("CREATE TABLE n (id int)", "CREATE TABLE"),
            (
                "CREATE TABLE t (a int REFERENCES n)",
                "42704 there is no primary key for referenced table \"n\"",
            ),
            (
                "CREATE TABLE t (a int REFERENCES p (a))",
                "42830 there is no unique constraint matching given keys for referenced table \"p\"",
            ),
            (
                "CREATE TABLE t (a int, b int, FOREIGN KEY (a) REFERENCES p (b, a))",
                "42830 number of referencing and referenced columns for foreign key disagree",
            ),
            (
                "CREATE TABLE t (a text REFERENCES p)",
                "42804 foreign key constraint \"t_a_fkey\" cannot be implemented",
            ),
            (
                "CREATE TABLE t (a int, FOREIGN KEY (x) REFERENCES p)",
                "42703 column \"x\" referenced in foreign key constraint does not exist",
            ),
            (
                "CREATE TABLE t (a int REFERENCES p MATCH PARTIAL)",
                "0A000 MATCH PARTIAL not yet implemented",
            ),
            (
                "SET CONSTRAINTS p_pkey DEFERRED",
                "42809 constraint \"p_pkey\" is not deferrable",
            ),
        ])
        .await;
    });
}
