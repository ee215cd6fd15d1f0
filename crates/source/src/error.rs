//! What can go wrong on the way from a source string to a file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a source could not be had; each message says what was tried and what to do, each [`code`](Self::code) is stable.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The text is none of the known forms.
    #[error(
        "`{text}` is not a source: {why}\n  the forms are:\n    pypi:name==version/path/inside\n    hf:org/name@revision/path\n    hf:datasets/org/name@revision/file\n    https://host/path/file\n    path/to/a/file/or/folder"
    )]
    Syntax {
        /// The text as written.
        text: String,
        /// What is wrong with it.
        why: String,
    },

    /// No folder to cache in is known.
    #[error(
        "no cache folder: neither LORAC_CACHE nor a home folder is set; set LORAC_CACHE to a folder you can write to"
    )]
    NoCacheDir,

    /// A plain path names nothing.
    #[error("`{spec}` does not exist; looked for{}{}", each(.tried.iter().map(|p| p.display())), alike(.nearest))]
    NotFound {
        /// The path as written.
        spec: String,
        /// Every place that was looked at.
        tried: Vec<PathBuf>,
        /// Names that do exist there and look alike.
        nearest: Vec<String>,
    },

    /// The package has no such file or folder.
    #[error("`{spec}`: {} holds no `{path}`{}", .archive.display(), alike(.nearest))]
    NoSuchEntry {
        /// The source.
        spec: String,
        /// The path asked for.
        path: String,
        /// The package file that was searched.
        archive: PathBuf,
        /// Entries that look alike.
        nearest: Vec<String>,
    },

    /// Offline, and the cache does not have it.
    #[error(
        "`{spec}` is not in the cache and lorac is offline; looked in {}\n  run once without LORAC_OFFLINE, or copy the cache folder from a machine that has it; a file whose sha256 the pipeline gives can be added by `lorac cache add FILE`",
        .looked_in.display()
    )]
    NotCached {
        /// The source.
        spec: String,
        /// The folder of the cache that was searched.
        looked_in: PathBuf,
    },

    /// There is no Python with pip to download with.
    #[error("`{spec}` needs pip to download, and none was found; tried{}\n  install Python 3 with pip, or download the package yourself and give its path", each(.tried))]
    NoPip {
        /// The source.
        spec: String,
        /// Each command and what came of it.
        tried: Vec<String>,
    },

    /// pip ran and failed.
    #[error("`{spec}`: pip failed: {hint}\n  ran{}\n  pip said{}", each(.commands), each(.stderr))]
    Pip {
        /// The source.
        spec: String,
        /// Every command that was run.
        commands: Vec<String>,
        /// The last lines pip wrote.
        stderr: Vec<String>,
        /// What it means and what to do.
        hint: String,
    },

    /// The hub did not deliver.
    #[error("`{spec}`: cannot get {url}: {reason}\n  {hint}")]
    Hub {
        /// The source.
        spec: String,
        /// What was asked for.
        url: String,
        /// What came back.
        reason: String,
        /// What to do.
        hint: String,
    },

    /// A web server did not deliver.
    #[error("cannot get `{spec}`: {reason}\n  {hint}")]
    Https {
        /// The source.
        spec: String,
        /// What came back.
        reason: String,
        /// What to do.
        hint: String,
    },

    /// An address without the sum of what it leads to.
    #[error(
        "`{spec}` has no sha256: what a web server has today it may not have tomorrow; give the sum of the file that is meant, \
         as `sha256sum FILE` prints it"
    )]
    NoPin {
        /// The source.
        spec: String,
    },

    /// An `hf:` or `https:` source that is not in the cache, and a build that cannot download it.
    #[error(
        "`{spec}` is not in the cache, and this build has no hub support: build with the feature `hub`, or download the files and give their path"
    )]
    NoHub {
        /// The source.
        spec: String,
    },

    /// A package entry that would leave the folder it is unpacked into.
    #[error("{}: entry `{entry}` is unsafe to unpack: {why}; the package is broken or hostile and was not used", .archive.display())]
    UnsafeEntry {
        /// The package file.
        archive: PathBuf,
        /// The entry's name in it.
        entry: String,
        /// What is unsafe about it.
        why: String,
    },

    /// A package file that cannot be read.
    #[error("cannot read {}: {reason}; remove it to download it afresh", .archive.display())]
    Archive {
        /// The package file.
        archive: PathBuf,
        /// The reader's complaint.
        reason: String,
    },

    /// The content is not what was expected.
    #[error(
        "`{spec}` has another sha256 than the expected one, so it was not used\n  expected {want}\n  found    {got}\n  in       {}\n  if the content is meant to be new, expect the new sha256; if it may be damaged, remove that path and run again",
        .path.display()
    )]
    Sha256Mismatch {
        /// The source.
        spec: String,
        /// Where the content lies.
        path: PathBuf,
        /// The pinned sum.
        want: String,
        /// The content's sum.
        got: String,
    },

    /// A pinned sum that is not a sha256.
    #[error("`{text}` is not a sha256: expected 64 hexadecimal digits")]
    BadSha256 {
        /// The text as written.
        text: String,
    },

    /// A file is not what it was when it was hashed.
    #[error("`{spec}`: {} has changed while lorac was reading it, so it was not used; run again once nothing writes to it", .path.display())]
    Changed {
        /// The source.
        spec: String,
        /// The file.
        path: PathBuf,
    },

    /// A file in the cache that is of no source.
    #[error("`{spec}`: {} is not among the files of this source, so its folder was not used; remove that file", .path.display())]
    Unlisted {
        /// The source.
        spec: String,
        /// The file.
        path: PathBuf,
    },

    /// A pipe, a device or a socket where a file is expected.
    #[error("{} is not a regular file: pipes, devices and sockets cannot be read as a source; copy its content into a file", .path.display())]
    NotRegular {
        /// What is there.
        path: PathBuf,
    },

    /// A link, or something else, where the cache has a folder or file of its own.
    #[error("{} is in the cache and is not what lorac puts there: links are not followed when writing; remove it, or set LORAC_CACHE to another folder", .path.display())]
    CacheLink {
        /// What is there.
        path: PathBuf,
    },

    /// A package or folder that is larger than any is.
    #[error("{} is not used: {why}; it is broken, hostile or not what was meant", .path.display())]
    TooLarge {
        /// The package file or the folder.
        path: PathBuf,
        /// Which limit it exceeds.
        why: String,
    },

    /// The user ended it.
    #[error("interrupted: {what} was not finished; what has arrived is kept or begun anew by the next run")]
    Interrupted {
        /// What was being done.
        what: String,
    },

    /// The file system refused.
    #[error("cannot {action} {}: {error}", .path.display())]
    Io {
        /// A verb: "read", "write", "lock".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
}

