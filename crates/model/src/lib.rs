//! The vocabulary of c360, pure: records, positions, match keys, cross-references, profiles.
