//! A temporary store with two tables, and statements run on it from their text.

use std::sync::Arc;

use super::harness::{Tables, function_cx};
use crate::catalog::relation::{Check, Relation};
use crate::ids::{Oid, Xid};
use crate::index::btree;
use crate::sql::bind::{self, BindCx};
use crate::sql::bound::OutputColumn;
use crate::sql::error::SqlError;
use crate::sql::exec::{
    ExecCx, MemoryLimits, NoVirtualTables, RowSink, SinkState, TempSpace, start,
};
use crate::sql::front;
use crate::sql::plan::{Plan, PlanCx, PlannerSettings, plan};
use crate::table::files;
use crate::table::testing::{create, relation};
use crate::txn::testing::{World, options, session};
use crate::txn::{CommitLevel, Isolation, Transaction, TxnOptions};
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;
use crate::types::oids;

/// `t(id int primary key, n int check (n >= 0), s text)` and `u`, the same without the check.
pub struct Database {
    pub world: World,
    pub catalog: Tables,
}

fn table(world: &World, number: u32, name: &str) -> Arc<Relation> {
    let mut made = relation(number, &[oids::INT4, oids::INT4, oids::TEXT], &[0]);
    made.name = name.to_owned();
    for (column, name) in made.columns.iter_mut().zip(["id", "n", "s"]) {
        column.name = name.to_owned();
    }
    made.columns[0].not_null = true;
    let index = Arc::get_mut(&mut made.indexes[0]).expect("just made");
    index.name = format!("{name}_pkey");
    create(world, &made);
    let index = &made.indexes[0];
    files::create_untracked(&world.store, Xid::BOOTSTRAP, index.file).expect("created");
    btree::create(&world.store, index, Xid::BOOTSTRAP).expect("an empty index");
    if name == "t" {
        made.checks.push(Check {
            oid: Oid::new(number + 5),
            name: "t_n_check".to_owned(),
            expression: "n >= 0".to_owned(),
        });
    }
    Arc::new(made)
}

/// Rows as text, NULL as `-`.
#[derive(Default)]
pub struct Shown {
    types: Vec<Oid>,
    rows: Vec<String>,
}

impl Shown {
    pub fn rows(&self) -> &[String] {
        &self.rows
    }
}

impl RowSink for Shown {
    fn columns(&mut self, columns: &[OutputColumn]) {
        self.types = columns.iter().map(|c| c.ty.oid).collect();
    }
    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError> {
        let cx = function_cx();
        let values: Vec<String> = row
            .iter()
            .zip(&self.types)
            .map(|(v, ty)| {
                if v.is_null() {
                    "-".to_owned()
                } else {
                    codec::to_text(*ty, v, &cx)
                }
            })
            .collect();
        self.rows.push(values.join("|"));
        Ok(SinkState::More)
    }
}

impl Database {
    pub fn new() -> Arc<Database> {
        let world = World::with_frames(256);
        let relations = vec![table(&world, 20_000, "t"), table(&world, 20_100, "u")];
        Arc::new(Database {
            world,
            catalog: Tables { relations },
        })
    }

    pub fn begin(&self, isolation: Isolation) -> Transaction {
        let options = TxnOptions {
            isolation,
            ..options()
        };
        self.world.txns.begin(options, session())
    }

    pub async fn commit(&self, txn: Transaction) {
        let done = self.world.txns.commit(txn, CommitLevel::Off).await;
        done.expect("committed");
    }

    pub fn plan(&self, text: &str, settings: &PlannerSettings) -> Result<Arc<Plan>, SqlError> {
        self.plan_under(text, settings, &function_cx())
    }

    pub fn plan_under(
        &self,
        text: &str,
        settings: &PlannerSettings,
        function: &Arc<FunctionCx>,
    ) -> Result<Arc<Plan>, SqlError> {
        let parsed = front::parse(text)?;
        let cx = BindCx {
            source: text,
            functions: function,
        };
        let bound = bind::bind(&parsed[0].statement, &self.catalog, &[], &cx)?;
        let cx = PlanCx {
            settings,
            pages: None,
            may_use: None,
            function,
        };
        Ok(Arc::new(plan(&bound, &self.catalog, &cx)?))
    }

    pub fn exec_cx(&self, txn: &Transaction) -> ExecCx {
        ExecCx {
            store: Arc::clone(&self.world.store),
            txns: Arc::clone(&self.world.txns),
            snapshot: Arc::new(self.world.txns.snapshot(txn)),
            isolation: txn.options().isolation,
            function: function_cx(),
            interrupts: Arc::clone(txn.interrupts()),
            virtuals: Arc::new(NoVirtualTables),
            limits: MemoryLimits::default(),
            temp: TempSpace::new(Arc::clone(&self.world.store.disk), txn.interrupts().pid()),
            instrument: false,
        }
    }

    /// Runs one statement in a transaction; its rows, or the number of rows that it changed.
    pub async fn run(&self, txn: &mut Transaction, text: &str) -> Result<Vec<String>, SqlError> {
        let cx = self.exec_cx(txn);
        self.run_with(txn, text, &[], cx).await
    }

    pub async fn run_with(
        &self,
        txn: &mut Transaction,
        text: &str,
        params: &[Datum],
        cx: ExecCx,
    ) -> Result<Vec<String>, SqlError> {
        let plan = self.plan(text, &PlannerSettings::default())?;
        let mut shown = Shown::default();
        let mut execution = start(&plan, params, cx);
        let progress = execution.run(txn, &mut shown, None).await?;
        assert!(progress.complete);
        txn.next_command()?;
        if plan.output.is_empty() {
            shown.rows.push(progress.rows.to_string());
        }
        Ok(shown.rows)
    }

    /// One statement in a transaction of its own.
    pub async fn auto(&self, text: &str) -> Result<Vec<String>, SqlError> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        match self.run(&mut txn, text).await {
            Ok(rows) => {
                self.commit(txn).await;
                Ok(rows)
            }
            Err(e) => {
                self.world.txns.abort(txn);
                Err(e)
            }
        }
    }

    pub async fn check(&self, text: &str, want: &[&str]) {
        let got = self.auto(text).await;
        assert_eq!(got.expect(text), want, "{text}");
    }

    pub async fn fails(&self, text: &str, state: &str, message: &str) -> SqlError {
        let error = self.auto(text).await.expect_err(text);
        assert_eq!(
            (error.state, error.message.as_str()),
            (state, message),
            "{text}"
        );
        error
    }
}

pub fn run_async<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async {
            tokio::time::timeout(std::time::Duration::from_secs(60), work)
                .await
                .expect("nothing waits for ever")
        })
}
