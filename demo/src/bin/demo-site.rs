//! The demonstration site on a socket of its own, for `make run` and for trying things by hand.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long running answers may take after a signal; then the process ends all the same.
const DRAIN: Duration = Duration::from_secs(5);

/// The web service that Fortify protects in the demonstration.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let (stop, stopped) = watch::channel(false);
    let signalled = stop_on_signal(stop)?;
    announce(listener.local_addr()?);

    let serving = fortify_demo::serve(listener, told_to_stop(stopped.clone()));
    tokio::select! {
        served = serving => served.context("serving failed")?,
        () = drained(stopped) => {}
    }
    signalled.abort();
    Ok(())
}

/// The scripts read the port from this line, so it goes to stdout and stays as it is.
#[allow(clippy::print_stdout, reason = "the line is the program's output")]
fn announce(address: SocketAddr) {
    println!("listening on http://{address}");
}

fn stop_on_signal(stop: watch::Sender<bool>) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
    }))
}

async fn told_to_stop(mut stopped: watch::Receiver<bool>) {
    // The sender is gone only when the program ends anyway.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

async fn drained(stopped: watch::Receiver<bool>) {
    told_to_stop(stopped).await;
    tokio::time::sleep(DRAIN).await;
}
