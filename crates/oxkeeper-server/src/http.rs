//! Health and metrics over HTTP.
//!
//! Both ports are served by a thread of their own, which waits for nobody: `/livez` is answered while
//! the database loads, while the replica is stuck, while every other thread is busy. What must ask
//! somebody (readiness, metrics) does so on another thread, with a limit of time.
//! Source: `docs/spec/operations.md` 4.2, 4.3, 9.5.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::client_port::ClientPort;
use crate::config::ServerConfig;
use crate::listen::{self, BindError};
use crate::view::Inspector;

mod endpoint;
mod exposition;
mod process;
#[cfg(test)]
mod tests;

/// How long the replica may take before the server counts as not ready.
const READY_LIMIT: Duration = Duration::from_millis(800);
/// How long gathering metrics may take.
const METRICS_LIMIT: Duration = Duration::from_secs(5);
/// Five of these make the window of the quantiles.
const ROTATION: Duration = Duration::from_secs(120);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Of the answer to a scrape.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why an endpoint was not opened.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The port of health checks.
    #[error(transparent)]
    Admin(BindError),
    /// The port of metrics.
    #[error(transparent)]
    Metrics(BindError),
    /// The thread that serves them.
    #[error("cannot start the thread for HTTP: {0}")]
    System(#[from] std::io::Error),
}

impl HttpError {
    /// The process's exit code (`docs/spec/operations.md` 9.1).
    pub fn exit_code(&self) -> i32 {
        match self {
            HttpError::Admin(_) => 4,
            HttpError::Metrics(_) | HttpError::System(_) => 1,
        }
    }
}

/// What the endpoints show.
#[derive(Clone)]
pub struct Http {
    shown: Arc<Shown>,
}

struct Shown {
    running: OnceLock<Running>,
    stopping: AtomicBool,
    /// `exportJvmInfo`.
    process: bool,
    /// One question to the replica at a time: a stuck one costs one thread.
    asking: Arc<Semaphore>,
    gathering: Arc<Semaphore>,
}

/// A server whose database is loaded.
#[derive(Clone)]
struct Running {
    inspector: Arc<Inspector>,
    port: Arc<ClientPort>,
}

impl Http {
    /// Opens what `config` asks for, and serves it. The database is not loaded yet.
    pub fn start(config: &ServerConfig) -> Result<Http, HttpError> {
        let shown = Shown {
            running: OnceLock::new(),
            stopping: AtomicBool::new(false),
            process: config.prometheus.as_ref().is_some_and(|prometheus| prometheus.process),
            asking: Arc::new(Semaphore::new(1)),
            gathering: Arc::new(Semaphore::new(1)),
        };
        let http = Http { shown: Arc::new(shown) };
        if config.admin.is_none() && config.prometheus.is_none() {
            return Ok(http);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("http-ask")
            .build()?;
        let inside = runtime.enter();
        let mut endpoints = Vec::new();
        if let Some(address) = &config.admin {
            let listeners = listen::bind(address, BACKLOG, "admin").map_err(HttpError::Admin)?;
            tracing::info!("health checks at http://{address}/livez and /readyz");
            endpoints.extend(listeners.into_iter().map(|one| (one, http.health_routes())));
        }
        if let Some(prometheus) = &config.prometheus {
            let listeners = listen::bind(&prometheus.address, BACKLOG, "metrics")
                .map_err(HttpError::Metrics)?;
            tracing::info!("metrics at http://{}/metrics", prometheus.address);
            endpoints.extend(listeners.into_iter().map(|one| (one, http.metrics_routes())));
        }
        drop(inside);
        let rotation = config.prometheus.is_some().then(|| http.clone().rotate());
        std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || runtime.block_on(run(endpoints, rotation)))?;
        Ok(http)
    }

    /// The database is loaded, and the replica runs. At most once.
    pub fn show(&self, inspector: Arc<Inspector>, port: Arc<ClientPort>) {
        assert!(self.shown.running.set(Running { inspector, port }).is_ok(), "one server is shown");
    }

    /// From now on the server is not ready.
    pub fn stopping(&self) {
        self.shown.stopping.store(true, Ordering::Release);
    }

