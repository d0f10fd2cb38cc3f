//! The block device: requests in, completions out. The only user of libublk.
