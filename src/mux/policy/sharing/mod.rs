//! Whether a server keeps several sessions of one connection apart.

pub(crate) mod description_check;
pub(crate) mod descriptions;
