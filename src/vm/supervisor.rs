//! One VM's supervisor: starts its QEMU or takes over the one that is there,
//! watches it, starts it again, stops it. What to do is decided in
//! [`state`](super::state); this carries it out.

mod notice;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::root_dir::RootDir;
use crate::supervise::announce::Announcer;
use crate::supervise::lifecycle::Next;
use crate::supervise::runtime_dir::{CONTROL, FAILURE};
use crate::supervise::timers::{Retry, StopSignals, until};
use crate::topology::Vm;

use super::booted::Booted;
use super::client::read_desired;
use super::console;
use super::control::{self, Office, Order, VmReport};
use super::error::VmError;
use super::held::{DiskErrors, Held};
use super::qemu::accel::accelerator;
use super::qemu::adopt::adopt;
use super::qemu::agent::Agent;
use super::qemu::boot_files::BootFiles;
use super::qemu::card::card;
use super::qemu::disk_io;
use super::qemu::launch::{Launched, launch};
use super::qemu::watch::{self, Noticed};
use super::running::Qemu;
use super::runtime_dir::{BOOTED, CONSOLE, CONSOLE_LOG, RuntimeDir, SERIAL};
use super::state::{Event, Lifecycle, State};

/// How a supervisor behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long a guest may take to power off, where the supervisor is
    /// stopped by a signal.
    pub stop_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { stop_timeout: Duration::from_secs(20) }
    }
}

/// A QEMU is given this long to answer on its machine protocol.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// And this long to end when it is told to quit, or killed.
const QUIT_LIMIT: Duration = Duration::from_secs(2);

/// Runs `vm` until it is stopped: by [`Client::stop`](super::Client::stop),
/// SIGTERM or SIGINT, or by the guest itself. A QEMU that an earlier
/// supervisor left is taken over, and stays when this one is killed.
///
/// A systemd unit that runs it needs `KillMode=process`, so that a supervisor
/// that is killed doesn't take its QEMU along.
///
/// Call it in the network namespace that has the VM's TAP device, on a
/// single-threaded runtime with I/O and time enabled.
///
/// # Errors
/// Where the VM has a supervisor already, can't be started, or crashed and
/// isn't to be started again.
pub async fn supervise(root: &RootDir, vm: Vm, options: Options) -> Result<(), VmError> {
    let dir = Arc::new(RuntimeDir::create(root, &vm.name)?);
    let mut lock = dir.lock(&vm.name)?;
    lock.sign().map_err(VmError::kernel("sign the lock"))?;
    dir.remove(FAILURE)?;
    let name = vm.name.clone();
    let mut supervisor = Supervisor::new(root.clone(), dir.clone(), vm, options)?;
    let failure = supervisor.run().await?;
    if let Some(why) = &failure {
        dir.write_json(FAILURE, why)?;
    }
    supervisor.publish();
    Announcer::ending();
    dir.clear(failure.is_some())?;
    match failure {
        Some(why) => Err(VmError::Failed { name, why }),
        None => Ok(()),
    }
}

struct Supervisor {
    root: RootDir,
    dir: Arc<RuntimeDir>,
    vm: Vm,
    options: Options,
    life: Lifecycle,
    agent: Agent,
    agent_answers: bool,
    since: u64,
    held: Option<Held>,
    last_failure: Option<String>,
    disk_errors: Option<DiskErrors>,
    silent_since: Option<u64>,
    panicked: bool,
    /// When a guest that is held for want of room is tried again.
    resume_at: Option<Instant>,
    qemu: Option<Qemu>,
    retry: Retry,
    stopping: Option<Stopping>,
    status: watch_channel::Sender<VmReport>,
    orders: mpsc::Receiver<Order>,
    serials: console::SerialSender,
    signals: StopSignals,
    announcer: Announcer,
    /// When systemd is to hear of this supervisor, and how often.
    heartbeat: Option<(Instant, Duration)>,
    /// Console and control; ended with the supervisor.
    _services: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
struct Stopping {
    /// When the next step is due.
    at: Instant,
    step: Step,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Quit,
    Kill,
}

enum Input {
    Noticed(Noticed),
    Order(Order),
    Signal,
    Exited,
    NoAnswer,
    StopStep,
    Retry,
    Resume,
    Heartbeat,
}

impl Supervisor {
    fn new(root: RootDir, dir: Arc<RuntimeDir>, vm: Vm, options: Options) -> Result<Self, VmError> {
        let error = VmError::kernel;
        let signals = StopSignals::catch().map_err(error("catch signals"))?;
        let life = Lifecycle::new(vm.restart);
        let agent = Agent::new(dir.clone());
        let (status, status_receiver) = watch_channel::channel(VmReport::new(&vm.name));
        let (orders_sender, orders) = mpsc::channel(8);
        let (serials, serials_receiver) = mpsc::channel(1);
        let mut services = JoinSet::new();
        services.spawn(console::serve(dir.serve(CONSOLE)?, dir.path(CONSOLE_LOG), serials_receiver));
        let office = Office { status: status_receiver, orders: orders_sender, agent: agent.clone() };
        services.spawn(control::serve(dir.serve(CONTROL)?, office));
        Ok(Self {
            root,
            dir,
            vm,
            options,
            life,
            agent,
            agent_answers: false,
            since: now(),
            held: None,
            last_failure: None,
            disk_errors: None,
            silent_since: None,
            panicked: false,
            resume_at: None,
            qemu: None,
            retry: Retry::default(),
            stopping: None,
            status,
            orders,
            serials,
            signals,
            announcer: Announcer::default(),
            heartbeat: Announcer::heartbeat().map(|every| (Instant::now(), every)),
            _services: services,
        })
    }

