//! The addresses below `/_fortify/` that pages lead to and nginx asks.

/// Where another server asks about each request.
pub const AUTH: &str = "/_fortify/auth";

/// Where a visitor whose cookies are in question is sent, to come back as one of this site.
pub const ENTER: &str = "/_fortify/enter";

/// Where a visitor who waits in the admission queue asks again.
pub const TURN: &str = "/_fortify/turn";
