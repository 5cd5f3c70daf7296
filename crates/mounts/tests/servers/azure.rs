//! Azurite, Microsoft's own emulator of its blob store.

use data_encoding::BASE64;
use muonic_ports::ObjectStore;
use muonic_ports::object_store::*;
use reqwest::StatusCode;
use ring::hmac;

use crate::common::body;
use crate::program::{Program, command, free_ports, http, server};
use crate::walk::{self, Place, target};

const ACCOUNT: &str = "muonictest";
const VERSION: &str = "2021-08-06";

fn key() -> String {
    BASE64.encode(b"key-of-the-test-account")
}

fn sign(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"key-of-the-test-account");
    BASE64.encode(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn place(program: &Program) -> Place {
    let endpoint = format!("{}/{ACCOUNT}", program.endpoint);
    let key = key();
    let known = [("endpoint", &*endpoint), ("allow_http", "true"), ("account", ACCOUNT), ("access_key", &*key)];
    Place::new("az://conformance", &known)
}

/// A token for all that is done with blobs, until `end`.
fn sas(end: &str) -> String {
    let (permissions, types) = ("rwdlac", "sco");
    let signature = sign(&format!("{ACCOUNT}\n{permissions}\nb\n{types}\n\n{end}\n\n\n{VERSION}\n\n"));
    let mut token = url::form_urlencoded::Serializer::new(String::new());
    let fields = [("sv", VERSION), ("ss", "b"), ("srt", types), ("sp", permissions), ("se", end), ("sig", &signature)];
    token.extend_pairs(fields);
    token.finish()
}

/// Makes the container, which no mount does.
async fn container(endpoint: &str) -> Result<(), String> {
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now());
    let date = date.expect("a date");
    let headers = format!("x-ms-date:{date}\nx-ms-version:{VERSION}\n");
    let resource = format!("/{ACCOUNT}/{ACCOUNT}/conformance\nrestype:container");
    let signature = sign(&format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}{resource}"));
    let url = format!("{endpoint}/{ACCOUNT}/conformance?restype=container");
    let answer = http()
        .put(url)
        .header("x-ms-date", date)
        .header("x-ms-version", VERSION)
        .header("content-length", "0")
        .header("authorization", format!("SharedKey {ACCOUNT}:{signature}"))
        .send()
        .await
        .map_err(|e| e.to_string())?;
    match answer.status() {
        StatusCode::CREATED => Ok(()),
        _ => Err(answer.text().await.unwrap_or_default()),
    }
}

async fn azurite(main: &std::path::Path) -> Program {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_ports(1)[0];
    let mut command = command("node", &folder);
    command
        .arg(main)
        .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--location"])
        .arg(folder.path())
        .args(["--silent", "--disableTelemetry"])
        .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", key()));
    Program::start(command, port, folder, container).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azurite_is_mounted() {
    let Some(main) = server("azurite/node_modules/azurite/dist/src/blob/main.js", "azurite_is_mounted") else {
        return;
    };
    let program = azurite(&main).await;
    let place = place(&program);
    walk::rules_hold(&place, "below/a%20prefix", &[]).await;
    walk::headers_and_sums_are_kept(&place).await;
    walk::uploads_in_parts_keep_their_sums(&place).await;

    let with_token = |end: &str| {
        let endpoint = format!("{}/{ACCOUNT}", program.endpoint);
        let token = sas(end);
        let known = [("endpoint", &*endpoint), ("allow_http", "true"), ("account", ACCOUNT), ("sas_token", &*token)];
        Place::new("az://conformance", &known)
    };
    walk::headers_and_sums_are_kept(&with_token("2090-01-01T00:00:00Z")).await;
    walk::uploads_in_parts_keep_their_sums(&with_token("2090-01-01T00:00:00Z")).await;
    walk::wrong_credentials_are_named(&with_token("2020-01-01T00:00:00Z")).await;
    blocks_that_another_write_dropped_end_the_upload(&place).await;

    walk::wrong_credentials_are_named(&place.with(&[("access_key", "d3Jvbmcta2V5")])).await;
    walk::refused(&place.with(&[("access_key", "no base64!")]), &["'access_key'"]).await;
    walk::a_missing_bucket_is_named(&place.at("az://vanished")).await;
    let nobody = format!("http://127.0.0.1:{}/{ACCOUNT}", free_ports(1)[0]);
    walk::a_missing_server_is_named(&place.with(&[("endpoint", &nobody)])).await;
}

/// Azure says so of every other write; Azurite drops them at another commit.
async fn blocks_that_another_write_dropped_end_the_upload(place: &Place) {
    let store = place.open();
    let mut begun = Vec::new();
    for content in [b"first", b"other"] {
        let upload = store.upload_create(target("dropped"), NewObject::default()).await.expect("begun");
        let at = upload.started_at;
        let part = store.upload_part(&upload, 1, body(content), no_check(), None, at).await.expect("a part");
        begun.push((upload, CompletedPart { number: 1, etag: part.etag, sum: None }));
    }
    let end = |n: usize| {
        let (upload, part): &(Upload, CompletedPart) = &begun[n];
        store.upload_complete(upload, vec![part.clone()], Precondition::default(), None, upload.started_at)
    };
    end(0).await.expect("completed");
    for _ in 0..2 {
        let ended = end(1).await;
        assert!(matches!(ended, Err(Error::NoSuchUpload)), "{ended:?}");
    }
}
