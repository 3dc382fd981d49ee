//! Stands before a server, in clear text or with TLS, and breaks one connection at a request.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::Identity;

/// How a connection is broken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Break {
    /// A reset at once.
    Reset,
    /// The end of the server's bytes. What the client sends then is answered with a reset.
    Close,
}

/// Listens on 127.0.0.1. Dropped, it ends its connections.
pub(crate) struct BreakingFront {
    address: SocketAddr,
    plan: Arc<Plan>,
    runtime: Option<Runtime>,
}

struct Plan {
    /// Breaks the first connection on which a request with this method comes.
    method: &'static str,
    how: Break,
    is_done: Mutex<bool>,
    done: Condvar,
}

impl BreakingFront {
    /// In front of `server`; with TLS if there is an identity.
    pub(crate) fn start(
        server: SocketAddr,
        identity: Option<&Identity>,
        method: &'static str,
        how: Break,
    ) -> Self {
        let plan = Arc::new(Plan {
            method,
            how,
            is_done: Mutex::new(false),
            done: Condvar::new(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let acceptor = identity.map(|identity| TlsAcceptor::from(Arc::new(config(identity))));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let for_task = Arc::clone(&plan);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (plan, acceptor) = (Arc::clone(&for_task), acceptor.clone());
                tokio::spawn(async move {
                    // A client may go at any time.
                    let Some(acceptor) = acceptor else {
                        return pass_on(client, server, &plan, |client| client).await;
                    };
                    if let Ok(client) = acceptor.accept(client).await {
                        pass_on(client, server, &plan, |client| client.get_ref().0).await;
                    }
                });
            }
        });
        Self {
            address,
            plan,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits until the connection was broken.
    pub(crate) fn wait_broken(&self, patience: Duration) -> bool {
        let is_done = self.plan.is_done.lock().unwrap();
        let waited = self
            .plan
            .done
            .wait_timeout_while(is_done, patience, |is_done| !*is_done);
        *waited.unwrap().0
    }
}

impl Drop for BreakingFront {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn config(identity: &Identity) -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// Both ways, until one ends or the connection is to be broken.
async fn pass_on<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: S,
    server: SocketAddr,
    plan: &Plan,
    socket: impl Fn(&S) -> &TcpStream,
) {
    let _ = socket(&client).set_nodelay(true);
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(1..) = read else { return };
                let bytes = &from_client[..read.unwrap()];
                if plan.is_due(bytes) {
                    let socket = SockRef::from(socket(&client));
                    match plan.how {
                        Break::Reset => socket.set_linger(Some(Duration::ZERO)).unwrap(),
                        Break::Close => socket.shutdown(std::net::Shutdown::Write).unwrap(),
                    }
                    drop(client);
                    return plan.on_broken();
                }
                if server.write_all(bytes).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(1..) = read else { return };
                if client.write_all(&from_server[..read.unwrap()]).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Plan {
    fn is_due(&self, bytes: &[u8]) -> bool {
        let request = format!("{} rtsp", self.method);
        let has_request = bytes
            .windows(request.len())
            .any(|window| window == request.as_bytes());
        has_request && !*self.is_done.lock().unwrap()
    }

    fn on_broken(&self) {
        *self.is_done.lock().unwrap() = true;
        self.done.notify_all();
    }
}
