//! Lands nightly CSV files dropped into a directory.
