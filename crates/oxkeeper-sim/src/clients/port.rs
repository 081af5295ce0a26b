//! The client port: bytes to [`Client`], its inputs to the replica, its output to the connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use oxkeeper_replica::{Client, Connection, Input, Written};

use crate::net::{ConnId, Message};
use crate::server::Mail;
use crate::world::{Due, Event, World};

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// As the server sees it.
    pub client: Arc<Client>,
    input: Vec<u8>,
}

/// The world schedules the tasks itself.
struct Scheduled;

impl Connection for Scheduled {
    fn wake(&self) {}
    fn write(&self, _: &Client) -> Written {
        Written::NotAll
    }
}

impl World<'_> {
    /// Something arrived at the server's end.
    pub fn client_bytes_arrived(&mut self, id: ConnId, message: Message) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (node, server) = (conn.nodes[0], conn.nodes[1]);
        let mono_ms = self.clocks(server).mono_ms;
        let Some(process) = &mut self.servers[server].process else { return };
        match message {
            Message::Opened => {
                let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, node as u8));
                let peer = SocketAddr::new(address, 1000);
                let client = Arc::new(Client::new(id, peer, mono_ms, Arc::new(Scheduled)));
                process.clients.insert(id, Accepted { client, input: Vec::new() });
            }
            Message::Bytes(bytes) => {
                if let Some(accepted) = process.clients.get_mut(&id) {
                    accepted.input.extend(bytes);
                }
                let delay = self.dice.below(200);
                self.after(delay, Event::ClientTask { conn: id });
            }
            Message::End => self.unregister(server, id),
            Message::Vote(_) => {}
        }
    }

    /// The connection's task runs once.
    pub fn client_task(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id).filter(|conn| conn.open[1]) else { return };
        let (server, incarnation) = (conn.nodes[1], conn.incarnations[1]);
        if !self.servers[server].is_running(incarnation) {
            return;
        }
        if self.servers[server].paused_until > self.now {
            let delay = self.servers[server].paused_until - self.now;
            self.after(delay, Event::ClientTask { conn: id });
            return;
        }
        let mono_ms = self.clocks(server).mono_ms;
        let Some(process) = &mut self.servers[server].process else { return };
        let Some(accepted) = process.clients.get_mut(&id) else { return };
        let (mut inputs, mut output) = (Vec::new(), Vec::new());
        let client = accepted.client.clone();
        let served = client.session() != 0 && !client.is_closing();
        let progress = client.on_input(&process.shared, &accepted.input, mono_ms, &mut inputs);
        let taken: Vec<u8> = accepted.input.drain(..progress.consumed).collect();
        if served {
            self.follow_frames(server, id, client.session(), &taken);
        }
        let closing = client.take_output(&mut output);
        for input in inputs {
            self.mail(server, Mail::Input(input));
        }
        if progress.close.is_some() {
            self.unregister(server, id);
            return;
        }
        if !output.is_empty() {
            self.send(id, 0, Message::Bytes(output));
        }
        if closing {
            self.unregister(server, id);
        }
    }

    fn unregister(&mut self, server: usize, id: ConnId) {
        let Some(process) = &mut self.servers[server].process else { return };
        if let Some(accepted) = process.clients.remove(&id) {
            self.checks.clients.lives.ended(id);
            accepted.client.disconnected(&process.shared);
            self.mail(server, Mail::Input(Input::Disconnected(accepted.client)));
        }
        self.close_end(id, 1);
    }

    /// Closes connections that were silent for too long.
    pub fn reap_idle(&mut self, server: usize) {
        self.after_for(server, 1_000_000, Due::ReapIdle);
        let mono_ms = self.clocks(server).mono_ms;
        let Some(process) = &self.servers[server].process else { return };
        let mut late = Vec::new();
        for (id, accepted) in &process.clients {
            let limit_ms = match accepted.client.session() {
                0 => 3_000,
                _ => accepted.client.timeout_ms().max(0) as u64,
            };
            if accepted.client.heard_ms() + limit_ms < mono_ms {
                accepted.client.close();
                late.push(*id);
            }
        }
        for conn in late {
            self.after(1, Event::ClientTask { conn });
        }
    }
}
