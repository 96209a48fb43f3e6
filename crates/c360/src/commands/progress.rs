//! Progress bars. Off a terminal they are invisible.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` that looks as `template` says, in indicatif's words.
pub(super) fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
