//! `fortify admin`: accounts and API tokens, whether or not a gate is running.
//!
//! The command writes the file that the gate has open. The gate reads it with every request, so a change holds
//! from the next request on.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use rustix::termios::{self, LocalModes, OptionalActions};

use super::CliError;
use fortify_admin::accounts::{Accounts, UserChange};
use fortify_admin::identity::{AuthMethod, Principal, Role, is_name};
use fortify_admin::log::MAX_TEXT;
use fortify_admin::password;
use fortify_admin::totp::{self, TotpSecret};
use fortify_config::Config;
use fortify_core::clock::{Clock, SystemClock, Timestamp};
use fortify_core::entropy::{SystemEntropy, random_bytes};
use fortify_store::record::Secret;

/// The longest secret that is read, in bytes.
const MOST_READ: u64 = 4096;

/// The subcommands of `fortify admin`.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Create an account. The password is prompted for, or read as one line from standard input.
    Add {
        /// Its name: a-z, 0-9, '.', '_', '@' and '-'.
        #[arg(value_parser = parse_name)]
        name: String,
        /// Its role.
        #[arg(long, value_enum, default_value = "admin")]
        role: RoleArg,
    },
    /// Set the password of an account and end its sessions. The password is read as with add.
    Passwd {
        /// The account.
        #[arg(value_parser = parse_name)]
        name: String,
    },
    /// Create an API token and print it; it cannot be shown again.
    Token {
        /// Its role.
        #[arg(long, value_enum, default_value = "viewer")]
        role: RoleArg,
        /// Days until it expires.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        /// What it is for.
        #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_label)]
        label: String,
    },
    /// Revoke an API token.
    Revoke {
        /// Its ID, as list shows it.
        id: String,
    },
    /// Require one-time codes for an account, and print the secret for its app; it cannot be shown again.
    Totp {
        /// The account.
        #[arg(value_parser = parse_name)]
        name: String,
        /// Stop requiring codes.
        #[arg(long)]
        off: bool,
    },
    /// List accounts and tokens.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove an account and end its sessions.
    Remove {
        /// The account.
        #[arg(value_parser = parse_name)]
        name: String,
    },
}

/// A role, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleArg {
    /// Reads everything.
    Viewer,
    /// Also sets the threat level, bans and trusts circuits, and ends sessions.
    Operator,
    /// Also manages accounts and tokens, and reloads the configuration.
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Operator => Self::Operator,
            RoleArg::Admin => Self::Admin,
        }
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let advice = || "use 1 to 64 of a-z, 0-9, '.', '_', '@' and '-'".to_owned();
    is_name(text).then(|| text.to_owned()).ok_or_else(advice)
}

