//! Files of a web server on this machine.

use std::fs;
use std::sync::Barrier;

use super::server::{Served, Server};
use super::*;

fn sum(content: &str) -> String {
    hash::text(content)
}

#[test]
fn a_pinned_file_is_downloaded_once_and_then_needs_no_network() {
    let server = Server::start(&[("/a/train.csv.gz?x=1", Served::small("rows"))]);
    let mut fixture = fixture();
    fixture.resolver.hub.token = Some("secret".to_owned());
    let source: Source = format!("{}/a/train.csv.gz?x=1", server.endpoint).parse().unwrap();
    assert_eq!(fixture.resolver.resolve(&source, None).unwrap_err().code(), "source::no_pin");
    assert!(server.requests().is_empty(), "without a sum nothing is asked");
    let found = fixture.resolver.resolve(&source, Some(&sum("rows"))).unwrap();
    assert_eq!((fs::read_to_string(&found.path).unwrap().as_str(), found.cached), ("rows", false));
    assert_eq!(found.path.file_name().unwrap(), "train.csv.gz");
    assert!(found.is_pinned() && found.unchanged().is_ok() && found.has(&found.path));
    assert!(!server.requests().iter().any(|line| line.contains("secret")), "the hub's token is the hub's");
    fixture.resolver.offline = true;
    assert!(fixture.resolver.resolve(&source, Some(&sum("rows"))).unwrap().cached);
    assert_eq!(server.requests().len(), 1);
    let elsewhere: Source = "https://elsewhere.org/other.csv.gz".parse().unwrap();
    let same = fixture.resolver.resolve(&elsewhere, Some(&sum("rows"))).unwrap();
    assert_eq!(same.path.file_name().unwrap(), "other.csv.gz");
    let other = fixture.resolver.resolve(&source, Some(&sum("more"))).unwrap_err();
    assert_eq!(other.code(), "source::not_cached");
}

#[test]
fn other_content_than_the_pinned_one_is_not_kept() {
    let server = Server::start(&[
        ("/a", Served::small("another")),
        ("/cut", Served { length: Some("Content-Length: 100".into()), ..Served::small("rows") }),
        ("/loop", Served::redirect("/loop".into())),
        ("/file", Served::redirect("file:///etc/passwd".into())),
        ("/huge", Served { length: Some("Content-Length: 99999999999999999".into()), ..Served::small("rows") }),
        ("/private", Served { token: Some("t"), ..Served::small("rows") }),
    ]);
    let fixture = fixture();
    for (path, code, says) in [
        ("a", "source::sha256", "another sha256 than the expected one"),
        ("cut", "source::https", "cannot get `http://127.0.0.1"),
        ("loop", "source::https", "redirects"),
        ("file", "source::https", "neither http nor https"),
        ("huge", "source::https", "are the most"),
        ("private", "source::https", "add it by `lorac cache add FILE`"),
        ("none", "source::https", "there is no such file"),
    ] {
        let source: Source = format!("{}/{path}", server.endpoint).parse().unwrap();
        let error = fixture.resolver.resolve(&source, Some(&sum("rows"))).unwrap_err();
        assert_eq!(error.code(), code, "{path}: {error}");
        assert!(error.to_string().contains(says), "{path}: {error}");
    }
    let store = fixture.resolver.cache.join("sha256").join(sum("rows"));
    assert!(!store.join("files").exists() && !store.join("index.json").exists());
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_stopped() {
    let server = Server::start(&[("/a", Served::large("weights"))]);
    let fixture = fixture();
    let partial = fixture.resolver.cache.join("sha256").join(sum("weights")).join("partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join(hash::text("a")), "wei").unwrap();
    fs::write(partial.join(format!("{}.tag", hash::text("a"))), sum("weights")).unwrap();
    let source: Source = format!("{}/a", server.endpoint).parse().unwrap();
    let found = fixture.resolver.resolve(&source, Some(&sum("weights"))).unwrap();
    assert_eq!(fs::read_to_string(found.path).unwrap(), "weights");
    assert!(server.requests().iter().all(|line| line.contains("bytes=3-")), "{:?}", server.requests());
    assert!(!partial.exists());
}

#[test]
fn many_that_want_the_same_file_download_it_once() {
    let server = Server::start(&[("/a", Served::small("rows"))]);
    let fixture = fixture();
    let source: Source = format!("{}/a", server.endpoint).parse().unwrap();
    let started = Barrier::new(8);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let resolver = fixture.resolver.clone();
                    started.wait();
                    resolver.resolve(&source, Some(&sum("rows"))).unwrap().path
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(fs::read_to_string(thread.join().unwrap()).unwrap(), "rows");
        }
    });
    assert_eq!(server.requests().len(), 1);
}
