//! Small charts: a series of values as inline SVG, and as PNG for browsers that do not show SVG.
//!
//! Pure. No text is drawn: the page shows the range and the times as text, which needs no font and is readable for
//! everyone. A chart has one series, so that no two colours need to be distinguished. Its colour has a contrast of at
//! least 3 on the page's light and dark backgrounds.

use std::fmt::Write as _;

use png::{BitDepth, ColorType, Compression, Encoder};

/// The most values of a chart. More are grouped, and the highest of each group is drawn.
pub const MOST_VALUES: usize = 180;

/// The size of the SVG's coordinate space, which the page stretches.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 64.0;
/// The distance from the values to the upper and lower edge, in those units.
const MARGIN: f64 = 2.0;
/// Pixels of the PNG per unit, for screens with two pixels per CSS pixel.
const SCALE: f64 = 2.0;

/// Larger values are clamped to this, so that no sum of two overflows.
const LARGEST: f64 = 1e15;

/// The colour of lines and areas: a contrast of 3 and more on `--card`, light and dark.
pub const COLOUR: [u8; 3] = [0x5f, 0x76, 0xe0];
const GRID: [u8; 3] = [0x80, 0x80, 0x88];

/// Steps of opacity in the PNG's palette: index 0 is transparent, 14 opaque, 15 the grid.
const STEPS: f64 = 14.0;
const GRID_INDEX: u8 = 15;
/// The opacity of the area below a line.
const AREA: f64 = 0.16;
/// Half the width of a line, px of the PNG.
const HALF_LINE: f64 = 1.5;
/// Sampled columns per pixel, for smooth edges.
const SUBCOLUMNS: u8 = 4;

/// How values are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Values are points joined by lines.
    Line,
    /// Each value is a horizontal step.
    Steps,
}

/// A scaled series of values.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Unbroken lines: x and y from 0 to 1, y upwards.
    runs: Vec<Vec<(f64, f64)>>,
    low: f64,
    high: f64,
    last: Option<f64>,
}

impl Chart {
    /// A chart of `values` at even distances, the oldest first. Missing values and NaN are gaps. The scale is `span`,
    /// or else from 0 (or the lowest value, if that is below 0) to the highest value.
    #[must_use]
    pub fn new(values: &[Option<f64>], shape: Shape, span: Option<(f64, f64)>) -> Self {
        let values = shortened(values);
        let known = || values.iter().copied().flatten();
        let (low, high) = span.unwrap_or_else(|| {
            (known().fold(0.0, f64::min), known().fold(f64::NEG_INFINITY, f64::max))
        });
        // Bounded, so that adding 1 has an effect.
        let end = |end: f64| end.is_finite().then(|| end.clamp(-LARGEST, LARGEST));
        let low = end(low).unwrap_or(0.0);
        let high = end(high).filter(|high| *high > low).unwrap_or(low + 1.0);
        let y = |value: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
        let (mut open, count) = (false, values.len() as f64);
        for (at, value) in values.iter().enumerate() {
            let Some(value) = value else {
                open = false;
                continue;
            };
            if !open {
                runs.push(Vec::new());
                open = true;
            }
            let Some(run) = runs.last_mut() else { continue };
            let at = at as f64;
            match shape {
                Shape::Line if count > 1.0 => run.push((at / (count - 1.0), y(*value))),
                Shape::Line => run.push((1.0, y(*value))),
                Shape::Steps => {
                    run.extend([(at / count, y(*value)), ((at + 1.0) / count, y(*value))])
                }
            }
        }
        // A single point is drawn as a dash, a hundredth of the width.
        for run in &mut runs {
            if let [(x, y)] = run[..] {
                *run = vec![((x - 0.01).max(0.0), y), ((x - 0.01).max(0.0) + 0.01, y)];
            }
        }
        Self { runs, low, high, last: values.last().copied().flatten() }
    }

    /// The lower end of the scale.
    #[must_use]
    pub const fn low(&self) -> f64 {
        self.low
    }

