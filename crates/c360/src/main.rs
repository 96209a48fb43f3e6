//! The c360 command.

fn main() {}
