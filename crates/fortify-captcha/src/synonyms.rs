//! The words that people type for a shape, a colour, a direction or a small number.
//!
//! English in all its habits, and the words of the languages that visitors type most: a page may
//! ask in one language and be answered in another. A word stands for one term only, which a test
//! holds.

use crate::number;
use crate::term::{Colour, Direction, Shape, Term};
use crate::tolerance::Tolerance;

/// Words between terms that mean nothing.
const FILLERS: [&str; 13] =
    ["and", "the", "a", "an", "is", "then", "shape", "color", "colour", "arrow", "y", "und", "et"];

/// The fewest letters of a word that may be typed with a slip.
const FORGIVEN_FROM: usize = 5;

/// The most words of one name: "half moon", "haut droite".
const MAX_WORDS: usize = 3;

/// Every way to read `text` as the names of exactly `expected` terms, in its order: "up right" is one direction where
/// one is asked for, and two where two are. None where a word stands for nothing.
pub(crate) fn readings(text: &str, expected: usize, tolerance: Tolerance) -> Vec<Vec<Term>> {
    let folded: String =
        text.chars().map(number::to_ascii).flat_map(char::to_lowercase).map(separator).collect();
    let words: Vec<&str> =
        folded.split(' ').filter(|word| !word.is_empty() && !FILLERS.contains(word)).collect();
    read(&words, expected, tolerance)
}

/// At most [`MAX_WORDS`] to the power of `expected`.
fn read(words: &[&str], expected: usize, tolerance: Tolerance) -> Vec<Vec<Term>> {
    if expected == 0 {
        return if words.is_empty() { vec![Vec::new()] } else { Vec::new() };
    }
    let mut all = Vec::new();
    for taken in 1..=words.len().min(MAX_WORDS) {
        let (name, rest) = words.split_at(taken);
        if let Some(term) = term(&name.join(" "), tolerance) {
            let rest = read(rest, expected - 1, tolerance);
            all.extend(rest.into_iter().map(|rest| [vec![term], rest].concat()));
        }
    }
    all
}

/// The term that one name stands for.
fn term(name: &str, tolerance: Tolerance) -> Option<Term> {
    if let Some(count) = number::parse(name).and_then(|number| u8::try_from(number).ok()) {
        return Some(Term::Count(count));
    }
    if let Some((term, _)) = names().find(|(_, known)| *known == name) {
        return Some(term);
    }
    if tolerance == Tolerance::Exact {
        return None;
    }
    // A slip that could have been made in the names of two terms names neither.
    let mut near = names()
        .filter(|(_, known)| {
            known.chars().count() >= FORGIVEN_FROM && strsim::osa_distance(known, name) <= 1
        })
        .map(|(term, _)| term);
    let term = near.next()?;
    near.all(|other| other == term).then_some(term)
}

/// Whatever stands between words, as a space.
fn separator(character: char) -> char {
    let word = character.is_alphanumeric();
    if word { character } else { ' ' }
}

use Colour as C;
use Direction as D;
use Shape as S;

/// Every name of every term, separated by commas. The first is the canonical one, with spaces for
/// hyphens.
const NAMES: [(Term, &str); 27] = [
    (
        Term::Shape(S::Circle),
        "circle,round,disc,disk,ball,dot,circ,circulo,círculo,kreis,cercle,rond,cerchio,\
         круг",
    ),
    (
        Term::Shape(S::Square),
        "square,sq,box,quadrat,cuadrado,quadrado,carré,carre,quadrato,квадрат",
    ),
    (
        Term::Shape(S::Triangle),
        "triangle,tri,pyramid,dreieck,triangulo,triángulo,triângulo,triangolo,треугольник",
    ),
    (Term::Shape(S::Star), "star,stern,estrella,estrela,étoile,etoile,stella,звезда"),
    (Term::Shape(S::Diamond), "diamond,rhombus,lozenge,kite,raute,rombo,losange,diamante,ромб"),
    (Term::Shape(S::Cross), "cross,plus,kreuz,cruz,croix,croce,крест"),
    (
        Term::Shape(S::Heart),
        "heart,love,herz,corazón,corazon,coração,coracao,cœur,coeur,cuore,сердце",
    ),
    (Term::Shape(S::Moon), "moon,crescent,half moon,crescent moon,mond,luna,lua,lune,луна,месяц"),
    (Term::Colour(C::Red), "red,crimson,scarlet,dark red,rot,rojo,rouge,vermelho,rosso,красный"),
    (Term::Colour(C::Orange), "orange,naranja,laranja,arancione,amber,оранжевый"),
    (
        Term::Colour(C::Yellow),
        "yellow,gold,golden,gelb,amarillo,amarelo,jaune,giallo,желтый,жёлтый",
    ),
    (
        Term::Colour(C::Green),
        "green,lime,mint,light green,grün,gruen,grun,verde,vert,зеленый,зелёный",
    ),
    (Term::Colour(C::Blue), "blue,blu,azul,blau,bleu,azure,синий,голубой"),
    (
        Term::Colour(C::Purple),
        "purple,violet,lilac,lila,violett,morado,púrpura,purpura,roxo,viola,фиолетовый",
    ),
    (Term::Colour(C::Pink), "pink,rose,rosa,magenta,rosado,light pink,розовый"),
    (Term::Colour(C::White), "white,weiß,weiss,blanco,blanc,branco,bianco,белый"),
    (Term::Colour(C::Black), "black,schwarz,negro,noir,preto,nero,черный,чёрный"),
    (Term::Colour(C::Brown), "brown,braun,marrón,marron,marrom,marrone,brun,коричневый"),
    (Term::Colour(C::Grey), "grey,gray,grau,gris,cinza,grigio,серый"),
    (Term::Direction(D::Up), "up,north,n,top,upward,upwards,oben,arriba,haut,cima,вверх"),
    (
        Term::Direction(D::UpRight),
        "up right,right up,upright,top right,upper right,north east,northeast,ne,\
         oben rechts,arriba derecha,haut droite",
    ),
    (Term::Direction(D::Right), "right,east,e,r,rechts,derecha,droite,direita,вправо"),
    (
        Term::Direction(D::DownRight),
        "down right,right down,bottom right,lower right,south east,southeast,se,\
         unten rechts,abajo derecha,bas droite",
    ),
    (Term::Direction(D::Down), "down,south,s,bottom,downward,downwards,unten,abajo,bas,baixo,вниз"),
    (
        Term::Direction(D::DownLeft),
        "down left,left down,bottom left,lower left,south west,southwest,sw,unten links,\
         abajo izquierda,bas gauche",
    ),
    (Term::Direction(D::Left), "left,west,w,l,links,izquierda,gauche,esquerda,влево"),
    (
        Term::Direction(D::UpLeft),
        "up left,left up,top left,upper left,north west,northwest,nw,oben links,\
         arriba izquierda,haut gauche",
    ),
];

