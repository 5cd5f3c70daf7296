//! The local engine passes the suite that every engine passes.

use muonic_engine_local::{Config, Local};
use muonic_ports::conformance::engine::{Harness, run_all};

const HELPER: &str = env!("CARGO_BIN_EXE_muonic-unit-helper");

fn config(dir: &std::path::Path, exe: &str) -> Config {
    Config {
        units: dir.join("units"),
        cache: dir.join("cache"),
        server_file: dir.join("server"),
        exe: exe.into(),
        capacity: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_engine_keeps_the_contract_of_engines() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), HELPER);
    let open = || Box::new(Local::new(config.clone()).unwrap()) as Box<dyn muonic_ports::Engine>;
    run_all(&Harness { open: &open, scratch: dir.path().to_owned() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_start_is_an_error_with_its_name() {
    use muonic_ports::Engine;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "/nowhere/muonic");
    let local = Local::new(config).unwrap();
    let launch = muonic_ports::engine::Launch {
        unit: "task.t-1.1".parse().unwrap(),
        resources: Default::default(),
        token: String::new(),
        settings: Default::default(),
    };
    let error = local.launch(&launch).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/muonic"), "{error}");
    assert_eq!(local.list().await.unwrap()[0].state, muonic_ports::engine::UnitState::Unstarted);
    assert_eq!(local.features().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_that_was_cut_short_is_listed_and_can_be_forgotten() {
    use muonic_ports::Engine;
    use muonic_ports::engine::{UnitState, UnitStatus};
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), HELPER);
    // The server died between making the folder and starting the supervisor.
    std::fs::create_dir_all(config.units.join("task.t-1.1")).unwrap();
    let local = Local::new(config.clone()).unwrap();
    let unit: muonic_types::UnitId = "task.t-1.1".parse().unwrap();
    let listed = UnitStatus { unit: unit.clone(), state: UnitState::Unstarted };
    assert_eq!(local.list().await.unwrap(), [listed]);
    local.forget(&unit).await.unwrap();
    assert!(local.list().await.unwrap().is_empty());
    assert!(!config.units.join("task.t-1.1").exists());
    // A server that died while it removed one leaves that to the next.
    std::fs::create_dir_all(config.units.join(".gone-task.t-9.1/work")).unwrap();
    let _next = Local::new(config.clone()).unwrap();
    for _ in 0..1000 {
        if std::fs::read_dir(&config.units).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("leftovers were not removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_ends_with_its_lock_whatever_has_the_number_of_its_supervisor() {
    use muonic_ports::Engine;
    use muonic_ports::engine::UnitState;
    use muonic_unit::{Folder, UNIT_DIR_VARIABLE};
    use std::process::Stdio;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().canonicalize().unwrap(), HELPER);
    let folder = Folder::new(config.units.join("task.t-1.1"));
    std::fs::create_dir_all(folder.path()).unwrap();
    // This process holds the lock, as a supervisor that has just taken over;
    // the number is still of an earlier one, and a program that the earlier
    // one left has it now.
    let lock = folder.try_lock().unwrap().unwrap();
    let mut left = std::process::Command::new("sleep");
    left.arg("1000").env(UNIT_DIR_VARIABLE, folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut left = left.spawn().unwrap();
    std::fs::write(folder.file("pid"), format!("{}\n", left.id())).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !muonic_unit::processes::carries(left.id() as i32, folder.path()) {
        assert!(std::time::Instant::now() < until, "the process did not appear");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let local = Local::new(config).unwrap();
    assert_eq!(local.list().await.unwrap()[0].state, UnitState::Running);
    drop(lock);
    while local.list().await.unwrap()[0].state == UnitState::Running {
        assert!(std::time::Instant::now() < until, "the unit is watched for ever");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(!left.wait().unwrap().success());
}
