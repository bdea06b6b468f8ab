//! The guestbook: the one thing here that visitors change.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

/// Entries kept; the oldest makes room.
const MAX_ENTRIES: usize = 100;

/// Longest name, in characters.
pub(crate) const MAX_NAME: usize = 60;

/// Longest message, in characters.
pub(crate) const MAX_MESSAGE: usize = 2000;

/// One signature, as the form sends it and as the page shows it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) message: String,
}

impl Entry {
    /// Why it cannot be taken, for the visitor; `None` when it can.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.name.trim().is_empty() || self.message.trim().is_empty() {
            return Some("Please give a name and a message.".to_owned());
        }
        if self.name.chars().count() > MAX_NAME || self.message.chars().count() > MAX_MESSAGE {
            return Some(format!(
                "At most {MAX_NAME} characters of name and {MAX_MESSAGE} of message, please."
            ));
        }
        None
    }
}

/// The last hundred signatures, in memory only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guestbook {
    entries: Arc<Mutex<VecDeque<Entry>>>,
}

impl Guestbook {
    /// Newest first, as the page lists them.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.with(|entries| entries.iter().rev().cloned().collect())
    }

    pub(crate) fn sign(&self, entry: Entry) {
        self.with(|entries| {
            if entries.len() == MAX_ENTRIES {
                entries.pop_front();
            }
            entries.push_back(entry);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Entry>) -> T) -> T {
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Entry {
        Entry { name: name.to_owned(), message: "hello".to_owned() }
    }

    #[test]
    fn the_hundred_and_first_signature_pushes_out_the_first() {
        let book = Guestbook::default();
        for n in 0..=MAX_ENTRIES {
            book.sign(entry(&n.to_string()));
        }
        let entries = book.entries();
        assert_eq!(entries.len(), MAX_ENTRIES);
        assert_eq!(entries.first().unwrap().name, "100");
        assert_eq!(entries.last().unwrap().name, "1");
    }

    #[test]
    fn an_empty_or_overlong_signature_is_refused() {
        assert!(entry("Ada").problem().is_none());
        assert!(entry(" ").problem().is_some());
        assert!(entry(&"x".repeat(MAX_NAME + 1)).problem().is_some());
    }
}
