//! One call of [`Client::on_input`](super::Client::on_input): frames to replies, queue and inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oxkeeper_proto::client::{AuthRequest, ConnectRequest, ReplyHeader, RequestHeader};
use oxkeeper_proto::jute::put_java_string;
use oxkeeper_proto::{Decode, Encode, ErrorCode, OpCode, Reader};
use oxkeeper_state::State;
use oxkeeper_state::auth::{AuthFailed, authenticate};
use oxkeeper_state::serve::is_read;

use super::queue::Pending;
use super::{Client, ConnectionPhase, Inner, Progress};
use crate::replica::Input;
use crate::shared::Shared;

/// One call of [`Client::on_input`].
pub(super) struct Batch<'a> {
    pub client: &'a Arc<Client>,
    pub shared: &'a Shared,
    pub state: &'a State,
    pub now_ms: u64,
    /// What is in the buffer has waited longer than `throttled_op_wait_time`.
    pub too_late: bool,
    pub inputs: &'a mut Vec<Input>,
    /// Reads answered on the spot.
    pub reads: u64,
}

impl Batch<'_> {
    /// Takes the whole frames of `buf`, as far as they may be taken now.
    pub fn take(mut self, inner: &mut Inner, buf: &[u8]) -> Progress {
        let max_buffer = self.shared.settings.limits.max_buffer;
        let mut progress = Progress::default();
        while progress.close.is_none() {
            if let Some(paused) = self.must_pause(inner) {
                progress.paused = paused;
                break;
            }
            match next_frame(&buf[progress.consumed..], max_buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    progress.consumed += 4 + frame.len();
                    progress.close = self.frame(inner, frame).err();
                }
                Err(len) => {
                    progress.close = Some(format!(
                        "a message with advertised length of {len} is either malformed or larger \
                         than jute.maxbuffer={max_buffer}"
                    ));
                }
            }
        }
        let meters = &self.shared.meters;
        meters.readlatency.record_many(0, self.reads);
        if progress.consumed > 0 {
            meters.bytes_received_count.fetch_add(progress.consumed as u64, Ordering::Relaxed);
        }
        if inner.is_closing() {
            progress.consumed = buf.len();
        }
        progress
    }

    /// `Some(true)`: wait for a wake-up before taking another frame. `Some(false)`: never take one.
    fn must_pause(&self, inner: &mut Inner) -> Option<bool> {
        let limits = &self.shared.settings.limits;
        let outstanding = self.shared.outstanding();
        match inner.phase {
            ConnectionPhase::Connecting => Some(true),
            ConnectionPhase::Closing => Some(false),
            _ if inner.pending.is_empty() => (inner.out.holds_back_input()).then_some(true),
            // Each connection can always have one request in flight.
            _ => {
                let throttled =
                    limits.throttle_max_requests > 0 && outstanding >= limits.throttle_max_requests;
                if throttled {
                    count(&self.shared.meters.request_throttle_wait_count);
                    inner.throttled_since_ms.get_or_insert(self.now_ms);
                }
                let full = inner.pending.is_full()
                    || outstanding > limits.global_outstanding
                    || inner.out.holds_back_input();
                (throttled || full).then_some(true)
            }
        }
    }

    /// Handles one frame. `Err`: close at once, why.
    fn frame(&mut self, inner: &mut Inner, frame: &[u8]) -> Result<(), String> {
        self.shared.stats.received.fetch_add(1, Ordering::Relaxed);
        inner.stats.received += 1;
        if inner.phase == ConnectionPhase::New {
            return self.connect(inner, frame);
        }
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader)
            .map_err(|error| format!("request header: {error}"))?;
        self.request(inner, header, reader.rest())
    }

    fn connect(&mut self, inner: &mut Inner, frame: &[u8]) -> Result<(), String> {
        let meters = &self.shared.meters;
        if !self.shared.serving() {
            count(&meters.cnxn_closed_without_zk_server_running);
            return Err("not serving (no quorum, or starting)".to_owned());
        }
        let request = ConnectRequest::from_bytes(frame)
            .map_err(|error| format!("connect request: {error}"))?;
        count(&meters.connection_request_count);
        if request.session != 0 {
            count(&meters.connection_revalidate_count);
        }
        let settings = &self.shared.settings;
        let weight = match (settings.limits.connection_weights, request.session) {
            (false, _) => 1,
            (true, 0) => settings.limits.connection_weight_new,
            (true, _) => settings.limits.connection_weight_renewed,
        };
        if !self.shared.connection_throttle.lock().take(self.now_ms, weight) {
            count(&meters.connection_drop_count);
            return Err("connection throttle: no token left".to_owned());
        }
        let last_zxid = self.state.last_zxid();
        if request.last_zxid_seen > last_zxid.0 {
            return Err(format!(
                "client has seen zxid {:#x}, this server only {last_zxid}; it must try another one",
                request.last_zxid_seen
            ));
        }
        let timeout_ms = request
            .timeout_ms
            .clamp(settings.min_session_timeout_ms, settings.max_session_timeout_ms);
        inner.read_only_byte = request.read_only;
        inner.phase = ConnectionPhase::Connecting;
        self.client.heard_ms.store(self.now_ms, Ordering::Relaxed);
        self.inputs.push(Input::Connect {
            client: self.client.clone(),
            session: request.session,
            password: request.password.and_then(|bytes| bytes.try_into().ok()),
            timeout_ms,
        });
        Ok(())
    }

    fn request(
        &mut self,
        inner: &mut Inner,
        header: RequestHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let Some(op) = OpCode::from_code(header.op) else {
            self.unknown(inner, header);
            return Ok(());
        };
        if !matches!(op, OpCode::Auth | OpCode::Sasl) {
            self.client.heard_ms.store(self.now_ms, Ordering::Relaxed);
            inner.stats.last_op = header.op;
            inner.stats.last_cxid = header.xid;
        }
        if !matches!(op, OpCode::Auth | OpCode::Sasl)
            && !self.shared.settings.auth.enforcement_met(&inner.ids)
        {
            let code = ErrorCode::SessionClosedRequireAuth;
            self.decided(inner, Pending::Failed { xid: header.xid, code, close: true });
            return Ok(());
        }
        let always = [OpCode::Ping, OpCode::CloseSession, OpCode::Auth, OpCode::Sasl];
        if self.too_late && !always.contains(&op) {
            count(&self.shared.meters.throttled_ops);
            let code = ErrorCode::ThrottledOp;
            self.decided(inner, Pending::Failed { xid: header.xid, code, close: false });
            return Ok(());
        }
        match op {
            OpCode::Auth => return self.auth(inner, header, body),
            OpCode::Sasl => {
                let token = Reader::new(body).buffer().map_err(|error| format!("sasl: {error}"))?;
                token.ok_or("sasl: the token is null")?;
                // No SASL configured: the exchange ends with a null token, and nothing is gained.
                let reply = ReplyHeader { xid: header.xid, zxid: 0, err: 0 };
                inner.out.put_reply(reply, |out| None::<&[u8]>.encode(out));
            }
            op if is_read(op) => self.read(inner, header, body),
            OpCode::Sync => self.sync(inner, header, body),
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CloseSession => return self.write(inner, header, body),
            // Internal operations, and a check outside a multi.
            _ => self.unknown(inner, header),
        }
        Ok(())
    }

    fn read(&mut self, inner: &mut Inner, header: RequestHeader, body: &[u8]) {
        self.shared.add_outstanding(1);
        if inner.pending.is_empty() {
            self.reads += 1;
            inner.read(self.client, self.shared, self.state, header, body);
            inner.answered(self.shared, self.state.last_zxid(), self.now_ms, self.now_ms);
        } else {
            inner.pending.push(self.now_ms, Pending::Read { header, body: body.into() });
        }
    }

    /// Queues a reply that is decided already, behind whatever is in flight.
    fn decided(&mut self, inner: &mut Inner, reply: Pending) {
        self.shared.add_outstanding(1);
        inner.pending.push(self.now_ms, reply);
        inner.drain(self.client, self.shared, self.state, self.now_ms);
    }

    fn unknown(&mut self, inner: &mut Inner, header: RequestHeader) {
        let code = ErrorCode::Unimplemented;
        self.decided(inner, Pending::Failed { xid: header.xid, code, close: true });
    }

    fn auth(
        &mut self,
        inner: &mut Inner,
        header: RequestHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let xid = header.xid;
        let settings = &self.shared.settings.auth;
        let AuthRequest { scheme, auth, .. } =
            AuthRequest::from_bytes(body).map_err(|error| format!("auth: {error}"))?;
        match authenticate(settings, scheme.as_deref(), auth, &inner.ids[0]) {
            Ok(granted) => {
                let ids = Arc::make_mut(&mut inner.ids);
                for id in granted {
                    if !ids.contains(&id) {
                        ids.push(id);
                    }
                }
                self.shared.watches.lock().register(self.client.id, inner.ids.clone());
                self.decided(inner, Pending::Authed { xid });
            }
            Err(AuthFailed::Refused) => {
                let code = ErrorCode::AuthFailed;
                self.decided(inner, Pending::Failed { xid, code, close: true });
            }
            Err(failed @ AuthFailed::OtherEnsemble) => return Err(format!("auth: {failed}")),
        }
        Ok(())
    }

    fn sync(&mut self, inner: &mut Inner, header: RequestHeader, body: &[u8]) {
        let Ok(path) = Reader::new(body).opt_string() else {
            let code = ErrorCode::MarshallingError;
            self.decided(inner, Pending::Failed { xid: header.xid, code, close: false });
            return;
        };
        self.shared.add_outstanding(1);
        // The reply echoes the path, as it was understood.
        let mut echo = Vec::new();
        match path {
            Some(path) => put_java_string(&mut echo, &path),
            None => None::<&[u8]>.encode(&mut echo),
        }
        let sync = Pending::Sync { xid: header.xid, body: echo.into() };
        inner.pending.push(self.now_ms, sync);
        self.inputs.push(Input::Sync {
            client: self.client.clone(),
            xid: header.xid,
            body: Bytes::copy_from_slice(body),
        });
    }

    fn write(
        &mut self,
        inner: &mut Inner,
        header: RequestHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let limits = &self.shared.settings.limits;
        let len = body.len() as i64;
        let large =
            if 0 < limits.large_threshold && limits.large_threshold < len { len } else { 0 };
        let in_flight = self.shared.large_bytes.fetch_add(large, Ordering::Relaxed);
        if large > 0 && in_flight + large > limits.large_max_bytes {
            self.shared.large_bytes.fetch_sub(large, Ordering::Relaxed);
            count(&self.shared.meters.large_requests_rejected);
            return Err(format!(
                "a request of {len} bytes would bring the large requests in flight above \
                 largeRequestMaxBytes={}",
                limits.large_max_bytes
            ));
        }
        self.shared.add_outstanding(1);
        let write = Pending::Write { xid: header.xid, op: header.op, large };
        inner.pending.push(self.now_ms, write);
        self.inputs.push(Input::Request {
            client: self.client.clone(),
            xid: header.xid,
            op: header.op,
            body: Bytes::copy_from_slice(body),
            ids: inner.ids.clone(),
        });
        Ok(())
    }
}

/// One more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The first whole frame of `buf`, without its length prefix. `Err`: a length that closes the
/// connection.
fn next_frame(buf: &[u8], max_buffer: usize) -> Result<Option<&[u8]>, i32> {
    let Some((prefix, rest)) = buf.split_first_chunk::<4>() else { return Ok(None) };
    let len = i32::from_be_bytes(*prefix);
    match usize::try_from(len) {
        Ok(len) if len <= max_buffer => Ok(rest.get(..len)),
        _ => Err(len),
    }
}