    /// The upper end of the scale.
    #[must_use]
    pub const fn high(&self) -> f64 {
        self.high
    }

    /// The latest value, if it is known.
    #[must_use]
    pub const fn last(&self) -> Option<f64> {
        self.last
    }

    /// Whether there are no values to draw.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The content of an `<svg>` element with a space of 320 by 64 units. It consists of numbers and literals of this
    /// file, so there is nothing to escape.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut text = String::new();
        for height in [MARGIN, HEIGHT / 2.0, HEIGHT - MARGIN] {
            let [r, g, b] = GRID;
            // Writing to a string does not fail.
            let _ok = write!(
                text,
                "<path d=\"M0 {height}H{WIDTH}\" stroke=\"#{r:02x}{g:02x}{b:02x}\" \
                 stroke-opacity=\".35\" vector-effect=\"non-scaling-stroke\"/>"
            );
        }
        let [r, g, b] = COLOUR;
        for run in &self.runs {
            let mut line = String::new();
            for (at, (x, y)) in run.iter().enumerate() {
                let letter = if at == 0 { 'M' } else { 'L' };
                let _ok = write!(line, "{letter}{:.1} {:.1}", x * WIDTH, down(*y));
            }
            let ends = run.first().zip(run.last());
            let Some(((from, _), (to, _))) = ends else { continue };
            let _ok = write!(
                text,
                "<path d=\"{line}L{:.1} {HEIGHT}L{:.1} {HEIGHT}Z\" fill=\"#{r:02x}{g:02x}{b:02x}\" \
                 fill-opacity=\"{AREA}\"/><path d=\"{line}\" fill=\"none\" \
                 stroke=\"#{r:02x}{g:02x}{b:02x}\" stroke-width=\"1.5\" \
                 stroke-linejoin=\"round\" vector-effect=\"non-scaling-stroke\"/>",
                to * WIDTH,
                from * WIDTH,
            );
        }
        text
    }

    /// The chart as a PNG of 640 by 128 pixels with a transparent background. Empty if the encoder fails, which it
    /// does not when it writes to memory.
    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        let (width, height) = ((WIDTH * SCALE) as usize, (HEIGHT * SCALE) as usize);
        let mut cover = vec![0.0_f64; width * height];
        for run in &self.runs {
            let run: Vec<_> =
                run.iter().map(|(x, y)| (x * width as f64, down(*y) * SCALE)).collect();
            draw(&run, &mut cover, width, height);
        }
        let grid: Vec<usize> = [MARGIN, HEIGHT / 2.0, HEIGHT - MARGIN]
            .map(|y| ((y * SCALE) as usize).min(height - 1))
            .into();
        let index = |at: usize| {
            let opacity = cover.get(at).copied().unwrap_or(0.0);
            match (opacity * STEPS).round() as u8 {
                0..=2 if grid.contains(&(at / width)) => GRID_INDEX,
                index => index,
            }
        };
        let packed: Vec<u8> = (0..width * height / 2)
            .map(|pair| index(pair * 2) << 4 | index(pair * 2 + 1))
            .collect();
        let mut palette = COLOUR.repeat(GRID_INDEX.into());
        palette.extend(GRID);
        let mut opacity: Vec<u8> =
            (0..GRID_INDEX).map(|step| (f64::from(step) / STEPS * 255.0).round() as u8).collect();
        opacity.push(90);
        indexed((width, height), BitDepth::Four, palette, Some(opacity), &packed)
    }
}

/// A PNG with a palette, from `rows` packed by `depth`; empty if it cannot be encoded.
pub(super) fn indexed(
    (width, height): (usize, usize),
    depth: BitDepth,
    palette: Vec<u8>,
    opacity: Option<Vec<u8>>,
    rows: &[u8],
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(
        &mut file,
        u32::try_from(width).unwrap_or(u32::MAX),
        u32::try_from(height).unwrap_or(u32::MAX),
    );
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(depth);
    encoder.set_palette(palette);
    if let Some(opacity) = opacity {
        encoder.set_trns(opacity);
    }
    encoder.set_compression(Compression::Balanced);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(rows));
    match written {
        Ok(()) => file,
        Err(_of_memory) => Vec::new(),
    }
}

