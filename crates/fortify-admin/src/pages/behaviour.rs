//! The behaviour of circuits, and what is or would be done about it.

use askama::Template;
use axum::response::Response;

use super::view::{self, STYLE, Shell, class_words, number, span};
use crate::error::AdminError;
use crate::handler::{Context, Nothing};
use crate::operations::behaviour::{self, Asked};
use fortify_engine::behaviour::{Mode, Report};

#[derive(Template)]
#[template(path = "behaviour.html")]
struct BehaviourTemplate {
    shell: Shell,
    mode: &'static str,
    report: Report,
    stricter: String,
    usual: String,
}

/// Shows the report.
pub(super) async fn show(context: Context, args: Nothing) -> Result<Response, AdminError> {
    let shell = Shell::new(&context, "/admin/behaviour", "Behaviour", None, None);
    let behaviour = behaviour::show(context, args).await?;
    Ok(view::html(&BehaviourTemplate {
        shell,
        mode: match behaviour.report.mode {
            Mode::Off => "off",
            Mode::Observe => "observe",
            Mode::Learn => "learn",
            Mode::Act => "act",
        },
        stricter: asked(&behaviour.found),
        usual: asked(&behaviour.others),
        report: behaviour.report,
    }))
}

fn asked(asked: &Asked) -> String {
    let hard = if asked.hard { "harder " } else { "" };
    match asked.stages {
        1 => format!("one {hard}challenge"),
        stages => format!("{stages} {hard}challenges in a row"),
    }
}
