//! A mount of another server of our own, over its S3 door: all rules of the
//! port hold, as they do for servers that others wrote.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Embedded, new_bucket, pairs};
use muonic_listen::{Limits, Listener};
use muonic_ports::conformance::object_store::{BUCKET, Keys, suite_with};
use muonic_ports::object_store::*;
use muonic_ports::store_admin::MountError;
use muonic_ports::{Clock, Metastore, Mounting, ObjectStore, SystemClock};
use muonic_services::buckets::{Call, Caller, NoFacts};
use muonic_services::keys::MasterKey;
use muonic_services::{Buckets, Keys as ServerKeys};
use muonic_types::key::{KeyCreated, Principal, Role};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the mounted bucket is called there.
const FAR: &str = "far-away";

struct Second {
    endpoint: String,
    admin: KeyCreated,
    _embedded: Embedded,
    _root: tempfile::TempDir,
    stop: CancellationToken,
}

impl Second {
    async fn start() -> Self {
        let (embedded, root) = (Embedded::new().await, tempfile::tempdir().expect("a folder"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let meta = muonic_metastore::open(&root.path().join("meta.sqlite")).await.expect("a metastore");
        let meta: Arc<dyn Metastore> = Arc::new(meta);
        let (keys, admin, _) = ServerKeys::open(meta, clock.clone(), &MasterKey([7; 32])).await.expect("keys");
        let buckets = Arc::new(Buckets::new(Arc::new(embedded.store.clone()), clock, Arc::default()));
        let caller = Caller::Key(Principal {
            key: admin.key.id.clone(),
            project: admin.key.project.clone(),
            role: Role::Admin,
            attempt: None,
            replica: None,
            limits: Default::default(),
        });
        let call = Call { caller: &caller, facts: &NoFacts, expected_owner: None };
        let new = muonic_services::buckets::NewBucket { name: FAR.to_owned(), ..Default::default() };
        buckets.create(call, new).await.expect("a bucket");
        let door = muonic_s3::service(buckets, keys);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let limits = Limits { connections_max: 100, idle: Duration::from_secs(30), drain: Duration::from_secs(1) };
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(muonic_listen::serve(Listener::Tcp(listener), door, limits, stopped));
        Self { endpoint, admin, _embedded: embedded, _root: root, stop }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_muonic_is_mounted() {
    let second = Second::start().await;
    let id = second.admin.key.id.to_string();
    let options = pairs(&[
        ("endpoint", &second.endpoint),
        ("allow_http", "true"),
        ("access_key_id", &id),
        ("secret_access_key", &second.admin.secret),
    ]);
    for url in [format!("s3://{FAR}"), format!("s3://{FAR}/below/a%20prefix")] {
        let embedded = Embedded::new().await;
        let mounts = embedded.mounts(1, &[]);
        let bucket = mounts.mount(new_bucket(BUCKET), &url, &options).await.expect("mounted");
        assert!(!format!("{bucket:?}").contains(&second.admin.secret));
        let (_, settled) = mounts.described(&bucket).expect("described").expect("a mount");
        assert_eq!(settled["conditional_put"], "etag");
        assert_eq!(settled["listing_order"], "bytes");
        suite_with(mounts, Keys::Paths, false).await;
    }

    let mut wrong = options.clone();
    wrong.insert("secret_access_key".to_owned(), "no-such-secret".to_owned());
    let embedded = Embedded::new().await;
    let mounts = embedded.mounts(1, &[]);
    let refused = mounts.mount(new_bucket(BUCKET), &format!("s3://{FAR}"), &wrong).await;
    let Err(MountError::Store(Error::Store(muonic_ports::Error::Unavailable(said)))) = refused else {
        panic!("{refused:?}")
    };
    assert!(said.contains("credentials") && !said.contains("no-such-secret"), "{said}");
    assert!(mounts.bucket(BUCKET).await.expect("asked").is_none());
}
