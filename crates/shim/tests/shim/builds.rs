//! Python environments that are built for an attempt.

use std::fs;
use std::path::Path;
use std::process::Command;

use muonic_types::job::Exit;
use serde_json::json;

use crate::support::{Bed, until};

/// A package in source form, as the text of an archive without compression.
/// Its build leaves a daemon, marks the unit and waits for the file `go`.
fn slow_package(go: &Path) -> String {
    let backend = format!(
        "import os, subprocess, time, zipfile\n\
         def build_wheel(folder, config_settings=None, metadata_directory=None):\n\
        \x20   none = subprocess.DEVNULL\n\
        \x20   subprocess.Popen(['sleep', '1000'], start_new_session=True, stdin=none, stdout=none, stderr=none)\n\
        \x20   open(os.environ['MUONIC_UNIT_DIR'] + '/building', 'w').close()\n\
        \x20   while not os.path.exists('{}'): time.sleep(0.02)\n\
        \x20   z = zipfile.ZipFile(folder + '/slow-1.0-py3-none-any.whl', 'w')\n\
        \x20   z.writestr('slow.py', '')\n\
        \x20   i = 'slow-1.0.dist-info/'\n\
        \x20   z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: slow\\nVersion: 1.0\\n')\n\
        \x20   z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
        \x20   z.writestr(i + 'RECORD', '')\n\
        \x20   z.close()\n\
        \x20   return 'slow-1.0-py3-none-any.whl'\n",
        go.display()
    );
    let project = "[project]\nname = 'slow'\nversion = '1.0'\n\
        [build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n";
    let script = "import io, sys, tarfile\n\
        t = tarfile.open(mode='w|', fileobj=sys.stdout.buffer, format=tarfile.USTAR_FORMAT)\n\
        for name, text in zip(['pyproject.toml', 'backend.py'], sys.argv[1:]):\n\
        \x20   i = tarfile.TarInfo('slow-1.0/' + name); i.size = len(text)\n\
        \x20   t.addfile(i, io.BytesIO(text.encode()))\n\
        t.close()\n";
    let made = Command::new("python3").args(["-c", script, project, &backend]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

#[test]
fn a_killed_shim_leaves_no_build_and_the_next_attempt_builds_again() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let package = slow_package(&go);
    let files = [("requirements.txt", "--no-index\n./slow-1.0.tar\n"), ("slow-1.0.tar", package.as_str())];
    let first = Bed::new("true", &files, json!({}));
    let mut shim = first.start();
    until("the build has begun", || first.folder.file("building").exists().then_some(()));
    shim.0.kill().unwrap();
    shim.0.wait().unwrap();
    first.end_leftovers();
    assert_eq!(muonic_unit::processes::of_unit(first.folder.path()), Vec::<i32>::new());

    fs::write(&go, "").unwrap();
    let second = Bed::new("python -c 'import slow'", &files, json!({}));
    let mut launch = second.folder.read_launch().unwrap();
    launch.cache = first.folder.read_launch().unwrap().cache;
    second.folder.write_launch(&launch).unwrap();
    let report = second.run();
    assert_eq!(report.exit, Exit::Code { code: 0 }, "{:?}\n{}", report.message, second.log());
    let names = fs::read_dir(launch.cache.join("envs")).unwrap().map(|e| e.unwrap().file_name());
    let locks = names.filter(|name| name.to_string_lossy().ends_with(".lock")).count();
    assert_eq!(locks, 1, "both asked for the same environment");
}

#[test]
fn a_python_script_runs_in_its_environment() {
    let files = [
        (
            "train.py",
            "import sys, os\nprint(sys.prefix != sys.base_prefix)\nprint(os.environ['VIRTUAL_ENV'] == sys.prefix)\n",
        ),
        ("requirements.txt", "--no-index\n"),
    ];
    let bed = Bed::new("", &files, json!({"command": ["python", "train.py"]}));
    let report = bed.run();
    assert_eq!(report.exit, Exit::Code { code: 0 }, "{:?}", report.message);
    assert!(bed.log().ends_with("True\nTrue\n"), "{}", bed.log());
    assert!(report.environment.is_some());
}

#[test]
fn requirements_that_cannot_be_had_fail_with_their_log() {
    let bed = Bed::new("true", &[("requirements.txt", "--no-index\nno-such-package-at-all\n")], json!({}));
    let report = bed.run();
    assert_eq!(report.exit, Exit::EnvironmentFailed);
    let message = report.message.unwrap();
    assert!(message.contains("no-such-package-at-all") && !message.contains("the log ends"), "{message}");
    assert!(bed.log().contains("no-such-package-at-all"), "{}", bed.log());
}

#[test]
fn a_time_limit_that_ends_a_build_is_told_as_one() {
    // It takes connections and never answers.
    let index = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let requirements = format!("--index-url http://{}/simple\nx==1\n", index.local_addr().unwrap());
    let bed = Bed::new("true", &[("requirements.txt", &requirements)], json!({"time_limit_s": 1}));
    let report = bed.run();
    assert_eq!(report.exit, Exit::TimeLimit, "{:?}", report.message);
    assert!(report.message.unwrap().starts_with("its limit of 1 s was over before its command began"));
}
