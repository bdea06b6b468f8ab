//! A chart with its description, for templates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::view::tenth;
use crate::chart::{Chart, Shape};

/// A chart in a page: SVG, and inside it a PNG that only browsers without SVG show.
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// The latest value, in words.
    pub(super) now: String,
    /// A description for screen readers.
    pub(super) description: String,
    pub(super) svg: String,
    /// In base 64.
    pub(super) png: String,
    /// When it starts.
    pub(super) from: String,
    /// The range of its scale.
    pub(super) scale: String,
}

impl Plot {
    /// `values` from `from` until now.
    pub(super) fn new(
        title: &'static str,
        values: &[Option<f64>],
        shape: Shape,
        span: Option<(f64, f64)>,
        now: String,
        from: String,
    ) -> Self {
        let chart = Chart::new(values, shape, span);
        let scale = format!("{} to {}", tenth(chart.low()), tenth(chart.high()));
        let description = match chart.is_empty() {
            true => format!("{title}: no data yet"),
            false => format!("{title}: now {now}; scale {scale}, from {from} until now"),
        };
        let (svg, png) = (chart.svg(), STANDARD.encode(chart.png()));
        Self { title, now, description, svg, png, from, scale }
    }
}
