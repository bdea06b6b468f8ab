//! A chart with its words, as templates take it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::view::tenth;
use crate::chart::{Chart, Shape};

/// A chart in a page: SVG for most browsers, and inside of it, where only a browser without SVG shows it,
/// the same as PNG.
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// The latest value, in words.
    pub(super) now: String,
    /// All of it, for who does not see it.
    pub(super) told: String,
    pub(super) svg: String,
    /// In base 64.
    pub(super) png: String,
    /// When it begins.
    pub(super) from: String,
    /// Between what its scale is.
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
        let told = match chart.is_empty() {
            true => format!("{title}: nothing was counted yet"),
            false => format!("{title}: now {now}; scale {scale}, from {from} until now"),
        };
        let (svg, png) = (chart.svg(), STANDARD.encode(chart.png()));
        Self { title, now, told, svg, png, from, scale }
    }
}
