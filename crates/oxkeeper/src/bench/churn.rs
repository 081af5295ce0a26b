//! Session load: each connection is opened, gets a session, closes it, and begins again.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use oxkeeper_proto::OpCode;

use super::measure::Kind;
use super::requests::Template;
use super::thread::{Connector, Thread};
use crate::wire::{OpenError, Wire, bad_reply, reply};

/// Pause after a failure, so that an absent server is not hammered.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs the `index`-th stream of sessions.
pub async fn run(thread: Rc<Thread>, index: usize) {
    let mut connector = Connector::new(index);
    thread.control.connected.fetch_add(1, Relaxed);
    while !thread.stopping(thread.now()) {
        let server = connector.next_server(&thread.plan.servers);
        let error = match tokio::time::timeout(thread.plan.timeout, cycle(&thread, server)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        thread.lost(1, &error);
        tokio::time::sleep(PAUSE).await;
    }
    thread.control.connected.fetch_sub(1, Relaxed);
}

/// One session from TCP connect to the reply of closeSession.
async fn cycle(thread: &Thread, server: std::net::SocketAddr) -> io::Result<()> {
    let start = thread.now();
    let opened = Wire::open(server, thread.plan.session_timeout_ms, None).await;
    let (mut wire, _) = opened.map_err(|error| match error {
        OpenError::Io(error) => error,
        OpenError::Expired => bad_reply("a new session was refused".to_owned()),
    })?;
    let opened = thread.now();
    thread.success(Kind::SessionOpen, opened - start, opened);
    Template::bare(OpCode::CloseSession).put(wire.out(), 1, 0);
    let (header, _) = reply(wire.wait_frame().await?)?;
    let closed = thread.now();
    match header.err {
        0 => thread.success(Kind::SessionClose, closed - opened, closed),
        code => thread.refused(code, closed),
    }
    Ok(())
}
