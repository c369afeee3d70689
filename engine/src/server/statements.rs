//! The real session behind the protocol loop.

use super::host::Statements;
use crate::ids::Oid;
use crate::sql::error::SqlError;
use crate::sql::session::output::Output;
use crate::sql::session::{BindRequest, Services, Session};

impl<S: Services> Statements for Session<S> {
    async fn simple<O: Output>(&mut self, text: &str, out: &mut O) -> Result<(), SqlError> {
        Session::simple(self, text, out).await
    }
    async fn parse<O: Output>(
        &mut self,
        name: &str,
        text: &str,
        types: Vec<Oid>,
        out: &mut O,
    ) -> Result<(), SqlError> {
        Session::parse(self, name, text, types, out).await
    }
    async fn bind<O: Output>(
        &mut self,
        bind: BindRequest<'_>,
        out: &mut O,
    ) -> Result<(), SqlError> {
        Session::bind(self, bind, out).await
    }
    async fn describe_statement<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        Session::describe_statement(self, name, out).await
    }
    async fn describe_portal<O: Output>(
        &mut self,
        name: &str,
        out: &mut O,
    ) -> Result<(), SqlError> {
        Session::describe_portal(self, name, out).await
    }
    async fn execute<O: Output>(
        &mut self,
        portal: &str,
        max_rows: u32,
        out: &mut O,
    ) -> Result<(), SqlError> {
        Session::execute(self, portal, max_rows, out).await
    }
    fn close_statement(&mut self, name: &str) {
        Session::close_statement(self, name);
    }
    fn close_portal(&mut self, name: &str) {
        Session::close_portal(self, name);
    }
    async fn sync<O: Output>(&mut self, _out: &mut O) -> Result<(), SqlError> {
        Session::sync(self).await
    }
    async fn failed(&mut self, skips: bool) {
        Session::failed(self, skips);
    }
    fn status(&self) -> u8 {
        Session::status(self)
    }
    fn has_transaction(&self) -> bool {
        Session::has_transaction(self)
    }
    fn report_settings<O: Output>(&mut self, out: &mut O) {
        Session::report_settings(self, out);
    }
    fn rests(&mut self) {
        Session::rests(self);
    }
    fn wakes(&mut self) {
        Session::wakes(self);
    }
    async fn close(self) {
        Session::close(self).await;
    }
}
