//! What visitors read, in their language.
//!
//! Each language is one Fluent file under `locales/`, compiled into the binary: a gate has no
//! business reading files while it is under attack. A language is added by its folder and a line
//! in `LOCALES`; what it lacks is said in English.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use fluent_langneg::{NegotiationStrategy, negotiate_languages};
use fortify_captcha::{AnswerMode, Choice, Label, Question};
use unic_langid::LanguageIdentifier;

/// The languages: a tag and the text of its file. The first is the one that has every message.
const LOCALES: &[(&str, &str)] = &[("en", include_str!("../locales/en/fortify.ftl"))];

/// Languages of a visitor that are looked at: Tor Browser sends two.
const MAX_PREFERENCES: usize = 8;

/// A language file is broken: a mistake in the build, found by the tests and at start.
#[derive(Debug, thiserror::Error)]
#[error("locale {tag}: {problem}")]
pub struct LocaleError {
    tag: &'static str,
    problem: String,
}

/// All languages.
pub struct Locales {
    tags: Vec<LanguageIdentifier>,
    bundles: Vec<FluentBundle<FluentResource>>,
}

impl Locales {
    /// Reads the languages that were compiled in.
    ///
    /// # Errors
    ///
    /// [`LocaleError`] naming the language and what is wrong with its file.
    pub fn load() -> Result<Self, LocaleError> {
        let mut locales = Self { tags: Vec::new(), bundles: Vec::new() };
        for &(tag, text) in LOCALES {
            let error = |problem: String| LocaleError { tag, problem };
            let id: LanguageIdentifier = tag.parse().map_err(|e| error(format!("{e}")))?;
            let resource = FluentResource::try_new(text.to_owned())
                .map_err(|(_, errors)| error(format!("{errors:?}")))?;
            let mut bundle = FluentBundle::new_concurrent(vec![id.clone()]);
            // The isolating marks protect mixed directions; here they would only be copied along
            // with the text.
            bundle.set_use_isolating(false);
            bundle.add_resource(resource).map_err(|errors| error(format!("{errors:?}")))?;
            locales.tags.push(id);
            locales.bundles.push(bundle);
        }
        Ok(locales)
    }

    /// The best language for an `Accept-Language` header; the first one when it names none.
    #[must_use]
    pub fn negotiate(&self, accept_language: Option<&str>) -> Locale<'_> {
        let wanted: Vec<LanguageIdentifier> = accept_language
            .unwrap_or_default()
            .split(',')
            .take(MAX_PREFERENCES)
            .filter_map(|preference| preference.split(';').next()?.trim().parse().ok())
            .collect();
        let best = negotiate_languages(&wanted, &self.tags, None, NegotiationStrategy::Lookup);
        let index = best
            .first()
            .and_then(|best| self.tags.iter().position(|tag| tag == *best))
            .unwrap_or_default();
        Locale { locales: self, index }
    }
}

impl fmt::Debug for Locales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locales").field("tags", &self.tags).finish_non_exhaustive()
    }
}

/// One visitor's language.
#[derive(Clone, Copy, Debug)]
pub struct Locale<'a> {
    locales: &'a Locales,
    index: usize,
}

impl<'a> Locale<'a> {
    /// Its tag, for the page's `lang`.
    #[must_use]
    pub fn tag(&self) -> String {
        self.locales.tags.get(self.index).map(ToString::to_string).unwrap_or_default()
    }

