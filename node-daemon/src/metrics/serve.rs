//! Serves the metrics, the health and the readiness by HTTP/1, on a thread and a runtime of its own.
//!
//! Whoever reaches the address may ask, so what they can cost is bounded: so many connections at once, of one request each, whose
//! head is not long and comes soon; what comes behind it is not read; and no connection lasts long. More connections wait in the
//! kernel.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::health::{Pulses, Readiness};
use super::{Form, Metrics};

/// Connections at once.
const MOST: usize = 16;
/// How long a request's head may take to come.
const HEAD_PATIENCE: Duration = Duration::from_secs(3);
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request's head may be, in bytes; hyper takes no less.
const LONGEST_HEAD: usize = 8192;
/// How many headers it may have.
const MOST_HEADERS: usize = 64;
/// The pause where the kernel gives no connection, as where all files are in use.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// What is served.
#[derive(Debug)]
pub struct Pages {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether the tasks run.
    pub pulses: Pulses,
    /// Whether pods can be served.
    pub readiness: Arc<Readiness>,
}

/// Listens there; what comes waits until [`run`].
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves for as long as the process lives.
pub fn run(listener: TcpListener, pages: Pages) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    runtime.block_on(serve(listener, Arc::new(pages)))
}

async fn serve(listener: TcpListener, pages: Arc<Pages>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    // Who is too slow, or speaks no HTTP, has no right to an answer.
                    timeout(PATIENCE, answer(stream, pages)).await.ok();
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no connection to the metrics can be taken");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, pages: Arc<Pages>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(request.method(), request.uri().path(), request.headers()).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    http.keep_alive(false).max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
    http.serve_connection(TokioIo::new(stream), service).await
}

impl Pages {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are served\n".to_owned());
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/metrics" => {
                // What it finds is one of the metrics.
                self.readiness.wrong().await;
                let form = asked(headers);
                page(StatusCode::OK, form.media_type(), self.metrics.tell(form))
            }
            "/healthz" => verdict(&self.pulses.ills()),
            "/readyz" => verdict(&self.readiness.wrong().await),
            _ => page(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".to_owned()),
        }
    }
}

/// OpenMetrics for who knows it by name.
fn asked(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let named = accepted.flat_map(|value| value.split(',')).filter_map(|range| range.split(';').next());
    match named.into_iter().any(|kind| kind.trim().eq_ignore_ascii_case("application/openmetrics-text")) {
        true => Form::OpenMetrics,
        false => Form::Prometheus,
    }
}

fn verdict(wrong: &[String]) -> Response<Full<Bytes>> {
    if wrong.is_empty() {
        return page(StatusCode::OK, TEXT, "ok\n".to_owned());
    }
    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, wrong.join("\n") + "\n")
}

fn page(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
