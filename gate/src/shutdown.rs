//! Being asked to stop, in three steps: finish what is running, end the streams, leave at once.

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
    None,
    /// Take nothing new, finish what is running.
    Drain,
    /// End the streams that still run.
    EndStreams,
    /// Now.
    Immediate,
}

/// The end that asks.
#[derive(Clone, Debug)]
pub struct ShutdownTrigger(watch::Sender<Urgency>);

impl ShutdownTrigger {
    /// Asks to finish what is running; when that was asked for already, to stop at once.
    pub fn ask(&self) {
        self.0.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::None {
                Urgency::Drain
            } else {
                Urgency::Immediate
            };
        });
    }

    /// Asks to end the streams that still run.
    pub fn end_streams(&self) {
        self.0
            .send_modify(|urgency| *urgency = (*urgency).max(Urgency::EndStreams));
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
    pub fn on_signals() -> io::Result<(ShutdownTrigger, Self)> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (trigger, shutdown) = Self::new();
        let asking = trigger.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                asking.ask();
            }
        });
        Ok((trigger, shutdown))
    }

    /// Whether the process was asked to stop.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= Urgency::Drain
    }

    /// Completes when the process is asked to stop.
    pub async fn requested(&self) {
        self.at_least(Urgency::Drain).await;
    }

    /// Completes when streams have to end.
    pub async fn streams_end(&self) {
        self.at_least(Urgency::EndStreams).await;
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
