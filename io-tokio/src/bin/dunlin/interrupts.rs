//! The wish of a user, or of a service manager, that the program ends.

use std::io;

/// Ctrl-C, and SIGTERM and SIGHUP where there are such.
///
/// From when this is made, a signal is kept until somebody asks for it. Make it before the program says that
/// it is ready: whoever reads that line may end the program at once, and it is still to take leave.
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    /// The terminal is gone.
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Interrupts {
    /// Takes the signals over from the system, which ended the program so far.
    #[cfg(unix)]
    pub(crate) fn new() -> io::Result<Interrupts> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Takes Ctrl-C over from the system, which ended the program so far.
    #[cfg(windows)]
    pub(crate) fn new() -> io::Result<Interrupts> {
        Ok(Interrupts { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
        #[cfg(windows)]
        self.interrupt.recv().await;
    }
}
