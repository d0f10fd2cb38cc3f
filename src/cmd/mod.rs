//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod attach;
pub mod detach;
pub mod serve;
pub mod status;
