//! Reloading the configuration, for an operator and for SIGHUP.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::SharedAdmin;
use crate::error::AdminError;
use crate::handler::{Context, line};
use crate::identity::{AuthMethod, Principal, Role};
use crate::log::Entry;
use fortify_config::Change;
use fortify_core::clock::Timestamp;
use fortify_web::reload::{ReloadError, Reloaded};

/// The action in the audit.
const ACTION: &str = "config.reload";

/// A request to reload the configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// Reloads the configuration and applies it, or changes nothing.
///
/// # Errors
///
/// [`AdminError::Conflict`] with file, line and key; faults of the files, and then nothing has changed.
pub async fn reload(context: Context, args: Reload) -> Result<Reloaded, AdminError> {
    let reason = line("reason", args.reason.as_deref().unwrap_or_default())?;
    let principal = context.principal()?.clone();
    perform(context.admin.clone(), principal, reason).await.map_err(|error| match error {
        ReloadError::NoSource | ReloadError::Invalid(_) => AdminError::Conflict(error.to_string()),
        ReloadError::Build(_) | ReloadError::Record(_) | ReloadError::Panicked => {
            AdminError::Unavailable(error.to_string())
        }
    })
}

/// Reloads the configuration after a signal. The result is in the log.
pub async fn by_signal(admin: &SharedAdmin) {
    let principal =
        Principal { name: "SIGHUP".to_owned(), role: Role::Admin, auth_method: AuthMethod::Signal };
    let _logged_already = perform(admin.clone(), principal, String::new()).await;
}

/// Runs to its end even if the caller stops waiting.
async fn perform(
    admin: SharedAdmin,
    principal: Principal,
    reason: String,
) -> Result<Reloaded, ReloadError> {
    let work = async move {
        let at = admin.app().clock.now();
        let entries = {
            let (principal, reason) = (principal.clone(), reason.clone());
            move |reloaded: &Reloaded| entries(&principal, at, &reason, reloaded)
        };
        let accounts = admin.accounts.clone();
        let record = |reloaded: Reloaded| async move {
            let entries = entries(&reloaded);
            let logged = accounts.with(move |accounts| accounts.log_all(&entries)).await;
            logged.map_err(|error| error.to_string())
        };
        let reloaded = admin.live.reload_on_record(record).await;
        if let Err(error) = &reloaded {
            let why = error.to_string().replace('\n', "; ");
            let entry = Entry::new(&principal, at, ACTION, "failed").because(&why);
            let logged = admin.accounts.with(move |accounts| accounts.log(&entry)).await;
            if let Err(error) = logged {
                tracing::warn!(%error, "a failed reload was not recorded in the audit");
            }
        }
        reloaded
    };
    tokio::spawn(work).await.unwrap_or(Err(ReloadError::Panicked))
}

/// One entry for each key that changed, or one that says that none did.
fn entries(principal: &Principal, at: Timestamp, reason: &str, reloaded: &Reloaded) -> Vec<Entry> {
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
    let entry = |change: &Change, when: &str| {
        let to = format!("{}{when}", word(&change.to));
        Entry::new(principal, at, ACTION, &change.key)
            .change(word(&change.from), to)
            .because(reason)
    };
    let now = reloaded.applied.iter().map(|change| entry(change, ""));
    let later = reloaded.at_restart.iter().map(|change| entry(change, " (at the next start)"));
    let mut all: Vec<_> = now.chain(later).collect();
    if all.is_empty() {
        all.push(Entry::new(principal, at, ACTION, "unchanged").because(reason));
    }
    all
}
