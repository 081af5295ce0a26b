//! Four-letter words: one question, one answer, end of connection.
//!
//! Source: `docs/spec/operations.md` 2.1.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// No answer to the words we ask is larger.
const MAX_ANSWER: usize = 64 << 10;

/// Asks `word` and returns the whole answer; `limit` bounds everything together.
pub fn ask(server: SocketAddr, word: &str, limit: Duration) -> io::Result<String> {
    let deadline = Instant::now() + limit;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&server, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    let mut buf = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(n) if answer.len() + n <= MAX_ANSWER => answer.extend_from_slice(&buf[..n]),
            Ok(_) => return Err(io::Error::other(format!("answer to {word} has no end"))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // A server that closes hard after its answer has still answered.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The mode in an answer to `srvr`: `leader`, `follower`, `observer`, `standalone`, `read-only`.
/// Without it the server does not serve.
pub fn mode(srvr: &str) -> Option<&str> {
    srvr.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_tells_a_serving_server_from_one_without_a_quorum() {
        assert_eq!(mode("Zookeeper version: 3.9.5\nMode: leader\nNode count: 5\n"), Some("leader"));
        assert_eq!(mode("This ZooKeeper instance is not currently serving requests\n"), None);
    }
}
