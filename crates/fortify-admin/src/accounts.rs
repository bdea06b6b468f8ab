//! `admin.sqlite`: accounts, API tokens, the setup token, and the [`log`].
//!
//! Opened by [`sqlite`], so a change is on disk before it is acknowledged. The gate and `fortify admin` both write
//! the file, and every request with a session or a token reads it, so a change holds from the next request on,
//! whoever made it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::identity::{AuthMethod, Principal, Role};
use super::log::{self, Entry, RefusalKind, number, timestamp};
use super::schema::SCHEMA;
use super::totp::{SECRET_BYTES, TotpSecret};
use fortify_core::clock::Timestamp;
use fortify_core::damage::Damage;
use fortify_core::entropy::{Entropy, EntropyError, random_bytes};
use fortify_core::sqlite::{self, FileError, Opened, WriteCount};
use fortify_store::record::Secret;

/// The most accounts.
pub const MAX_USERS: u64 = 100;
/// The most tokens, including expired and revoked ones, which are deleted after a month.
pub const MAX_TOKENS: u64 = 1000;
/// How long expired and revoked tokens are kept.
const TOKEN_FORGOTTEN: Duration = Duration::from_secs(30 * 86_400);

/// The prefix of every token, so that a leaked one can be recognized.
const TOKEN_PREFIX: &str = "fortify_";

/// Why the file cannot be used, or a change is refused. Each message says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccountsError {
    /// The file cannot be used.
    #[error(transparent)]
    File(FileError),
    /// The file is damaged. It is not replaced automatically, because anyone who sees the setup token of a new one
    /// becomes admin.
    #[error(
        "{}: is damaged ({cause}); stop the gate and restore a backup, or move the file away together with its \
         -wal and -shm files, which loses all accounts",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// There is no such account.
    #[error("there is no such account; GET /admin/api/v1/users or fortify admin list has all")]
    NoUser,
    /// There is no such token.
    #[error("there is no such token; GET /admin/api/v1/tokens or fortify admin list has all")]
    NoToken,
    /// The name is taken.
    #[error("there is an account of this name already; use another name")]
    Exists,
    /// Without this account nobody could manage accounts.
    #[error("this is the last admin; create another one first")]
    LastAdmin,
    /// The limit is reached.
    #[error("the limit of accounts or tokens is reached; remove one first")]
    TooMany,
    /// There is an account already.
    #[error("there is an account already; log in, or use: fortify admin add")]
    SetUp,
    /// The setup token is wrong.
    #[error("the setup token is not right")]
    BadSetup,
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    Entropy,
}

impl From<FileError> for AccountsError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Damaged { path, cause } => Self::Damaged { path, cause },
            error => Self::File(error),
        }
    }
}

impl From<EntropyError> for AccountsError {
    fn from(_none: EntropyError) -> Self {
        Self::Entropy
    }
}

/// An account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct User {
    /// Its number, which is never reused.
    #[serde(skip)]
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Whether it needs a one-time code to log in.
    pub totp: bool,
    /// When it was created, in ms since the Unix epoch.
    pub created: Timestamp,
    /// Incremented by each change that ends its sessions.
    #[serde(skip)]
    pub generation: i64,
}

