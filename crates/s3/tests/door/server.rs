//! A real door on a free port, over a real metastore and store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use muonic_listen::{Limits, Listener};
use muonic_ports::{Clock, Metastore, ObjectStore, SystemClock};
use muonic_services::buckets::{Call, Caller, NewBucket, NoFacts};
use muonic_services::keys::MasterKey;
use muonic_services::{Buckets, Keys};
use muonic_types::key::{KeyCreated, NewKey, Principal, Role};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub struct Server {
    pub address: SocketAddr,
    pub admin: KeyCreated,
    pub viewer: KeyCreated,
    pub invoker: KeyCreated,
    /// Removed with it.
    _root: tempfile::TempDir,
    buckets: Arc<Buckets>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(connections_max: usize) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let meta: Arc<dyn Metastore> =
            Arc::new(muonic_metastore::open(&root.path().join("meta.sqlite")).await.expect("metastore"));
        let options = muonic_store::Options { encrypt: true, sync: true };
        let (store, _) = muonic_store::open(&root.path().join("store"), &root.path().join("store.keys"), &options)
            .await
            .expect("store");
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let master = MasterKey([7; 32]);
        let (keys, admin, _) = Keys::open(meta.clone(), clock.clone(), &master).await.expect("keys");
        let caller = Principal {
            key: admin.key.id.clone(),
            project: admin.key.project.clone(),
            role: Role::Admin,
            attempt: None,
            replica: None,
            limits: Default::default(),
        };
        let new = |name: &str, role| NewKey {
            name: name.parse().expect("a name"),
            role,
            expires_in_s: None,
            project: None,
            limits: Default::default(),
        };
        let viewer = keys.create(&caller, new("viewer", Role::Viewer)).await.expect("a key");
        let invoker = keys.create(&caller, new("invoker", Role::Invoker)).await.expect("a key");
        let buckets = Arc::new(Buckets::new(store, clock, Arc::default()));
        let door = muonic_s3::service(buckets.clone(), keys);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let limits = Limits { connections_max, idle: Duration::from_secs(30), drain: Duration::from_secs(10) };
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(muonic_listen::serve(Listener::Tcp(listener), door, limits, stopped));
        Self { address, admin, viewer, invoker, _root: root, buckets, stop, task }
    }

    /// A private bucket of the administrator's project.
    pub async fn bucket(&self, name: &str) {
        let key = &self.admin.key;
        let caller = Caller::Key(Principal {
            key: key.id.clone(),
            project: key.project.clone(),
            role: Role::Admin,
            attempt: None,
            replica: None,
            limits: Default::default(),
        });
        let call = Call { caller: &caller, facts: &NoFacts, expected_owner: None };
        let new = NewBucket { name: name.to_owned(), ..NewBucket::default() };
        self.buckets.create(call, new).await.expect("a bucket");
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the server ends");
    }
}
