//! The commands that Fortify sends to `HAProxy`, as types.
//!
//! The Runtime API takes text, and some texts do damage: `set table T` without a key reports success and
//! clears the whole table; `data.gpc0 -1` is stored as 4294967295. These types cannot produce them: a key is a
//! circuit's number, a value is one of three, and a table's name has no character that ends a word or a
//! command.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fortify_core::circuit::TorCircuit;

/// The longest name of a table, characters: far above any that people write.
const MAX_TABLE_NAME: usize = 64;

/// The name of a stick table: 1 to 64 of the characters that `HAProxy` allows in the name of a
/// proxy (letters, digits, `.`, `_`, `-`; not `:`, which would name a table of another process).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TableName(Arc<str>);

/// The error for a text that is no table name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a stick table, use 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct BadTableName;

impl TableName {
    /// The name as `HAProxy`'s configuration has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TableName {
    type Err = BadTableName;

    fn from_str(text: &str) -> Result<Self, BadTableName> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        match text.len() {
            1..=MAX_TABLE_NAME if text.bytes().all(plain) => Ok(Self(text.into())),
            _ => Err(BadTableName),
        }
    }
}

impl Default for TableName {
    /// The table of the shipped `deploy/haproxy.cfg`.
    fn default() -> Self {
        Self("tor_ingress".into())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableName({})", self.0)
    }
}

/// The value of `gpc0`, with its meaning in `deploy/haproxy.cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Flag {
    /// Neither trusted nor banned.
    Normal = 0,
    /// Trusted: solved a challenge, and is exempt from rate limits.
    Vip = 1,
    /// Banned: every request is refused.
    Banned = 2,
}

impl Flag {
    /// The number in the table.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The flag for a number in the table; `None` for one that Fortify never writes.
    #[must_use]
    pub const fn of(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Normal),
            1 => Some(Self::Vip),
            2 => Some(Self::Banned),
            _ => None,
        }
    }
}

/// A change of `gpc1`, the penalty counter in `deploy/haproxy.cfg`. `HAProxy` adds one for each request that it
/// refuses because of its rate, and applies stricter limits from ten on, to trusted circuits too. A solved
/// challenge does not reset the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Penalty {
    /// Leave the counter as it is.
    #[default]
    Unchanged,
    /// Set it to 0: the penalty is over, or an operator reset the circuit.
    Lifted,
    /// Set it to 10: the circuit's answers look like a bot's.
    Suspected,
}

/// A change to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets one circuit's entry, creating it if needed, and restarts its expiry.
    Set {
        /// The table.
        table: TableName,
        /// The circuit of the entry.
        key: TorCircuit,
        /// The circuit's status.
        gpc0: Flag,
        /// The change of the penalty counter.
        gpc1: Penalty,
    },
}

impl Command {
    /// Marks `circuit` as trusted.
    #[must_use]
    pub fn promote(table: &TableName, circuit: TorCircuit) -> Self {
        Self::set(table, circuit, Flag::Vip)
    }

    /// Marks `circuit` as banned.
    #[must_use]
    pub fn ban(table: &TableName, circuit: TorCircuit) -> Self {
        Self::set(table, circuit, Flag::Banned)
    }

    /// Marks `circuit` as normal. This is not `clear table`, which does not reach peers, so that a peer
    /// would restore the entry.
    #[must_use]
    pub fn reset(table: &TableName, circuit: TorCircuit) -> Self {
        Self::set(table, circuit, Flag::Normal)
    }

    fn set(table: &TableName, circuit: TorCircuit, gpc0: Flag) -> Self {
        Self::Set { table: table.clone(), key: circuit, gpc0, gpc1: Penalty::Unchanged }
    }

    /// The number of the circuit whose penalty counter the command resets, if it does.
    #[must_use]
    pub fn lifted(&self) -> Option<u32> {
        match self {
            Self::Set { key, gpc1: Penalty::Lifted, .. } => Some(key.number()),
            Self::Set { .. } => None,
        }
    }

    /// The same command with this change of the penalty counter.
    #[must_use]
    pub fn with(self, penalty: Penalty) -> Self {
        let Self::Set { table, key, gpc0, .. } = self;
        Self::Set { table, key, gpc0, gpc1: penalty }
    }

