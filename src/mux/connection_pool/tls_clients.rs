//! The TLS clients of a pool: one for all connections with the same options, whatever their server.

use std::{collections::HashMap, sync::Arc};

use crate::mux::{driver::TlsClient, tls::TlsOptions};

/// More than any recorder has at a time. Who replaces certificates for years comes to it, and then
/// all are forgotten: what is lost are tickets, and with them a signature at each server.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct TlsClients(HashMap<TlsOptions, Arc<TlsClient>>);

impl TlsClients {
    /// The one for these options.
    pub(super) fn client(&mut self, options: &TlsOptions) -> Arc<TlsClient> {
        if let Some(client) = self.0.get(options) {
            return Arc::clone(client);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let client = Arc::new(TlsClient::new(options.clone()));
        self.0.insert(options.clone(), Arc::clone(&client));
        client
    }
}
