//! SeaweedFS and rclone's S3 server. Both come as packages of the Python that
//! `./test` sets up.

use crate::program::{Program, command, free_ports, tool};
use crate::walk::{self, Place};

const KEY: &str = "AKTEST";

fn place(endpoint: &str) -> Place {
    let known = [
        ("endpoint", endpoint),
        ("allow_http", "true"),
        ("access_key_id", KEY),
        ("secret_access_key", "secret-of-the-test"),
    ];
    Place::new("s3://conformance", &known)
}

async fn answers(endpoint: &str) -> Result<(), String> {
    place(endpoint).open().check().await.map_err(|e| e.to_string())
}

async fn rclone() -> Program {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("data/conformance")).expect("made");
    let port = free_ports(1)[0];
    let auth = format!("{KEY},secret-of-the-test");
    let mut command = command(tool("rclone"), &folder);
    command
        .args(["serve", "s3", "--auth-key", &auth, "--addr", &format!("127.0.0.1:{port}")])
        .args(["--config", "none"])
        .arg(folder.path().join("data"));
    Program::start(command, port, folder, answers).await
}

async fn seaweedfs() -> Program {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(at("data")).expect("made");
    let identities = format!(
        r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{KEY}","secretKey":"secret-of-the-test"}}],"actions":["Admin","Read","List","Tagging","Write"]}}]}}"#
    );
    std::fs::write(at("identities.json"), identities).expect("written");
    let names = ["master", "volume", "filer", "s3", "admin"];
    let ports = free_ports(2 * names.len());
    let mut command = command(tool("weed"), &folder);
    command
        .args(["mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=conformance"])
        .args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args([format!("-dir={}", at("data")), format!("-s3.config={}", at("identities.json"))]);
    for (n, name) in names.iter().enumerate() {
        command.arg(format!("-{name}.port={}", ports[2 * n]));
        command.arg(format!("-{name}.port.grpc={}", ports[2 * n + 1]));
    }
    Program::start(command, ports[6], folder, answers).await
}

async fn walk(place: &Place, found: &[(&str, &str)]) {
    walk::rules_hold(place, "below/a%20prefix", found).await;
    walk::headers_and_sums_are_kept(place).await;
    walk::uploads_in_parts_keep_their_sums(place).await;
    walk::wrong_credentials_are_named(&place.with(&[("secret_access_key", "wrong-secret")])).await;
    walk::a_missing_bucket_is_named(&place.at("s3://vanished")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone_is_mounted() {
    let program = rclone().await;
    walk(&place(&program.endpoint), &[("conditional_put", "disabled")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seaweedfs_is_mounted() {
    let program = seaweedfs().await;
    walk(&place(&program.endpoint), &[("conditional_put", "etag"), ("listing_order", "folders")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_a_server_is_named() {
    walk::a_missing_server_is_named(&place(&format!("http://127.0.0.1:{}", free_ports(1)[0]))).await;
}
