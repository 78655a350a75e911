//! keelson
fn main() {}
