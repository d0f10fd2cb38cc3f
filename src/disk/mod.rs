//! Runs the engine's commands on files and block devices.
