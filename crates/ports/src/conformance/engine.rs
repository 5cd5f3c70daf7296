//! What every engine must do. Units of the suite run a shell script given in
//! the setting `do`, and append a line `<supervisor> <script>` of process ids
//! to the file in the setting `trace` each time they begin. The engine runs
//! on this machine, so processes can be looked at in `/proc`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muonic_types::{Resources, UnitId};

use crate::Engine;
use crate::engine::{Launch, UnitState};

/// Longest wait for anything in the suite.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Harness<'a> {
    /// Opens the engine on the same place each time, as a server does that
    /// starts again.
    pub open: &'a (dyn Fn() -> Box<dyn Engine> + Sync),
    /// A folder for traces.
    pub scratch: PathBuf,
}

pub async fn run_all(h: &Harness<'_>) {
    launching_twice_runs_once(h).await;
    units_outlive_the_engine(h).await;
    stop_asks_first(h).await;
    stop_ends_what_does_not_listen(h).await;
    a_killed_supervisor_leaves_nothing(h).await;
    a_supervisor_that_died_unwatched_leaves_nothing(h).await;
    a_unit_stopped_before_it_began_never_runs(h).await;
    unknown_units_are_no_trouble(h).await;
    capacity_is_sensible(h).await;
}

fn launch(h: &Harness<'_>, id: &str, script: &str) -> Launch {
    let trace = trace(h, id);
    Launch {
        unit: id.parse().expect("a unit id"),
        resources: Resources::default(),
        token: "MKABCDEFGHIJKLMNOPQR.secret".into(),
        settings: BTreeMap::from([("do".into(), script.into()), ("trace".into(), trace.display().to_string())]),
    }
}

fn trace(h: &Harness<'_>, id: &str) -> PathBuf {
    h.scratch.join(format!("{id}.trace"))
}

/// Process ids of supervisor and script, for each time the unit ran.
fn runs(h: &Harness<'_>, id: &str) -> Vec<(i32, i32)> {
    let text = std::fs::read_to_string(trace(h, id)).unwrap_or_default();
    let parse = |line: &str| line.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    text.lines().filter_map(parse).collect()
}

