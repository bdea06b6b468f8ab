//! Tests of the crate through its public interface alone.

mod budget;
mod carriers;
mod choices;
mod golden;
mod golden_carriers;
mod styles;
