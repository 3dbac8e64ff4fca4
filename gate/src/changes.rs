//! Word that what decisions go by has changed: the policy, or the keys.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells of changes. A clone tells the same listeners.
#[derive(Clone, Debug)]
pub struct Changes(Arc<watch::Sender<()>>);

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl Changes {
    /// Says that something has changed. It must be in force before this is called.
    pub fn tell(&self) {
        self.0.send_replace(());
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

/// Hears of changes.
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Listener {
    /// Whether something has changed since this was asked, or listening began.
    pub fn has_heard(&mut self) -> bool {
        let heard = self.0.has_changed().unwrap_or(false);
        self.0.mark_unchanged();
        heard
    }

    /// Completes when something changes, or has changed since [`Listener::has_heard`].
    pub async fn hear(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could change anything.
            std::future::pending::<()>().await;
        }
    }
}
