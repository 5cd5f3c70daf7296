//! The environment of the user's command: what SageMaker's, Vertex AI's and
//! our own scripts look for.
//!
//! The base is small and named in `muonic_unit`; nothing else of the shim's
//! environment goes on. The user's own variables win, except those by which a unit's
//! processes are found.

use std::collections::BTreeMap;
use std::path::Path;

use muonic_types::task::TaskSpec;
use muonic_unit::{Launch, UNIT_DIR_VARIABLE, UNIT_VARIABLE, is_for_all};
use serde_json::{Value, json};

/// Longest folder for temporary files: programs put Unix sockets there,
/// whose whole path may have 107 bytes.
const TMPDIR_BYTES_MAX: usize = 60;
const HOST: &str = "algo-1";
const REGION: &str = "us-east-1";

pub struct About<'a> {
    pub unit_dir: &'a Path,
    pub work: &'a Path,
    pub launch: &'a Launch,
    pub task: &'a TaskSpec,
    pub server: &'a str,
    /// Folder of the Python environment's programs.
    pub bin: Option<&'a Path>,
}

pub fn variables(about: &About<'_>, own: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut vars: BTreeMap<String, String> = own.filter(|(name, _)| is_for_all(name)).collect();
    let spec = &about.task.spec;
    vars.entry("LANG".into()).or_insert_with(|| "C.UTF-8".into());
    let temporary = text(&about.work.join("tmp"));
    if temporary.len() <= TMPDIR_BYTES_MAX {
        vars.insert("TMPDIR".into(), temporary);
    }
    let cpus = spec.resources.cpu.milli.div_ceil(1000).max(1);
    for (name, value) in [("PYTHONUNBUFFERED", "1".to_owned()), ("OMP_NUM_THREADS", cpus.to_string())] {
        vars.insert(name.into(), value);
    }
    // Work sees the processors it was given and no others.
    vars.insert("CUDA_VISIBLE_DEVICES".into(), about.launch.settings.get("gpus").cloned().unwrap_or_default());
    vars.extend(muonic(about));
    vars.extend(sagemaker(about, cpus));
    vars.extend(vertex(about));
    vars.extend(aws(about));
    vars.extend(spec.env.clone());
    vars.extend([
        (UNIT_VARIABLE.to_owned(), about.launch.unit.to_string()),
        (UNIT_DIR_VARIABLE.to_owned(), text(about.unit_dir)),
    ]);
    if let Some(bin) = about.bin {
        let path = vars.get("PATH").cloned().unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        vars.insert("PATH".into(), format!("{}:{path}", bin.display()));
        if let Some(home) = bin.parent().filter(|home| home.join("pyvenv.cfg").exists()) {
            vars.insert("VIRTUAL_ENV".into(), text(home));
        }
    }
    // A name with `=` or a NUL cannot be passed to any program.
    vars.retain(|name, value| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    vars
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn muonic(about: &About<'_>) -> Vec<(String, String)> {
    let folder = |name: &str| text(&about.work.join(name));
    let attempt = &about.task.attempt;
    [
        ("MUONIC_JOB", attempt.job().to_string()),
        ("MUONIC_ATTEMPT", attempt.to_string()),
        ("MUONIC_SERVER", about.server.to_owned()),
        ("MUONIC_TOKEN", about.launch.token.clone()),
        ("MUONIC_INPUT_DIR", folder("input")),
        ("MUONIC_MODEL_DIR", folder("model")),
        ("MUONIC_OUTPUT_DIR", folder("output")),
        ("MUONIC_CHECKPOINT_DIR", folder("checkpoints")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn sagemaker(about: &About<'_>, cpus: u64) -> Vec<(String, String)> {
    let folder = |name: &str| text(&about.work.join(name));
    let spec = &about.task.spec;
    let channels: BTreeMap<String, String> = about
        .task
        .inputs
        .keys()
        .map(|channel| (channel.to_string(), text(&about.work.join("input").join(channel.as_str()))))
        .collect();
    let names: Vec<&String> = channels.keys().collect();
    let training = json!({
        "job_name": about.task.attempt.job().to_string(), "model_dir": folder("model"), "output_data_dir": folder("output"),
        "input_dir": folder("input"), "channel_input_dirs": channels, "hyperparameters": spec.params, "hosts": [HOST],
        "current_host": HOST, "num_cpus": cpus, "num_gpus": spec.resources.gpu,
    });
    let mut vars: Vec<(String, String)> = [
        ("SM_MODEL_DIR", folder("model")),
        ("SM_OUTPUT_DATA_DIR", folder("output")),
        ("SM_OUTPUT_DIR", folder("output")),
        ("SM_INPUT_DIR", folder("input")),
        ("SM_CHANNELS", json!(names).to_string()),
        ("SM_HPS", json!(spec.params).to_string()),
        ("SM_USER_ARGS", json!(arguments(&spec.params)).to_string()),
        ("SM_HOSTS", json!([HOST]).to_string()),
        ("SM_CURRENT_HOST", HOST.to_owned()),
        ("SM_RESOURCE_CONFIG", json!({"current_host": HOST, "hosts": [HOST]}).to_string()),
        ("SM_NUM_CPUS", cpus.to_string()),
        ("SM_NUM_GPUS", spec.resources.gpu.to_string()),
        ("SM_TRAINING_ENV", training.to_string()),
        ("TRAINING_JOB_NAME", about.task.attempt.job().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (channel, path) in &channels {
        vars.extend(names_for("SM_CHANNEL_", channel).map(|name| (name, path.clone())));
    }
    for (param, value) in &spec.params {
        vars.extend(names_for("SM_HP_", param).map(|name| (name, plain(value))));
    }
    vars
}

/// SageMaker's own spelling keeps dashes, which a shell cannot name; so both.
fn names_for(beginning: &str, name: &str) -> impl Iterator<Item = String> {
    let upper = name.to_uppercase();
    let shell: String = upper.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let both = [format!("{beginning}{upper}"), format!("{beginning}{shell}")];
    let distinct = if both[0] == both[1] { 1 } else { 2 };
    both.into_iter().take(distinct)
}

fn vertex(about: &About<'_>) -> Vec<(String, String)> {
    let folder = |name: &str| text(&about.work.join(name));
    let mut vars = vec![
        ("AIP_MODEL_DIR".to_owned(), folder("model")),
        ("AIP_CHECKPOINT_DIR".to_owned(), folder("checkpoints")),
        ("AIP_TENSORBOARD_LOG_DIR".to_owned(), folder("output/logs")),
        ("CLOUD_ML_JOB_ID".to_owned(), about.task.attempt.job().to_string()),
    ];
    for (kind, channels) in
        [("TRAINING", ["train", "training"]), ("VALIDATION", ["validation", "val"]), ("TEST", ["test", "testing"])]
    {
        let given = about.task.inputs.keys().find(|c| channels.contains(&c.as_str()));
        vars.extend(
            given.map(|channel| {
                (format!("AIP_{kind}_DATA_URI"), text(&about.work.join("input").join(channel.as_str())))
            }),
        );
    }
    vars
}

/// Point at our own S3 door with the attempt's own key.
fn aws(about: &About<'_>) -> Vec<(String, String)> {
    let (Some(url), Some((id, secret))) = (about.launch.settings.get("s3_url"), about.launch.token.split_once('.'))
    else {
        return Vec::new();
    };
    [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_REGION", REGION),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A parameter as text: a string as it is, all else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Parameters as `--name value` arguments.
pub fn arguments(params: &BTreeMap<String, Value>) -> Vec<String> {
    params.iter().flat_map(|(name, value)| [format!("--{name}"), plain(value)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(params: BTreeMap<String, Value>, env: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let task: TaskSpec = serde_json::from_value(json!({
            "attempt": "train-1.2", "log_bytes_max": 1000,
            "inputs": {"my-data": format!("sha256:{}", "0".repeat(64)), "train": format!("sha256:{}", "0".repeat(64))},
            "spec": {"name": "train", "command": ["true"], "params": params, "env": env, "resources": {"cpu": "1500m", "memory": "1Gi"}},
        }))
        .unwrap();
        let launch: Launch = serde_json::from_value(json!({
            "version": 1, "unit": "task.train-1.2", "resources": {}, "server_file": "/d/server", "token": "MKX.secret",
            "cache": "/d/cache", "settings": {"s3_url": "http://127.0.0.1:7071"},
        }))
        .unwrap();
        let about = About {
            unit_dir: Path::new("/d/u"),
            work: Path::new("/d/u/work"),
            launch: &launch,
            task: &task,
            server: "http://s",
            bin: Some(Path::new("/env/bin")),
        };
        let own = [("PATH", "/bin"), ("SECRET", "x"), ("LC_ALL", "C")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        variables(&about, own.into_iter())
    }

    #[test]
    fn scripts_of_every_family_find_what_they_look_for() {
        let vars = sample(
            BTreeMap::from([("learning-rate".into(), json!(0.1)), ("name".into(), json!("a b"))]),
            BTreeMap::new(),
        );
        for (name, value) in [
            ("SM_MODEL_DIR", "/d/u/work/model"),
            ("SM_OUTPUT_DATA_DIR", "/d/u/work/output"),
            ("SM_CHANNEL_TRAIN", "/d/u/work/input/train"),
            ("SM_CHANNEL_MY_DATA", "/d/u/work/input/my-data"),
            ("SM_CHANNEL_MY-DATA", "/d/u/work/input/my-data"),
            ("SM_CHANNELS", "[\"my-data\",\"train\"]"),
            ("SM_HPS", "{\"learning-rate\":0.1,\"name\":\"a b\"}"),
            ("SM_HP_LEARNING_RATE", "0.1"),
            ("SM_HP_NAME", "a b"),
            ("SM_NUM_CPUS", "2"),
            ("SM_NUM_GPUS", "0"),
            ("SM_CURRENT_HOST", "algo-1"),
            ("SM_HOSTS", "[\"algo-1\"]"),
            ("AIP_MODEL_DIR", "/d/u/work/model"),
            ("AIP_CHECKPOINT_DIR", "/d/u/work/checkpoints"),
            ("AIP_TRAINING_DATA_URI", "/d/u/work/input/train"),
            ("MUONIC_JOB", "train-1"),
            ("MUONIC_ATTEMPT", "train-1.2"),
            ("MUONIC_UNIT", "task.train-1.2"),
            ("MUONIC_UNIT_DIR", "/d/u"),
            ("MUONIC_SERVER", "http://s"),
            ("MUONIC_TOKEN", "MKX.secret"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:7071"),
            ("AWS_ACCESS_KEY_ID", "MKX"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("PATH", "/env/bin:/bin"),
            ("LC_ALL", "C"),
            ("PYTHONUNBUFFERED", "1"),
            ("TMPDIR", "/d/u/work/tmp"),
            ("CUDA_VISIBLE_DEVICES", ""),
        ] {
            assert_eq!(vars.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!vars.contains_key("SECRET"));
        assert_eq!(arguments(&BTreeMap::from([("k".into(), json!(1))])), ["--k", "1"]);
    }

    #[test]
    fn users_win_except_over_the_marks() {
        let env = [("SM_MODEL_DIR", "/x"), ("PATH", "/mine"), ("MUONIC_UNIT_DIR", "/y"), ("A", "b\0c")];
        let vars = sample(BTreeMap::new(), env.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        assert_eq!(
            (&*vars["SM_MODEL_DIR"], &*vars["PATH"], &*vars["MUONIC_UNIT_DIR"]),
            ("/x", "/env/bin:/mine", "/d/u")
        );
        assert!(!vars.contains_key("A"));
    }

    proptest! {
        #[test]
        fn names_are_always_fit_for_a_process(name in "\\PC{1,20}", value in any::<String>()) {
            let vars = sample(BTreeMap::from([(name, json!(value))]), BTreeMap::new());
            prop_assert!(vars.iter().all(|(n, v)| !n.is_empty() && !n.contains(['=', '\0']) && !v.contains('\0')));
        }
    }
}