    fn health_routes(&self) -> Router {
        const PATHS: &str = "/livez, /readyz, /healthz/live, /healthz/ready, /healthz/quorum";
        let live = || async { "ok\n" };
        let refuse = || async { (StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n") };
        let missing =
            || async { (StatusCode::NOT_FOUND, format!("no such path; there are {PATHS}\n")) };
        Router::new()
            .route("/livez", get(live))
            .route("/healthz/live", get(live))
            .route("/readyz", get(ready))
            .route("/healthz/ready", get(ready))
            .route("/healthz/quorum", get(ready))
            .fallback(missing)
            .method_not_allowed_fallback(refuse)
            .with_state(self.clone())
    }

    fn metrics_routes(&self) -> Router {
        let read = MethodFilter::GET.or(MethodFilter::POST);
        let options = || async { [(header::ALLOW, "GET, HEAD, POST, TRACE, OPTIONS")] };
        let missing = || async { (StatusCode::NOT_FOUND, "no such path; there is /metrics\n") };
        Router::new()
            .route(
                "/metrics",
                on(read, scrape)
                    .on(MethodFilter::OPTIONS, options)
                    .on(MethodFilter::TRACE, || async { StatusCode::FORBIDDEN }),
            )
            .fallback(missing)
            .with_state(self.clone())
    }

    /// The role that serves, or why none does.
    async fn readiness(&self) -> Result<&'static str, String> {
        if self.shown.stopping.load(Ordering::Acquire) {
            return Err("shutting down".to_owned());
        }
        let Some(Running { inspector, port }) = self.shown.running.get().cloned() else {
            return Err("loading the database".to_owned());
        };
        let asking = self.shown.asking.clone();
        let busy = || format!("the replica has not answered for {} ms", READY_LIMIT.as_millis());
        let answer = async move {
            let permit = asking.acquire_owned().await.ok()?;
            let ask = move || {
                let answer = inspector.readiness(&port, READY_LIMIT);
                drop(permit);
                answer
            };
            tokio::task::spawn_blocking(ask).await.ok().flatten()
        };
        let role = limited(READY_LIMIT, answer).await.flatten().ok_or_else(busy)??;
        // A signal may have come meanwhile.
        match self.shown.stopping.load(Ordering::Acquire) {
            true => Err("shutting down".to_owned()),
            false => Ok(role),
        }
    }

    /// Everything that is known, in the text format; `None` if it could not be gathered in time.
    async fn exposition(&self, names: Vec<String>) -> Option<String> {
        let gathering = self.shown.gathering.clone();
        let shown = self.shown.clone();
        let text = async move {
            let permit = gathering.acquire_owned().await.ok()?;
            let gather = move || {
                let metrics = shown.running.get();
                let metrics =
                    metrics.map(|running| running.inspector.gather(&running.port, READY_LIMIT));
                let mut families = exposition::families(&metrics.unwrap_or_default());
                if shown.process {
                    families.extend(process::families());
                }
                drop(permit);
                exposition::text(&families, &names)
            };
            tokio::task::spawn_blocking(gather).await.ok()
        };
        limited(METRICS_LIMIT, text).await.flatten()
    }

    /// Moves the windows of the quantiles on.
    async fn rotate(self) {
        loop {
            tokio::time::sleep(ROTATION).await;
            if let Some(running) = self.shown.running.get() {
                running.inspector.rotate(&running.port);
            }
        }
    }
}

async fn run(endpoints: Vec<(TcpListener, Router)>, rotation: Option<impl Future<Output = ()>>) {
    for (listener, routes) in endpoints {
        tokio::spawn(endpoint::serve(listener, routes));
    }
    match rotation {
        Some(rotation) => rotation.await,
        None => std::future::pending().await,
    }
}

async fn limited<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

async fn ready(State(http): State<Http>) -> Response {
    match http.readiness().await {
        Ok(role) => format!("ready: {role}\n").into_response(),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
        }
    }
}

async fn scrape(State(http): State<Http>, RawQuery(query): RawQuery) -> Response {
    let names = exposition::names(query.as_deref().unwrap_or_default());
    match http.exposition(names).await {
        Some(text) => ([(header::CONTENT_TYPE, EXPOSITION)], text).into_response(),
        None => {
            let text = "the server is too busy to tell its metrics\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}
