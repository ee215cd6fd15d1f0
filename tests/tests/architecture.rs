//! Dependencies between the crates point one way.

use std::collections::{BTreeMap, BTreeSet};

/// What each crate may know of.
const ARROWS: [(&str, &[&str]); 12] = [
    ("lorac-config", &[]),
    ("lorac-ir", &[]),
    ("lorac-ops", &["lorac-ir"]),
    ("lorac-onnx", &["lorac-ir"]),
    ("lorac-passes", &["lorac-config", "lorac-ir", "lorac-ops"]),
    ("lorac-runtime", &["lorac-ir", "lorac-onnx"]),
    ("lorac-models", &["lorac-config", "lorac-ir", "lorac-ops"]),
    ("lorac-data", &["lorac-config", "lorac-ir"]),
    ("lorac-source", &["lorac-config"]),
    ("lorac-train", &["lorac-config", "lorac-ir", "lorac-onnx", "lorac-passes", "lorac-data", "lorac-runtime"]),
    (
        "lorac",
        &[
            "lorac-config",
            "lorac-ir",
            "lorac-ops",
            "lorac-onnx",
            "lorac-passes",
            "lorac-runtime",
            "lorac-models",
            "lorac-data",
            "lorac-source",
            "lorac-train",
        ],
    ),
    ("lorac-cli", &["lorac"]),
];

/// What only the command needs, or only a feature of the library.
const NOT_IN_THE_LIBRARY: [&str; 6] = ["clap", "miette", "plotters", "ureq", "indicatif", "ctrlc"];

#[test]
fn arrows_point_one_way() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(lorac_tests::root())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let all = package["dependencies"].as_array().into_iter().flatten();
        let normal = all.filter(|d| d["kind"].is_null()).map(|d| text(&d["name"]));
        found.insert(text(&package["name"]), normal.filter(|n| n.starts_with("lorac")).collect());
    }
    for (name, allowed) in ARROWS {
        let has = found.get(name).unwrap_or_else(|| panic!("{name} is gone"));
        let allowed: BTreeSet<String> = allowed.iter().map(|a| a.to_string()).collect();
        let wrong: Vec<&String> = has.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
}

#[test]
fn the_library_carries_no_command_line() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "-p", "lorac", "--no-default-features", "-e", "normal", "--offline", "--prefix", "none"])
        .current_dir(lorac_tests::root())
        .output()
        .expect("cargo tree");
    let tree = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("lorac-train"), "{}", String::from_utf8_lossy(&output.stderr));
    let wrong: Vec<&&str> = NOT_IN_THE_LIBRARY.iter().filter(|name| names.contains(**name)).collect();
    assert!(wrong.is_empty(), "lorac without features must not depend on {wrong:?}");
}

/// What reads graphs by their structure, and asks operators' entries what they are.
const BY_STRUCTURE: [&str; 10] = [
    "role.rs",
    "trail.rs",
    "matrix.rs",
    "fused_slice.rs",
    "select.rs",
    "obstacle.rs",
    "buffer.rs",
    "input_limits.rs",
    "readable.rs",
    "method/bias.rs",
];

/// A list of operators has to be found by whoever adds one; a property of its entry does not.
#[test]
fn no_pass_that_reads_structure_lists_operators() {
    let known: BTreeSet<&str> = lorac::ops::TABLE.iter().flat_map(|family| family.iter()).map(|op| op.name).collect();
    for file in BY_STRUCTURE {
        let path = lorac_tests::root().join("crates/passes/src").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (i, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let quoted: BTreeSet<&str> =
                line.split('"').skip(1).step_by(2).filter(|word| known.contains(word)).collect();
            assert!(quoted.len() < 2, "{file}:{}: {quoted:?} belong into the operators' entries", i + 1);
        }
    }
}
