//! Choice mode: the choices, and how wrong ones are made.
//!
//! **Symmetry.** The list is made first, and the answer is drawn from it, all members being equally
//! likely. So the list alone gives nothing away: the answer is not the one that the others are edits
//! of, nor the longest, nor the middle one. Tests let guessers try these strategies.
//!
//! **Nearness.** Texts and sums grow as a tree of confusable edits from an ancestor that is itself
//! no more than a member by chance; shapes, colours and objects are near because the picture shows
//! some of the wrong ones as well.

use crate::alphabet::ALPHABET;
use crate::object::Object;
use crate::rng::Stream;
use crate::term::Term;

/// One thing that can be picked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Choice {
    /// Characters or digits, shown as they are.
    Text(String),
    /// An object, whose word is translated.
    Object(Object),
    /// One to three terms, whose words are translated and shown side by side.
    Terms(Vec<Term>),
}

impl Choice {
    /// The value that a form sends when this is picked, which [`Answer`](crate::Answer) compares: ASCII
    /// without translation, at most 32 characters.
    pub fn value(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Object(object) => object.as_str().to_owned(),
            Self::Terms(terms) => value(terms),
        }
    }

    /// The words to show, in order: the identifier (a Fluent message id) of each that has to be
    /// translated, or the text itself.
    pub fn labels(&self) -> Vec<Label> {
        match self {
            Self::Text(text) => vec![Label::Verbatim(text.clone())],
            Self::Object(object) => vec![Label::Key(object.key())],
            Self::Terms(terms) => terms
                .iter()
                .map(|term| term.key().map_or_else(|| Label::Verbatim(term.value()), Label::Key))
                .collect(),
        }
    }
}

/// One word of a choice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Label {
    /// The identifier under which the word is found (a Fluent message id).
    Key(&'static str),
    /// Characters to show as they are.
    Verbatim(String),
}

/// The letter under which a choice is shown: A for the first.
pub(crate) fn letter(index: u8) -> char {
    char::from(b'A' + index.min(25))
}

/// Terms as a form sends them: words with spaces between.
pub(crate) fn value(terms: &[Term]) -> String {
    terms.iter().map(|term| term.value()).collect::<Vec<_>>().join(" ")
}

/// How a decoy relates to the answer, so that an operator can count which kind misleads people and
/// which kind misleads programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DecoyKind {
    /// One character away from the answer.
    OneEdit,
    /// Two characters away.
    TwoEdits,
    /// Three or more characters away.
    ManyEdits,
    /// Something else that the picture shows.
    Shown,
    /// Something that the picture does not show.
    Absent,
    /// Right in one of several parts.
    Partly,
}

impl DecoyKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::OneEdit, Self::TwoEdits, Self::ManyEdits, Self::Shown, Self::Absent, Self::Partly];

    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneEdit => "one_edit",
            Self::TwoEdits => "two_edits",
            Self::ManyEdits => "many_edits",
            Self::Shown => "shown",
            Self::Absent => "absent",
            Self::Partly => "partly",
        }
    }

    /// How `text` relates to `answer`, by their edit distance.
    pub(crate) fn by_edits(answer: &str, text: &str) -> Self {
        match strsim::osa_distance(answer, text) {
            0 | 1 => Self::OneEdit,
            2 => Self::TwoEdits,
            _ => Self::ManyEdits,
        }
    }
}

/// Members of a random tree of edits: `count` different ones, in random order.
///
/// The tree starts from `root` and grows at a random node by `edit`, which gives `None` where it
/// finds no edit; `same` says which nodes would be one choice. Twice as many are grown as are taken,
/// so that the root is a member no more often than the others.
pub(crate) fn grow<T: Clone>(
    root: T,
    count: usize,
    rng: &mut Stream,
    mut edit: impl FnMut(&T, &mut Stream) -> Option<T>,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    let mut nodes = vec![root];
    // Bounded, because the room may be small: few sums are legal at level 1.
    for _ in 0..count * 40 {
        if nodes.len() >= count * 2 {
            break;
        }
        let Some(node) = nodes.get(rng.below(nodes.len())) else {
            break;
        };
        if let Some(next) = edit(node, rng)
            && !nodes.iter().any(|node| same(node, &next))
        {
            nodes.push(next);
        }
    }
    rng.shuffle(&mut nodes);
    nodes.truncate(count);
    nodes
}

/// `count` texts of `length` characters, each a few confusable characters from the others.
pub(crate) fn texts(length: u8, count: usize, rng: &mut Stream) -> Vec<String> {
    let root: Vec<u8> = (0..length).filter_map(|_| rng.pick(ALPHABET).copied()).collect();
    let edit = |text: &Vec<u8>, rng: &mut Stream| {
        let mut text = text.clone();
        let at = rng.below(text.len());
        let character = text.get_mut(at)?;
        *character = *rng.pick(confusable(*character))?;
        Some(text)
    };
    grow(root, count, rng, edit, |one, other| one == other)
        .into_iter()
        .map(|text| text.into_iter().map(char::from).collect())
        .collect()
}

/// Characters of the alphabet that share most of their strokes with `character`. The relation is
/// symmetric, so that an edit can be taken back as easily as it is made.
const fn confusable(character: u8) -> &'static [u8] {
    match character {
        b'A' => b"4HR",
        b'C' => b"E6",
        b'D' => b"PRU",
        b'E' => b"CF3",
        b'F' => b"EPT",
        b'H' => b"AKMN",
        b'J' => b"LU3",
        b'K' => b"HRX",
        b'L' => b"JT7",
        b'M' => b"HNW",
        b'N' => b"HMV",
        b'P' => b"DFR9",
        b'R' => b"ADKP",
        b'T' => b"FLY7",
        b'U' => b"DJVW",
        b'V' => b"NUWY",
        b'W' => b"MUV",
        b'X' => b"KY",
        b'Y' => b"TVX4",
        b'3' => b"EJ9",
        b'4' => b"AY9",
        b'6' => b"C",
        b'7' => b"LT9",
        _ => b"P347",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn confusable_characters_are_so_both_ways() {
        for one in ALPHABET {
            for other in confusable(*one) {
                assert!(ALPHABET.contains(other));
                assert!(one != other && confusable(*other).contains(one), "{one} {other}");
            }
        }
    }

    #[test]
    fn texts_differ_and_have_one_length() {
        let mut rng = Stream::fixed(21);
        for _ in 0..500 {
            let texts = texts(6, 12, &mut rng);
            assert_eq!(texts.iter().collect::<HashSet<_>>().len(), 12);
            assert!(texts.iter().all(|text| text.len() == 6));
        }
    }
}
