//! `[haproxy]`: the stick table of circuits, and how to reach it.

use crate::client::Endpoint;
use crate::command::TableName;

/// `[haproxy]`: the stick table of circuits, and how to reach it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HaproxyConfig {
    /// `socket_path` or `address`: `HAProxy`'s stats socket. None by default: Fortify then uses no
    /// `HAProxy`.
    pub endpoint: Option<Endpoint>,
    /// `table_name`: the stick table of circuits, `tor_ingress` by default.
    pub table: TableName,
}
