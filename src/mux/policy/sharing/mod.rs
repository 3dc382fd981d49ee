//! Whether a server keeps several sessions of one connection apart.

pub(in crate::mux) mod description_check;
pub(in crate::mux) mod descriptions;