fn parse_label(text: &str) -> Result<String, String> {
    let fits = text.len() <= MAX_TEXT && !text.contains(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(|| format!("use one line of at most {MAX_TEXT} bytes"))
}

pub(super) fn run(
    action: &Action,
    by: String,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let dir = &config.storage.data_dir;
    let accounts = match action {
        // The first account may be created before the gate's first start.
        Action::Add { .. } => Accounts::open_for_owner(dir),
        _ => Accounts::open_existing(dir),
    };
    let accounts = accounts.map_err(CliError::failed)?;
    let (now, who) = (
        SystemClock.now(),
        Principal { name: by, role: Role::Admin, auth_method: AuthMethod::File },
    );
    let change = |name: &str, change: &UserChange| {
        accounts.change_user(&who, name, change, now).map_err(CliError::failed)
    };
    match action {
        Action::Add { name, role } => {
            let hash = read_hash(name)?;
            let added = accounts.add_user(&who, name, (*role).into(), &hash, now);
            let user = added.map_err(CliError::failed)?;
            writeln!(out, "{} is {}", user.name, user.role)
        }
        Action::Passwd { name } => {
            // Before the password is prompted for.
            let users = accounts.users().map_err(CliError::failed)?;
            if !users.iter().any(|user| user.name == *name) {
                return Err(CliError::failed(fortify_admin::accounts::AccountsError::NoUser));
            }
            change(name, &UserChange::Password(read_hash(name)?))?;
            writeln!(out, "the password of {name} is set; its sessions have ended")
        }
        Action::Token { role, days, label } => {
            let expires = now.after(Duration::from_secs(days * 86_400));
            let made =
                accounts.add_token(&who, (*role).into(), label, now, expires, &SystemEntropy);
            let made = made.map_err(CliError::failed)?;
            writeln!(out, "{}", made.text.expose())
        }
        Action::Revoke { id } => {
            accounts.revoke_token(&who, id, now).map_err(CliError::failed)?;
            writeln!(out, "{id} is revoked")
        }
        Action::Totp { name, off: true } => {
            change(name, &UserChange::Totp(None))?;
            writeln!(out, "{name} needs no code any more; its sessions have ended")
        }
        Action::Totp { name, off: false } => {
            let secret = TotpSecret::new(random_bytes(&SystemEntropy).map_err(CliError::failed)?);
            let (text, address) = (totp::base32(&secret), totp::address(&secret, name));
            change(name, &UserChange::Totp(Some(secret)))?;
            writeln!(out, "{text}\n{address}")
        }
        Action::List { json } => list(&accounts, *json, now, out)?,
        Action::Remove { name } => {
            change(name, &UserChange::Remove)?;
            writeln!(out, "{name} is removed")
        }
    }
    .map_err(|e| CliError::output(&e))
}

fn list(
    accounts: &Accounts,
    as_json: bool,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<io::Result<()>, CliError> {
    let users = accounts.users().map_err(CliError::failed)?;
    let tokens = accounts.tokens().map_err(CliError::failed)?;
    if as_json {
        let all = serde_json::json!({"users": users, "tokens": tokens});
        return Ok(writeln!(out, "{all}"));
    }
    let mut write = || {
        writeln!(out, "{:<20} {:<9} CODES", "ACCOUNT", "ROLE")?;
        for user in &users {
            let codes = if user.totp { "yes" } else { "no" };
            writeln!(out, "{:<20} {:<9} {codes}", user.name, user.role)?;
        }
        if tokens.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{:<10} {:<9} {:<12} {:<20} FOR", "TOKEN", "ROLE", "ENDS IN", "MADE BY")?;
        for token in &tokens {
            let left = now.until(token.expires).as_secs() / 86_400;
            let ends = match (token.revoked, now < token.expires) {
                (Some(_), _) => "revoked".to_owned(),
                (None, false) => "over".to_owned(),
                (None, true) => format!("{left} days"),
            };
            let line = format!(
                "{:<10} {:<9} {ends:<12} {:<20} {}",
                token.id, token.role, token.made_by, token.label
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    };
    Ok(write())
}

/// Reads a password and hashes it.
fn read_hash(name: &str) -> Result<String, CliError> {
    let password = read_password(name)?;
    password::check(password.expose()).map_err(|error| CliError::Usage(error.to_string()))?;
    password::hash(&password, &SystemEntropy).map_err(CliError::failed)
}

/// A password: typed twice at a terminal, otherwise one line of standard input.
fn read_password(name: &str) -> Result<Secret<String>, CliError> {
    let first = ask(&format!("Password for {name}: "))?;
    if io::stdin().is_terminal() && ask("The same again: ")?.expose() != first.expose() {
        return Err(CliError::Usage("the two passwords differ; try again".to_owned()));
    }
    Ok(first)
}

/// A secret: prompted for without echo at a terminal, otherwise one line of standard input.
pub(super) fn ask(what: &str) -> Result<Secret<String>, CliError> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let _nowhere_left_to_ask = write!(io::stderr(), "{what}");
    let silent = EchoOff::begin()?;
    let secret = read_line();
    drop(silent);
    let _nowhere_left_to_ask = writeln!(io::stderr());
    secret
}

fn read_line() -> Result<Secret<String>, CliError> {
    let mut line = String::new();
    let read = io::stdin().lock().take(MOST_READ).read_line(&mut line);
    read.map_err(|error| CliError::Failed(format!("cannot read standard input: {error}")))?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(Secret::new(line))
}

/// Turns off the terminal's echo until it is dropped.
struct EchoOff(termios::Termios);

impl EchoOff {
    fn begin() -> Result<Self, CliError> {
        let fail =
            |error| CliError::Failed(format!("cannot turn off the terminal's echo: {error}"));
        let before = termios::tcgetattr(io::stdin()).map_err(fail)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(fail)?;
        Ok(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _the_terminal_is_gone =
            termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