    /// To the VM's end; why, where it failed.
    async fn run(&mut self) -> Result<Option<String>, VmError> {
        let mut next = match adopt(&self.root, &self.vm.name, &self.dir)? {
            Some(launched) => self.take_over(launched).await?,
            None => Next::LaunchIn(Duration::ZERO),
        };
        loop {
            match next {
                Next::Wait => {}
                Next::Stop => self.begin_stop(self.options.stop_timeout),
                Next::LaunchIn(pause) => self.retry = Retry::after(pause),
                Next::Stopped => return Ok(None),
                Next::Failed(why) => return Ok(Some(why)),
            }
            self.publish();
            next = match self.input().await {
                Input::Noticed(noticed) => self.notice(noticed),
                Input::Order(order) => self.order(order),
                Input::Signal => self.on(Event::StopRequested),
                Input::Exited => self.exited().await,
                Input::NoAnswer => {
                    self.kill();
                    Next::Wait
                }
                Input::StopStep => self.stop_step(),
                Input::Retry => self.launch().await?,
                Input::Resume => {
                    self.resume_with_room();
                    Next::Wait
                }
                Input::Heartbeat => {
                    Announcer::beat();
                    self.heartbeat = self.heartbeat.map(|(_, every)| (Instant::now() + every, every));
                    Next::Wait
                }
            };
        }
    }

