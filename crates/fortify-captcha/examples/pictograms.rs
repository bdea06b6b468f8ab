//! Makes `pictograms/outlines.txt` from the SVG files of `@phosphor-icons/core` 2.1.1
//! (`assets/fill`): absolute lines and cubic curves in eighths of the icons' unit.
//!
//! Run once, when pictograms are added; the table is checked in and the build never runs this.
//!
//! ```text
//! cargo run -p fortify-captcha --example pictograms -- FOLDER < names.txt > outlines.txt
//! ```
//!
//! Each line of `names.txt` is an object's key and the icon's name.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::f64::consts::PI;
use std::io::BufRead;

type Point = (f64, f64);

/// Units of the table per unit of an icon.
const SCALE: f64 = 8.0;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("pictograms FOLDER < names.txt")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some((key, icon)) = line.split_once(' ') else {
            continue;
        };
        let svg = std::fs::read_to_string(format!("{folder}/{icon}-fill.svg"))?;
        let mut path = Path::default();
        for data in svg.split(" d=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            path.follow(data)?;
        }
        println!("{key}{}", path.written);
    }
    Ok(())
}

#[derive(Default)]
struct Path {
    at: Point,
    start: Point,
    /// The last handle of a cubic curve, which a smooth one mirrors.
    handle: Option<Point>,
    written: String,
}

impl Path {
    fn follow(&mut self, data: &str) -> Result<(), Box<dyn Error>> {
        let mut tokens = Tokens { rest: data };
        let mut command = 'M';
        while let Some(next) = tokens.command() {
            command = next.unwrap_or(match command {
                'M' => 'L',
                'm' => 'l',
                other => other,
            });
            self.step(command, &mut tokens).ok_or_else(|| format!("{command} in {data}"))?;
        }
        Ok(())
    }