/// The values, grouped to at most [`MOST_VALUES`], without NaN.
fn shortened(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let group = values.len().div_ceil(MOST_VALUES).max(1);
    let clean = |value: &Option<f64>| {
        value.filter(|value| value.is_finite()).map(|value| value.clamp(-LARGEST, LARGEST))
    };
    let highest = |group: &[Option<f64>]| group.iter().filter_map(clean).reduce(f64::max);
    values.chunks(group).map(highest).collect()
}

/// Converts a height from 0 to 1, upwards, to units, downwards.
fn down(y: f64) -> f64 {
    MARGIN + (1.0 - y) * (HEIGHT - 2.0 * MARGIN)
}

/// Draws a line and the area below it into `cover`, the opacity of each pixel.
fn draw(run: &[(f64, f64)], cover: &mut [f64], width: usize, height: usize) {
    let (Some((from, _)), Some((to, _))) = (run.first(), run.last()) else { return };
    let (from, to) = (*from, *to);
    for column in (from - HALF_LINE).max(0.0) as usize..width.min(to.ceil() as usize + 2) {
        let mut lines = vec![0.0_f64; height];
        let mut areas = vec![0.0_f64; height];
        for sub in 0..SUBCOLUMNS {
            let x = column as f64 + (f64::from(sub) + 0.5) / f64::from(SUBCOLUMNS);
            let share = 1.0 / f64::from(SUBCOLUMNS);
            if x + HALF_LINE < from || x - HALF_LINE > to {
                continue;
            }
            // As thick sideways as upwards: the highest and the lowest within half a line.
            let window = ((x - HALF_LINE).max(from), (x + HALF_LINE).min(to));
            let ends = [at(run, window.0), at(run, window.1)].into_iter();
            let inside = run.iter().filter(|(x, _)| (window.0..=window.1).contains(x));
            let ys: Vec<f64> = ends.chain(inside.map(|(_, y)| *y)).collect();
            let top = ys.iter().copied().fold(f64::INFINITY, f64::min) - HALF_LINE * 0.8;
            let bottom = ys.iter().copied().fold(f64::NEG_INFINITY, f64::max) + HALF_LINE * 0.8;
            let area = if (from..=to).contains(&x) { at(run, x) } else { height as f64 };
            for (row, (line, below)) in lines.iter_mut().zip(&mut areas).enumerate() {
                let row = row as f64;
                *line += share * ((row + 1.0).min(bottom) - row.max(top)).clamp(0.0, 1.0);
                *below += share * (row + 1.0 - area).clamp(0.0, 1.0);
            }
        }
        for (row, (line, below)) in lines.iter().zip(&areas).enumerate() {
            if let Some(px) = cover.get_mut(row * width + column) {
                *px = px.max(*line).max(below * AREA).min(1.0);
            }
        }
    }
}

