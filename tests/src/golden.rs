//! Golden cases: Markdown files in which a heading, a graph, perhaps a configuration, and a result are one test.
//!
//! ````text
//! # Dead nodes
//!
//! What no output needs goes.
//!
//! ```graph
//! graph g(%x: f32[N]) -> %y { .. }
//! ```
//!
//! ```graph
//! graph g opset 20 (%x: f32[N]) -> %y { .. }
//! ```
//! ````
//!
//! The first block is a `graph`, the last one a `graph` or an `error`; a `yaml` block between them configures the pass.

use std::fmt::Write;
use std::ops::Range;

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Golden {
    /// Its heading.
    pub title: String,
    /// Line of the heading, from 1.
    pub line: usize,
    /// The graph as it is before.
    pub graph: String,
    /// The configuration; empty where there is none.
    pub yaml: String,
    /// What is to come out.
    pub want: Outcome,
    /// Where in the file `want` stands, fences included; empty and behind the section where it is still to be written.
    place: Range<usize>,
}

/// What a pass makes of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Another graph, in the text form.
    Graph(String),
    /// What the pass says instead.
    Error(String),
    /// Nothing: a case that waits for its first blessing.
    Unknown,
}

/// A fenced block.
struct Block<'a> {
    language: &'a str,
    text: &'a str,
    place: Range<usize>,
}

/// The cases of a file. Sections without blocks are prose.
///
/// # Errors
/// The first section whose blocks are not a case, with its line.
pub fn cases(text: &str) -> Result<Vec<Golden>, String> {
    let mut found = Vec::new();
    let (mut title, mut line) = (String::new(), 0);
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut at = 0;
    for (n, row) in text.split_inclusive('\n').enumerate() {
        let start = at;
        at += row.len();
        match (open, row.trim_end().strip_prefix("```")) {
            (Some((language, fence, from)), Some("")) => {
                blocks.push(Block { language, text: &text[from..start], place: fence..at });
                open = None;
            }
            (None, Some(language)) => open = Some((language, start, at)),
            (None, None) if row.starts_with('#') => {
                found.extend(case(&title, line, &blocks, start)?);
                (title, line) = (row.trim_matches(['#', ' ', '\n', '\r']).to_string(), n + 1);
                blocks.clear();
            }
            _ => {}
        }
    }
    if let Some((language, ..)) = open {
        return Err(format!("line {line}: the ```{language} block does not end"));
    }
    found.extend(case(&title, line, &blocks, text.len())?);
    Ok(found)
}

fn case(title: &str, line: usize, blocks: &[Block], end: usize) -> Result<Option<Golden>, String> {
    let languages: Vec<&str> = blocks.iter().map(|b| b.language).collect();
    let (yaml, want) = match languages.as_slice() {
        [] => return Ok(None),
        ["graph"] => (None, None),
        ["graph", "yaml"] => (blocks.get(1), None),
        ["graph", "graph" | "error"] => (None, blocks.get(1)),
        ["graph", "yaml", "graph" | "error"] => (blocks.get(1), blocks.get(2)),
        other => {
            let want = "graph, perhaps yaml, then graph or error";
            return Err(format!("line {line}, `{title}`: its blocks are {}, not {want}", other.join(", ")));
        }
    };
    let outcome = match want {
        Some(b) if b.language == "graph" => Outcome::Graph(b.text.to_string()),
        Some(b) => Outcome::Error(b.text.to_string()),
        None => Outcome::Unknown,
    };
    Ok(Some(Golden {
        title: title.to_string(),
        line,
        graph: blocks[0].text.to_string(),
        yaml: yaml.map(|b| b.text.to_string()).unwrap_or_default(),
        want: outcome,
        place: want.map_or(end..end, |b| b.place.clone()),
    }))
}

/// The file with other results: `got` holds one for every case, in order.
pub fn blessed(text: &str, cases: &[Golden], got: &[Outcome]) -> String {
    let mut out = String::new();
    let mut done = 0;
    for (case, got) in cases.iter().zip(got) {
        let (language, body) = match got {
            Outcome::Graph(text) => ("graph", text),
            Outcome::Error(text) => ("error", text),
            Outcome::Unknown => continue,
        };
        out.push_str(&text[done..case.place.start]);
        if case.place.is_empty() {
            out.truncate(out.trim_end().len());
            out.push_str("\n\n");
        }
        let _ = write!(out, "```{language}\n{}\n```\n", body.trim_end());
        if case.place.is_empty() && case.place.end < text.len() {
            out.push('\n');
        }
        done = case.place.end;
    }
    out + &text[done..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# Title\n\nprose\n\n## One\n\n```graph\na\n```\n\n```yaml\nk: 1\n```\n\n```error\nno\n```\n\n## Two\n\n```graph\nb\n```\n\n## Three\nprose\n";

    #[test]
    fn sections_with_blocks_are_cases() {
        let found = cases(FILE).expect("cases");
        let seen: Vec<_> =
            found.iter().map(|c| (c.title.as_str(), c.line, c.graph.as_str(), c.yaml.as_str())).collect();
        assert_eq!(seen, [("One", 5, "a\n", "k: 1\n"), ("Two", 19, "b\n", "")]);
        assert_eq!(found[0].want, Outcome::Error("no\n".into()));
        assert_eq!(found[1].want, Outcome::Unknown);
    }

    #[test]
    fn blessing_writes_results_and_nothing_else() {
        let found = cases(FILE).expect("cases");
        let got = [Outcome::Graph("x\n".into()), Outcome::Error("y".into())];
        let text = blessed(FILE, &found, &got);
        let want = FILE.replace("```error\nno\n```", "```graph\nx\n```");
        let want = want.replace("```graph\nb\n```\n", "```graph\nb\n```\n\n```error\ny\n```\n");
        assert_eq!(text, want);
        let again = cases(&text).expect("cases");
        assert_eq!(blessed(&text, &again, &got), text);
    }

    #[test]
    fn blocks_out_of_order_are_named() {
        for (text, want) in [
            ("# A\n```yaml\nk: 1\n```\n", "line 1, `A`: its blocks are yaml"),
            ("# A\n```graph\n", "line 1: the ```graph block does not end"),
            ("\n# A\n```graph\n```\n```graph\n```\n```graph\n```\n", "line 2, `A`: its blocks are graph, graph, graph"),
        ] {
            let wrong = cases(text).expect_err(text);
            assert!(wrong.starts_with(want), "{wrong}");
        }
    }
}
