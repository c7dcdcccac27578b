//! One app's supervisor: starts its program, keeps its log, starts it again,
//! ends it and all that it left. What to do is decided in
//! [`lifecycle`](crate::supervise::lifecycle); this carries it out.

use std::io::PipeWriter;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{WaitStatus, getpid, set_child_subreaper};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::root_dir::RootDir;
use crate::supervise::lifecycle::{Again, Event, Lifecycle, Next, State};
use crate::supervise::runtime_dir::{CONTROL, FAILURE};
use crate::supervise::timers::{Retry, StopSignals, until};
use crate::topology::{App, AppRestart};

use super::cgroup::Cgroup;
use super::control::{self, AppReport, StopOrder};
use super::descendants;
use super::error::AppError;
use super::launch::{Launched, launch};
use super::output::Output;
use super::record::AppRecord;
use super::runtime_dir::{ENDED, LOG, RuntimeDir};
use super::strays::reap_app;

/// How long an app may take to end, where the supervisor is stopped by a signal.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long its other processes may take when its first one ended by itself.
const LEFTOVERS_LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked whether the last process is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs `app` until it is stopped, by [`Client::stop`](super::Client::stop),
/// SIGTERM or SIGINT, or ends and isn't to be started again. Then none of its
/// processes is left: the supervisor adopts those whose parents ended, and
/// ends them with the app. What an earlier supervisor that was killed left is
/// ended first.
///
/// The app is in the network namespace that is named now, the supervisor
/// stays in its own. Without a mount namespace (`isolate`) the app sees the
/// host's `/sys` and `/etc/resolv.conf`, not the namespace's own.
///
/// To be called in a process that has no other children, in its first
/// thread, on a single-threaded runtime with I/O and time enabled.
///
/// # Errors
/// Where the app has a supervisor already, can't be started, or failed and
/// isn't to be started again.
pub async fn supervise(root: &RootDir, app: App) -> Result<(), AppError> {
    let dir = RuntimeDir::create(root, &app.namespace, &app.name)?;
    let mut lock = dir.lock()?;
    lock.sign().map_err(AppError::kernel("sign the lock"))?;
    dir.remove(FAILURE)?;
    set_child_subreaper(Some(getpid())).map_err(|error| AppError::kernel("adopt orphans")(error.into()))?;
    reap_app(root, &app.namespace, &app.name)?;
    let label = app.label();
    let ended = app.clone();
    let mut supervisor = Supervisor::new(root.clone(), &dir, app)?;
    let failure = supervisor.run(&dir).await?;
    if let Some(why) = &failure {
        dir.write_json(FAILURE, why)?;
    }
    supervisor.publish();
    if failure.is_none() {
        dir.write_json(ENDED, &AppRecord::from(&ended))?;
    }
    dir.clear(failure.is_some())?;
    match failure {
        Some(why) => Err(AppError::Failed { app: label, why }),
        None => Ok(()),
    }
}

struct Supervisor {
    root: RootDir,
    app: App,
    life: Lifecycle,
    running: Option<Running>,
    retry: Retry,
    status: watch::Sender<AppReport>,
    orders: mpsc::Receiver<StopOrder>,
    stop_signals: StopSignals,
    child_signal: SignalStream,
    /// The control socket; ended with the supervisor.
    _services: JoinSet<()>,
}

/// A program that was started, until the last of its descendants is gone.
struct Running {
    pid: u32,
    /// Seconds after the epoch.
    started_at: u64,
    output: Output,
    cgroup: Option<Cgroup>,
    _lifeline: Option<PipeWriter>,
    /// How the program ended.
    ended: Option<WaitStatus>,
    /// When what is left is killed.
    kill_at: Option<Instant>,
    /// When it is looked again who is left.
    look_at: Option<Instant>,
}

enum Input {
    Order(StopOrder),
    Signal,
    Child,
    Kill,
    Look,
    Retry,
}

impl Supervisor {
    fn new(root: RootDir, dir: &RuntimeDir, app: App) -> Result<Self, AppError> {
        let catch = || AppError::kernel("catch signals");
        let (status, status_receiver) = watch::channel(AppReport::new(&app));
        let (orders_sender, orders) = mpsc::channel(8);
        let listener = dir.serve(CONTROL)?;
        let mut services = JoinSet::new();
        services.spawn(control::serve(listener, status_receiver, orders_sender));
        Ok(Self {
            life: Lifecycle::new(Again {
                after_success: app.restart == AppRestart::Always,
                after_failure: app.restart != AppRestart::Never,
            }),
            root,
            app,
            running: None,
            retry: Retry::default(),
            status,
            orders,
            stop_signals: StopSignals::catch().map_err(catch())?,
            child_signal: signal(SignalKind::child()).map_err(catch())?,
            _services: services,
        })
    }

