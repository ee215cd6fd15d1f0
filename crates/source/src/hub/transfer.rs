//! The way of one file from a server to the place of an unfinished download.

use std::io::Write;

use super::http::{Client, Failure, Head};
use super::partial::Partial;
use crate::progress::Work;
use crate::{SourceError, hash};

/// A file that has arrived whole.
pub(crate) struct Arrived {
    /// Its sum.
    pub(crate) sha256: String,
    /// What names its content on the server.
    pub(crate) tag: Option<String>,
}

/// Why a file has not arrived.
pub(crate) enum Broken {
    /// The user ended it.
    Stopped,
    /// What the server did, and the status that it answered with.
    Answer(String, Option<u16>),
    /// What it is written to.
    Disk(SourceError),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        match failure {
            Failure::Stopped => Broken::Stopped,
            Failure::Broken(why) => Broken::Answer(why, None),
        }
    }
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Broken {
        Broken::Disk(error)
    }
}

/// Downloads a file, from where an earlier run stopped; none if the server has no such file.
pub(crate) fn transfer(client: &Client, url: &str, partial: &Partial, work: &Work) -> Result<Option<Arrived>, Broken> {
    let left = partial.left();
    let from = left.as_ref().map_or(0, |(bytes, _)| *bytes);
    let mut answer = client.get(url, from)?;
    let goes_on = |head: &Head| {
        let same = left.as_ref().is_some_and(|(_, tag)| head.tag.as_ref() == Some(tag));
        head.status == 206 && head.from == from && same
    };
    let mut hasher = hash::Hasher::default();
    let (mut file, mut done) = if from > 0 && goes_on(&answer.head) {
        let mut file = partial.append()?;
        hasher.read(&mut file).map_err(SourceError::io("read", partial.path()))?;
        (file, from)
    } else {
        if from > 0 && (answer.head.from > 0 || answer.head.status == 416) {
            // What an earlier run left does not fit what the server has now.
            partial.remove()?;
            answer = client.get(url, 0)?;
        }
        match answer.head.status {
            200 | 206 if answer.head.from == 0 => {}
            404 => return Ok(None),
            status => return Err(Broken::Answer(format!("the server answers with status {status}"), Some(status))),
        }
        (partial.create(answer.head.tag.as_deref())?, 0)
    };
    let head = answer.head.clone();
    while let Some(bytes) = answer.bytes()? {
        file.write_all(&bytes).map_err(SourceError::io("write", partial.path()))?;
        hasher.update(&bytes);
        done += bytes.len() as u64;
        work.at(done, head.size);
    }
    match head.size.filter(|size| *size != done) {
        Some(size) => Err(Broken::Answer(format!("{done} of {size} bytes have arrived"), None)),
        None => Ok(Some(Arrived { sha256: hasher.finish(), tag: head.tag })),
    }
}
