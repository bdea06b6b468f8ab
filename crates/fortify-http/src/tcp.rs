//! How TCP sockets are set up, on both sides of the gate.

use std::io;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// What the kernel may keep of each direction of a connection, in bytes; Linux doubles it for its own needs. By itself it
/// takes up to 4 MB to send and 32 MB to receive (`tcp_wmem`, `tcp_rmem`), so that a few hundred downloads which nobody
/// reads would hold gigabytes that no limit of the process sees. Tor carries about 1 MB a second on a circuit.
const KERNEL_BUFFER: usize = 128 * 1024;

/// Bounds what the kernel keeps, and sends at once: a challenge page is small, and waiting to fill a segment would only
/// delay it.
///
/// # Errors
///
/// If the connection is gone.
pub(crate) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(stream, KERNEL_BUFFER)?;
    sockopt::set_socket_recv_buffer_size(stream, KERNEL_BUFFER)?;
    Ok(())
}
