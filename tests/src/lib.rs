//! Whole-pipeline tests on real parts.
