//! The whole S3 door, from the bytes of a connection to the store: as anybody
//! who has no key, and as an administrator.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use muonic_ports::routes::Authenticator;
use muonic_ports::{ObjectStore, SystemClock};
use muonic_s3::Door;
use muonic_services::buckets::{Call, Caller, NewBucket, NoFacts};
use muonic_services::{Buckets, Events};
use muonic_types::key::{Principal, Role};
use muonic_types::{ErrorCode, KeyId, ProjectId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;

/// Lets everybody do what can be allowed to everybody with the bucket `bbb`.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*",
    "Resource":["arn:aws:s3:::bbb","arn:aws:s3:::bbb/*"]}]}"#;

const KEY: &str = "MKABCDEFGHIJKLMNOPQR";
const SECRET: &str = "secret";

struct Anybody;

impl Authenticator for Anybody {
    fn authenticate(&self, _: &str) -> Result<Principal, (ErrorCode, String)> {
        Err((ErrorCode::Unauthenticated, "there are no keys".to_owned()))
    }

    fn secret(&self, id: &KeyId) -> Option<(Principal, String)> {
        Some((admin(id.clone()), SECRET.to_owned()))
    }
}

fn admin(key: KeyId) -> Principal {
    Principal { key, project: ProjectId::default_project(), role: Role::Admin, attempt: None, replica: None }
}

static SERVER: LazyLock<(Runtime, Door)> = LazyLock::new(|| {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let door = runtime.block_on(async {
        let root = std::env::temp_dir().join(format!("muonic-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&root).expect("a folder");
        let options = muonic_store::Options { encrypt: false, sync: false };
        let (store, _) = muonic_store::open(&root.join("store"), &root.join("keys"), &options).await.expect("a store");
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let buckets = Arc::new(Buckets::new(store, Arc::new(SystemClock), Arc::new(Events::default())));
        let caller = Caller::Key(admin(KeyId::from_random(&[7; 12])));
        let call = Call { caller: &caller, facts: &NoFacts, expected_owner: None };
        buckets.create(call, NewBucket { name: "bbb".to_owned(), ..NewBucket::default() }).await.expect("a bucket");
        buckets.set_policy(call, "bbb", POLICY.to_owned()).await.expect("a policy");
        muonic_s3::service(buckets, Arc::new(Anybody))
    });
    (runtime, door)
});

/// A head, an empty line and a body: a request that is signed before it is sent.
pub fn signed(data: &[u8]) {
    if let Some(request) = muonic_s3::fuzzing::signed(data, KEY, SECRET) {
        door(&request);
    }
}

/// Whatever comes is answered in time, and no fault of the client's as one of
/// the server.
pub fn door(data: &[u8]) {
    let (runtime, door) = &*SERVER;
    let answered = runtime.block_on(async {
        let (mut client, server) = duplex(1 << 20);
        let mut builder = http1::Builder::new();
        let served = builder.half_close(true).serve_connection(TokioIo::new(server), door.clone());
        let asked = async {
            client.write_all(data).await.ok();
            client.shutdown().await.ok();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.ok();
            answer
        };
        let both = async { tokio::join!(served, asked).1 };
        tokio::time::timeout(Duration::from_secs(10), both).await.expect("an answer in time")
    });
    let text = String::from_utf8_lossy(&answered);
    assert!(!text.contains("HTTP/1.1 500"), "{text}");
}
