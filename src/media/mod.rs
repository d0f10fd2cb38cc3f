//! Media: find the one that was named, see what is on it, mount it unharmed, open what it holds.

pub mod cow_source;
pub mod cowfile;
pub mod create;
pub mod drive;
pub mod export;
pub mod find;
pub mod import;
pub mod journal;
pub mod merge;
pub mod mount;
pub mod namespace;
pub mod nfs;
pub mod open;
pub mod partition;
pub mod place;
pub mod probe;
pub mod remount;
pub mod replayed;
mod rpc;
pub mod session;
pub mod shown;
pub mod source;
pub mod survey;
pub mod text;
pub mod whole;
