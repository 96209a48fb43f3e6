//! The program as a shell sees it, on real parts: what commands do and print, and how they end.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod cli;
mod customer;
mod dead_letters;
mod demo;
mod embedded;
mod erasing;
mod import;
mod rest;
mod retiring;
mod status;
mod support;
mod two_stores;
