//! Maintenance of the site: visitors get a page that says so.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::off_thread;
use crate::error::AdminError;
use crate::handler::{Context, Nothing, line};
use fortify_core::clock::Timestamp;
use fortify_web::maintenance::{MAX_MESSAGE, MAX_MINUTES, Maintenance};

/// Whether there is maintenance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MaintenanceView {
    /// Whether visitors are told that the site is being worked on.
    pub on: bool,
    /// When it began, in ms since the Unix epoch.
    pub since: Option<Timestamp>,
    /// When it ends by itself, in ms since the Unix epoch; null if an operator has to end it.
    pub until: Option<Timestamp>,
    /// Seconds until then.
    pub seconds_left: Option<u64>,
    /// What visitors read; null for the usual text.
    pub message: Option<String>,
}

/// Begins maintenance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Minutes after which it ends by itself, at most a week; without, or with 0, an operator ends it.
    pub minutes: Option<u32>,
    /// What visitors read instead of the usual text: one line.
    pub message: Option<String>,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// Ends maintenance.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// Reports whether there is maintenance.
///
/// # Errors
///
/// None at present.
pub async fn get(context: Context, _: Nothing) -> Result<MaintenanceView, AdminError> {
    Ok(view(&context))
}

/// Has visitors told that the site is being worked on. Once more changes end and message.
///
/// # Errors
///
/// [`AdminError::BadRequest`] for a text or a time that is too long; faults of the files, and then nothing has changed.
pub async fn begin(context: Context, args: Begin) -> Result<MaintenanceView, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let message = line("message", args.message.as_deref().unwrap_or_default())?;
    if message.len() > MAX_MESSAGE {
        let advice = format!("message: use at most {MAX_MESSAGE} bytes");
        return Err(AdminError::BadRequest(advice));
    }
    let minutes = args.minutes.filter(|minutes| *minutes > 0);
    if minutes.is_some_and(|minutes| minutes > MAX_MINUTES) {
        let advice = format!("minutes: use at most {MAX_MINUTES}, or 0 for no end");
        return Err(AdminError::BadRequest(advice));
    }
    let now = context.app().clock.now();
    let before = context.app().maintenance.at(now);
    let begun = Maintenance {
        since: before.as_ref().map_or(now, |maintenance| maintenance.since),
        until: minutes.map(|minutes| now.after(Duration::from_secs(60 * u64::from(minutes)))),
        message: (!message.is_empty()).then_some(message),
    };
    let ends = minutes.map_or("on".to_owned(), |minutes| format!("on for {minutes} minutes"));
    let from = if before.is_some() { "on" } else { "off" };
    change(&context, from, &ends, &reason, Some(begun)).await
}

/// Lets visitors in again.
///
/// # Errors
///
/// Faults of the files, and then nothing has changed.
pub async fn end(context: Context, args: End) -> Result<MaintenanceView, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let is_on = context.app().maintenance.at(context.app().clock.now()).is_some();
    change(&context, if is_on { "on" } else { "off" }, "off", &reason, None).await
}

async fn change(
    context: &Context,
    from: &str,
    to: &str,
    reason: &str,
    maintenance: Option<Maintenance>,
) -> Result<MaintenanceView, AdminError> {
    let entry = context.entry("maintenance", "visitors")?;
    context.log(entry.change(from, to).because(reason)).await?;
    let switch = context.app().maintenance.clone();
    let set = off_thread(move || switch.set(maintenance)).await?;
    set.map_err(|error| {
        let advice = "the maintenance was not changed: storage.data_dir cannot be written";
        AdminError::Unavailable(format!("{advice}: {error}"))
    })?;
    tracing::info!(from, to, "maintenance was switched");
    Ok(view(context))
}

fn view(context: &Context) -> MaintenanceView {
    let now = context.app().clock.now();
    let maintenance = context.app().maintenance.at(now);
    let maintenance = maintenance.as_deref();
    let until = maintenance.and_then(|it| it.until);
    MaintenanceView {
        on: maintenance.is_some(),
        since: maintenance.map(|it| it.since),
        until,
        seconds_left: until.map(|until| now.until(until).as_secs()),
        message: maintenance.and_then(|it| it.message.clone()),
    }
}
