//! The HTTP side of c360.
