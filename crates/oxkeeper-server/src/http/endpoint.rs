//! Connections of one HTTP port: few, bounded in number and time.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Connections at once. One more, and the oldest is closed: silent connections must not keep a health
/// check out.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// Time for the head of a request; also how long a connection may be idle before it.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of answers that wait to be sent.
const BUFFER: usize = 16 * 1024;

/// Serves `routes` for ever.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if MAX_CONNECTIONS <= open.len()
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let service = TowerToHyperService::new(routes.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        open.push_back(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP connection ended");
            }
        }));
    }
}
