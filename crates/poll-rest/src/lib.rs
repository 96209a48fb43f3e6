//! Asks a REST source about the customers that are known.
