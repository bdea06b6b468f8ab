//! Errors that keep what happened apart from what to do about it.

use std::borrow::Cow;

/// An error that an operator reads.
///
/// Its `Display` is [`both`] parts in one line, for the log and the command line; `fortify doctor` shows them
/// one below the other.
pub trait Advise {
    /// What happened, and to which file, socket or key.
    fn problem(&self) -> String;

    /// What to do about it; `None` where the problem says all there is to say.
    fn advice(&self) -> Option<Cow<'static, str>>;
}

/// An error in one line: the problem, a semicolon, and the advice if there is any.
pub fn both(error: &(impl Advise + ?Sized)) -> String {
    match error.advice() {
        Some(advice) => format!("{}; {advice}", error.problem()),
        None => error.problem(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone(Option<&'static str>);

    impl Advise for Gone {
        fn problem(&self) -> String {
            "a is gone".to_owned()
        }

        fn advice(&self) -> Option<Cow<'static, str>> {
            self.0.map(Cow::Borrowed)
        }
    }

    #[test]
    fn a_line_has_the_advice_if_there_is_any() {
        assert_eq!(both(&Gone(Some("make it: one; two"))), "a is gone; make it: one; two");
        assert_eq!(both(&Gone(None)), "a is gone");
    }
}
