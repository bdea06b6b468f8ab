//! What is asked and what the answer is, without the picture.

use crate::answer::Answer;

/// A task as a page and a store need it.
#[derive(Clone, Debug)]
pub struct Puzzle {
    /// The right answer. Secret.
    pub answer: Answer,
    /// What only a program reads, for it is in a part of the file that browsers do not show: whoever
    /// answers it is a program. Secret as well. `None` where the carrier has no such part.
    pub decoy: Option<Answer>,
    /// What the page asks.
    pub question: Question,
    /// What can be picked, in the order in which it is shown; empty in typed mode.
    pub choices: Vec<String>,
}

/// What a page asks. The words are not here: they are translated where pages are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Question {
    /// Type the characters in the picture.
    TypeCharacters {
        /// How many there are.
        count: u8,
    },
    /// Type the result of the sum in the picture.
    SolveSum,
}

impl Question {
    /// The identifier under which the words are found (a Fluent message id).
    pub const fn key(self) -> &'static str {
        match self {
            Self::TypeCharacters { .. } => "question-distorted-text",
            Self::SolveSum => "question-arithmetic",
        }
    }
}
