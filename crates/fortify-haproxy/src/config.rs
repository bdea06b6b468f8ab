//! `[haproxy]`: the table that is told.

use crate::client::Endpoint;
use crate::command::TableName;

/// `[haproxy]`: the table that is told how circuits stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HaproxyConfig {
    /// `socket` or `address`: `HAProxy`'s stats socket; none by default, and then no `HAProxy` is
    /// told anything.
    pub endpoint: Option<Endpoint>,
    /// `table`: the stick table of circuits, `tor_ingress` by default.
    pub table: TableName,
}