/// An account with its secrets, to check a log-in.
pub(super) struct Credentials {
    pub(super) user: User,
    pub(super) password: String,
    pub(super) totp: Option<TotpSecret>,
    pub(super) totp_step: u64,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Token {
    /// Its name.
    pub id: String,
    /// Its role.
    pub role: Role,
    /// What it is for.
    pub label: String,
    /// Who created it.
    pub made_by: String,
    /// When it was created, in ms since the Unix epoch.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

/// A token that was just created. Its text is not known later.
pub struct IssuedToken {
    /// The token without its secret.
    pub token: Token,
    /// Its text.
    pub text: Secret<String>,
}

/// A change of an account.
pub enum UserChange {
    /// A new role.
    Role(Role),
    /// A new password, hashed.
    Password(String),
    /// A new secret for one-time codes, or none.
    Totp(Option<TotpSecret>),
    /// Removal.
    Remove,
}

/// The open file.
pub struct Accounts {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Refusals that are not in the file yet, by minute.
    refused: Mutex<HashMap<(u64, RefusalKind), u64>>,
    writes: WriteCount,
    damages: Vec<Damage>,
}

/// The number of the last recorded change; 0 if there is none. Each change of an account or token is recorded.
fn last_change(connection: &Connection) -> u64 {
    let last = connection.query_row("SELECT max(seq) FROM log", [], |row| row.get(0));
    last.map_or(0, |last: Option<i64>| last.map_or(0, i64::unsigned_abs))
}

impl Accounts {
    /// Opens the file in `data_dir`; creates it, accessible only to its owner, if there is none.
    ///
    /// # Errors
    ///
    /// [`AccountsError`], with the file and what to do.
    pub fn open(data_dir: &Path) -> Result<Self, AccountsError> {
        Ok(Self::over(sqlite::open_sound(data_dir, &SCHEMA)?))
    }

    /// As [`Self::open`], for a command that may run before the gate's first start: a new file gets the
    /// directory's owner.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and if the directory does not exist or belongs to another user.
    pub fn open_for_owner(data_dir: &Path) -> Result<Self, AccountsError> {
        Ok(Self::over(sqlite::open_for_owner(data_dir, &SCHEMA)?))
    }

    /// Opens the existing file of a gate.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and [`FileError::NotThere`].
    pub fn open_existing(data_dir: &Path) -> Result<Self, AccountsError> {
        Ok(Self::over(sqlite::open_existing(data_dir, &SCHEMA)?))
    }

    fn over(opened: Opened) -> Self {
        let Opened { connection, path, writes, .. } = opened;
        let damages = writes.check(last_change(&connection));
        Self {
            connection: Mutex::new(connection),
            path,
            refused: Mutex::default(),
            writes,
            damages,
        }
    }

    /// What was lost of the file: an operator or token that was removed may be back.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// Runs `work` on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, AccountsError> + Send + 'static,
    ) -> Result<T, AccountsError> {
        let (this, path) = (self.clone(), self.path.clone());
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.map_err(|ended| FileError::Failed { path, cause: ended.to_string() })?
    }

    /// Creates the token for the first account; `None` if there is an account or ever was such a token.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or without randomness.
    pub fn begin_setup(
        &self,
        entropy: &dyn Entropy,
    ) -> Result<Option<Secret<String>>, AccountsError> {
        let text = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<24>(entropy)?));
        let hash = hash_of(text.expose());
        let made = self.write(|writing| {
            let users: i64 = writing.query_row("SELECT count(*) FROM users", [], |r| r.get(0))?;
            let begun = writing.query_row("SELECT 1 FROM setup", [], |_| Ok(())).optional()?;
            if users > 0 || begun.is_some() {
                return Ok(Ok(false));
            }
            writing.execute("INSERT INTO setup VALUES (0, ?1)", [hash])?;
            Ok(Ok(true))
        })?;
        Ok(made.then_some(text))
    }

    /// Whether there is any account.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn has_users(&self) -> Result<bool, AccountsError> {
        let any = "SELECT EXISTS (SELECT 1 FROM users)";
        self.read(|connection| connection.query_row(any, [], |row| row.get(0)))
    }

    /// Whether a setup token can still create the first account.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn awaits_setup(&self) -> Result<bool, AccountsError> {
        self.read(|connection| {
            connection.query_row("SELECT count(*) FROM setup WHERE hash IS NOT NULL", [], |row| {
                row.get::<_, i64>(0).map(|count| count > 0)
            })
        })
    }

    /// Creates the first account, an admin, and uses the setup token up.
    ///
    /// # Errors
    ///
    /// [`AccountsError::BadSetup`], and faults of the file.
    pub fn set_up(
        &self,
        token: &Secret<String>,
        name: &str,
        password: &str,
        at: Timestamp,
    ) -> Result<User, AccountsError> {
        let hash = hash_of(token.expose());
        let principal = Principal {
            name: name.to_owned(),
            role: Role::Admin,
            auth_method: AuthMethod::Session,
        };
        self.write(|writing| {
            let used = writing.execute("UPDATE setup SET hash = NULL WHERE hash = ?1", [hash])?;
            let users: i64 = writing.query_row("SELECT count(*) FROM users", [], |r| r.get(0))?;
            if used == 0 || users > 0 {
                return Ok(Err(AccountsError::BadSetup));
            }
            let user = insert(writing, name, Role::Admin, password, at)?;
            let entry = Entry::new(&principal, at, "user.add", name).change("", Role::Admin);
            log::append(writing, &Entry { auth_method: "setup".to_owned(), ..entry })?;
            Ok(Ok(user))
        })
    }

    /// Creates an account, and invalidates the setup token if there is one.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Exists`], [`AccountsError::TooMany`], and faults of the file.
    pub fn add_user(
        &self,
        by: &Principal,
        name: &str,
        role: Role,
        password: &str,
        at: Timestamp,
    ) -> Result<User, AccountsError> {
        self.write(|writing| {
            let users: i64 = writing.query_row("SELECT count(*) FROM users", [], |r| r.get(0))?;
            if users >= number(MAX_USERS) {
                return Ok(Err(AccountsError::TooMany));
            }
            if find_user(writing, name)?.is_some() {
                return Ok(Err(AccountsError::Exists));
            }
            writing.execute("INSERT OR REPLACE INTO setup VALUES (0, NULL)", [])?;
            let user = insert(writing, name, role, password, at)?;
            log::append(writing, &Entry::new(by, at, "user.add", name).change("", role))?;
            Ok(Ok(user))
        })
    }

    /// Changes or removes an account and ends its sessions.
    ///
    /// # Errors
    ///
    /// [`AccountsError::NoUser`], [`AccountsError::LastAdmin`], and faults of the file.
    pub fn change_user(
        &self,
        by: &Principal,
        name: &str,
        change: &UserChange,
        at: Timestamp,
    ) -> Result<User, AccountsError> {
        self.write(|writing| {
            let Some(Credentials { user, .. }) = find_user(writing, name)? else {
                return Ok(Err(AccountsError::NoUser));
            };
            let stays = !matches!(change, UserChange::Remove)
                && !matches!(change, UserChange::Role(role) if *role != Role::Admin);
            let admins: i64 = writing.query_row(
                "SELECT count(*) FROM users WHERE role = 'admin'",
                [],
                |row| row.get(0),
            )?;
            if user.role == Role::Admin && !stays && admins <= 1 {
                return Ok(Err(AccountsError::LastAdmin));
            }
            let entry = |action| Entry::new(by, at, action, name);
            let entry = match change {
                UserChange::Role(role) => {
                    writing.execute(
                        "UPDATE users SET role = ?1 WHERE id = ?2",
                        params![role.as_str(), user.id],
                    )?;
                    entry("user.role").change(user.role, role)
                }
                UserChange::Password(hash) => {
                    writing.execute(
                        "UPDATE users SET password = ?1 WHERE id = ?2",
                        params![hash, user.id],
                    )?;
                    entry("user.password")
                }
                UserChange::Totp(secret) => {
                    let bytes = secret.as_ref().map(|secret| secret.expose().to_vec());
                    writing.execute(
                        "UPDATE users SET totp = ?1 WHERE id = ?2",
                        params![bytes, user.id],
                    )?;
                    let word = |on: bool| if on { "on" } else { "off" };
                    entry("user.totp").change(word(user.totp), word(secret.is_some()))
                }
                UserChange::Remove => {
                    writing.execute("DELETE FROM users WHERE id = ?1", [user.id])?;
                    entry("user.remove").change(user.role, "")
                }
            };
            writing
                .execute("UPDATE users SET generation = generation + 1 WHERE id = ?1", [user.id])?;
            log::append(writing, &entry)?;
            Ok(Ok(find_user(writing, name)?.map_or(user, |changed| changed.user)))
        })
    }

    /// All accounts, sorted by name.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn users(&self) -> Result<Vec<User>, AccountsError> {
        self.read(|connection| {
            let mut statement =
                connection.prepare(&format!("SELECT {USER} FROM users ORDER BY name"))?;
            let rows = statement.query_map([], |row| read_user(row).map(|found| found.user))?;
            rows.collect()
        })
    }

    pub(super) fn credentials(&self, name: &str) -> Result<Option<Credentials>, AccountsError> {
        self.read(|connection| find_user(connection, name))
    }

    /// The account with this number.
    pub(super) fn user(&self, id: i64) -> Result<Option<User>, AccountsError> {
        self.read(|connection| {
            let query = format!("SELECT {USER} FROM users WHERE id = ?1");
            let found = connection.query_row(&query, [id], read_user).optional()?;
            Ok(found.map(|found| found.user))
        })
    }

    /// Uses a one-time code up; `false` if it was used before.
    pub(super) fn use_code(&self, user: i64, step: u64) -> Result<bool, AccountsError> {
        self.write(|writing| {
            let used = writing.execute(
                "UPDATE users SET totp_step = ?1 WHERE id = ?2 AND totp_step < ?1",
                params![number(step), user],
            )?;
            Ok(Ok(used == 1))
        })
    }

    /// Creates a token of `role` that expires at `expires`.
    ///
    /// # Errors
    ///
    /// [`AccountsError::TooMany`], faults of the file, no randomness.
    pub fn add_token(
        &self,
        by: &Principal,
        role: Role,
        label: &str,
        at: Timestamp,
        expires: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<IssuedToken, AccountsError> {
        let id: String =
            random_bytes::<4>(entropy)?.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = URL_SAFE_NO_PAD.encode(random_bytes::<32>(entropy)?);
        let text = Secret::new(format!("{TOKEN_PREFIX}{secret}"));
        let hash = hash_of(text.expose());
        let (label, made_by) = (label.to_owned(), by.name.clone());
        let token = Token { id, role, label, made_by, created: at, expires, revoked: None };
        let token = self.write(move |writing| {
            let over = number(at.before(TOKEN_FORGOTTEN).as_millis());
            writing.execute(
                "DELETE FROM tokens WHERE min(expires, coalesce(revoked, expires)) < ?1",
                [over],
            )?;
            let tokens: i64 = writing.query_row("SELECT count(*) FROM tokens", [], |r| r.get(0))?;
            if tokens >= number(MAX_TOKENS) {
                return Ok(Err(AccountsError::TooMany));
            }
            writing.execute(
                "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)",
                params![
                    token.id,
                    hash,
                    role.as_str(),
                    token.label,
                    token.made_by,
                    number(at.as_millis()),
                    number(expires.as_millis())
                ],
            )?;
            let entry = Entry::new(by, at, "token.add", &token.id).change("", role);
            log::append(writing, &entry.because(&token.label))?;
            Ok(Ok(token))
        })?;
        Ok(IssuedToken { token, text })
    }

    /// Revokes a token.
    ///
    /// # Errors
    ///
    /// [`AccountsError::NoToken`], and faults of the file.
    pub fn revoke_token(
        &self,
        by: &Principal,
        id: &str,
        at: Timestamp,
    ) -> Result<Token, AccountsError> {
        self.write(|writing| {
            writing.execute(
                "UPDATE tokens SET revoked = ?1 WHERE id = ?2 AND revoked IS NULL",
                params![number(at.as_millis()), id],
            )?;
            let query = format!("SELECT {TOKEN} FROM tokens WHERE id = ?1");
            let Some(token) = writing.query_row(&query, [id], read_token).optional()? else {
                return Ok(Err(AccountsError::NoToken));
            };
            log::append(writing, &Entry::new(by, at, "token.revoke", id).change(token.role, ""))?;
            Ok(Ok(token))
        })
    }

    /// All tokens in the file, the latest first.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>, AccountsError> {
        self.read(|connection| {
            let query = format!("SELECT {TOKEN} FROM tokens ORDER BY created DESC, id");
            let mut statement = connection.prepare(&query)?;
            let rows = statement.query_map([], read_token)?;
            rows.collect()
        })
    }

    /// The token with this text, if it is valid.
    pub(super) fn token(&self, text: &str, now: Timestamp) -> Result<Option<Token>, AccountsError> {
        let hash = hash_of(text);
        self.read(move |connection| {
            let query = format!("SELECT {TOKEN} FROM tokens WHERE hash = ?1");
            let token = connection.query_row(&query, [hash], read_token).optional()?;
            Ok(token.filter(|token| token.revoked.is_none() && now < token.expires))
        })
    }

    /// Records a change.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the change must not be made then.
    pub fn log(&self, entry: &Entry) -> Result<(), AccountsError> {
        self.log_all(std::slice::from_ref(entry))
    }

    /// Records several changes, or none of them.
    ///
    /// # Errors
    ///
    /// As [`Self::log`].
    pub fn log_all(&self, entries: &[Entry]) -> Result<(), AccountsError> {
        self.write(|writing| {
            entries.iter().try_for_each(|entry| log::append(writing, entry)).map(Ok)
        })
    }

    /// The last `most` entries of each list of the log before `before` and `place`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn kept(
        &self,
        before: Timestamp,
        place: &log::LogCursor,
        most: u64,
    ) -> Result<log::LogPage, AccountsError> {
        self.keep_refusals()?;
        self.read(|connection| log::read(connection, before, place, most))
    }

    /// Counts a refusal, in memory until [`Self::keep_refusals`].
    pub fn refuse(&self, what: RefusalKind, at: Timestamp) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // If the file cannot be written for long, the oldest minutes are dropped.
        if refused.len() >= 60 * RefusalKind::ALL.len() {
            let oldest = refused.keys().map(|(minute, _)| *minute).min();
            refused.retain(|(minute, _), _| Some(*minute) != oldest);
        }
        *refused.entry((at.as_secs() / 60, what)).or_default() += 1;
    }

    /// Writes the counted refusals to the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the counts stay in memory.
    pub fn keep_refusals(&self) -> Result<(), AccountsError> {
        let taken =
            std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return Ok(());
        }
        let kept = self.write(|writing| {
            for ((minute, what), count) in &taken {
                let minute = Timestamp::from_secs(minute.saturating_mul(60));
                log::count(writing, minute, *what, *count)?;
            }
            Ok(Ok(()))
        });
        if kept.is_err() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, count) in taken {
                *refused.entry(key).or_default() += count;
            }
        }
        kept
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, AccountsError> {
        work(&self.lock()).map_err(|error| self.failed(&error))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T, AccountsError>>,
    ) -> Result<T, AccountsError> {
        let behaviour = TransactionBehavior::Immediate;
        let mut connection = self.lock();
        let written = connection.transaction_with_behavior(behaviour).and_then(|writing| {
            let done = work(&writing)?;
            // After a refusal the transaction is dropped, which rolls it back.
            if done.is_ok() {
                writing.commit()?;
            }
            Ok(done)
        });
        self.writes.set(last_change(&connection));
        written.unwrap_or_else(|error| Err(self.failed(&error)))
    }

    /// Consistent after any panic: a transaction that was not committed is rolled back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &rusqlite::Error) -> AccountsError {
        FileError::of(&self.path, error).into()
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The columns of [`read_user`] and [`read_token`].
const USER: &str = "id, name, role, password, totp, totp_step, generation, created";
const TOKEN: &str = "id, role, label, made_by, created, expires, revoked";

