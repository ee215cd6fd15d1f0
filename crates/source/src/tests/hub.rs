//! Hub files and folders, from a server on this machine.

use std::fs;

use super::server::{Served, Server};
use super::*;

fn tiny_hub() -> Server {
    let shard = "s".repeat(1000);
    let index = "{\"weight_map\": {\"a\": \"model-1.safetensors\", \"b\": \"model-1.safetensors\"}}";
    Server::start(&[
        ("/org/tiny/resolve/v1/config.json", Served::small("{}")),
        ("/org/tiny/resolve/v1/model.safetensors", Served::large("weights")),
        ("/org/tiny/resolve/v1/onnx/model.onnx", Served::large("graph")),
        ("/org/tiny/resolve/v1/onnx/model.onnx_data", Served::large("more weights")),
        ("/org/tiny/resolve/refs%2Fpr%2F1/config.json", Served { token: Some("secret"), ..Served::small("{ }") }),
        ("/org/big/resolve/main/model.safetensors.index.json", Served::small(index)),
        ("/org/big/resolve/main/model-1.safetensors", Served::large(&shard)),
        ("/org/bad/resolve/main/model.onnx", Served { content: "other".into(), ..Served::large("graph") }),
        ("/datasets/org/texts/resolve/main/train.csv", Served::small("text\n")),
    ])
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn hub_files_and_folders_are_downloaded_once() {
    let server = tiny_hub();
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(format!("{}/", server.endpoint));
    let onnx = get(&fixture.resolver, "hf:org/tiny@v1/onnx/model.onnx").unwrap();
    assert!(!onnx.cached);
    assert_eq!(fs::read_to_string(&onnx.path).unwrap(), "graph");
    assert!(onnx.path.with_file_name("model.onnx_data").exists(), "external data comes along");

    let folder = get(&fixture.resolver, "hf:org/tiny@v1").unwrap();
    assert_eq!(files_below(&folder.path), ["config.json", "model.safetensors"]);
    let own = get(&fixture.resolver, folder.path.to_str().unwrap()).unwrap();
    assert_eq!(folder.sha256, own.sha256);

    let big = get(&fixture.resolver, "hf:org/big").unwrap();
    assert_eq!(files_below(&big.path), ["model-1.safetensors", "model.safetensors.index.json"]);

    let texts = get(&fixture.resolver, "hf:datasets/org/texts/train.csv").unwrap();
    assert_eq!(fs::read_to_string(texts.path).unwrap(), "text\n");

    let asked = server.requests().len();
    fixture.resolver.offline = true;
    assert_eq!(get(&fixture.resolver, "hf:org/tiny@v1").unwrap(), Resolved { cached: true, ..folder });
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_broken_off_hub_download_goes_on_where_it_stopped() {
    let server = tiny_hub();
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(server.endpoint.clone());
    let (right, wrong) = (Served::large("weights").etag, Served::large("others").etag);
    let from_the_start = [("wei", &wrong), ("more than there is", &right), ("weights", &right), ("wxi", &right)];
    for (left, tag) in [("wei", &right)].into_iter().chain(from_the_start) {
        let store = fixture.resolver.cache.join("hf/org/tiny/v1/model.safetensors");
        let partial = store.join("partial");
        fs::create_dir_all(&partial).unwrap();
        let name = hash::text("model.safetensors");
        fs::write(partial.join(&name), left).unwrap();
        fs::write(partial.join(format!("{name}.tag")), tag).unwrap();
        let found = get(&fixture.resolver, "hf:org/tiny@v1/model.safetensors");
        // Damage is found by the sum, and then the next try begins anew.
        let found = if left == "wxi" {
            found.or_else(|_| get(&fixture.resolver, "hf:org/tiny@v1/model.safetensors"))
        } else {
            found
        };
        assert_eq!(fs::read_to_string(found.unwrap().path).unwrap(), "weights", "{left}");
        assert!(!partial.exists());
        fs::remove_dir_all(&fixture.resolver.cache).unwrap();
    }
    assert!(server.requests().iter().any(|line| line.contains("bytes=3-")), "{:?}", server.requests());
}

#[test]
fn a_download_that_breaks_off_counts_for_nothing() {
    let cut = Served { length: Some("Content-Length: 100".into()), ..Served::small("weights") };
    let server = Server::start(&[("/org/cut/resolve/main/model.onnx", cut)]);
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(server.endpoint.clone());
    assert_eq!(get(&fixture.resolver, "hf:org/cut/model.onnx").unwrap_err().code(), "source::hub");
    fixture.resolver.offline = true;
    assert_eq!(get(&fixture.resolver, "hf:org/cut/model.onnx").unwrap_err().code(), "source::not_cached");
}

/// Everything below a folder, links not followed.
fn everything(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(everything(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        }
        all.push(name);
    }
    all.sort();
    all
}

#[test]
fn what_a_server_says_becomes_no_path() {
    let mut fixture = fixture();
    let folder = fixture.resolver.base.parent().unwrap().to_owned();
    let victim = folder.join("victim");
    fs::write(&victim, "mine").unwrap();
    let up = "../".repeat(20);
    let absolute = victim.display().to_string();
    let names = [absolute.clone(), format!("{up}{}", &absolute[1..]), "a/b".into(), "..".into(), "x".repeat(5000)];
    for name in names {
        let tag = Served { etag: name.clone(), ..Served::small("content") };
        let commit = Served { headers: format!("X-Repo-Commit: {name}\r\n"), ..Served::small("content") };
        let linked = Served { headers: format!("X-Linked-Etag: \"{name}\"\r\n"), ..Served::redirect("/there".into()) };
        let files = [("tag", tag), ("commit", commit), ("linked", linked)];
        let files: Vec<(String, Served)> =
            files.into_iter().map(|(file, served)| (format!("/org/evil/resolve/main/{file}"), served)).collect();
        let there = ("/there".to_owned(), Served::small("content"));
        let files: Vec<(&str, Served)> = files.iter().chain([&there]).map(|(p, s)| (p.as_str(), s.clone())).collect();
        let server = Server::start(&files);
        fixture.resolver.hub.endpoint = Some(server.endpoint.clone());
        for file in ["tag", "commit", "linked"] {
            let found = get(&fixture.resolver, &format!("hf:org/evil/{file}")).unwrap();
            assert_eq!(fs::read_to_string(found.path).unwrap(), "content");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine", "{name}");
        let below = everything(&fixture.resolver.cache.join("hf/org/evil/main"));
        assert_eq!(below.len(), 15, "{below:?}");
        fs::remove_dir_all(&fixture.resolver.cache).unwrap();
        assert_eq!(everything(&folder), ["pipeline", "victim"]);
    }
}

#[test]
fn the_token_stays_with_its_server() {
    let elsewhere = Server::start(&[("/file", Served::small("content")), ("/back", Served::small("content"))]);
    let hub = Server::start(&[
        ("/org/a/resolve/main/here", Served::redirect("/moved".into())),
        ("/moved", Served { token: Some("secret"), ..Served::small("content") }),
        ("/org/a/resolve/main/away", Served::redirect(format!("{}/file", elsewhere.endpoint))),
    ]);
    let away_and_back = Server::start(&[("/file", Served::redirect(format!("{}/moved", hub.endpoint)))]);
    let tricky =
        Server::start(&[("/org/a/resolve/main/back", Served::redirect(format!("{}/file", away_and_back.endpoint)))]);
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(hub.endpoint.clone());
    fixture.resolver.hub.token = Some("secret".to_owned());
    assert!(get(&fixture.resolver, "hf:org/a/here").is_ok());
    assert!(get(&fixture.resolver, "hf:org/a/away").is_ok());
    assert!(hub.requests().iter().all(|line| line.ends_with("Bearer secret")), "{:?}", hub.requests());
    assert!(!elsewhere.requests().is_empty());
    assert!(elsewhere.requests().iter().all(|line| !line.contains("secret")), "{:?}", elsewhere.requests());

    fixture.resolver.hub.endpoint = Some(tricky.endpoint.clone());
    assert!(get(&fixture.resolver, "hf:org/a/back").is_err(), "the other hub wants a token that is not its own");
    assert!(!format!("{:?} {:?}", away_and_back.requests(), hub.requests().last()).contains("secret"));
}

#[test]
fn hostile_answers_are_refused_in_words() {
    let big = |headers: &str, length: &str| Served {
        headers: headers.into(),
        length: Some(length.into()),
        ..Served::small("content")
    };
    let hub = Server::start(&[
        ("/org/a/resolve/main/loop", Served::redirect("/org/a/resolve/main/loop".into())),
        ("/org/a/resolve/main/file", Served::redirect("file:///etc/passwd".into())),
        ("/org/a/resolve/main/user", Served::redirect("http://me:pw@127.0.0.1/x".into())),
        ("/org/a/resolve/main/huge", big("", "Content-Length: 99999999999999999")),
        ("/org/a/resolve/main/two", big("X-Linked-Size: 3\r\n", "Content-Length: 7")),
        ("/org/a/resolve/main/less", big("X-Linked-Size: 3\r\n", "X-No-Length: 1")),
    ]);
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(hub.endpoint.clone());
    for (file, says) in [
        ("loop", "redirects"),
        ("file", "neither http nor https"),
        ("user", "user's name"),
        ("huge", "are the most"),
        ("two", "announces 3 bytes and sends 7"),
        ("less", "more than the 3 bytes"),
    ] {
        let error = get(&fixture.resolver, &format!("hf:org/a/{file}")).unwrap_err();
        assert_eq!(error.code(), "source::hub", "{error}");
        assert!(error.to_string().contains(says), "{file}: {error}");
    }
}

#[test]
fn a_silent_server_is_left_when_the_user_stops() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static STOP: AtomicBool = AtomicBool::new(false);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    fixture.resolver.stop = Stop(Some(&STOP));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| get(&fixture.resolver, "hf:org/a/file"));
        let _connection = silent.accept().unwrap();
        STOP.store(true, Ordering::Relaxed);
        let ended = asking.join().unwrap();
        assert!(matches!(ended, Err(SourceError::Interrupted { .. })), "{ended:?}");
    });
}

