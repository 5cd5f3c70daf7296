//! HDFS itself: a namenode and a datanode, which forget with the test.

use std::path::Path;

use muonic_ports::ObjectStore;
use muonic_ports::conformance::object_store::BUCKET;
use muonic_ports::object_store::*;
use tempfile::TempDir;
use tokio::process::Command;

use crate::common::{at, body, whole};
use crate::program::{Program, command, free_ports, server};
use crate::walk::{self, Place, target};

/// Lies in the folder that is mounted.
const FIRST: &str = "below/a prefix/first";

/// Jars, and a configuration for ports of this machine only.
struct Hdfs {
    jars: String,
    configuration: TempDir,
    port: u16,
}

fn properties(pairs: &[(&str, String)]) -> String {
    let properties = pairs.iter().map(|(k, v)| format!("<property><name>{k}</name><value>{v}</value></property>"));
    format!("<configuration>{}</configuration>", properties.collect::<String>())
}

impl Hdfs {
    fn new(jars: &Path) -> Self {
        let (configuration, port) = (tempfile::tempdir().expect("a folder"), free_ports(1)[0]);
        let write = |name: &str, pairs: &[(&str, String)]| {
            std::fs::write(configuration.path().join(name), properties(pairs)).expect("written");
        };
        let folder = configuration.path().join("data").display().to_string();
        write("core-site.xml", &[("fs.defaultFS", format!("hdfs://127.0.0.1:{port}")), ("hadoop.tmp.dir", folder)]);
        let any = || "127.0.0.1:0".to_owned();
        let site = [
            ("dfs.replication", "1".to_owned()),
            ("dfs.namenode.http-address", any()),
            ("dfs.datanode.address", any()),
            ("dfs.datanode.http.address", any()),
            ("dfs.datanode.ipc.address", any()),
            ("dfs.namenode.safemode.extension", "0".to_owned()),
        ];
        write("hdfs-site.xml", &site);
        Self { jars: jars.join("*").display().to_string(), configuration, port }
    }

    fn java(&self, class: &str) -> (Command, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command("java", &folder);
        command.args(["-Xmx256m", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp"]);
        command.arg(format!("{}:{}", self.configuration.path().display(), self.jars));
        command.arg(format!("org.apache.hadoop.hdfs.server.{class}"));
        (command, folder)
    }

    async fn start(&self) -> [Program; 2] {
        let (mut format, _folder) = self.java("namenode.NameNode");
        let formatted = format.args(["-format", "-nonInteractive"]).output().await.expect("it starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let (command, folder) = self.java("namenode.NameNode");
        let store = self.place("").open();
        let names =
            Program::start(command, self.port, folder, async |_: &str| store.check().await.map_err(|e| e.to_string()));
        let names = names.await;
        let (command, folder) = self.java("datanode.DataNode");
        // It is there once content can be written; the folders stay for the
        // mount of one.
        let data = Program::start(command, self.port, folder, async |_: &str| {
            let put = store.put(target(FIRST), NewObject::default(), body(b"there?"), no_check()).await;
            put.map(drop).map_err(|e| e.to_string())
        });
        let data = data.await;
        store
            .delete(BUCKET, vec![walk::removal(FIRST, at(1))], at(1))
            .await
            .expect("asked")
            .remove(0)
            .expect("removed");
        [names, data]
    }

    fn place(&self, path: &str) -> Place {
        Place::new(&format!("hdfs://127.0.0.1:{}{path}", self.port), &[])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hdfs_is_mounted() {
    let Some(jars) = server("hdfs/jars", "hdfs_is_mounted") else { return };
    let hdfs = Hdfs::new(&jars);
    let _running = hdfs.start().await;
    let place = hdfs.place("");
    walk::rules_hold(&place, "below/a%20prefix", &[]).await;

    // More than one block's packet, and a range of it.
    let store = place.open();
    let content: Vec<u8> = (0..9_000_000u32).map(|n| (n % 251) as u8).collect();
    store.put(target("large"), NewObject::default(), body(&content), no_check()).await.expect("put");
    let found = store.get(BUCKET, "large", None).await.expect("asked").expect("there");
    assert!(whole(&*store, &found).await == content);

    // A file of that name is no folder, and neither is nothing.
    walk::a_missing_bucket_is_named(&hdfs.place("/large")).await;
    walk::a_missing_bucket_is_named(&hdfs.place("/vanished")).await;
    let nobody = format!("hdfs://127.0.0.1:{}", free_ports(1)[0]);
    walk::a_missing_server_is_named(&place.at(&nobody)).await;
}
