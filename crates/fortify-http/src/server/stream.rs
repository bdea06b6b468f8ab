//! A socket with deadlines, a lingering close and a slot among the connections.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::cut::Held;
use super::framing::{Framing, Scanner};
use super::slots::{Activity, Slot, SlotHandle};
use super::{Events, Limits, MAX_HEAD, ServerEvent, Stage};

/// How long a closed connection still reads what the client sends. Closing with unread bytes resets the
/// connection, and the client may lose the response.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes of an answer may wait to be written before more are taken from the service. hyper takes as many as its
/// longest head has, and a download that is hardly read would hold them.
const MAX_UNSENT: usize = 8 * 1024;

/// A socket of either kind.
pub(super) type Socket = Box<dyn Io>;

/// The operations of a socket.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The state that a socket and its requests share.
#[derive(Clone)]
pub(super) struct Progress {
    state: Arc<Mutex<State>>,
    slot: SlotHandle,
}

struct State {
    phase: Phase,
    scanner: Scanner,
    /// Who waits to read. hyper does not look again by itself when an answer is done, and the
    /// timer for idling has to be set.
    reader: Option<Waker>,
    /// Bytes of the answer's body that were taken and are not written yet, or fewer: what is written of heads counts too.
    unsent: usize,
    /// Who waits to take more.
    taker: Option<Waker>,
    /// Kept until the tunnel's socket is closed.
    held: Option<Held>,
    /// Each response is the last one.
    draining: bool,
}

/// What the client is expected to do next.
#[derive(Clone, Copy)]
enum Phase {
    /// Send the rest of a head, since this time.
    Head(Instant),
    /// Send another request, since this time.
    Idle(Instant),
    /// Wait for its response, which is bounded elsewhere.
    Busy,
    /// Anything: the connection is a tunnel.
    Tunnel,
}

impl Progress {
    /// A new connection has to send a head at once.
    pub(super) fn new(slot: SlotHandle) -> Self {
        let (phase, scanner) = (Phase::Head(Instant::now()), Scanner::default());
        let state = State {
            phase,
            scanner,
            reader: None,
            unsent: 0,
            taker: None,
            held: None,
            draining: false,
        };
        Self { state: Arc::new(Mutex::new(state)), slot }
    }

    /// The server stops: the next response is the last one.
    pub(super) fn drain(&self) {
        self.lock().draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    /// Starts a request, and returns its framing; refused if the scanner did not see it.
    pub(super) fn begin(&self) -> Framing {
        let mut state = self.lock();
        state.phase = Phase::Busy;
        state.unsent = 0;
        self.slot.does(Activity::Busy);
        state.scanner.take().unwrap_or(Framing::Refused)
    }

    /// Ends a request: its response is written.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        match state.phase {
            Phase::Busy if state.scanner.in_head() => {
                state.phase = Phase::Head(Instant::now());
                self.slot.does(Activity::Head);
            }
            Phase::Busy => {
                state.phase = Phase::Idle(Instant::now());
                self.slot.does(Activity::Idle);
            }
            _ => {}
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Turns the connection into a tunnel, for as long as which `held` is kept.
    pub(super) fn tunnel(&self, held: Option<Held>) {
        let mut state = self.lock();
        state.phase = Phase::Tunnel;
        state.held = held;
        self.slot.does(Activity::Tunnel);
        state.scanner.stop();
    }

    /// Whether the client may be in the middle of sending a request.
    fn is_sending(&self) -> bool {
        let state = self.lock();
        !matches!(state.phase, Phase::Tunnel) && !state.scanner.is_between()
    }

    /// These bytes arrived. Returns whether they are of nothing but a head that is still to be completed, which has a
    /// deadline. What comes while a request is answered has none, and hyper stops to read it.
    fn received(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if let Phase::Idle(_) = state.phase {
            state.phase = Phase::Head(Instant::now());
            self.slot.does(Activity::Head);
        }
        state.scanner.feed(bytes) && matches!(state.phase, Phase::Head(_))
    }

    /// Waits until more of an answer's body may be taken.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.unsent < MAX_UNSENT {
            return Poll::Ready(());
        }
        state.taker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// So many bytes of an answer's body were taken.
    pub(super) fn took(&self, bytes: usize) {
        let mut state = self.lock();
        state.unsent = state.unsent.saturating_add(bytes);
    }

    /// The client took so many bytes of what it was sent. hyper may still be writing an answer whose body
    /// it has taken whole, so idling begins when the last of it is gone.
    fn sent(&self, bytes: usize) {
        let mut state = self.lock();
        state.unsent = state.unsent.saturating_sub(bytes);
        if state.unsent < MAX_UNSENT
            && let Some(taker) = state.taker.take()
        {
            taker.wake();
        }
        match &mut state.phase {
            Phase::Head(since) | Phase::Idle(since) => *since = Instant::now(),
            Phase::Busy | Phase::Tunnel => {}
        }
    }