fn insert(
    writing: &Transaction<'_>,
    name: &str,
    role: Role,
    password: &str,
    created: Timestamp,
) -> rusqlite::Result<User> {
    writing.execute(
        "INSERT INTO users (name, role, password, created) VALUES (?1, ?2, ?3, ?4)",
        params![name, role.as_str(), password, number(created.as_millis())],
    )?;
    let (id, name) = (writing.last_insert_rowid(), name.to_owned());
    Ok(User { id, name, role, totp: false, created, generation: 0 })
}

fn find_user(connection: &Connection, name: &str) -> rusqlite::Result<Option<Credentials>> {
    let query = format!("SELECT {USER} FROM users WHERE name = ?1");
    connection.query_row(&query, [name], read_user).optional()
}

fn role(row: &Row<'_>, column: usize) -> rusqlite::Result<Role> {
    let word: String = row.get(column)?;
    // The table allows no other value; should there be one, it gets the lowest role.
    Ok(Role::parse(&word).unwrap_or(Role::Viewer))
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<Credentials> {
    let totp: Option<[u8; SECRET_BYTES]> = row.get(4)?;
    let step: i64 = row.get(5)?;
    Ok(Credentials {
        user: User {
            id: row.get(0)?,
            name: row.get(1)?,
            role: role(row, 2)?,
            totp: totp.is_some(),
            created: timestamp(row.get(7)?),
            generation: row.get(6)?,
        },
        password: row.get(3)?,
        totp: totp.map(Secret::new),
        totp_step: u64::try_from(step).unwrap_or(0),
    })
}

fn read_token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let revoked: Option<i64> = row.get(6)?;
    Ok(Token {
        id: row.get(0)?,
        role: role(row, 1)?,
        label: row.get(2)?,
        made_by: row.get(3)?,
        created: timestamp(row.get(4)?),
        expires: timestamp(row.get(5)?),
        revoked: revoked.map(timestamp),
    })
}

/// The hash of a token. Tokens are random, so a fast hash is enough; and looking up a hash compares no secrets.
fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
