//! The check over small workspaces made for each test, and over the workspace it is in.

mod fixture;

mod circles;
mod crates;
mod this_workspace;
