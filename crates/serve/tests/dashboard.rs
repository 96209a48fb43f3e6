//! The dashboard as a browser without JavaScript has it.

mod forms;
mod insights;
mod pages;
mod profile;
mod searching;
mod signing_in;
