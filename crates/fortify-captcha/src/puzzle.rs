//! The question and its answer, without the picture.

use crate::answer::Answer;
use crate::choice::{Choice, DecoyKind, letter};
use crate::object::Object;
use crate::term::{Aspect, Colour};

/// Everything about a picture that a page and a store need.
#[derive(Clone, Debug)]
pub struct Puzzle {
    /// The right answer. Secret.
    pub answer: Answer,
    /// The answer to the part of the file that browsers do not show: only programs give it. Secret as
    /// well. `None` where the carrier has no such part.
    pub decoy: Option<Answer>,
    /// The question for the page.
    pub question: Question,
    /// The choices, in the order in which they are shown; empty in typed mode.
    pub choices: Vec<Choice>,
    /// How each of [`Puzzle::choices`] relates to the answer; `None` for the answer itself. Secret.
    pub decoy_kinds: Vec<Option<DecoyKind>>,
}

impl Puzzle {
    /// A puzzle that is answered by typing.
    pub(crate) fn typed(answer: Answer, question: Question) -> Self {
        Self { answer, decoy: None, question, choices: Vec::new(), decoy_kinds: Vec::new() }
    }

    /// A puzzle that is answered by picking the choice with the number `answer`; `kind` says how
    /// another choice relates to it.
    pub(crate) fn picked(
        question: Question,
        choices: Vec<Choice>,
        answer: usize,
        kind: impl Fn(&Choice) -> DecoyKind,
    ) -> Self {
        let decoy_kinds = (0..)
            .zip(&choices)
            .map(|(index, choice)| (index != answer).then(|| kind(choice)))
            .collect();
        let value = choices.get(answer).map(Choice::value).unwrap_or_default();
        let index = u8::try_from(answer).unwrap_or_default();
        Self {
            answer: Answer::Choice { index, value },
            decoy: None,
            question,
            choices,
            decoy_kinds,
        }
    }

    /// The kind of the decoy that `submitted` picks, by its value or its letter; `None` for the
    /// answer and for anything that is not a choice. For statistics, after the answer was checked.
    pub fn decoy_picked(&self, submitted: &str) -> Option<DecoyKind> {
        let submitted = submitted.trim();
        let picked = (0_u8..).zip(&self.choices).position(|(index, choice)| {
            choice.value() == submitted
                || submitted.eq_ignore_ascii_case(&letter(index).to_string())
        })?;
        self.decoy_kinds.get(picked).copied().flatten()
    }
}

/// A question. Its words are not here: pages translate them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Question {
    /// Type (or pick) the characters in the picture.
    TypeCharacters {
        /// How many there are.
        count: u8,
    },
    /// Type (or pick) the result of the sum in the picture.
    SolveSum,
    /// Type (or pick) the letters over one of the objects in the picture.
    TypeLettersOver {
        /// The object asked about.
        object: Object,
    },
    /// Type (or pick) the letter over each of these objects, in this order, which is not that of
    /// the picture.
    TypeLettersOverEach {
        /// The objects asked about, in this order; the picture shows one more.
        objects: [Object; 3],
    },
    /// Pick the object that has this colour.
    WhichObjectIs {
        /// The colour of the right object.
        colour: Colour,
    },
    /// Which shape belongs in the frame with the question mark?
    NextShape,
    /// Which colour belongs there?
    NextColour,
    /// How many belong there?
    NextCount,
    /// Where does the arrow that belongs there point?
    NextDirection,
    /// Two rows, each with a frame to fill: what belongs in the upper, and what in the lower?
    NextTwo {
        /// The aspect asked for in the upper row.
        upper: Aspect,
        /// The aspect asked for in the lower row.
        lower: Aspect,
    },
    /// In which colours are the words drawn, from top to bottom?
    WhichColours {
        /// How many words there are.
        count: u8,
    },
    /// Which words are drawn, from top to bottom?
    WhichWords {
        /// How many words there are.
        count: u8,
    },
    /// Which word is on the first of these colours, and which on the second?
    WordsOn {
        /// The colours behind the words, in the order of the question, which is not that of the
        /// picture.
        colours: [Colour; 2],
    },
}

impl Question {
    /// Every identifier that [`Question::key`] gives, so that a translation can be checked.
    pub const KEYS: [&str; 13] = [
        "question-distorted-text",
        "question-arithmetic",
        "question-letters-over",
        "question-letters-over-each",
        "question-which-object",
        "question-next-shape",
        "question-next-colour",
        "question-next-count",
        "question-next-direction",
        "question-next-two",
        "question-which-colours",
        "question-which-words",
        "question-words-on",
    ];

    /// The identifier under which the words are found (a Fluent message id).
    pub const fn key(self) -> &'static str {
        match self {
            Self::TypeCharacters { .. } => "question-distorted-text",
            Self::SolveSum => "question-arithmetic",
            Self::TypeLettersOver { .. } => "question-letters-over",
            Self::TypeLettersOverEach { .. } => "question-letters-over-each",
            Self::WhichObjectIs { .. } => "question-which-object",
            Self::NextShape => "question-next-shape",
            Self::NextColour => "question-next-colour",
            Self::NextCount => "question-next-count",
            Self::NextDirection => "question-next-direction",
            Self::NextTwo { .. } => "question-next-two",
            Self::WhichColours { .. } => "question-which-colours",
            Self::WhichWords { .. } => "question-which-words",
            Self::WordsOn { .. } => "question-words-on",
        }
    }

    /// The question about one row.
    pub(crate) const fn next(aspect: Aspect) -> Self {
        match aspect {
            Aspect::Shape => Self::NextShape,
            Aspect::Colour => Self::NextColour,
            Aspect::Direction => Self::NextDirection,
            Aspect::Count => Self::NextCount,
        }
    }
}
