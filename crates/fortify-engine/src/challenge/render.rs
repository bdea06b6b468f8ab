//! The interface to whatever draws pictures.

use fortify_captcha::{Generator, Puzzle, RenderError, Rendered, Seed, Spec, Style, StyleKey};

/// What draws. The generator does; a test may put a slow one in its place.
pub trait Render: Send + Sync {
    /// The style that follows from `key`.
    fn style(&self, key: &StyleKey) -> Style;

    /// The whole picture.
    ///
    /// # Errors
    ///
    /// When the specification cannot be drawn.
    fn render(&self, spec: &Spec, style: &Style, seed: &Seed) -> Result<Rendered, RenderError>;

    /// The task alone.
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
