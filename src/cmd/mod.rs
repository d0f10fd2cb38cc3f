//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod attach;
pub mod boot;
pub mod detach;
pub mod explain;
pub mod serve;
pub mod status;
