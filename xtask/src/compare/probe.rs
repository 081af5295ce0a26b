//! The smallest client: does a server serve, and does it acknowledge a write?

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::tools::{Failure, Outcome};

const REPLY_LIMIT: Duration = Duration::from_millis(500);

/// The `Mode:` that a server's `srvr` shows, if it serves.
pub fn mode(port: u16) -> Option<String> {
    let mut stream = connect(port)?;
    stream.write_all(b"srvr").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    reply.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
}

/// Tries each port in turn until a create is acknowledged; returns when that was.
pub fn first_write(ports: &[u16], limit: Duration) -> Outcome<Instant> {
    let start = Instant::now();
    while start.elapsed() < limit {
        for port in ports {
            if write_once(*port).is_some() {
                return Ok(Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(Failure(format!("no write was acknowledged within {limit:?}")))
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(REPLY_LIMIT)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Opens a session and creates `/first-<sequence>`; `None` if anything is refused or late.
fn write_once(port: u16) -> Option<()> {
    let mut stream = connect(port)?;
    // ConnectRequest: version, last zxid, timeout in ms, session, password, read-only.
    let mut request = Vec::new();
    request.extend(0_i32.to_be_bytes());
    request.extend(0_i64.to_be_bytes());
    request.extend(30_000_i32.to_be_bytes());
    request.extend(0_i64.to_be_bytes());
    put_buffer(&mut request, &[0; 16]);
    request.push(0);
    let accepted = call(&mut stream, &request)?;
    let timeout_ms = i32::from_be_bytes(accepted.get(4..8)?.try_into().ok()?);
    if timeout_ms <= 0 {
        return None;
    }
    // Header: xid 1, create. Body: path, data, one ACL of all rights for world:anyone, flag sequential.
    let mut request = Vec::new();
    request.extend(1_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    put_buffer(&mut request, b"/first-");
    put_buffer(&mut request, b"x");
    request.extend(1_i32.to_be_bytes());
    request.extend(31_i32.to_be_bytes());
    put_buffer(&mut request, b"world");
    put_buffer(&mut request, b"anyone");
    request.extend(2_i32.to_be_bytes());
    let reply = call(&mut stream, &request)?;
    let error = i32::from_be_bytes(reply.get(12..16)?.try_into().ok()?);
    (error == 0).then_some(())
}

fn put_buffer(out: &mut Vec<u8>, data: &[u8]) {
    out.extend((data.len() as i32).to_be_bytes());
    out.extend(data);
}

/// Sends one frame and reads one.
fn call(stream: &mut TcpStream, body: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    put_buffer(&mut frame, body);
    stream.write_all(&frame).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; (u32::from_be_bytes(length) as usize).min(1 << 20)];
    stream.read_exact(&mut reply).ok()?;
    Some(reply)
}
