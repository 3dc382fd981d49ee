//! RTSP session multiplexer.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod mux;
