//! A small server that speaks as a hub does.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::hash;

/// A hub on 127.0.0.1: it serves files by URL path, with ranges, and notes every request line.
pub(super) struct Server {
    pub(super) endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// A served file.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) content: Vec<u8>,
    /// The ETag; of a large file, its sha256.
    pub(super) etag: String,
    /// The token it takes to read it.
    pub(super) token: Option<&'static str>,
}

impl Served {
    pub(super) fn small(content: &str) -> Self {
        Self { content: content.into(), etag: format!("git{}", content.len()), token: None }
    }

    pub(super) fn large(content: &str) -> Self {
        let (sum, _) = hash::copy(&mut content.as_bytes(), &mut std::io::sink()).unwrap();
        Self { content: content.into(), etag: sum, token: None }
    }
}

impl Server {
    pub(super) fn start(files: &[(&str, Served)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files: HashMap<String, Served> =
            files.iter().map(|(path, file)| ((*path).to_owned(), file.clone())).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up early is its own business.
                let _ = answer(stream, &files, &log);
            }
        });
        Self { endpoint, requests }
    }

    /// The request lines so far, with the range where one was asked for.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, files: &HashMap<String, Served>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let range = headers.get("range").cloned().unwrap_or_default();
    log.lock().unwrap().push(format!("{request} {range}").trim().to_owned());

    let path = request.split(' ').nth(1).unwrap_or("");
    let Some(file) = files.get(path) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let bearer = file.token.map(|token| format!("Bearer {token}"));
    if bearer.is_some() && headers.get("authorization") != bearer.as_ref() {
        return write!(stream, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let total = file.content.len();
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap_or(0);
    let last: usize = last.parse().unwrap_or(total - 1).min(total - 1);
    if first > last {
        return write!(stream, "HTTP/1.1 416 Range\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{}\"\r\nX-Repo-Commit: c0ffee\r\nContent-Length: {}\r\n\
         Content-Range: bytes {first}-{last}/{total}\r\nConnection: close\r\n\r\n",
        file.etag,
        last + 1 - first,
    )?;
    stream.write_all(&file.content[first..=last])
}