    async fn input(&mut self) -> Input {
        let answer_by = self.qemu.as_ref().and_then(|qemu| qemu.answer_by);
        let qemu = async {
            match &mut self.qemu {
                Some(qemu) => qemu.next().await.map_or(Input::Exited, Input::Noticed),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.signals.received() => Input::Signal,
            Some(order) = self.orders.recv() => Input::Order(order),
            () = until(answer_by) => Input::NoAnswer,
            () = until(self.stopping.map(|stopping| stopping.at)) => Input::StopStep,
            () = self.retry.due() => Input::Retry,
            () = until(self.resume_at) => Input::Resume,
            () = until(self.heartbeat.map(|(at, _)| at)) => Input::Heartbeat,
            // Last: a QEMU that the guest has taken over could talk without
            // end, and delay none of the above.
            input = qemu => input,
        }
    }

    fn on(&mut self, event: Event) -> Next {
        let before = self.life.state.clone();
        let next = self.life.on(event, std::time::Instant::now());
        if std::mem::discriminant(&before) != std::mem::discriminant(&self.life.state) {
            self.since = now();
        }
        if let State::Failed(why) = &self.life.state {
            self.last_failure = Some(why.clone());
        }
        next
    }

    async fn launch(&mut self) -> Result<Next, VmError> {
        self.retry = Retry::default();
        self.life.state = State::Starting;
        self.publish();
        self.refresh();
        let boot = BootFiles::resolve(&self.root, &self.vm);
        if let Ok(boot) = &boot {
            // Before they are opened: what is replaced meanwhile is noticed.
            self.dir.write_json(BOOTED, &Booted::now(&self.root, &self.vm, boot))?;
        }
        let (root, vm) = (self.root.clone(), self.vm.clone());
        // Off this thread: a test guest may run for seconds.
        let files = boot.as_ref().ok().cloned();
        let means = tokio::task::spawn_blocking(move || {
            let accel = accelerator(&root, &vm)?;
            let disk_io = files.and_then(|files| disk_io::choose(&vm, &files, accel.0));
            Ok::<_, VmError>((accel, disk_io, card(&root, &vm)))
        });
        let means = means.await.map_err(|error| VmError::kernel("look at KVM")(io::Error::other(error)))?;
        let launched = boot.and_then(|boot| {
            let (accel, disk_io, card) = means?;
            launch(&self.dir, &self.vm, &boot, accel, disk_io, card)
        });
        match launched {
            Ok(launched) => self.watch(launched, true).await,
            Err(error) => Ok(self.on(Event::LaunchFailed(error.to_string()))),
        }
    }

    /// Reads what the VM is to be now: `apply` writes it down, and it holds from
    /// the next start on.
    fn refresh(&mut self) {
        if let Ok(vm) = read_desired(&self.root, &self.vm.name) {
            self.life.restart = vm.restart;
            self.vm = vm;
        }
    }

    async fn take_over(&mut self, launched: Launched) -> Result<Next, VmError> {
        let agent = match launched.record.agent.get() {
            Some(agent) => *agent,
            // The image that it would boot now is the best guess.
            None => BootFiles::resolve(&self.root, &self.vm).is_ok_and(|boot| boot.agent),
        };
        self.watch(launched, false).await?;
        // It was up before; whether it is paused, it will say.
        Ok(self.on(Event::Up { paused: false, agent }))
    }

    async fn watch(&mut self, launched: Launched, fresh: bool) -> Result<Next, VmError> {
        let mut qemu = Qemu::watch(launched, &self.dir, &self.agent)?;
        qemu.answer_by = fresh.then(|| Instant::now() + ANSWER_LIMIT);
        self.qemu = Some(qemu);
        // The listener's queue takes it, whether QEMU is up yet or not.
        if let Ok(serial) = UnixStream::connect(self.dir.socket(SERIAL)).await {
            let _ = self.serials.send(serial).await;
        }
        Ok(self.on(Event::Spawned))
    }

    fn order(&mut self, order: Order) -> Next {
        let (event, limit, begun) = match order {
            Order::Stop(limit, begun) => (Event::StopRequested, limit, begun),
            Order::Restart(limit, begun) => (Event::RestartRequested, limit, begun),
            Order::Resume(begun) => {
                self.go_on();
                let _ = begun.send(());
                return Next::Wait;
            }
        };
        let mut next = self.on(event);
        if next == Next::Stop {
            self.begin_stop(limit);
            next = Next::Wait;
        }
        self.publish();
        let _ = begun.send(());
        next
    }

    fn begin_stop(&mut self, limit: Duration) {
        let at = Instant::now() + limit;
        let Some(qemu) = &mut self.qemu else { return };
        match &mut self.stopping {
            // Already: who is in more of a hurry decides.
            Some(stopping) => stopping.at = stopping.at.min(at),
            None => {
                self.stopping = Some(Stopping { at, step: Step::Quit });
                let paused = self.status.borrow().state == State::Paused;
                qemu.accompany(watch::power_off(qemu.qmp.clone(), self.agent.clone(), paused));
            }
        }
    }

    fn stop_step(&mut self) -> Next {
        let (Some(qemu), Some(stopping)) = (&mut self.qemu, self.stopping) else { return Next::Wait };
        match (stopping.step, qemu.qmp.clone()) {
            (Step::Quit, Some(qmp)) => {
                qemu.accompany(async move { drop(qmp.execute("quit").await) });
            }
            _ => self.kill(),
        }
        self.stopping = Some(Stopping { at: Instant::now() + QUIT_LIMIT, step: Step::Kill });
        Next::Wait
    }

    fn kill(&mut self) {
        if let Some(qemu) = &mut self.qemu {
            qemu.kill();
            qemu.answer_by = None;
        }
    }

    async fn exited(&mut self) -> Next {
        let Some(mut qemu) = self.qemu.take() else { return Next::Wait };
        self.stopping = None;
        self.agent_answers = false;
        // Its last words may say that the guest powered off.
        while let Ok(Some(noticed)) = timeout(Duration::from_millis(300), qemu.notices.recv()).await {
            match noticed {
                Noticed::Event(event) => drop(self.machine_event(event)),
                Noticed::Down => break,
                Noticed::Up { .. } | Noticed::Answered(_) | Noticed::Silent | Noticed::Agent(_) => {}
            }
        }
        let mut why = qemu.obituary(&self.dir);
        if std::mem::take(&mut self.panicked) {
            why = format!("the guest's kernel panicked; {why}");
        }
        self.hold(None);
        self.disk_errors = None;
        self.silent_since = None;
        self.refresh();
        self.on(Event::Exited(why))
    }

    /// Tells clients and systemd how things are.
    fn publish(&mut self) {
        let mut status = VmReport {
            state: self.life.state.clone(),
            restarts: self.life.runs.restarts,
            failures: self.life.runs.failures,
            retry_in_ms: self.retry.pause_ms(),
            agent: self.agent_answers,
            since: Some(self.since),
            held: self.held.clone().filter(|_| self.life.state == State::Paused),
            last_failure: self.last_failure.clone().filter(|_| self.life.runs.failures > 0),
            disk_errors: self.disk_errors.clone(),
            silent_since: self
                .silent_since
                .filter(|_| self.qemu.as_ref().is_some_and(|qemu| qemu.answer_by.is_none())),
            ..VmReport::new(&self.vm.name)
        };
        let node = status.held.as_ref().and_then(|held| held.disk.as_deref());
        status.disk = node.and_then(|node| self.disk(node)).map(|(disk, _)| disk);
        if let Some(qemu) = &self.qemu {
            status.pid = Some(qemu.pid());
            status.accel = qemu.record.accel.get().copied();
            status.accel_reason = qemu.record.accel_reason.get().cloned();
            status.disk_io = qemu.record.disks.get().filter(|text| !text.is_empty()).cloned();
            status.card = qemu.record.card.get().cloned();
            status.started_at = qemu.record.started_at.get().copied();
        }
        if *self.status.borrow() == status {
            return;
        }
        let up = matches!(status.state, State::Running | State::Ready);
        self.announcer.announce(&status.text(), up, |text| {
            tracing::info!(vm = %status.name, pid = status.pid, "{text}");
        });
        self.status.send_replace(status);
    }
}

/// Seconds after the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}