impl SourceError {
    /// A stable name for programs: `source::` and what went wrong.
    pub fn code(&self) -> &'static str {
        match self {
            SourceError::Syntax { .. } => "source::syntax",
            SourceError::NoCacheDir => "source::no_cache_dir",
            SourceError::NotFound { .. } => "source::not_found",
            SourceError::NoSuchEntry { .. } => "source::no_such_entry",
            SourceError::NotCached { .. } => "source::not_cached",
            SourceError::NoPip { .. } => "source::no_pip",
            SourceError::Pip { .. } => "source::pip",
            SourceError::Hub { .. } => "source::hub",
            SourceError::Https { .. } => "source::https",
            SourceError::NoPin { .. } => "source::no_pin",
            SourceError::NoHub { .. } => "source::no_hub",
            SourceError::UnsafeEntry { .. } => "source::unsafe_entry",
            SourceError::Archive { .. } => "source::archive",
            SourceError::Sha256Mismatch { .. } => "source::sha256",
            SourceError::BadSha256 { .. } => "source::bad_sha256",
            SourceError::Changed { .. } => "source::changed",
            SourceError::Unlisted { .. } => "source::unlisted",
            SourceError::NotRegular { .. } => "source::not_regular",
            SourceError::CacheLink { .. } => "source::cache_link",
            SourceError::TooLarge { .. } => "source::too_large",
            SourceError::Interrupted { .. } => "source::interrupted",
            SourceError::Io { .. } => "source::io",
        }
    }

    /// For `map_err` on file operations.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError + use<> {
        let path = path.to_owned();
        move |error| SourceError::Io { action, path, error }
    }
}

fn each<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\n    {item}")).collect()
}

fn alike(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; nearest: {}", names.join(", ")) }
}
