//! What the codes of errors mean: `lorac explain CODE`. The explanations are in docs/errors.md.

use crate::error::{Class, Error};
use lorac_config::nearest;
use serde::Serialize;
use std::sync::LazyLock;

/// A code, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The code.
    pub code: &'static str,
    /// How a command that ends with it ends.
    pub class: Class,
    /// What it means and what to do: one paragraph of Markdown.
    pub text: &'static str,
}

/// The explanation of a code.
///
/// # Errors
/// A code that no error has, with the nearest ones.
pub fn explain(code: &str) -> Result<&'static Explanation, Error> {
    let found = explanations().iter().find(|e| e.code == code);
    found.ok_or_else(|| {
        let near = nearest(code, explanations().iter().map(|e| e.code)).join(", ");
        let near = if near.is_empty() { String::new() } else { format!("; nearest: {near}") };
        Error::Usage(format!("no error has the code `{code}`{near}"))
    })
}

/// The explanations of all codes, in the order of docs/errors.md.
pub fn explanations() -> &'static [Explanation] {
    static ALL: LazyLock<Vec<Explanation>> = LazyLock::new(|| sections(ERRORS).filter_map(read).collect());
    &ALL
}

/// docs/errors.md, by a link from inside the package: cargo packs nothing from outside.
const ERRORS: &str = include_str!("../errors.md");