/// The height of a line at `x`, which must be within it.
fn at(run: &[(f64, f64)], x: f64) -> f64 {
    let after = run.partition_point(|(at, _)| *at < x);
    let before = after.saturating_sub(1);
    match (run.get(before), run.get(after)) {
        (Some((x0, y0)), Some((x1, y1))) if x1 > x0 => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (_, Some((_, y))) | (Some((_, y)), None) => *y,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The opacity of each px of a picture, by row.
    fn decoded(file: &[u8]) -> Vec<Vec<u8>> {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (640, 128, ColorType::Rgba));
        let opacity: Vec<u8> = bytes.chunks(4).map(|px| px[3]).collect();
        opacity.chunks(640).map(<[u8]>::to_vec).collect()
    }

    fn numbers(svg: &str) -> Vec<f64> {
        let paths = svg.split("d=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let words =
            paths.flat_map(|path| path.split(|c: char| c.is_ascii_alphabetic() || c == ' '));
        words.filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn any_values_stay_inside_and_are_small(
            values in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..1500),
            steps in any::<bool>(),
            span in proptest::option::of((any::<f64>(), any::<f64>())),
        ) {
            let shape = if steps { Shape::Steps } else { Shape::Line };
            let chart = Chart::new(&values, shape, span);
            prop_assert!(chart.low().is_finite() && chart.high() > chart.low());
            let svg = chart.svg();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"));
            for number in numbers(&svg) {
                prop_assert!((0.0..=WIDTH).contains(&number), "{number}");
            }
            let png = chart.png();
            prop_assert_eq!(decoded(&png).len(), 128);
            // What both weigh in a page, the PNG as text.
            prop_assert!(svg.len() + png.len() * 4 / 3 < 50 * 1024, "{} {}", svg.len(), png.len());
        }
    }

    #[test]
    fn nothing_is_a_grid_and_no_line() {
        for values in [&[][..], &[None, None], &[Some(f64::NAN)], &[Some(f64::INFINITY)]] {
            let chart = Chart::new(values, Shape::Line, None);
            assert!(chart.is_empty() && chart.last().is_none());
            assert_eq!((chart.low(), chart.high()), (0.0, 1.0));
            assert_eq!(chart.svg().matches("<path").count(), 3);
            let opaque = decoded(&chart.png()).concat().into_iter().max();
            assert_eq!(opaque, Some(90), "more than the grid");
        }
    }

    #[test]
    fn a_scale_that_is_none_becomes_one() {
        for span in [(1e305, 1e230), (5.0, 5.0), (f64::NAN, 3.0), (0.0, f64::INFINITY)] {
            let chart = Chart::new(&[Some(2.0)], Shape::Line, Some(span));
            assert!(chart.low().is_finite() && chart.high() > chart.low(), "{span:?}");
        }
    }

    #[test]
    fn one_value_is_seen() {
        for shape in [Shape::Line, Shape::Steps] {
            let chart = Chart::new(&[Some(5.0)], shape, None);
            assert!(!chart.is_empty());
            assert_eq!(chart.last(), Some(5.0));
            assert!(decoded(&chart.png()).concat().contains(&255), "{shape:?}");
        }
    }

    #[test]
    fn the_highest_is_at_the_top_and_the_lowest_at_the_bottom() {
        let chart = Chart::new(&[Some(0.0), Some(10.0)], Shape::Steps, None);
        assert_eq!((chart.low(), chart.high()), (0.0, 10.0));
        let rows = decoded(&chart.png());
        let line = |x: usize| rows.iter().position(|row| row[x] > 200).unwrap();
        assert!(line(600) <= 6 && line(40) >= 120, "{} {}", line(600), line(40));
        // Below the line is an area, above it nothing.
        assert!((30..60).contains(&rows[100][600]) && rows[100][40] == 0);
    }

    #[test]
    fn a_gap_is_a_gap_in_both() {
        let values = [Some(1.0), Some(1.0), None, None, None, Some(1.0), Some(1.0)];
        let chart = Chart::new(&values, Shape::Line, None);
        assert_eq!(chart.svg().matches("stroke-width").count(), 2);
        assert_eq!(decoded(&chart.png())[4][320], 90, "the grid alone");
    }

    #[test]
    fn a_peak_is_not_lost_among_many_values() {
        let mut values = vec![Some(0.0); 3000];
        values[1234] = Some(7.0);
        let chart = Chart::new(&values, Shape::Line, None);
        assert_eq!(chart.high(), 7.0);
        assert!(decoded(&chart.png())[4].iter().any(|opacity| *opacity > 200));
    }

    #[test]
    fn the_colour_is_seen_on_light_and_dark() {
        let luminance = |[r, g, b]: [u8; 3]| {
            let linear = |channel: u8| {
                let share = f64::from(channel) / 255.0;
                if share <= 0.03928 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
        };
        for ground in [[0xff, 0xff, 0xff], [0x20, 0x1e, 0x27]] {
            let (one, other) = (luminance(COLOUR), luminance(ground));
            let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
            assert!(contrast >= 3.0, "{ground:?}: {contrast}");
        }
    }
}
