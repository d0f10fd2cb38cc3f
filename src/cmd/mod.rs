//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod boot;
pub mod explain;