    fn step(&mut self, command: char, tokens: &mut Tokens<'_>) -> Option<()> {
        let base = if command.is_ascii_lowercase() { self.at } else { (0.0, 0.0) };
        let point = |tokens: &mut Tokens<'_>| -> Option<Point> {
            Some((base.0 + tokens.number()?, base.1 + tokens.number()?))
        };
        match command.to_ascii_uppercase() {
            'M' => {
                self.at = point(tokens)?;
                self.start = self.at;
                self.write('M', &[self.at]);
            }
            'L' => {
                let to = point(tokens)?;
                self.line(to);
            }
            'H' => {
                let to = (base.0 + tokens.number()?, self.at.1);
                self.line(to);
            }
            'V' => {
                let to = (self.at.0, base.1 + tokens.number()?);
                self.line(to);
            }
            'C' => {
                let (a, b, to) = (point(tokens)?, point(tokens)?, point(tokens)?);
                self.curve(a, b, to);
                self.handle = Some(b);
                return Some(());
            }
            'S' => {
                let (b, to) = (point(tokens)?, point(tokens)?);
                let (at, handle) = (self.at, self.handle.unwrap_or(self.at));
                self.curve((2.0 * at.0 - handle.0, 2.0 * at.1 - handle.1), b, to);
                self.handle = Some(b);
                return Some(());
            }
            'Q' => {
                let (control, to) = (point(tokens)?, point(tokens)?);
                let from = self.at;
                let near = |end: Point| {
                    (
                        end.0 + (control.0 - end.0) * 2.0 / 3.0,
                        end.1 + (control.1 - end.1) * 2.0 / 3.0,
                    )
                };
                self.curve(near(from), near(to), to);
            }
            'A' => {
                let radii = (tokens.number()?, tokens.number()?);
                let turn = tokens.number()?;
                let (large, sweep) = (tokens.flag()?, tokens.flag()?);
                let to = point(tokens)?;
                self.arc(radii, turn * PI / 180.0, large, sweep, to);
            }
            'Z' => self.at = self.start,
            _ => return None,
        }
        self.handle = None;
        Some(())
    }

    fn line(&mut self, to: Point) {
        self.at = to;
        self.write('L', &[to]);
    }

    fn curve(&mut self, a: Point, b: Point, to: Point) {
        self.at = to;
        self.write('C', &[a, b, to]);
    }

    /// An elliptic arc as cubic curves of at most a quarter turn (SVG 1.1, F.6.5).
    fn arc(&mut self, radii: Point, turn: f64, large: bool, sweep: bool, to: Point) {
        let from = self.at;
        let (sin, cos) = turn.sin_cos();
        let half = ((from.0 - to.0) / 2.0, (from.1 - to.1) / 2.0);
        let p = (cos * half.0 + sin * half.1, cos * half.1 - sin * half.0);
        let (mut rx, mut ry) = (radii.0.abs(), radii.1.abs());
        if rx == 0.0 || ry == 0.0 || from == to {
            return self.line(to);
        }
        let stretch = (p.0 / rx).powi(2) + (p.1 / ry).powi(2);
        if stretch > 1.0 {
            rx *= stretch.sqrt();
            ry *= stretch.sqrt();
        }
        let (a, b) = ((rx * p.1).powi(2), (ry * p.0).powi(2));
        let root = (((rx * ry).powi(2) - a - b) / (a + b)).max(0.0).sqrt();
        let sign = if large == sweep { -root } else { root };
        let c = (sign * rx * p.1 / ry, -sign * ry * p.0 / rx);
        let centre = (
            cos * c.0 - sin * c.1 + (from.0 + to.0) / 2.0,
            sin * c.0 + cos * c.1 + (from.1 + to.1) / 2.0,
        );
        let first = ((p.1 - c.1) / ry).atan2((p.0 - c.0) / rx);
        let mut span = ((-p.1 - c.1) / ry).atan2((-p.0 - c.0) / rx) - first;
        if sweep && span < 0.0 {
            span += 2.0 * PI;
        } else if !sweep && span > 0.0 {
            span -= 2.0 * PI;
        }
        let pieces = (span.abs() / (PI / 2.0) - 1e-9).ceil().max(1.0);
        let step = span / pieces;
        let reach = 4.0 / 3.0 * (step / 4.0).tan();
        let on = |x: f64, y: f64| {
            let (x, y) = (x * rx, y * ry);
            (cos * x - sin * y + centre.0, sin * x + cos * y + centre.1)
        };
        for piece in 0..pieces as u32 {
            let (s0, c0) = (first + step * f64::from(piece)).sin_cos();
            let (s1, c1) = (first + step * f64::from(piece + 1)).sin_cos();
            let end = if piece + 1 == pieces as u32 { to } else { on(c1, s1) };
            self.curve(
                on(c0 - reach * s0, s0 + reach * c0),
                on(c1 + reach * s1, s1 - reach * c1),
                end,
            );
        }
    }

    fn write(&mut self, command: char, points: &[Point]) {
        self.written.push(' ');
        self.written.push(command);
        for point in points {
            self.written += &format!(
                " {} {}",
                (point.0 * SCALE).round() as i32,
                (point.1 * SCALE).round() as i32
            );
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', ',', '\n', '\t']);
    }

    /// `None` at the end, `Some(None)` where the last command goes on.
    fn command(&mut self) -> Option<Option<char>> {
        self.skip();
        let first = self.rest.chars().next()?;
        if !first.is_ascii_alphabetic() {
            return Some(None);
        }
        self.rest = &self.rest[1..];
        Some(Some(first))
    }

    fn number(&mut self) -> Option<f64> {
        self.skip();
        let mut dot = false;
        let end = self
            .rest
            .char_indices()
            .find(|(index, character)| match character {
                '0'..='9' => false,
                '-' => *index > 0,
                '.' => std::mem::replace(&mut dot, true),
                _ => true,
            })
            .map_or(self.rest.len(), |(index, _)| index);
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number.parse().ok()
    }

    fn flag(&mut self) -> Option<bool> {
        self.skip();
        let flag = self.rest.starts_with('1');
        self.rest = self.rest.get(1..)?;
        Some(flag)
    }
}
