//! Schema customer360: merges staged records into golden records.
