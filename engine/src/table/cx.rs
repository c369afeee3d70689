//! What every table operation needs besides its table.

use crate::storage::Store;
use crate::txn::TxnManager;

#[derive(Clone, Copy)]
pub struct TableCx<'a> {
    pub store: &'a Store,
    pub txns: &'a TxnManager,
}