    /// To the app's end; why, where it failed.
    async fn run(&mut self, dir: &RuntimeDir) -> Result<Option<String>, AppError> {
        let mut next = Next::LaunchIn(Duration::ZERO);
        loop {
            match next {
                Next::Wait => {}
                Next::Stop => self.end(STOP_LIMIT)?,
                Next::LaunchIn(pause) => self.retry = Retry::after(pause),
                Next::Stopped => return Ok(None),
                Next::Failed(why) => return Ok(Some(why)),
            }
            self.publish();
            next = match self.input().await {
                Input::Order(StopOrder { limit, begun }) => {
                    let mut next = self.on(Event::StopRequested);
                    if next == Next::Stop {
                        self.end(limit)?;
                        next = Next::Wait;
                    }
                    self.publish();
                    let _ = begun.send(());
                    next
                }
                Input::Signal => self.on(Event::StopRequested),
                Input::Child | Input::Look => self.look().await?,
                Input::Kill => self.kill()?,
                Input::Retry => self.launch(dir),
            };
        }
    }

    async fn input(&mut self) -> Input {
        let kill_at = self.running.as_ref().and_then(|running| running.kill_at);
        let look_at = self.running.as_ref().and_then(|running| running.look_at);
        tokio::select! {
            biased;
            () = self.stop_signals.received() => Input::Signal,
            Some(order) = self.orders.recv() => Input::Order(order),
            () = until(kill_at) => Input::Kill,
            () = self.retry.due() => Input::Retry,
            // Last: an app that forks without end delays none of the above.
            _ = self.child_signal.recv() => Input::Child,
            () = until(look_at) => Input::Look,
        }
    }

    fn on(&mut self, event: Event) -> Next {
        self.life.on(event, std::time::Instant::now())
    }

    fn launch(&mut self, dir: &RuntimeDir) -> Next {
        self.retry = Retry::default();
        self.life.state = State::Starting;
        match launch(&self.root, &self.app) {
            Ok(Launched { pid, output, cgroup, lifeline }) => {
                self.running = Some(Running {
                    pid,
                    started_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
                    output: Output::read(output, dir.path(LOG)),
                    cgroup,
                    _lifeline: lifeline,
                    ended: None,
                    kill_at: None,
                    look_at: None,
                });
                self.on(Event::Launched)
            }
            Err(error) => self.on(Event::LaunchFailed(error.to_string())),
        }
    }

    /// Asks all processes to end, and sees to it.
    fn end(&mut self, limit: Duration) -> Result<(), AppError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let at = Instant::now() + limit;
        // Asked already: who is in more of a hurry decides.
        running.kill_at = Some(running.kill_at.map_or(at, |earlier| earlier.min(at)));
        descendants::terminate().map_err(AppError::kernel("read /proc"))
    }

    fn kill(&mut self) -> Result<Next, AppError> {
        let Some(running) = &mut self.running else { return Ok(Next::Wait) };
        if let Some(cgroup) = &running.cgroup {
            cgroup.kill();
        }
        descendants::kill().map_err(AppError::kernel("read /proc"))?;
        // Once more, for what was born meanwhile.
        running.kill_at = Some(Instant::now() + LOOK_EVERY);
        Ok(Next::Wait)
    }

    /// Buries who ended, and finds out whether that was the last.
    async fn look(&mut self) -> Result<Next, AppError> {
        let pid = self.running.as_ref().map_or(0, |running| running.pid);
        let reaped = descendants::reap(pid);
        let Some(running) = &mut self.running else { return Ok(Next::Wait) };
        let first = running.ended.is_none();
        running.ended = running.ended.or(reaped.main);
        let Some(status) = running.ended else { return Ok(Next::Wait) };
        if !reaped.all {
            running.look_at = Some(Instant::now() + LOOK_EVERY);
            if first && running.kill_at.is_none() {
                self.end(LEFTOVERS_LIMIT)?;
            }
            return Ok(Next::Wait);
        }
        let Some(Running { output, cgroup, .. }) = self.running.take() else { return Ok(Next::Wait) };
        drop(cgroup);
        let mut why = describe(status);
        if let Some(words) = output.last_words().await {
            why = format!("{why}; its last words: {words}");
        }
        Ok(self.on(Event::Exited { success: status.exit_status() == Some(0), why }))
    }

    /// Tells clients how things are.
    fn publish(&mut self) {
        let status = AppReport {
            state: self.life.state.clone(),
            restarts: self.life.runs.restarts,
            failures: self.life.runs.failures,
            retry_in_ms: self.retry.pause_ms(),
            pid: self.running.as_ref().filter(|running| running.ended.is_none()).map(|running| running.pid),
            started_at: self.running.as_ref().map(|running| running.started_at),
            ..AppReport::new(&self.app)
        };
        self.status.send_replace(status);
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it ended".into(),
    }
}
