//! The tests of Fortify over real sockets, with the real servers around it: one program, a module for each
//! subject. `cargo test -p fortify --test it redis::` runs those of one module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod abuse;
mod admin;
mod behaviour;
mod budgets;
mod chaos;
mod cli;
mod cluster;
mod commands;
mod corruption;
mod dashboard;
mod deploy;
mod disk;
mod doctor;
mod economics;
mod guess_table;
mod handover;
mod haproxy;
mod judging;
mod kinds;
mod maintenance;
mod nginx;
mod onion;
mod prometheus;
mod redis;
mod reload;
mod requirements;
mod restart;
mod service;
mod store_steps;
mod tabs;
mod tor;
mod way_in;