/// The sections of a text, each without the `###` of its heading.
fn sections(text: &'static str) -> impl Iterator<Item = &'static str> {
    let of_group = |group: &'static str| group.split("\n### ").skip(1);
    text.split("\n## ").flat_map(of_group)
}

/// A section `CODE`, `Class: CLASS, exit code N`, explanation.
fn read(section: &'static str) -> Option<Explanation> {
    let (code, rest) = section.split_once("\n\nClass: ")?;
    let (named, text) = rest.split_once("\n\n")?;
    let class = [Class::Gate, Class::Usage, Class::Failed, Class::Interrupted]
        .into_iter()
        .find(|class| named == format!("{class}, exit code {}", class.exit_code()))?;
    Some(Explanation { code, class, text: text.trim_end() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputError;
    use crate::pipeline::{Issue, PipelineError};
    use crate::run::ResumeError;
    use crate::served::ServedError;
    use crate::source::SourceError;
    use lorac_data::DataError;
    use lorac_ir::{PatchError, TensorError};
    use lorac_models::ModelError;
    use lorac_onnx::OnnxError;
    use lorac_ops::InferError;
    use lorac_passes::{FoldError, LayoutError, PassError};
    use lorac_runtime::RuntimeError;
    use lorac_train::TrainError;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_document_is_read_whole() {
        let unread: Vec<&str> = sections(ERRORS).filter(|s| read(s).is_none()).collect();
        assert_eq!(unread, Vec::<&str>::new());
        let codes: BTreeSet<&str> = explanations().iter().map(|e| e.code).collect();
        assert_eq!(codes.len(), explanations().len(), "a code is explained twice");
        for e in explanations() {
            let whole = e.text.ends_with('.') && !e.text.contains("\n\n") && !e.text.contains('#');
            assert!(whole, "{}: expected one paragraph, found {:?}", e.code, e.text);
        }
    }

    #[test]
    fn every_code_of_the_sources_is_explained_and_no_other() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut raised = BTreeSet::new();
        for folder in std::fs::read_dir(sources).expect("the crates").flatten() {
            collect(&folder.path().join("src"), &mut raised);
        }
        let explained: BTreeSet<String> = explanations().iter().map(|e| e.code.to_string()).collect();
        let without: Vec<&String> = raised.difference(&explained).collect();
        assert!(without.is_empty(), "no section in docs/errors.md: {without:?}");
        let unknown: Vec<&String> = explained.difference(&raised).collect();
        assert!(unknown.is_empty(), "in docs/errors.md, and in no source: {unknown:?}");
    }

    /// The codes in the sources of a folder, tests left out.
    fn collect(path: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() {
                collect(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.extend(codes(&std::fs::read_to_string(&path).expect("a source")));
            }
        }
    }

    /// String literals `word::word`, and all those of the methods `code`: `usage`.
    fn codes(source: &str) -> Vec<String> {
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let source = lines.collect::<Vec<_>>().join("\n");
        let methods = source.split("fn code(&self)").skip(1).filter_map(|m| m.split("\n    }\n").next());
        let of_methods = methods.flat_map(|m| m.split('"').skip(1).step_by(2)).map(String::from);
        source.split('"').filter(|text| is_code(text)).map(String::from).chain(of_methods).collect()
    }

    fn is_code(text: &str) -> bool {
        let word = |part: &str, also: fn(char) -> bool| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || also(c))
        };
        text.split_once("::")
            .is_some_and(|(kind, fault)| word(kind, |_| false) && word(fault, |c| c.is_ascii_digit() || c == '_'))
    }

    #[test]
    fn codes_are_found_in_code_alone() {
        let source = "const A: &str = \"a::b_1\"; // \"x\"\n    /// \"no::doc\"\n#[serde(with = \"lorac_x::y\")]\n\
                      fn code(&self) -> &'static str {\n        \"plain\"\n    }\n\
                      #[cfg(test)]\nmod tests { \"no::test\" }";
        assert_eq!(codes(source), ["a::b_1", "plain"]);
    }

    /// An error for every kind of code that a command can end with.
    fn errors() -> Vec<Error> {
        let (path, name) = (PathBuf::new(), String::new());
        let issue = |code| {
            let issue = Issue { code, message: String::new(), line: 0, column: 0, help: None };
            Error::from(Box::new(PipelineError { issues: vec![issue], path: String::new(), text: String::new() }))
        };
        vec![
            issue("pipeline::adapt"),
            issue("target::twice"),
            SourceError::NoCacheDir.into(),
            SourceError::Syntax { text: name.clone(), why: name.clone() }.into(),
            SourceError::NotFound { spec: name.clone(), tried: Vec::new(), nearest: Vec::new() }.into(),
            SourceError::NoSuchEntry {
                spec: name.clone(),
                path: name.clone(),
                archive: path.clone(),
                nearest: Vec::new(),
            }
            .into(),
            SourceError::BadSha256 { text: name.clone() }.into(),
            SourceError::NoPin { spec: name.clone() }.into(),
            SourceError::NotRegular { path: path.clone() }.into(),
            SourceError::Interrupted { what: name.clone() }.into(),
            OnnxError::Empty { path: path.clone() }.into(),
            ModelError::Gguf { file: path.clone(), what: name.clone() }.into(),
            ModelError::UnknownType { file: path.clone(), got: name.clone(), nearest: None, known: Vec::new() }.into(),
            ModelError::Node(InferError::Arity { want: name.clone(), got: 0 }).into(),
            ModelError::Graph(PatchError::Stale).into(),
            PassError::OldOpset(17).into(),
            PassError::Patch { pass: name.clone(), source: PatchError::Stale }.into(),
            PassError::Verify { pass: name.clone(), found: Vec::new() }.into(),
            InferError::Many(Vec::new()).into(),
            FoldError::NotFinite { name: name.clone() }.into(),
            DataError::NoText { path: path.clone() }.into(),
            TrainError::Data(DataError::NoExample { row: 0, have: 0 }).into(),
            RuntimeError::NotBuiltIn.into(),
            TrainError::NoField { field: name.clone() }.into(),
            TrainError::FewTokens { name: name.clone(), rank: 8 }.into(),
            LayoutError::Unknown { name: name.clone() }.into(),
            OutputError::Content { path: path.clone(), why: name.clone() }.into(),
            OutputError::InTheWay { path: path.clone(), what: name.clone(), option: "--out" }.into(),
            TensorError::Overflow { dims: Vec::new() }.into(),
            ResumeError::Nothing { folder: path.clone() }.into(),
            ServedError::NoModel { folder: path.clone(), files: Vec::new() }.into(),
            Error::Usage(name.clone()),
            Error::Gate(name.clone()),
            Error::Interrupted(name),
        ]
    }

    #[test]
    fn classes_are_those_of_the_errors() {
        let kind = |code: &'static str| code.split("::").next().unwrap_or(code);
        let errors = errors();
        for e in &errors {
            let found = explain(e.code()).expect("explained");
            assert_eq!(found.class, e.class(), "{}", found.code);
        }
        for found in explanations() {
            let own = errors.iter().find(|e| e.code() == found.code);
            match own.or_else(|| errors.iter().find(|e| kind(e.code()) == kind(found.code))) {
                Some(error) => assert_eq!(found.class, error.class(), "{}", found.code),
                None => {
                    assert_eq!(found.class, Class::Failed, "{}", found.code);
                    assert!(found.text.contains("library"), "{}: no command ends with it", found.code);
                }
            }
        }
    }

    #[test]
    fn a_misspelt_code_gets_the_nearest() {
        let text = explain("pipeline::unknown_kye").expect_err("unknown").to_string();
        assert!(text.starts_with("no error has the code `pipeline::unknown_kye`; nearest: pipeline::unknown_key"));
    }
}
