use super::*;

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const KEYS: [(&str, &str); 2] = [("access_key_id", "AK"), ("secret_access_key", "hush-hush")];

#[test]
fn urls_name_store_and_prefix() {
    let spec = MountSpec::parse("s3://data/a%20b/c/", &options(&KEYS)).expect("parsed");
    assert_eq!((spec.prefix.as_str(), spec.url()), ("a b/c/", "s3://data/a%20b/c"));
    let Store::S3(s3) = &spec.store else { panic!("{spec:?}") };
    assert_eq!((s3.bucket.as_str(), s3.conditional_put), ("data", Some(true)));

    let url = "abfss://files@acme.dfs.core.windows.net/x";
    let spec = MountSpec::parse(url, &options(&[("sas_token", "sig=1")])).expect("parsed");
    let Store::Azure(azure) = &spec.store else { panic!("{spec:?}") };
    assert_eq!((azure.container.as_str(), azure.account.as_str()), ("files", "acme"));

    let spec = MountSpec::parse("hdfs://nn:9000/data", &options(&[("dfs.replication", "2")])).expect("parsed");
    let Store::Hdfs(hdfs) = &spec.store else { panic!("{spec:?}") };
    assert_eq!((hdfs.server.as_str(), hdfs.settings.len(), spec.prefix.as_str()), ("hdfs://nn:9000", 1, "data/"));

    let spec = MountSpec::parse("file:///srv/data%20sets", &options(&[])).expect("parsed");
    assert_eq!(spec.store, Store::File("/srv/data sets".into()));
}

#[test]
fn what_is_wrong_is_said() {
    let with = |more: &[(&str, &str)]| options(&[&KEYS[..], more].concat());
    for (url, given, says) in [
        ("nonsense", options(&[]), "not a URL"),
        ("ftp://x/y", options(&[]), "no mounts of 'ftp:'"),
        ("s3://u:p@data/", with(&[]), "no password"),
        ("s3://data/?versionId=1", with(&[]), "no password"),
        ("s3://data", options(&[]), "access_key_id"),
        ("s3://data", options(&KEYS[..1]), "go together"),
        ("s3://data", with(&[("anonymous", "true")]), "anonymous"),
        ("s3://data", with(&[("regoin", "x")]), "'regoin' is no option"),
        ("s3://data", with(&[("allow_http", "yes")]), "'true' or 'false'"),
        ("s3://data", with(&[("endpoint", "http://x:1")]), "not encrypted"),
        ("s3://data", with(&[("endpoint", "https://a:b@x")]), "no credentials"),
        ("s3://data", with(&[("endpoint", "x:1")]), "'endpoint' is a URL"),
        ("s3://data", with(&[("conditional_put", "maybe")]), "'etag' or 'disabled'"),
        ("s3://data/a//b", with(&[]), "no prefix of keys"),
        ("gs://data", options(&[]), "service_account_key"),
        ("gs://data", options(&[("service_account_key", "key.json")]), "JSON file"),
        ("gs://data", options(&[("service_account_key", "{}")]), "JSON file"),
        ("az://data", options(&[("access_key", "k")]), "'account'"),
        ("az://data", options(&[("account", "a"), ("access_key", "k")]), "base64"),
        ("az://data", options(&[("account", "a")]), "exactly one"),
        ("abfss://c@evil.example.org/", options(&[("access_key", "k")]), "after '@'"),
        ("hdfs:///data", options(&[]), "names no namenode"),
        ("file:///", options(&[]), "root folder"),
        ("file://host/x", options(&[]), "three slashes"),
        ("file:///x", options(&[("region", "x")]), "'region' is no option"),
        // A parser of URLs drops them, and would drop others once the slash is gone.
        ("file:///x /", options(&[]), "%20"),
        (" file:///x", options(&[]), "%20"),
        ("file:///x\u{1c}//", options(&[]), "%20"),
        ("s3://data/a\tb", with(&[]), "%20"),
    ] {
        let said = MountSpec::parse(url, &given).expect_err(url).0;
        assert!(said.contains(says), "{url}: {said}");
    }
}

#[test]
fn secrets_do_not_show() {
    let spec = MountSpec::parse("s3://data", &options(&KEYS)).expect("parsed");
    assert!(!format!("{spec:?}").contains("hush"), "{spec:?}");
    assert_eq!(spec.plain_options(), &options(&KEYS[..1]));
    assert_eq!(spec.secrets()["secret_access_key"].0, "hush-hush");
}