#[test]
fn hub_failures_say_what_to_do() {
    let server = tiny_hub();
    let mut fixture = fixture();
    fixture.resolver.hub.endpoint = Some(server.endpoint.clone());
    let pr = "hf:org/tiny@refs%2Fpr%2F1/config.json";
    let refused = get(&fixture.resolver, pr).unwrap_err().to_string();
    assert!(refused.contains("set HF_TOKEN"), "{refused}");
    fixture.resolver.hub.token = Some("secret".to_owned());
    assert!(get(&fixture.resolver, pr).is_ok());
    assert!(!format!("{:?}", fixture.resolver).contains("secret"));

    for missing in ["hf:org/none", "hf:org/tiny@v1/none.onnx"] {
        let error = get(&fixture.resolver, missing).unwrap_err().to_string();
        assert!(error.contains("check owner, name, revision and path"), "{error}");
    }
    let damaged = get(&fixture.resolver, "hf:org/bad/model.onnx").unwrap_err().to_string();
    assert!(damaged.contains("the server promised"), "{damaged}");

    fixture.resolver.hub.endpoint = Some("http://127.0.0.1:9".to_owned());
    let nobody = get(&fixture.resolver, "hf:org/other").unwrap_err().to_string();
    assert!(nobody.contains("check the network"), "{nobody}");
    fixture.resolver.hub.endpoint = Some("mirror".to_owned());
    let bad = get(&fixture.resolver, "hf:org/other").unwrap_err().to_string();
    assert!(bad.contains("not an http(s) address"), "{bad}");

    for address in ["http://me:s3cret@host", "https://me:x/s3cret@host/", "me:s3cret@host", "http://host?s3cret"] {
        fixture.resolver.hub.endpoint = Some(address.to_owned());
        let error = get(&fixture.resolver, "hf:org/other").unwrap_err();
        let text = format!("{error} {error:?} {:?}", fixture.resolver);
        assert!(text.contains("host") && !text.contains("me:") && !text.contains("s3cret"), "{text}");
        assert!(error.to_string().contains("give the hub's access token as HF_TOKEN"), "{error}");
    }
}