fn state_letter(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn lives(pid: i32) -> bool {
    state_letter(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < until, "this did not happen in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn state(engine: &dyn Engine, unit: &UnitId) -> Option<UnitState> {
    let list = engine.list().await.expect("the engine lists its units");
    list.into_iter().find(|s| s.unit == *unit).map(|s| s.state)
}

/// Waits, woken by `changed`, until the unit has ended, and forgets it.
async fn ended(engine: &dyn Engine, unit: &UnitId) -> String {
    let mut changed = engine.changed();
    let how = loop {
        changed.mark_unchanged();
        match state(engine, unit).await {
            Some(UnitState::Ended(how)) => break how,
            Some(UnitState::Unstarted | UnitState::Running) => (),
            None => panic!("a unit that was launched is not listed"),
        }
        tokio::time::timeout(PATIENCE, changed.changed())
            .await
            .expect("the engine tells that a unit ended")
            .expect("the engine lives");
    };
    engine.forget(unit).await.expect("an ended unit is forgotten");
    assert_eq!(state(engine, unit).await, None, "a forgotten unit is not listed");
    how
}

async fn begun(h: &Harness<'_>, id: &str) -> (i32, i32) {
    wait_for("the unit begins", async || runs(h, id).first().copied()).await
}

fn kill_hard(pid: i32) {
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status();
    assert!(status.is_ok_and(|s| s.success()), "the supervisor {pid} can be killed");
}

async fn launching_twice_runs_once(h: &Harness<'_>) {
    let engine = (h.open)();
    let id = "task.twice-1.1";
    let l = launch(h, id, "read _ || sleep 1000");
    let (a, b) = tokio::join!(engine.launch(&l), engine.launch(&l));
    a.expect("the first launch is accepted");
    b.expect("the second launch is accepted");
    let (supervisor, _) = begun(h, id).await;
    engine.launch(&l).await.expect("launching what runs is no error");
    assert_eq!(state(&*engine, &l.unit).await, Some(UnitState::Running));
    assert!(engine.forget(&l.unit).await.is_err(), "a running unit is not forgotten");
    engine.stop(&l.unit, Duration::from_secs(1)).await.expect("it stops");
    wait_for("the unit ends", async || {
        matches!(state(&*engine, &l.unit).await, Some(UnitState::Ended(_))).then_some(())
    })
    .await;
    engine.launch(&l).await.expect("launching what has run is no error");
    assert!(matches!(state(&*engine, &l.unit).await, Some(UnitState::Ended(_))), "what has run is not run again");
    // Nor after a restart of the server.
    drop(engine);
    let engine = (h.open)();
    engine.launch(&l).await.expect("launching what has run is no error after a restart");
    ended(&*engine, &l.unit).await;
    assert_eq!(runs(h, id), [(supervisor, runs(h, id)[0].1)], "it ran once");
}

async fn units_outlive_the_engine(h: &Harness<'_>) {
    let id = "replica.live.1.1";
    let go = h.scratch.join("go");
    let l = launch(h, id, &format!("until [ -e {} ]; do sleep 0.01; done", go.display()));
    let engine = (h.open)();
    engine.launch(&l).await.expect("it is launched");
    let (supervisor, script) = begun(h, id).await;
    drop(engine);
    assert!(lives(supervisor) && lives(script), "the unit lives on without the engine");
    let engine = (h.open)();
    assert_eq!(state(&*engine, &l.unit).await, Some(UnitState::Running), "it is found again");
    engine.launch(&l).await.expect("launching it again changes nothing");
    std::fs::write(&go, "").expect("a file is written");
    ended(&*engine, &l.unit).await;
    assert_eq!(runs(h, id).len(), 1);
}

async fn stop_asks_first(h: &Harness<'_>) {
    let engine = (h.open)();
    let id = "task.polite-1.1";
    let l = launch(h, id, "sleep 1000");
    engine.launch(&l).await.expect("it is launched");
    let (supervisor, script) = begun(h, id).await;
    engine.stop(&l.unit, Duration::from_secs(3600)).await.expect("it is asked to stop");
    engine.stop(&l.unit, Duration::from_secs(3600)).await.expect("asking again is no error");
    ended(&*engine, &l.unit).await;
    assert!(!lives(supervisor) && !lives(script), "nothing of it is left");
}

async fn stop_ends_what_does_not_listen(h: &Harness<'_>) {
    let engine = (h.open)();
    let id = "task.deaf-1.1";
    let l = launch(h, id, "trap '' TERM; while :; do sleep 1000; done");
    engine.launch(&l).await.expect("it is launched");
    let (supervisor, script) = begun(h, id).await;
    // A supervisor that stands still hears nothing.
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -STOP {supervisor}")]).status();
    assert!(status.is_ok_and(|s| s.success()));
    wait_for("the supervisor stands still", async || (state_letter(supervisor) == Some('T')).then_some(())).await;
    engine.stop(&l.unit, Duration::ZERO).await.expect("it is asked to stop");
    ended(&*engine, &l.unit).await;
    assert!(!lives(supervisor) && !lives(script), "nothing of it is left");
}

async fn a_killed_supervisor_leaves_nothing(h: &Harness<'_>) {
    let engine = (h.open)();
    let id = "task.orphan-1.1";
    let grandchild = h.scratch.join("grandchild");
    let l = launch(h, id, &format!("(setsid sh -c 'echo $$ > {}; sleep 1000' &); sleep 1000", grandchild.display()));
    engine.launch(&l).await.expect("it is launched");
    let (supervisor, script) = begun(h, id).await;
    let daemon: i32 = wait_for("the script makes a daemon", async || read_number(&grandchild)).await;
    kill_hard(supervisor);
    let how = ended(&*engine, &l.unit).await;
    assert!(how.contains('9'), "it says that a signal ended it: {how}");
    assert!(!lives(script) && !lives(daemon), "its processes went with it");
}

async fn a_supervisor_that_died_unwatched_leaves_nothing(h: &Harness<'_>) {
    let id = "task.unwatched-1.1";
    let l = launch(h, id, "sleep 1000");
    let engine = (h.open)();
    engine.launch(&l).await.expect("it is launched");
    let (supervisor, script) = begun(h, id).await;
    drop(engine);
    kill_hard(supervisor);
    let engine = (h.open)();
    wait_for("the unit is told to have ended", async || {
        matches!(state(&*engine, &l.unit).await, Some(UnitState::Ended(_))).then_some(())
    })
    .await;
    assert!(!lives(script), "its processes went with it");
    ended(&*engine, &l.unit).await;
}

async fn a_unit_stopped_before_it_began_never_runs(h: &Harness<'_>) {
    let engine = (h.open)();
    for n in 1..=8 {
        let id = format!("task.early-{n}.1");
        let l = launch(h, &id, "sleep 1000");
        engine.launch(&l).await.expect("it is launched");
        engine.stop(&l.unit, Duration::from_secs(3600)).await.expect("it is stopped at once");
        ended(&*engine, &l.unit).await;
        assert!(runs(h, &id).iter().all(|(s, p)| !lives(*s) && !lives(*p)), "nothing of it is left");
    }
}

async fn unknown_units_are_no_trouble(h: &Harness<'_>) {
    let engine = (h.open)();
    let unit: UnitId = "task.never-1.1".parse().expect("a unit id");
    engine.stop(&unit, Duration::ZERO).await.expect("stopping what is not there is no error");
    engine.forget(&unit).await.expect("forgetting what is not there is no error");
    assert_eq!(state(&*engine, &unit).await, None);
}

async fn capacity_is_sensible(h: &Harness<'_>) {
    let engine = (h.open)();
    let capacity = engine.capacity().await.expect("the engine knows what it has");
    assert!(capacity.cpu.milli > 0 && capacity.memory.bytes > 0);
    assert!(engine.features().await.iter().all(|f| !f.detail.is_empty()));
}

fn read_number(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