    /// The message `id`.
    #[must_use]
    pub fn text(&self, id: &str) -> Cow<'a, str> {
        self.format(id, None)
    }

    /// The message `id` with one number in it.
    #[must_use]
    pub fn text_with(&self, id: &str, name: &'static str, number: u64) -> Cow<'a, str> {
        let mut arguments = FluentArgs::new();
        arguments.set(name, number);
        self.format(id, Some(&arguments))
    }

    /// The message `id` with the number of a stage and of all stages in it.
    #[must_use]
    pub fn text_of_stage(&self, id: &str, stage: u8, stages: u8) -> Cow<'a, str> {
        let mut arguments = FluentArgs::new();
        arguments.set("stage", u64::from(stage));
        arguments.set("stages", u64::from(stages));
        self.format(id, Some(&arguments))
    }

    fn time(&self, wait: Duration) -> Cow<'a, str> {
        match whole_seconds(wait) {
            seconds @ ..120 => self.text_with("time-seconds", "seconds", seconds),
            seconds => self.text_with("time-minutes", "minutes", seconds.div_ceil(60)),
        }
    }

    /// The message `id` with a time in it, and perhaps a number of visitors.
    #[must_use]
    pub fn text_of_wait(&self, id: &str, wait: Duration, ahead: Option<u64>) -> Cow<'a, str> {
        let mut arguments = FluentArgs::new();
        arguments.set("time", self.time(wait));
        if let Some(ahead) = ahead {
            arguments.set("ahead", ahead);
        }
        self.format(id, Some(&arguments))
    }

    /// What somebody reads who takes part in a draw for a place in the queue: one in `odds` wins, again every
    /// `refresh`.
    #[must_use]
    pub fn text_of_draw(&self, odds: u64, refresh: Duration) -> Cow<'a, str> {
        let mut arguments = FluentArgs::new();
        arguments.set("odds", odds);
        arguments.set("seconds", whole_seconds(refresh));
        self.format("queue-draw", Some(&arguments))
    }

    /// The message `id` with a number of wrong answers, and the time that the next one costs.
    #[must_use]
    pub fn text_of_tries(&self, id: &str, wrong: u64, next: Duration) -> Cow<'a, str> {
        let mut arguments = FluentArgs::new();
        arguments.set("time", self.time(next));
        arguments.set("count", wrong);
        self.format(id, Some(&arguments))
    }

    /// The words of a question, for an answer that is typed or picked.
    #[must_use]
    pub fn question(&self, question: &Question, mode: AnswerMode) -> String {
        let mut arguments = FluentArgs::new();
        match question {
            Question::TypeCharacters { count }
            | Question::WhichColours { count }
            | Question::WhichWords { count } => arguments.set("count", u64::from(*count)),
            Question::TypeLettersOver { object } => {
                arguments.set("object", self.text(object.key()));
            }
            Question::TypeLettersOverEach { objects } => {
                for (name, object) in ["first", "second", "third"].into_iter().zip(objects) {
                    arguments.set(name, self.text(object.key()));
                }
            }
            Question::WordsOn { colours } => {
                for (name, colour) in ["first", "second"].into_iter().zip(colours) {
                    arguments.set(name, self.text(colour.key()));
                }
            }
            Question::WhichObjectIs { colour } => arguments.set("colour", self.text(colour.key())),
            Question::NextTwo { upper, lower } => {
                arguments.set("upper", self.text(upper.key()));
                arguments.set("lower", self.text(lower.key()));
            }
            _ => {}
        }
        let picked = format!("{}-choice", question.key());
        let id = match mode {
            AnswerMode::Choice if self.has(&picked) => &picked,
            _ => question.key(),
        };
        self.format(id, Some(&arguments)).into_owned()
    }

    /// The words of something that can be picked.
    #[must_use]
    pub fn choice(&self, choice: &Choice) -> String {
        let word = |label: Label| match label {
            Label::Key(key) => self.text(key).into_owned(),
            Label::Verbatim(text) => text,
            _ => String::new(),
        };
        choice.labels().into_iter().map(word).collect::<Vec<_>>().join(", ")
    }

    fn has(&self, id: &str) -> bool {
        self.locales.bundles.first().is_some_and(|bundle| bundle.has_message(id))
    }

    fn format(&self, id: &str, arguments: Option<&FluentArgs<'_>>) -> Cow<'a, str> {
        [self.index, 0]
            .iter()
            .filter_map(|index| self.locales.bundles.get(*index))
            .find_map(|bundle| {
                let pattern = bundle.get_message(id)?.value()?;
                let text = bundle.format_pattern(pattern, arguments, &mut Vec::new());
                Some(Cow::Owned(text.into_owned()))
            })
            // A test holds the identifiers in use against the file, so this is never read.
            .unwrap_or_else(|| Cow::Owned(id.to_owned()))
    }
}

