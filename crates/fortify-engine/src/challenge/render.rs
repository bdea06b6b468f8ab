//! The interface to whatever draws pictures.

use fortify_captcha::{Generator, Puzzle, RenderError, Rendered, Seed, Spec, Style, StyleKey};

/// Draws pictures: the generator, or a slow substitute in tests.
pub trait Render: Send + Sync {
    /// Derives a style from `key`.
    fn style(&self, key: &StyleKey) -> Style;

    /// Draws a picture.
    ///
    /// # Errors
    ///
    /// Fails if the specification cannot be drawn.
    fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError>;

    /// Generates the task without drawing it.
    ///
    /// # Errors
    ///
    /// As [`Self::render`].
    fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError>;
}

impl Render for Generator {
    fn style(&self, key: &StyleKey) -> Style {
        Self::style(self, key)
    }

    fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError> {
        Self::render(self, spec, style, seed)
    }

    fn puzzle(&self, spec: &Spec, seed: &Seed) -> Result<Puzzle, RenderError> {
        Self::puzzle(self, spec, seed)
    }
}
