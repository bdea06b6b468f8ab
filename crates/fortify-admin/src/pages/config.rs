//! The current configuration.

use askama::Template;
use axum::response::Response;

use super::view::{self, STYLE, Shell};
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::operations::config::{self, Section};

#[derive(Template)]
#[template(path = "config.html")]
struct ConfigTemplate {
    shell: Shell,
    sections: Vec<Section>,
}

/// Shows the configuration.
pub(super) async fn show(context: Context, args: Nothing) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/config", "Configuration", None, None);
    let sections = config::show(context, args).await?.sections;
    Ok(view::html(&ConfigTemplate { shell, sections }))
}
