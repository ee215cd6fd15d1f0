//! Requests to a hub: where they may lead, who gets the token, and what an answer may claim.
//!
//! Nothing that a server says becomes a path. A redirect is followed a few times, never from https to http, and the token
//! stays with the server that it is for. Each request runs on a thread of its own, so that one that stalls can be left.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::{Agent, Body};

use crate::Stop;

/// Redirects that are followed.
const HOPS: usize = 8;
/// Longer silence is a broken connection.
const SILENCE: Duration = Duration::from_secs(90);
const CONNECT: Duration = Duration::from_secs(30);
/// Bytes of a file, as a server announces it.
pub(crate) const LARGEST: u64 = 1 << 40;
/// Bytes of a file whose size nobody announces.
pub(crate) const LARGEST_UNANNOUNCED: u64 = 4 << 30;

/// Who asks.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    token: Option<String>,
    stop: Stop,
}

/// What a server says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// What names this content on the server; to be compared, and for nothing else.
    pub(crate) tag: Option<String>,
    /// The whole file's bytes.
    pub(crate) size: Option<u64>,
    /// The byte that the answer begins with.
    pub(crate) from: u64,
}

/// What comes in.
enum Part {
    Head(Head),
    Bytes(Vec<u8>),
    End,
}

/// Why nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The user ended it.
    Stopped,
    /// In words.
    Broken(String),
}

/// An answer: its head, and its bytes as they come in.
pub(crate) struct Answer {
    pub(crate) head: Head,
    parts: Receiver<Result<Part, String>>,
    stop: Stop,
}

impl Client {
    pub(crate) fn new(token: Option<String>, stop: Stop) -> Client {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .accept_encoding("identity")
            .user_agent(concat!("lorac/", env!("CARGO_PKG_VERSION")));
        Client { agent: config.build().into(), token, stop }
    }

    /// Asks for a file from byte `from` on.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<Answer, Failure> {
        let (sender, parts) = sync_channel(16);
        let (client, url) = (self.clone(), url.to_owned());
        std::thread::spawn(move || {
            if let Err(why) = client.send(&url, from, &sender) {
                // Nobody waits for it any more, or it is heard.
                let _ = sender.send(Err(why));
            }
        });
        match next(&parts, self.stop)? {
            Part::Head(head) => Ok(Answer { head, parts, stop: self.stop }),
            Part::Bytes(_) | Part::End => Err(Failure::Broken("the answer has no head".to_owned())),
        }
    }

    fn send(&self, url: &str, from: u64, to: &SyncSender<Result<Part, String>>) -> Result<(), String> {
        let start: Uri = url.parse().map_err(|e| format!("{url} is not an address: {e}"))?;
        let (mut at, mut own, mut tag, mut size) = (start.clone(), true, None, None);
        for _ in 0..=HOPS {
            let mut request = self.agent.get(&at);
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| e.to_string())?;
            let (status, headers) = (response.status().as_u16(), response.headers());
            tag = tag.or_else(|| text(headers, "x-linked-etag"));
            size = size.or(number(headers, "x-linked-size"));
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let location = text(headers, "location").ok_or("a redirect leads nowhere")?;
                let next = joined(&at, &location)?;
                own = own && origin(&next) == origin(&start);
                at = next;
                continue;
            }
            let head = head(status, headers, tag, size, from)?;
            if !matches!(status, 200 | 206) {
                return to.send(Ok(Part::Head(head))).map_err(|e| e.to_string());
            }
            let most = head.size.map_or(LARGEST_UNANNOUNCED, |size| size).saturating_sub(head.from);
            to.send(Ok(Part::Head(head))).map_err(|e| e.to_string())?;
            return body(response.into_body(), most, to);
        }
        Err(format!("more than {HOPS} redirects"))
    }
}

/// Sends what comes in, which may be as many bytes as announced.
fn body(body: Body, most: u64, to: &SyncSender<Result<Part, String>>) -> Result<(), String> {
    let mut reader = body.into_with_config().limit(u64::MAX).reader();
    let (mut buffer, mut done) = (vec![0; 1 << 17], 0u64);
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return to.send(Ok(Part::End)).map_err(|e| e.to_string()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.to_string()),
        };
        done = done.saturating_add(n as u64);
        if done > most {
            return Err(format!("more than the {most} bytes that there should be"));
        }
        to.send(Ok(Part::Bytes(buffer[..n].to_vec()))).map_err(|e| e.to_string())?;
    }
}

impl Answer {
    /// The next bytes; none at the end.
    pub(crate) fn bytes(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match next(&self.parts, self.stop)? {
            Part::Bytes(bytes) => Ok(Some(bytes)),
            Part::Head(_) | Part::End => Ok(None),
        }
    }
}