/// Every name with its term.
fn names() -> impl Iterator<Item = (Term, &'static str)> {
    NAMES.iter().flat_map(|(term, names)| names.split(',').map(|name| (*term, name)))
}

/// The order in which terms are compared. Where every term is of another aspect, their order is a
/// matter of taste, "red square" being "square red"; where two are of one aspect, it is the answer.
pub(crate) fn canonical(terms: &[Term]) -> Vec<Term> {
    let mut sorted = terms.to_vec();
    sorted.sort_unstable();
    let one_aspect = |pair: &[Term]| match pair {
        [one, other] => one.aspect() == other.aspect(),
        _ => false,
    };
    if sorted.windows(2).any(one_aspect) { terms.to_vec() } else { sorted }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only way to read `text` as so many terms.
    fn parse(text: &str, expected: usize, tolerance: Tolerance) -> Option<Vec<Term>> {
        let mut all = readings(text, expected, tolerance);
        assert!(all.len() <= 1, "{text}: {all:?}");
        all.pop()
    }

    fn one(text: &str) -> Option<Vec<Term>> {
        parse(text, 1, Tolerance::Exact)
    }

    #[test]
    fn the_words_of_the_requirements_are_read() {
        for text in ["square", "sq", "box", " Square. ", "the SQUARE"] {
            assert_eq!(one(text), Some(vec![Term::Shape(Shape::Square)]), "{text}");
        }
        for text in ["blue", "blu", "azul", "BLUE"] {
            assert_eq!(one(text), Some(vec![Term::Colour(Colour::Blue)]), "{text}");
        }
        for text in ["up right", "Up-Right", "north-east", "NE", "upper right"] {
            assert_eq!(one(text), Some(vec![Term::Direction(Direction::UpRight)]), "{text}");
        }
        assert_eq!(one("gray"), one("grey"));
        assert_eq!(one("violet"), one("purple"));
        assert_eq!(one("five"), Some(vec![Term::Count(5)]));
        for text in ["", "blurb", "squares and more", "red red"] {
            assert_eq!(one(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_stands_for_one_term() {
        for (term, name) in names() {
            assert_eq!(parse(name, 1, Tolerance::Exact), Some(vec![term]), "{name}");
        }
        for (term, names) in NAMES {
            let value = term.value();
            let first = names.split(',').next().map(|name| name.replace(' ', "-"));
            assert_eq!(first, Some(value.clone()));
            assert_eq!(Term::from_value(&value), Some(term));
        }
    }

    #[test]
    fn two_terms_are_read_in_either_order() {
        let expected = [Term::Shape(Shape::Square), Term::Colour(Colour::Red)];
        for text in ["square red", "red, square", "a red square", "sq and rojo", "square/red"] {
            let given = parse(text, 2, Tolerance::Exact).unwrap();
            assert_eq!(canonical(&expected), canonical(&given), "{text}");
        }
        let words = [Term::Colour(Colour::Red), Term::Colour(Colour::Blue)];
        let read = |text| canonical(&parse(text, 2, Tolerance::Exact).unwrap());
        assert_eq!(canonical(&words), read("red blue"));
        assert_ne!(canonical(&words), read("blue red"));
    }

    #[test]
    fn words_that_make_one_name_are_two_terms_where_two_are_asked_for() {
        let [up, right, both] =
            [Direction::Up, Direction::Right, Direction::UpRight].map(Term::Direction);
        assert_eq!(one("up right"), Some(vec![both]));
        assert_eq!(parse("up right", 2, Tolerance::Exact), Some(vec![up, right]));
        // It cannot be told which of the three words belong together.
        let readings = readings("up right up", 2, Tolerance::Exact);
        assert_eq!(readings, [[up, both], [both, up]]);
        assert_eq!(parse(&"up ".repeat(30), 3, Tolerance::Exact), None);
    }

    #[test]
    fn a_slip_is_forgiven_in_long_words_only() {
        assert_eq!(parse("squre", 1, Tolerance::Exact), None);
        assert_eq!(parse("squre", 1, Tolerance::OneEdit), one("square"));
        assert_eq!(parse("pnk", 1, Tolerance::OneEdit), None);
        // Kreis or Kreuz?
        assert_eq!(parse("kreiz", 1, Tolerance::OneEdit), None);
    }
}
