//! What a Deployment does for an operator that ends: it is started again, after pauses that grow.

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::Context;
use mcp_auth_e2e::{
    operator::{Operator, OperatorOptions},
    story::StoryEnv,
};

/// Between the first end and the next start; doubled each time, up to [`LONGEST_PAUSE`]. A kubelet's are ten times and
/// sixty times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Keeps one operator running.
pub(super) struct Kubelet {
    options: OperatorOptions,
    running: RefCell<Rc<Operator>>,
    env: Rc<StoryEnv>,
}

impl Kubelet {
    /// Starts the first one and waits until it is ready.
    pub(super) async fn start(env: &Rc<StoryEnv>, options: OperatorOptions) -> anyhow::Result<Self> {
        let first = env.start_operator_with(&options).await?;
        Ok(Self {
            options,
            running: RefCell::new(Rc::new(first)),
            env: Rc::clone(env),
        })
    }

    /// The one that runs, or ran last.
    pub(super) fn operator(&self) -> Rc<Operator> {
        Rc::clone(&self.running.borrow())
    }

    /// Starts one whenever one ends.
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = self.operator().process().wait().await;
            ended.context("the operator was lost")?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let next = self.env.launch_operator(&self.options).await?;
            *self.running.borrow_mut() = Rc::new(next);
        }
    }
}
