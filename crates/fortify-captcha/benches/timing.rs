//! Prints what the time that a picture takes says about its answer: one JSON line per task and carrier,
//! typed, at level 5, on one thread.
//!
//! A picture's time is the median of three passes over all pictures, so that a moment in which the
//! machine is busy counts little; and ranks are compared, not times, so that no slow picture counts for
//! more than another. They are compared among pictures that ask the same: the page says what it asks.
//!
//! - `p50_us`, `iqr_us`: the median time, and how far the quartiles lie apart.
//! - `rho`: the rank correlation of time and the answer's length in characters, and its standard error
//!   if the two have nothing to do with each other; null where all answers are as long.
//! - `eta2`: the share of the variance of ranks that the answer's class explains, which is its first
//!   character, its first word or, of a sum, the result. `eta2_chance` and `eta2_se` say what it is by
//!   chance, and the standard error of that: for one question, n pictures in k classes make (n - 1) `eta2`
//!   the statistic of Kruskal and Wallis, with k - 1 degrees of freedom.
//!
//! It is no test, for what times do depends on the machine.
//!
//! Arguments: how many pictures of each task in ink (20,000 by default; a quarter of it in the other
//! carriers, which take longer), and names of carriers, of which only those are timed.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use fortify_captcha::{
    Answer, AnswerMode, Carrier, Generator, Level, Question, Seed, Spec, Style, StyleKey, Variant,
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let pictures = words.iter().find_map(|word| word.parse().ok()).unwrap_or(20_000_u64);
    let named = |carrier: &Carrier| words.iter().any(|word| word == carrier.as_str());
    let all = !Carrier::ALL.iter().any(named);
    let generator = Generator::new()?;
    let style = generator.style(&StyleKey::PUBLIC);
    for carrier in Carrier::ALL.into_iter().filter(|carrier| all || named(carrier)) {
        let pictures = if carrier == Carrier::Ink { pictures } else { pictures / 4 };
        let carried = |variant: &Variant| carrier.carries(*variant, AnswerMode::Typed);
        for variant in Variant::ALL.into_iter().filter(carried) {
            let spec = Spec::new(variant, Level::new(5)?).with_carrier(carrier);
            println!("{}", measure(&generator, &style, &spec, pictures)?);
        }
    }
    Ok(())
}

fn measure(
    generator: &Generator,
    style: &Style,
    spec: &Spec,
    pictures: u64,
) -> Result<String, Box<dyn Error>> {
    let mut passes = vec![[0.0; 3]; pictures as usize];
    for pass in 0..3 {
        for (number, times) in (0..).zip(&mut passes) {
            let seed = numbered(number);
            let from = Instant::now();
            black_box(generator.render(spec, style, &seed)?);
            times[pass] = from.elapsed().as_secs_f64() * 1e6;
        }
    }
    let (mut times, mut lengths) = (Vec::new(), Vec::new());
    let (mut questions, mut classes) = (Groups::new(), Groups::new());
    for (number, mut of_picture) in passes.into_iter().enumerate() {
        of_picture.sort_unstable_by(f64::total_cmp);
        times.push(of_picture[1]);
        let puzzle = generator.puzzle(spec, &numbered(number as u64))?;
        let question = match puzzle.question {
            // Few pictures name the same objects.
            Question::TypeLettersOver { .. } | Question::TypeLettersOverEach { .. } => {
                puzzle.question.key().to_owned()
            }
            question => format!("{question:?}"),
        };
        lengths.push(puzzle.answer.reveal().chars().count() as f64);
        classes.entry(format!("{question} {}", class(&puzzle.answer))).or_default().push(number);
        questions.entry(question).or_default().push(number);
    }
    let of_times = within(ranks(&times), &questions);
    let of_lengths = within(ranks(&lengths), &questions);

    let rho =
        correlation(&of_times, &of_lengths).map_or("null".to_owned(), |rho| format!("{rho:.4}"));
    let rest = within(of_times.clone(), &classes);
    let eta2 = 1.0 - product(&rest, &rest) / product(&of_times, &of_times);
    let n = (times.len() - questions.len()) as f64;
    let k = (classes.len() - questions.len()) as f64;
    times.sort_unstable_by(f64::total_cmp);
    let quartile = |quarters: usize| times[(times.len() - 1) * quarters / 4];
    Ok(format!(
        "{{\"variant\":\"{}\",\"carrier\":\"{}\",\"pictures\":{pictures},\"p50_us\":{:.1},\"iqr_us\":{:.1},\
         \"rho\":{rho},\"rho_se\":{:.4},\"questions\":{},\"classes\":{},\"eta2\":{eta2:.5},\"eta2_chance\":{:.5},\
         \"eta2_se\":{:.5}}}",
        spec.variant,
        spec.carrier,
        quartile(2),
        quartile(3) - quartile(1),
        n.sqrt().recip(),
        questions.len(),
        classes.len(),
        k / n,
        (2.0 * k).sqrt() / n,
    ))
}

/// Numbers of pictures, by what they have in common.
type Groups = BTreeMap<String, Vec<usize>>;

/// Values less the mean of their group.
fn within(mut values: Vec<f64>, groups: &Groups) -> Vec<f64> {
    for group in groups.values() {
        let mean = group.iter().map(|index| values[*index]).sum::<f64>() / group.len() as f64;
        group.iter().for_each(|index| values[*index] -= mean);
    }
    values
}

/// The class of an answer, which many answers share, so that times can show it.
fn class(answer: &Answer) -> String {
    let said = answer.reveal();
    match answer {
        Answer::Text(_) => said.chars().take(1).collect(),
        _ => said.split_whitespace().take(1).collect(),
    }
}

/// The place of each value in the order of all; equal values share theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|one, other| values[*one] == values[*other]) {
        let place = before as f64 + equal.len() as f64 / 2.0;
        equal.iter().for_each(|index| ranks[*index] = place);
        before += equal.len();
    }
    ranks
}

/// Pearson's, of values whose mean is 0; `None` if those of one are all the same.
fn correlation(one: &[f64], other: &[f64]) -> Option<f64> {
    let norm = (product(one, one) * product(other, other)).sqrt();
    (norm > 0.0).then(|| product(one, other) / norm)
}

fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn numbered(number: u64) -> Seed {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Seed::from_bytes(bytes)
}
