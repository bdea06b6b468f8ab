//! Maintenance of the site: whether visitors are told so, and the switch.

use askama::Template;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::view::{self, STYLE, Shell, utc};
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::operations::maintenance::{self, Begin, End, MaintenanceView};

const PATH: &str = "/admin/maintenance";

/// The arguments of the page.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    /// The keyword of the message to show.
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "maintenance.html")]
struct MaintenanceTemplate {
    shell: Shell,
    status: MaintenanceView,
}

/// Shows the switch.
pub(super) async fn show(context: Context, args: Show) -> Result<Response, AdminError> {
    page(context, args, None).await
}

async fn page(
    context: Context,
    args: Show,
    error: Option<AdminError>,
) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, PATH, "Maintenance", args.done.as_deref(), error.as_ref());
    let status = maintenance::get(context, Nothing {}).await?;
    Ok(view::html_because(&MaintenanceTemplate { shell, status }, error))
}

/// Begins maintenance.
pub(super) async fn begin(context: Context, args: Begin) -> Result<Response, AdminError> {
    match maintenance::begin(context.clone(), args).await {
        Ok(_) => Ok(view::go(PATH, Some("maintenance-on"))),
        Err(error) => page(context, Show::default(), Some(error)).await,
    }
}

/// Ends maintenance.
pub(super) async fn end(context: Context, args: End) -> Result<Response, AdminError> {
    match maintenance::end(context.clone(), args).await {
        Ok(_) => Ok(view::go(PATH, Some("maintenance-off"))),
        Err(error) => page(context, Show::default(), Some(error)).await,
    }
}
