//! The persistent store.
