//! Being asked to stop: the first time to finish what is running, after that to leave at once.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Whether, and how urgently, the process was asked to stop. A clone asks the same question.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Urgency>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Not asked.
    None,
    /// Take nothing new, finish what is running.
    Graceful,
    /// Now.
    Immediate,
}

/// The end that asks.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Urgency>);

impl ShutdownTrigger {
    /// Asks once more: the first time to finish what is running, after that to stop at once.
    pub fn ask(&self) {
        self.0.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::None {
                Urgency::Graceful
            } else {
                Urgency::Immediate
            };
        });
    }
}

impl Shutdown {
    /// A shutdown and its trigger.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(Urgency::None);
        (ShutdownTrigger(sender), Self(receiver))
    }

    /// Listens for SIGTERM, which Kubernetes sends, and SIGINT, which is Ctrl-C. A second one means "at once".
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub fn on_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (trigger, shutdown) = Self::new();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                trigger.ask();
            }
        });
        Ok(shutdown)
    }

    /// Whether the process was asked to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= Urgency::Graceful
    }

    /// Completes when the process is asked to stop.
    pub async fn requested(&self) {
        self.at_least(Urgency::Graceful).await;
    }

    /// Completes when the process is asked to stop without waiting for anything.
    pub async fn forced(&self) {
        self.at_least(Urgency::Immediate).await;
    }

    async fn at_least(&self, urgency: Urgency) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|asked| *asked >= urgency).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn the_second_request_to_stop_is_urgent() {
        let (trigger, shutdown) = Shutdown::new();
        assert!(!shutdown.is_requested());
        assert!(timeout(SOON, shutdown.requested()).await.is_err());
        trigger.ask();
        assert!(shutdown.is_requested());
        timeout(SOON, shutdown.clone().requested()).await.unwrap();
        assert!(timeout(SOON, shutdown.forced()).await.is_err());
        trigger.ask();
        timeout(SOON, shutdown.forced()).await.unwrap();
        timeout(SOON, shutdown.requested()).await.unwrap();
        drop(trigger);
        timeout(SOON, shutdown.forced()).await.unwrap();
    }

    #[tokio::test]
    async fn without_anybody_who_could_ask_it_goes_on() {
        let (trigger, shutdown) = Shutdown::new();
        drop(trigger);
        assert!(timeout(SOON, shutdown.requested()).await.is_err());
        assert!(!shutdown.is_requested());
    }
}