    /// Appends the command as `HAProxy` reads it, without what ends it.
    pub(super) fn write(&self, line: &mut String) {
        let Self::Set { table, key, gpc0, gpc1 } = self;
        let (address, value) = (key.address(), gpc0.value());
        // `+=` of pieces: writing into a String cannot fail, and `write!` would have to be asked.
        line.push_str("set table ");
        line.push_str(table.as_str());
        line.push_str(" key ");
        line.push_str(&address.to_string());
        line.push_str(" data.gpc0 ");
        line.push(char::from(b'0' + value));
        line.push_str(match gpc1 {
            Penalty::Unchanged => "",
            Penalty::Lifted => " data.gpc1 0",
            Penalty::Suspected => " data.gpc1 10",
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(command: &Command) -> String {
        let mut line = String::new();
        command.write(&mut line);
        line
    }

    #[test]
    fn abuse_20_a_table_name_cannot_end_a_word_a_command_or_a_line() {
        for text in
            ["", "a b", "a;b", "a\nb", "<<", "t<<x", "a\0", "tör", "a/b", "a:b", &"a".repeat(65)]
        {
            assert_eq!(text.parse::<TableName>(), Err(BadTableName), "{text:?}");
        }
        for text in ["tor_ingress", "a", "A-1.b_C", &"a".repeat(64)] {
            assert_eq!(text.parse::<TableName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn the_three_verbs_are_one_two_and_zero() {
        let (table, circuit) =
            (TableName::default(), "fc00:dead:beef:4dad::0:19".parse::<TorCircuit>().unwrap());
        let start = "set table tor_ingress key fc00:dead:beef:4dad::19 data.gpc0";
        assert_eq!(line(&Command::promote(&table, circuit)), format!("{start} 1"));
        assert_eq!(line(&Command::ban(&table, circuit)), format!("{start} 2"));
        assert_eq!(line(&Command::reset(&table, circuit)), format!("{start} 0"));
        let forgiven = Command::reset(&table, circuit).with(Penalty::Lifted);
        assert_eq!(line(&forgiven), format!("{start} 0 data.gpc1 0"));
        let suspected = Command::promote(&table, circuit).with(Penalty::Suspected);
        assert_eq!(line(&suspected), format!("{start} 1 data.gpc1 10"));
        for flag in [Flag::Normal, Flag::Vip, Flag::Banned] {
            assert_eq!(Flag::of(flag.value().into()), Some(flag));
        }
        assert_eq!(Flag::of(3), None);
    }

    proptest! {
        /// Whatever circuit and whatever name that parses: seven words or nine, a key among them, a value or
        /// two, and nothing that begins another command.
        #[test]
        fn abuse_20_every_command_is_one_whole_set_with_a_key(
            number: u32,
            name in "[A-Za-z0-9_.-]{1,64}",
            flag in prop_oneof![Just(Flag::Normal), Just(Flag::Vip), Just(Flag::Banned)],
            penalty in prop_oneof![
                Just(Penalty::Unchanged), Just(Penalty::Lifted), Just(Penalty::Suspected)
            ],
        ) {
            let key = TorCircuit::from_parts(0, 0, number);
            let table: TableName = name.parse().unwrap();
            let line = line(&Command::set(&table, key, flag).with(penalty));
            let words: Vec<_> = line.split(' ').collect();
            prop_assert_eq!(words.len(), if penalty == Penalty::Unchanged { 7 } else { 9 });
            prop_assert_eq!((words[0], words[1], words[2]), ("set", "table", name.as_str()));
            prop_assert_eq!((words[3], words[5]), ("key", "data.gpc0"));
            prop_assert_eq!(words[4].parse::<TorCircuit>().unwrap().number(), number);
            prop_assert!(matches!(words[6], "0" | "1" | "2"));
            prop_assert!(matches!(&words[7..], [] | ["data.gpc1", "0" | "10"]));
            prop_assert!(!line.contains(['\n', '\r', ';', '\\', '#']) && !line.contains("<<"));
            prop_assert!(line.len() < 200, "a command is short: {}", line.len());
        }
    }
}
