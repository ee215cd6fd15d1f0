//! A page in a real browser: Chromium without a window, at a size and in a colour scheme.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A browser that was found.
#[derive(Clone, Debug)]
pub struct Browser(PathBuf);

impl Browser {
    /// The program that `LORAC_BROWSER` names, else a Chromium on the path.
    pub fn find() -> Option<Browser> {
        if let Some(named) = std::env::var_os("LORAC_BROWSER") {
            return Some(Browser(named.into()));
        }
        let path = std::env::var_os("PATH")?;
        let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
        std::env::split_paths(&path).flat_map(|f| names.map(|n| f.join(n))).find(|p| p.is_file()).map(Browser)
    }

    /// What the JavaScript expression `ask` is, as JSON, when a window of these CSS pixels has laid the page out.
    pub fn ask(&self, page: &Path, [width, height]: [u32; 2], dark: bool, ask: &str) -> Value {
        let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        // The answer comes back as the title: a title is not JSON.
        let script = format!("<script>document.title = encodeURIComponent(JSON.stringify({ask}));</script>");
        let copy = folder.path().join("page.html");
        std::fs::write(&copy, text + &script).unwrap_or_else(|e| panic!("{e}"));
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let size = format!("--window-size={width},{height}");
        let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
        let mut command = Command::new(&self.0);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-quic", "--disable-dev-shm-usage", "--dump-dom", &profile, &size, &scheme]).arg(&copy);
        let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", self.0.display()));
        let dom = String::from_utf8_lossy(&output.stdout);
        let said = || format!("{}: {dom}\n{}", self.0.display(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}", said());
        let title = dom.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        let json = title.map(|(t, _)| unescaped(t)).unwrap_or_else(|| panic!("{}", said()));
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {}", said()))
    }
}

/// Without `%41` and the like.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match code.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
