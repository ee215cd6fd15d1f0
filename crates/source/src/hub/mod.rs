//! Hub repositories: who is asked, and where in the cache the answer lies.

#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
pub(super) mod http;
#[cfg(feature = "hub")]
pub(super) mod partial;
#[cfg(feature = "hub")]
pub(super) mod transfer;

use std::fmt;
use std::path::{Path, PathBuf};

use super::HubKind;
#[cfg(not(feature = "hub"))]
use super::{Resolver, SourceError, store::Locked};

/// Which server is asked, and as whom. Over https the server needs a certificate from a public authority: lorac
/// trusts those it is built with, not the system's. No other server gets the token, wherever this one redirects to.
#[derive(Clone, Default)]
pub struct Hub {
    /// The server's address, for a mirror or a server of one's own; `None` for the public one.
    pub endpoint: Option<String>,
    /// The access token, for private or gated repositories.
    pub token: Option<String>,
}

impl Hub {
    /// Reads `HF_ENDPOINT`, and the token from `HF_TOKEN` or where the hub's own login command leaves it.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let login = || {
            let home = var("HF_HOME").map(PathBuf::from);
            let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cache").join("huggingface")));
            let file = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home.map(|home| home.join("token")))?;
            let token = std::fs::read_to_string(file).ok()?.trim().to_owned();
            (!token.is_empty()).then_some(token)
        };
        Self { endpoint: var("HF_ENDPOINT"), token: var("HF_TOKEN").or_else(login) }
    }
}

impl Hub {
    /// The server's address without what may be secret: a user name, a password, a query.
    fn endpoint_shown(&self) -> Option<&str> {
        let endpoint = self.endpoint.as_deref()?;
        let host = endpoint.rsplit_once('@').map_or(endpoint, |(_, host)| host);
        host.split(['?', '#']).next()
    }
}

impl fmt::Debug for Hub {
    /// Does not show the token, nor a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        f.debug_struct("Hub").field("endpoint", &self.endpoint_shown()).field("token", &token).finish()
    }
}

/// A path in a repository at a revision.
pub(super) struct Request<'a> {
    /// The source's text.
    pub(super) spec: &'a str,
    pub(super) kind: HubKind,
    pub(super) org: &'a str,
    pub(super) name: &'a str,
    pub(super) revision: &'a str,
    pub(super) path: &'a str,
}

impl Request<'_> {
    /// The cache folder below the cache's root. Each path has its own, so that what a folder holds does not depend on
    /// what was asked for before.
    pub(super) fn folder(&self) -> PathBuf {
        let flat = |text: &str| text.replace('/', "%2F");
        let root = match self.kind {
            HubKind::Model => Path::new("hf").to_owned(),
            HubKind::Dataset => Path::new("hf").join("datasets"),
        };
        let path = if self.path.is_empty() { "%2F".to_owned() } else { flat(self.path) };
        root.join(self.org).join(self.name).join(flat(self.revision)).join(path)
    }

    /// Refuses: this build has no client to download with.
    #[cfg(not(feature = "hub"))]
    pub(super) fn fetch(&self, resolver: &Resolver, locked: &mut Locked<'_>) -> Result<(), SourceError> {
        Err(match resolver.offline {
            true => resolver.not_cached(self.spec, locked.root()),
            false => SourceError::NoHub { spec: self.spec.to_owned() },
        })
    }
}
