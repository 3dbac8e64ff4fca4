//! Runs stories in parallel in one [`World`], with the arguments of any Rust test binary.

use std::{
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use tokio::runtime::{Handle, Runtime};

use crate::{
    interrupt, leaks, lengths, node, process, progress, run_folder::RunFolder, setting::Setting, use_aws_lc,
    world::World,
};

/// As many stories as run side by side unless `--test-threads` says otherwise. They mostly wait.
const THREADS: usize = 4;

/// A story that takes longer hangs.
fn story_timeout() -> Duration {
    Duration::from_mins(lengths::of(10, 90))
}

/// How many of the slowest stories the summary names.
const SLOWEST: usize = 5;

/// Not `Send`: a story stays on the thread that it was started on.
type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// One thing that is shown to work.
pub struct Story {
    name: &'static str,
    run: Run,
}

/// What a story runs on.
enum Run {
    /// A control plane and a Keycloak.
    InWorld(Box<dyn FnOnce(Arc<World>) -> Running + Send>),
    /// The same with a node.
    OnNode(Box<dyn FnOnce(Arc<World>) -> Running + Send>),
    /// A folder, and what it starts by itself.
    Alone(Box<dyn FnOnce(Arc<RunFolder>) -> Running + Send>),
    /// It does not run, for this reason.
    Not(&'static str),
}

/// The same, without the story.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    World,
    Node,
    Folder,
    Nothing,
}

impl Story {
    /// A story from an async function. The name is what filters on the command line match.
    pub fn new<F>(name: &'static str, run: impl FnOnce(Arc<World>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        Self {
            name,
            run: Run::InWorld(Box::new(move |world| Box::pin(run(world)))),
        }
    }

    /// The same for a story that needs a [`Node`](node::Node): it is skipped, and counted as skipped, where there can
    /// be none.
    pub fn on_node<F>(name: &'static str, run: impl FnOnce(Arc<World>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        Self {
            name,
            run: Run::OnNode(Box::new(move |world| Box::pin(run(world)))),
        }
    }

    /// A story that needs neither a control plane nor Keycloak: when only such stories are selected, none is started.
    pub fn alone<F>(name: &'static str, run: impl FnOnce(Arc<RunFolder>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        Self {
            name,
            run: Run::Alone(Box::new(move |folder| Box::pin(run(folder)))),
        }
    }

    /// One that cannot be shown on what this run stands on: it is told with the reason, and counted as skipped.
    pub fn not_here(name: &'static str, why: &'static str) -> Self {
        Self {
            name,
            run: Run::Not(why),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> Needs {
        match self.run {
            Run::InWorld(_) => Needs::World,
            Run::OnNode(_) => Needs::Node,
            Run::Alone(_) => Needs::Folder,
            Run::Not(_) => Needs::Nothing,
        }
    }
}

/// What the stories of a run share before and after they run.
#[derive(Default)]
struct Shared {
    world: OnceLock<Arc<World>>,
    /// Of stories that run alone.
    folder: OnceLock<Arc<RunFolder>>,
    /// Why there is no node, if a story needs one.
    no_node: OnceLock<String>,
    durations: Mutex<Vec<(Duration, &'static str)>>,
    /// Why stories failed, by their names: told once more at the end, which is what people and CI systems look at.
    failures: Mutex<Vec<(&'static str, String)>>,
}

/// Runs the stories that the command line selects. Everything that was started is stopped at the end, also on Ctrl-C.
pub fn main(stories: Vec<Story>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let outcome = run(&arguments, stories);
    interrupt::let_it_finish();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            progress::say(&format!("the stories could not be run: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, stories: Vec<Story>) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new().context("cannot start threads")?;
    runtime.spawn(async {
        if interrupt::requested().await.is_ok() {
            // Not on a thread of the runtime: it waits for processes to end.
            std::thread::spawn(|| interrupt::end_now());
        }
    });
    let shared = Arc::new(Shared::default());
    let needs: Vec<Needs> = stories.iter().map(Story::needs).collect();
    let trials: Vec<Trial> = stories
        .into_iter()
        .map(|story| trial(story, Arc::clone(&shared), runtime.handle().clone()))
        .collect();
    let selected = |needed: Needs| {
        let mut all = trials.iter().zip(&needs);
        !arguments.list && all.any(|(trial, needs)| *needs == needed && !arguments.is_filtered_out(trial))
    };
    // Both were empty until here.
    if selected(Needs::World) || selected(Needs::Node) {
        let on_node = selected(Needs::Node) || node::is_asked_for();
        let world = runtime.block_on(start(on_node, &shared))?;
        let _ = shared.world.set(Arc::new(world));
    }
    if selected(Needs::Folder) {
        use_aws_lc();
        let _ = shared.folder.set(Arc::new(RunFolder::create()?));
    }
    let began = Instant::now();
    let conclusion = libtest_mimic::run(arguments, trials);
    interrupt::let_it_finish();
    if let Some(folder) = shared.folder.get().filter(|_| conclusion.has_failed()) {
        folder.keep();
    }
    for line in shared
        .folder
        .get()
        .map(|folder| folder.notes())
        .unwrap_or_default()
    {
        progress::say(&line);
    }
    let Some(world) = shared.world.get() else {
        process::kill_everything();
        sum_up(&conclusion, &shared, began.elapsed());
        return Ok(conclusion.exit_code());
    };
    let leaks = runtime.block_on(leaks::check(world));
    if conclusion.has_failed() || leaks.is_err() {
        world.folder().keep();
    }
    if let Ok(line) = &leaks {
        world.note(line);
    }
    if let Err(error) = runtime.block_on(world.stop()) {
        progress::say(&format!("not everything stopped by itself: {error:#}"));
    }
    process::kill_everything();
    for line in world.notes() {
        progress::say(&line);
    }
    sum_up(&conclusion, &shared, began.elapsed());
    leaks.context("secrets were looked for")?;
    Ok(conclusion.exit_code())
}

/// The world, with a node if a story needs it and this machine can have one.
async fn start(on_node: bool, shared: &Shared) -> anyhow::Result<World> {
    let problem = if on_node { node::problem().await } else { None };
    if let Some(problem) = &problem {
        progress::say(&format!("stories that need a node are skipped: {problem}"));
        let _ = shared.no_node.set(problem.clone());
    }
    World::start_on(&Setting {
        node: on_node && problem.is_none(),
        ..Setting::default()
    })
    .await
}

fn trial(story: Story, shared: Arc<Shared>, runtime: Handle) -> Trial {
    Trial::ignorable_test(story.name, move || {
        if let (Run::OnNode(_), Some(problem)) = (&story.run, shared.no_node.get()) {
            return Ok(Completion::ignored_with(problem));
        }
        if let Run::Not(why) = story.run {
            return Ok(Completion::ignored_with(why));
        }
        let began = Instant::now();
        // Started on the runtime, so that a story may do so too before it first waits.
        let outcome = runtime.block_on(async {
            let running = match story.run {
                Run::InWorld(run) | Run::OnNode(run) => {
                    run(Arc::clone(shared.world.get().context("there is no world")?))
                }
                Run::Alone(run) => run(Arc::clone(shared.folder.get().context("there is no folder")?)),
                Run::Not(why) => anyhow::bail!("{why}"),
            };
            anyhow::Ok(tokio::time::timeout(story_timeout(), running).await)
        });
        let outcome = outcome.map_err(|error| Failed::from(describe(&error)))?;
        let mut durations = shared.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.push((began.elapsed(), story.name));
        let why = match outcome {
            Ok(Ok(())) => return Ok(Completion::Completed),
            Ok(Err(error)) => describe(&error),
            Err(_) => format!("not over after {} s", story_timeout().as_secs()),
        };
        let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push((story.name, why.clone()));
        Err(Failed::from(why))
    })
}

/// The error with its causes and, when RUST_BACKTRACE is set, the lines of the story that led to it.
fn describe(error: &anyhow::Error) -> String {
    let trace = error.backtrace().to_string();
    let places = trace
        .lines()
        .filter_map(|line| line.trim().strip_prefix("at "))
        .filter(|at| at.contains("tests/stories/"));
    std::iter::once(format!("{error:#}"))
        .chain(places.map(|place| format!("  at {place}")))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Says how it went.
fn sum_up(conclusion: &Conclusion, shared: &Shared, took: Duration) {
    let mut durations = shared
        .durations
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    durations.sort_by(|one, other| other.cmp(one));
    let slowest = durations
        .iter()
        .take(SLOWEST)
        .map(|(took, name)| format!("{name} {:.1} s", took.as_secs_f64()));
    progress::say(&format!(
        "the slowest: {}",
        slowest.collect::<Vec<_>>().join(", ")
    ));
    progress::say(&format!(
        "{} stories in {:.0} s: {} passed, {} failed",
        conclusion.num_passed + conclusion.num_failed,
        took.as_secs_f64(),
        conclusion.num_passed,
        conclusion.num_failed
    ));
    if let Some(problem) = shared.no_node.get() {
        progress::say(&format!("{} stories skipped: {problem}", conclusion.num_ignored));
    }
    let failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
    for (story, why) in failures.iter() {
        progress::say(&format!("failed: {story}: {why}"));
    }
}
