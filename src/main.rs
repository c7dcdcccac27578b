//! The hostctl program.
fn main() {}