    /// When the client has to have sent something, asked by whoever waits for it.
    fn deadline(&self, limits: &Limits, reader: &Waker) -> Option<(Instant, ServerEvent)> {
        let mut state = self.lock();
        state.reader = Some(reader.clone());
        match state.phase {
            Phase::Head(since) => Some((since + limits.header_timeout, ServerEvent::HeaderTimeout)),
            Phase::Idle(since) => Some((since + limits.idle_timeout, ServerEvent::IdleTimeout)),
            Phase::Busy | Phase::Tunnel => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket a connection is served on, and the tunnel it may become.
///
/// Reads end with an error when the head or the next request does not come in time, writes when the
/// peer does not read, and both when the server cuts. The deadlines live here and not in hyper:
/// hyper has one timer for idling and for the head together, and starts it while the last of an
/// answer is still waiting for a slow reader.
pub(super) struct GuardedStream {
    /// Bytes that hyper has not been given: of a head until it is whole, or the rest of what it had no room for. hyper
    /// would double its buffer of 8 KiB for the second part of a head, and keep it.
    ahead: BytesMut,
    /// `ahead` ends with part of a head that is still arriving.
    is_partial: bool,
    socket: Socket,
    progress: Progress,
    limits: Limits,
    events: Events,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    linger_timer: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    /// Last, so that the place is free only when the socket is closed.
    _slot: Slot,
}

impl GuardedStream {
    pub(super) fn new(
        socket: Socket,
        ahead: Bytes,
        progress: Progress,
        (limits, events): (Limits, Events),
        slot: Slot,
        (mut stage, cut): (watch::Receiver<Stage>, impl Future<Output = ()> + Send + 'static),
    ) -> Self {
        let cut = Box::pin(async move {
            // An error means that the server is gone, and its connections go with it.
            let shutdown = async { drop(stage.wait_for(|stage| *stage == Stage::Cutting).await) };
            tokio::select! {
                () = shutdown => {}
                () = cut => {}
            }
        });
        let is_partial = !ahead.is_empty() && progress.received(&ahead);
        Self {
            ahead: ahead.into(),
            is_partial,
            socket,
            progress,
            limits,
            events,
            read_timer: None,
            write_timer: None,
            linger_timer: None,
            cut,
            is_cut: false,
            _slot: slot,
        }
    }

    /// Whether hyper may have what is ahead.
    fn is_ready(&self) -> bool {
        !self.ahead.is_empty() && !self.is_partial
    }

    /// Waits until a head is whole, so that hyper takes no buffer before: of thousands of connections that dawdle, each
    /// would have one.
    ///
    /// # Errors
    ///
    /// The head does not come in time, or the socket fails.
    pub(super) async fn head(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 1024];
        while !self.is_ready() {
            let mut buffer = ReadBuf::new(&mut scratch);
            if ready!(self.poll_receive(cx, &mut buffer))? {
                self.ahead.extend_from_slice(buffer.filled());
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the socket. Returns whether what was read stays in `buffer`, also if that is the end; otherwise it is
    /// ahead.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.socket).poll_read(cx, buffer)?.is_pending() {
            self.poll_cut(cx)?;
            self.poll_read_deadline(cx)?;
            return Poll::Pending;
        }
        let received = buffer.filled().get(before..).unwrap_or_default();
        let is_partial = !received.is_empty() && self.progress.received(received);
        // A head that is too long is hyper's to refuse.
        self.is_partial = is_partial && self.ahead.len() + received.len() <= MAX_HEAD;
        let stays = self.ahead.is_empty() && !self.is_partial;
        if !stays {
            self.ahead.extend_from_slice(received);
            buffer.set_filled(before);
        }
        Poll::Ready(Ok(stays))
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// While a write is pending the client is to read first, and that has a deadline of its own;
    /// the timer is set all the same, or nothing would look again once the write is done.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some((deadline, event)) = self.progress.deadline(&self.limits, cx.waker()) else {
            return Ok(());
        };
        let writing = self.write_timer.as_ref().map(|timer| timer.deadline());
        let deadline = writing.map_or(deadline, |until| until.max(deadline));
        if !expired(&mut self.read_timer, deadline, cx) || writing.is_some() {
            return Ok(());
        }
        (self.events)(event);
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Passes a result on; a write that has to wait starts the clock, one that moves stops it.
    fn watch_write(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = result {
            self.write_timer = None;
            self.progress.sent(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        let deadline = match &self.write_timer {
            Some(timer) => timer.deadline(),
            None => Instant::now() + self.limits.idle_timeout,
        };
        if expired(&mut self.write_timer, deadline, cx) {
            (self.events)(ServerEvent::WriteTimeout);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Reads and forgets until the peer has closed too, or time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match &self.linger_timer {
            Some(timer) => timer.deadline(),
            None => Instant::now() + LINGER,
        };
        let mut scratch = [0; 4096];
        while !expired(&mut self.linger_timer, deadline, cx) {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// Sets the timer to the deadline if it is not, and asks whether it has passed.
fn expired(timer: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> bool {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if timer.deadline() != deadline {
        timer.as_mut().reset(deadline);
    }
    timer.as_mut().poll(cx).is_ready()
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.is_ready() {
            if ready!(this.poll_receive(cx, buffer))? {
                return Poll::Ready(Ok(()));
            }
        }
        let length = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(this.ahead.get(..length).unwrap_or_default());
        this.ahead.advance(length);
        if this.ahead.is_empty() {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A tunnel whose visitor sends no more is only written to.
        self.poll_cut(cx)?;
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watch_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.watch_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_timer.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        // A tunnel is shut one way at a time, and the other way may go on.
        // Where the client owes nothing, nothing is left unread either.
        if !self.progress.is_sending() {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx).map(Ok)
    }
}
