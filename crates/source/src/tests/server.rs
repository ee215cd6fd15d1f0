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
#[derive(Clone, Default)]
pub(super) struct Served {
    pub(super) content: Vec<u8>,
    /// The ETag; of a large file, its sha256.
    pub(super) etag: String,
    /// The token it takes to read it.
    pub(super) token: Option<&'static str>,
    /// Where the server sends who asks for it.
    pub(super) redirect: Option<String>,
    /// More headers, a line each.
    pub(super) headers: String,
    /// The length that it announces, where that is not the content's.
    pub(super) length: Option<String>,
}

impl Served {
    pub(super) fn small(content: &str) -> Self {
        Self { content: content.into(), etag: format!("git{}", content.len()), ..Self::default() }
    }

    pub(super) fn large(content: &str) -> Self {
        let (sum, _) = hash::copy(&mut content.as_bytes(), &mut std::io::sink()).unwrap();
        Self { content: content.into(), etag: sum, ..Self::default() }
    }

    pub(super) fn redirect(to: String) -> Self {
        Self { redirect: Some(to), ..Self::default() }
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

    /// The request lines so far, each with the range and the token where there is one.
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
    let token = headers.get("authorization").cloned().unwrap_or_default();
    log.lock().unwrap().push(format!("{request} {range} {token}").trim().to_owned());

    let path = request.split(' ').nth(1).unwrap_or("");
    let Some(file) = files.get(path) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let bearer = file.token.map(|token| format!("Bearer {token}"));
    if bearer.is_some() && headers.get("authorization") != bearer.as_ref() {
        return write!(stream, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if let Some(location) = &file.redirect {
        let headers = format!("Location: {location}\r\n{}", file.headers);
        return write!(stream, "HTTP/1.1 302 Found\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let total = file.content.len();
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first: usize = first.parse().unwrap_or(0);
    let last: usize = last.parse().unwrap_or(total - 1).min(total - 1);
    if first > last {
        return write!(stream, "HTTP/1.1 416 Range\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let length = file.length.clone().unwrap_or_else(|| format!("Content-Length: {}", last + 1 - first));
    let (status, part) = match range.is_empty() {
        true => ("200 OK", String::new()),
        false => ("206 Partial Content", format!("Content-Range: bytes {first}-{last}/{total}\r\n")),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nETag: \"{}\"\r\nX-Repo-Commit: c0ffee\r\n{}{part}{length}\r\nConnection: close\r\n\r\n",
        file.etag, file.headers,
    )?;
    stream.write_all(&file.content[first..=last])
}
