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
    assert_eq!(folder.sha256, hash::folder(&folder.path).unwrap());

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
    let part = Served::large("weights").etag;
    for left in ["wei", "weights", "more than there is"] {
        let repo = fixture.resolver.cache.join("hf/org/tiny/v1/model.safetensors/partial/models--org--tiny/blobs");
        fs::create_dir_all(&repo).unwrap();
        fs::write(repo.join(&part).with_extension("part"), left).unwrap();
        let found = get(&fixture.resolver, "hf:org/tiny@v1/model.safetensors").unwrap();
        assert_eq!(fs::read_to_string(&found.path).unwrap(), "weights", "{left}");
        fs::remove_dir_all(&fixture.resolver.cache).unwrap();
    }
    assert!(server.requests().iter().any(|line| line.contains("bytes=3-")), "{:?}", server.requests());
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
}