fn next(parts: &Receiver<Result<Part, String>>, stop: Stop) -> Result<Part, Failure> {
    loop {
        if stop.is_set() {
            return Err(Failure::Stopped);
        }
        match parts.recv_timeout(Duration::from_millis(100)) {
            Ok(part) => return part.map_err(Failure::Broken),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Broken("the connection was lost".to_owned())),
        }
    }
}

/// What the last answer and the redirects before it say.
fn head(
    status: u16,
    headers: &HeaderMap,
    linked_tag: Option<String>,
    linked_size: Option<u64>,
    asked: u64,
) -> Result<Head, String> {
    let range = text(headers, "content-range");
    let (from, ranged) = match (&range, status) {
        (Some(range), 206) => content_range(range).ok_or_else(|| format!("`Content-Range: {range}` makes no sense"))?,
        (None, 206) if asked > 0 => return Err("the server does not say which part it sends".to_owned()),
        _ => (0, None),
    };
    let length = number(headers, "content-length").map(|n| n.saturating_add(from)).filter(|_| status != 416);
    let own = ranged.or(length);
    let size = match (linked_size, own) {
        (Some(a), Some(b)) if a != b && matches!(status, 200 | 206) => {
            return Err(format!("the server announces {a} bytes and sends {b}"));
        }
        (a, b) => a.or(b),
    };
    if let Some(size) = size.filter(|size| *size > LARGEST) {
        return Err(format!("the server announces {size} bytes, and {LARGEST} are the most"));
    }
    let tag = linked_tag.or_else(|| text(headers, "etag")).map(|tag| plain_tag(&tag));
    Ok(Head { status, tag: tag.filter(|tag| !tag.is_empty()), size, from })
}

/// `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse::<u64>().ok()?) };
    // What it ends before the end of the file would leave a hole.
    let whole = total.is_none_or(|total| last.checked_add(1) == Some(total));
    (first <= last && whole).then_some((first, total))
}

fn plain_tag(tag: &str) -> String {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.trim_matches('"').to_owned()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// Where a redirect leads.
fn joined(at: &Uri, location: &str) -> Result<Uri, String> {
    let scheme = at.scheme_str().unwrap_or("https");
    let authority = at.authority().map_or("", |a| a.as_str());
    let before_query = location.split(['?', '#']).next().unwrap_or_default();
    let absolute = if before_query.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let refuse = |why: &str| format!("a redirect to `{}` is not followed: {why}", absolute.escape_debug());
    match absolute.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
        Some("https") => {}
        Some("http") if scheme == "http" => {}
        Some("http") => return Err(refuse("it leads from https to http")),
        _ => return Err(refuse("it leads to neither http nor https")),
    }
    let next: Uri = absolute.parse().map_err(|_| refuse("it is not an address"))?;
    match next.authority() {
        Some(authority) if authority.as_str().contains('@') => Err(refuse("it holds a user's name")),
        _ => Ok(next),
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    (scheme, uri.host().unwrap_or_default().to_ascii_lowercase(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(at: &str, location: &str) -> Result<String, String> {
        joined(&at.parse().unwrap(), location).map(|uri| uri.to_string())
    }

    #[test]
    fn redirects_lead_where_they_may() {
        let at = "https://hub/org/name/resolve/main/a.bin";
        assert_eq!(lead(at, "/api/b?x=1").unwrap(), "https://hub/api/b?x=1");
        assert_eq!(lead(at, "b.bin").unwrap(), "https://hub/org/name/resolve/main/b.bin");
        assert_eq!(lead(at, "//cdn/b").unwrap(), "https://cdn/b");
        assert_eq!(lead(at, "https://cdn:8443/b").unwrap(), "https://cdn:8443/b");
        assert_eq!(lead("http://hub/a", "http://cdn/b").unwrap(), "http://cdn/b");
        for bad in ["http://hub/b", "file:///etc/passwd", "ftp://hub/b", "https://me:pw@hub/b", "https://"] {
            assert!(lead(at, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&a.parse().unwrap()) == origin(&b.parse().unwrap());
        assert!(same("https://Hub/a", "https://hub:443/b"));
        for other in ["http://hub/a", "https://hub:8443/a", "https://hub.evil/a", "https://evil/hub"] {
            assert!(!same("https://hub/a", other), "{other}");
        }
    }

    #[test]
    fn ranges_reach_to_the_end() {
        assert_eq!(content_range("bytes 3-6/7"), Some((3, Some(7))));
        assert_eq!(content_range("bytes 3-6/*"), Some((3, None)));
        for bad in ["bytes 3-5/7", "bytes 6-3/7", "bytes */7", "bytes 0-18446744073709551615/0", "3-6/7"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
