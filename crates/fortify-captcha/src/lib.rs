//! Image challenges that need no script.