/// A wait in seconds, of which none is over too early.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_in_use_is_there() {
        let locales = Locales::load().unwrap();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut sources = Vec::new();
        for dir in ["templates", "src"] {
            for entry in std::fs::read_dir(root.join(dir)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    sources.push(std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let used: Vec<String> = sources
            .iter()
            .flat_map(|source| source.split("locale.text"))
            .filter_map(|rest| rest.strip_prefix("_with").unwrap_or(rest).strip_prefix('('))
            .filter_map(|rest| rest.strip_prefix('"')?.split('"').next())
            .map(str::to_owned)
            .filter(|id| id != "unknown-message")
            .collect();
        assert!(used.len() > 10, "the search found only {used:?}");
        for id in used
            .iter()
            .map(String::as_str)
            .chain(["question-distorted-text", "question-arithmetic"])
        {
            assert_ne!(locales.negotiate(None).text(id), id, "no message {id}");
        }
    }

    #[test]
    fn everything_that_a_picture_can_ask_for_has_its_word() {
        use fortify_captcha::{Aspect, Colour, Direction, Object, Shape};
        let locales = Locales::load().unwrap();
        let keys = (Object::ALL.map(Object::key).into_iter())
            .chain(Colour::ALL.map(Colour::key))
            .chain(Shape::ALL.map(Shape::key))
            .chain(Direction::ALL.map(Direction::key))
            .chain(Aspect::ALL.map(Aspect::key));
        for key in keys {
            assert_ne!(locales.negotiate(None).text(key), key, "no word for {key}");
        }
    }

    #[test]
    fn every_question_has_its_words_and_its_things() {
        use fortify_captcha::{Aspect, Colour, Object};
        let locales = Locales::load().unwrap();
        let locale = locales.negotiate(None);
        let (object, colour) = (Object::ALL[0], Colour::ALL[0]);
        let two = Question::NextTwo { upper: Aspect::Shape, lower: Aspect::Colour };
        for question in [
            Question::TypeCharacters { count: 6 },
            Question::SolveSum,
            Question::TypeLettersOver { object },
            Question::TypeLettersOverEach { objects: [object, Object::Bell, Object::Fish] },
            Question::WordsOn { colours: [colour, Colour::Blue] },
            Question::WhichObjectIs { colour },
            Question::NextShape,
            Question::NextColour,
            Question::NextCount,
            Question::NextDirection,
            two,
            Question::WhichColours { count: 1 },
            Question::WhichColours { count: 2 },
            Question::WhichWords { count: 1 },
            Question::WhichWords { count: 2 },
        ] {
            for mode in AnswerMode::ALL {
                let words = locale.question(&question, mode);
                assert!(words.len() > 12 && !words.contains(['{', '}']), "{question:?}: {words}");
                assert!(!words.starts_with("question-"), "{question:?}");
            }
        }
        for mode in AnswerMode::ALL {
            let over = locale.question(&Question::TypeLettersOver { object }, mode);
            let word = locale.text(object.key()).to_lowercase();
            assert!(over.to_lowercase().contains(&word), "{over}");
            assert!(over.contains("letters and digits"), "{over}");
        }
    }

    #[test]
    fn who_types_several_words_is_told_how_to_separate_them() {
        use fortify_captcha::{Aspect, Colour};
        let locales = Locales::load().unwrap();
        let locale = locales.negotiate(None);
        for (question, several) in [
            (Question::NextTwo { upper: Aspect::Shape, lower: Aspect::Colour }, true),
            (Question::WhichColours { count: 1 }, false),
            (Question::WhichColours { count: 3 }, true),
            (Question::WhichWords { count: 1 }, false),
            (Question::WhichWords { count: 3 }, true),
        ] {
            let typed = locale.question(&question, AnswerMode::Typed);
            assert_eq!(typed.ends_with("with a space"), several, "{typed}");
        }
        let colours = [Colour::Red, Colour::Blue];
        let two = Question::NextTwo { upper: Aspect::Shape, lower: Aspect::Direction };
        for question in [two, Question::WordsOn { colours }] {
            let picked = locale.question(&question, AnswerMode::Choice);
            assert!(!picked.contains("space"), "{picked}");
        }
    }

    #[test]
    fn numbers_have_their_plural() {
        let locales = Locales::load().unwrap();
        let locale = locales.negotiate(Some("en-GB,en;q=0.5"));
        let wait = |millis| locale.text_of_wait("wait-text", Duration::from_millis(millis), None);
        assert!(wait(1000).contains(" one second,"));
        assert!(wait(29_001).contains(" 30 seconds,"));
        assert!(wait(120_000).contains(" 2 minutes,"));
        let queue = locale.text_of_wait("queue-text", Duration::from_secs(5), Some(1));
        assert!(queue.contains("One visitor is before you; it takes about 5 seconds."));
        let draw = locale.text_of_draw(40, Duration::from_secs(6));
        assert!(draw.contains("One visitor in 40 gets a place, drawn again every 6 seconds"));
        assert!(locale.text_of_draw(1, Duration::from_secs(6)).contains("Everybody gets a place"));
        assert_eq!(locale.text("unknown-message"), "unknown-message");
    }

    #[test]
    fn abuse_24_no_language_header_is_too_odd() {
        let locales = Locales::load().unwrap();
        let ten_thousand = (0..10_000).map(|i| format!("x{i}")).collect::<Vec<_>>().join(",");
        for header in
            ["und", "*", "", ",,,;;;", "en;q=x", "de-AT,fr", &ten_thousand, "\u{0}\u{ffff}", "mul"]
        {
            assert_eq!(locales.negotiate(Some(header)).tag(), "en", "{header:.40}");
        }
    }
}
