//! The settings of `lora` and `dora`: what they pick, what is written of them, and what is refused before the training.

use lorac::ir::Tensor;
use lorac::output::{Manifest, PeftAdapter, read_peft};
use lorac::run::ResumeFrom;
use lorac::train::Checkpoint;
use lorac_tests::border::{Border, Ears, border};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What `adapt` says, as one setting.
fn adapt(method: &str) -> String {
    format!("adapt=[{{ {method} }}]")
}

fn adapter(border: &Border) -> PeftAdapter {
    read_peft(&border.out().join("adapter")).unwrap_or_else(|e| panic!("{e}"))
}

fn config(border: &Border) -> Value {
    let text = fs::read(border.out().join("adapter/adapter_config.json")).expect("a configuration");
    serde_json::from_slice(&text).expect("JSON")
}

/// Name, rank and scale of every target.
fn targets(manifest: &Manifest) -> Vec<(&str, Option<usize>, Option<f64>)> {
    manifest.targets.iter().map(|t| (t.name.as_str(), t.rank, t.scale)).collect()
}

const ALL: &str = "lora: { targets: [all-linear], rank: 2, alpha: 4";

#[test]
fn exclusions_layers_ranks_and_alphas_by_pattern() {
    let border = border("bert");
    let narrowed = format!(
        "{ALL}, exclude: [\"role:up\", \"role:down\", \"*output.dense*\"], layers: 1, \
         rank_pattern: {{ \"role:query\": 3 }}, alpha_pattern: {{ \"*.1.attention.self.key*\": 5, all-linear: 6 }} }}"
    );
    let outcome = border.succeeds(&[&adapt(&narrowed)]);
    let name = |part: &str| format!("encoder.layer.1.attention.self.{part}.weight");
    let names = ["query", "key", "value"].map(name);
    assert_eq!(
        targets(&outcome.manifest),
        [(&*names[0], Some(3), Some(2.0)), (&*names[1], Some(2), Some(2.5)), (&*names[2], Some(2), Some(3.0))]
    );
    let config = config(&border);
    assert_eq!((&config["r"], &config["lora_alpha"]), (&2.into(), &6.0.into()));
    let key = |part: &str| format!("encoder.layer.1.attention.self.{part}");
    assert_eq!(config["rank_pattern"], serde_json::json!({ key("query"): 3 }));
    assert_eq!(config["alpha_pattern"], serde_json::json!({ key("key"): 5.0 }));
    for layers in ["0..1", "[0]", "..1"] {
        let outcome = border.succeeds(&[&adapt(&format!("{ALL}, layers: {layers} }}"))]);
        let names = targets(&outcome.manifest);
        assert!(
            names.len() == 6 && names.iter().all(|(n, ..)| n.starts_with("encoder.layer.0.")),
            "{layers}: {names:?}"
        );
    }
}

#[test]
fn what_overrides_nothing_is_named() {
    let border = border("bert");
    for (settings, says) in [
        ("exclude: [\"*query*\", \"*pooled*\"]", "`*pooled*` fits none of the targets"),
        ("exclude: [\"role:head\"]", "`role:head` fits none of the targets, `"),
        ("exclude: [all-linear]", "`all-linear` leaves no target"),
        ("layers: 2..4", "`2..4` holds none of the layers that targets are in: those of the targets are 0 to 1"),
        ("layers: [0, 7]", "`7` holds none of the layers"),
        ("layers: 1..1", "`1..1` holds no layer"),
        ("rank_pattern: { \"*.query\": 4 }", "`*.query` fits none of the targets; nearest: "),
        ("alpha_pattern: { \"role:qeury\": 4 }", "roles are query, key, value"),
        ("rank_pattern: { all-linear: 4, \"*query*\": 3 }", "`*query*` overrides nothing: every target"),
        ("rank_pattern: { \"*query*\": 0 }", "`*query*` is 0: expected at least 1"),
        ("init: orthogonal, rank: 3", "`init: orthogonal` halves the rank, and 3 is odd"),
        ("init: pizza", "`pizza`"),
        (
            "init: kaiming, init_batches: 4",
            "`init_batches` says how many batches `init: eva` and `init: lora_ga` look at",
        ),
        ("init: eva, init_batches: 0", "`init_batches` is 0: expected at least 1"),
        ("init: pissa, init_rho: 2", "`init_rho` says how ranks are shared out by `init: eva`"),
        ("init: eva, init_rho: 0.5", "`init_rho` is 0.5: expected at least 1"),
        (
            "init: lora_ga, rank: 17",
            "rank 17 of `encoder.layer.0.attention.self.query.weight`, a 32 x 32 matrix: the rank lies between 1 and half",
        ),
    ] {
        let said = border.fails(&[&adapt(&format!("lora: {{ targets: [all-linear], {settings} }}"))]);
        assert!(said.contains(says), "{settings}: {said}");
    }
    let few = ["data.max_length=4", "train.batch=1", &adapt("lora: { targets: [all-linear], rank: 8, init: eva }")];
    let said = border.fails(&few);
    assert!(said.contains("begins with 8 directions") && said.contains("none of the first batches"), "{said}");
    let file = border.path().join("pipeline.yaml");
    let text = fs::read_to_string(&file).expect("reads").replace("rank: 4", "rank_pattern:\n      'role:up': 2");
    fs::write(&file, text).expect("writes");
    let Err(lorac::error::Error::Pipeline(error)) = border.run(&[]) else { panic!("it has no such target") };
    let issue = &error.issues[0];
    assert_eq!((issue.code, issue.line), ("target::idle", 25), "{error}");
}

/// One step that changes nothing.
const STANDS_STILL: [&str; 2] = ["train.steps=1", "train.optimizer={adamw: {lr: 1e-30, weight_decay: 0}}"];

#[test]
fn every_beginning_can_be_gone_on_from() {
    let border = border("bert");
    let plain = border.succeeds(&[&adapt(&format!("{ALL} }}"))]).manifest;
    for init in ["kaiming", "gaussian", "orthogonal", "pissa", "olora", "eva", "lora_ga"] {
        let setting = adapt(&format!("{ALL}, init: {init} }}"));
        let outcome = border.succeeds(&[&setting]).manifest;
        assert_eq!(outcome.trainable_parameters, plain.trainable_parameters, "{init}");
        let learnt = adapter(&border);
        let of_weight = ["pissa", "olora", "lora_ga"].contains(&init);
        assert_eq!(learnt.rank, if of_weight { 4 } else { 2 }, "{init}");
        assert!(learnt.modules.iter().all(|m| (m.scale() - 2.0).abs() < 1e-12), "{init}");
        let first = border.path().join("first");
        _ = fs::remove_dir_all(&first);
        fs::rename(border.out(), &first).expect("renames");
        for from in ["train.init_from=first/adapter", "train.init_from=first/checkpoints/trained.safetensors"] {
            border.succeeds(&[&STANDS_STILL[..], &[&setting, from]].concat());
            assert_eq!(adapter(&border), learnt, "{init}, {from}");
        }
    }
}

/// Some matrices get more than their rank, others less, and a run that goes on has the same.
#[test]
fn ranks_that_are_shared_out_are_trained_and_written() {
    let border = border("bert");
    for method in ["lora", "dora"] {
        let setting =
            adapt(&format!("{method}: {{ targets: [all-linear], rank: 3, alpha: 6, init: eva, init_rho: 4 }}"));
        let (settings, heard) = ([&setting[..], "train.checkpoint={ every: 3 steps }"], Ears::default());
        let outcome = border.go("out", &settings, None, &heard).unwrap_or_else(|e| panic!("{e}"));
        assert!(outcome.manifest.verify.passed);
        let whole = adapter(&border);
        let ranks: Vec<usize> = whole.modules.iter().map(|m| m.a.len() / m.rows).collect();
        let (least, most) = (ranks.iter().min().expect("some"), ranks.iter().max().expect("some"));
        let matrices = outcome.manifest.targets.iter().filter(|t| t.name.ends_with(".weight")).count();
        assert!(*least < 3 && *most > 3 && *most <= 12, "{ranks:?}");
        let said =
            format!("ranks     are shared out by 8 batches: {} matrices get ranks of {least} to {most}", ranks.len());
        assert!(matrices == ranks.len() && heard.text().contains(&said), "{said}, {matrices}: {}", heard.text());
        let none = heard.text().split_once(&said).and_then(|(_, rest)| {
            rest.strip_prefix(", ")?.split_once(" get no branch").and_then(|(count, _)| count.parse::<usize>().ok())
        });
        assert_eq!(ranks.iter().sum::<usize>(), 3 * (ranks.len() + none.unwrap_or(0)));
        assert!(whole.modules.iter().all(|m| (m.scale() - 2.0).abs() < 1e-12));
        border.go("cut", &settings, None, &Ears::until(4)).expect_err("stopped");
        fs::rename(border.path().join("cut"), border.path().join("out2")).expect("renames");
        border.go("out2", &settings, Some(&ResumeFrom::Newest), &Ears::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(read_peft(&border.path().join("out2/adapter")).expect("an adapter"), whole, "{method}");
        fs::remove_dir_all(border.path().join("out2")).expect("removes");
    }
}

/// Of a model whose head is its own: nothing of what is computed is drawn.
#[test]
fn every_beginning_computes_what_the_model_does() {
    let border = border("target_tied");
    let before = |method: &str| {
        let outcome = border.succeeds(&["train.steps=1", &adapt(method)]);
        outcome.manifest.eval.before.get("loss").expect("a loss")
    };
    let plain = before("full: { targets: [\"role:query\"] }");
    for method in ["lora", "dora"] {
        for init in ["normal", "kaiming", "gaussian", "orthogonal", "pissa", "olora", "eva", "lora_ga"] {
            let alone = format!("{method}: {{ targets: [all-linear], rank: 2, alpha: 4, init: {init} }}");
            let got = before(&alone);
            assert!((got - plain).abs() < 2e-6, "{method}, {init}: {got}, and the model's is {plain}");
        }
    }
}

/// A begins with numbers of the spread that its name stands for, and B with zeros.
#[test]
fn what_is_drawn_has_the_spread_of_its_name() {
    let border = border("bert");
    // Of A whose rows have 32 numbers: the deviation, and what no number is above.
    for (init, deviation, most) in [
        ("normal", 1.0 / 32.0f64.sqrt(), f64::INFINITY),
        ("kaiming", 1.0 / (3.0 * 32.0f64).sqrt(), 1.0 / 32.0f64.sqrt()),
        ("gaussian", 1.0 / 2.0, f64::INFINITY),
    ] {
        border.succeeds(&[&STANDS_STILL[..], &[&adapt(&format!("{ALL}, init: {init} }}"))]].concat());
        let drawn = adapter(&border);
        let of_32 = drawn.modules.iter().filter(|m| m.rows == 32);
        let all: Vec<f64> = of_32.flat_map(|m| m.a.iter().map(|x| f64::from(*x))).collect();
        let got = (all.iter().map(|x| x * x).sum::<f64>() / all.len() as f64).sqrt();
        assert!(all.len() >= 500 && (got / deviation - 1.0).abs() < 0.12, "{init}: {got} of {} numbers", all.len());
        assert!(all.iter().all(|x| x.abs() <= most), "{init}");
        assert!(drawn.modules.iter().all(|m| m.b.iter().all(|x| x.abs() < 1e-20)), "{init}");
    }
}

/// The rows or columns of a weight, as every matrix that its dimensions can be read as.
fn vectors(weight: &Tensor) -> Vec<Vec<Vec<f64>>> {
    let (values, dims) = (weight.to_f64().expect("floats"), weight.dims());
    let mut all = Vec::new();
    for at in 1..dims.len() {
        let cols: usize = dims[at..].iter().product();
        all.push(values.chunks(cols).map(<[f64]>::to_vec).collect());
        all.push((0..cols).map(|j| values.iter().skip(j).step_by(cols).copied().collect()).collect());
    }
    all
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Where, of all vectors of a weight, those with these lengths stand: as one run.
fn run_of(vectors: &[Vec<Vec<f64>>], lengths: &[f64], tolerance: f64) -> Option<(usize, usize)> {
    let near = |v: &[Vec<f64>]| v.iter().zip(lengths).all(|(v, m)| (length(v) - m).abs() <= tolerance * m.abs());
    vectors.iter().enumerate().find_map(|(view, all)| {
        let at = all.windows(lengths.len()).position(near)?;
        Some((view, at))
    })
}

fn weights(file: &Path) -> BTreeMap<String, Tensor> {
    let model = lorac::onnx::load(file).unwrap_or_else(|e| panic!("{e}"));
    model.graph.weights().map(|(_, w, tensor)| (w.name.to_string(), tensor.clone())).collect()
}

/// The columns that are deployed have the lengths that were learnt, which are other ones than W0's, and other directions.
#[track_caller]
fn deploys_what_it_has_learnt(border: &Border, w0: &Path, manifest: &Manifest, tolerance: f64, why: &str) {
    let trained = Checkpoint::load(&border.out().join("checkpoints/trained.safetensors")).expect("a checkpoint");
    let learnt = |name: &str, part: &str| -> Vec<f64> {
        let key = format!("theta/{name}.{part}");
        let found = trained.tensors.iter().find(|(name, _)| *name == key);
        found.unwrap_or_else(|| panic!("{why}: no {key}")).1.to_f64().expect("floats")
    };
    let (before, after) = (weights(w0), weights(&border.out().join("model.onnx")));
    assert!(!manifest.targets.is_empty());
    for target in &manifest.targets {
        let m = learnt(&target.name, "lora_magnitude");
        assert!(learnt(&target.name, "lora_B").iter().any(|x| x.abs() > 1e-4), "{why}: B of {}", target.name);
        let weight = before.keys().filter(|name| target.name.starts_with(*name)).max_by_key(|name| name.len());
        let weight = weight.unwrap_or_else(|| panic!("{why}: no weight of {}", target.name));
        let [w0, w] = [&before, &after].map(|file| vectors(&file[weight]));
        let place = run_of(&w, &m, tolerance);
        let (view, at) = place.unwrap_or_else(|| panic!("{why}: no columns of {weight} have the lengths {m:?}"));
        let pairs = || w0[view][at..at + m.len()].iter().zip(&w[view][at..]);
        let longer = pairs().map(|(a, b)| (length(b) / length(a) - 1.0).abs()).fold(0.0, f64::max);
        assert!(longer > 10.0 * tolerance, "{why}: the lengths of {} are those of W0", target.name);
        let turned = pairs().map(|(a, b)| {
            let unit = |v: &[f64], i: usize| v[i] / length(v);
            (0..a.len()).map(|i| (unit(a, i) - unit(b, i)).abs()).fold(0.0, f64::max)
        });
        let turned = turned.fold(0.0, f64::max);
        assert!(turned > 10.0 * tolerance, "{why}: the directions of {} are those of W0", target.name);
    }
}

#[test]
fn magnitudes_of_whole_matrices_of_slices_and_of_tied_ones() {
    for (case, targets, tolerance) in [
        ("bert", "[\"role:query\", \"role:down\"]", 1e-5),
        ("target_attention_packed", "[\"role:query\", \"role:value\"]", 1e-5),
        ("target_gate_up", "[\"role:up\", \"role:down\"]", 1e-5),
        ("target_tied", "[\"role:head\"]", 1e-5),
        ("target_einsum", "[\"role:query\", \"role:output\"]", 1e-5),
        ("target_cast_f16", "[\"role:query\"]", 1e-3),
        ("head_bias", "[all-linear]", 1e-5),
    ] {
        for more in ["", ", init: pissa", ", freeze_a: true", ", dropout: 0.2"] {
            let border = border(case);
            let setting = adapt(&format!("dora: {{ targets: {targets}, rank: 2, alpha: 4{more} }}"));
            if case == "target_tied" && more.contains("dropout") {
                let said = border.fails(&[&setting]);
                assert!(said.contains("error[target::tied]: `role:head` picks `"), "{said}");
                assert!(said.contains("dropout has nothing to drop from; leave dropout out"), "{said}");
                continue;
            }
            // Of a folder of PyTorch's, the file that a training which changes nothing writes.
            let w0 = border.path().join("model.onnx");
            if !w0.exists() {
                border.succeeds(&[&STANDS_STILL[..], &[&adapt(&format!("full: {{ targets: {targets} }}"))]].concat());
                fs::copy(border.out().join("model.onnx"), &w0).expect("copies");
                fs::remove_dir_all(border.out()).expect("removes");
            }
            let outcome = border.succeeds(&[&setting]);
            deploys_what_it_has_learnt(&border, &w0, &outcome.manifest, tolerance, &format!("{case}{more}"));
        }
    }
    let border = border("target_attention_packed");
    border.succeeds(&[&adapt("dora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }")]);
    let learnt = adapter(&border);
    assert_eq!(config(&border)["use_dora"], Value::Bool(true));
    let [module] = &learnt.modules[..] else { panic!("{learnt:?}") };
    assert_eq!(module.magnitude.as_ref().map(Vec::len), Some(module.cols));
    let first = border.path().join("first");
    fs::rename(border.out(), &first).expect("renames");
    let again = adapt("dora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }");
    border.succeeds(&[&STANDS_STILL[..], &[&again, "train.init_from=first/adapter"]].concat());
    assert_eq!(adapter(&border), learnt);
    let said = border.fails(&[
        &adapt("lora: { targets: [\"role:query\", \"role:value\"], rank: 2, alpha: 4 }"),
        "train.init_from=first/adapter",
    ]);
    assert!(said.contains("has magnitudes there: `dora` trains such an adapter"), "{said}");
}

#[test]
fn biases_beside_the_branches() {
    let border = border("bert");
    let plain = "lora: { targets: [\"role:query\"], rank: 2, alpha: 4";
    let outcome = border.succeeds(&[&adapt(&format!("{plain}, bias: lora }}"))]);
    assert_eq!(config(&border)["bias"], "lora_only");
    let names: Vec<&str> = outcome.manifest.targets.iter().map(|t| t.name.as_str()).collect();
    let layer = |i: usize, what: &str| format!("encoder.layer.{i}.attention.self.query.{what}");
    assert_eq!(names, [layer(0, "weight"), layer(1, "weight"), layer(0, "bias"), layer(1, "bias")]);
    let learnt = adapter(&border);
    let keys: Vec<&str> = learnt.saved.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(keys, [0, 1].map(|i| format!("encoder.layer.{i}.attention.self.query.base_layer.bias")));
    let outcome = border.succeeds(&[&adapt(&format!("{plain}, bias: all }}"))]);
    assert_eq!(config(&border)["bias"], "all");
    assert!(outcome.manifest.targets.iter().any(|t| t.name.ends_with("LayerNorm.bias")));
    // Another entry that picks a bias has it.
    let both =
        "adapt=[{ lora: { targets: [\"role:query\"], rank: 2, bias: all } }, { full: { targets: [\"*LayerNorm*\"] } }]";
    let outcome = border.succeeds(&[both]);
    let norms = outcome.manifest.targets.iter().filter(|t| t.name.contains("LayerNorm.bias"));
    assert!(
        norms.clone().count() == 5 && norms.into_iter().all(|t| t.pattern == "*LayerNorm*"),
        "{:?}",
        outcome.manifest.targets
    );
    let said =
        self::border("target_einsum").fails(&[&adapt("lora: { targets: [\"role:query\"], rank: 2, bias: lora }")]);
    assert!(said.contains("`lora` asks for the biases of the targets, and none of them has one"), "{said}");
}

/// An adapter has one rule for the scales of all its modules: alphas say those of the other.
#[test]
fn scales_by_both_rules_in_one_adapter() {
    let border = border("bert");
    let both = "adapt=[{ lora: { targets: [\"role:query\"], rank: 4, alpha: 8, rslora: true } }, \
                { lora: { targets: [\"role:value\"], rank: 4, alpha: 8 } }]";
    let outcome = border.succeeds(&[both]);
    let scales: Vec<Option<f64>> = targets(&outcome.manifest).into_iter().map(|(_, _, scale)| scale).collect();
    assert_eq!(scales, [Some(4.0), Some(4.0), Some(2.0), Some(2.0)]);
    let learnt = adapter(&border);
    assert_eq!(config(&border)["use_rslora"], Value::Bool(true));
    for module in &learnt.modules {
        let want = if module.name.ends_with("query") { 4.0 } else { 2.0 };
        assert!(module.rslora && (module.scale() - want).abs() < 1e-12, "{}: {}", module.name, module.scale());
    }
    let first = border.path().join("first");
    fs::rename(border.out(), &first).expect("renames");
    border.succeeds(&[&STANDS_STILL[..], &[both, "train.init_from=first/adapter"]].concat());
    assert_eq!(adapter(&border), learnt);
}

#[test]
fn a_rank_beyond_a_short_table_is_refused_at_its_place() {
    let said = border("bert").fails(&[&adapt("lora: { targets: [all-embeddings], rank: 4 }")]);
    assert!(said.contains("rank 4 of") && said.contains("`rank_pattern`") && said.contains("token_type"), "{said}");
}

#[test]
fn slices_by_their_names() {
    let border = border("target_attention_packed");
    let names = |targets: &str| {
        let outcome = border.succeeds(&[&adapt(&format!("lora: {{ targets: {targets}, rank: 2 }}"))]);
        outcome.manifest.targets.iter().map(|t| t.name.clone()).collect::<Vec<_>>()
    };
    let both = ["qkv.weight.query", "qkv.weight.value"];
    assert_eq!(names("[{ match: \"qkv*\", slice: [q, v] }]"), both);
    assert_eq!(names("{ match: \"qkv*\", slice: [value, query] }"), both);
    assert_eq!(names("[{ match: qkv.weight, slice: k }, \"role:up\"]"), ["qkv.weight.key", "up.weight"]);
    // A slice may have a rank of its own.
    let ranks = "lora: { targets: [\"role:query\", \"role:value\"], rank: 2, rank_pattern: { qkv.weight.value: 3 } }";
    let outcome = border.succeeds(&[&adapt(ranks)]);
    assert_eq!(outcome.manifest.targets.iter().map(|t| t.rank).collect::<Vec<_>>(), [Some(2), Some(3)]);
    for (targets, says) in [
        ("[{ match: \"qkv*\", slice: [q, gate] }]", "`qkv.weight` has no slice `gate`; it has `query`, `key`, `value`"),
        ("[{ match: \"*out*\", slice: [q] }]", "has no slice `query`; it is not made of parts"),
        ("[{ match: \"qkv*\", slice: [z] }]", "`z` is not a slice: expected q, k, v, gate or up"),
        ("[{ match: \"qkv*\", slice: [] }]", "`slice` is empty"),
        ("[{ match: \"qvk*\", slice: [q] }]", "nearest: qkv.weight"),
        ("[{ match: \"qkv*\" }]", "slice"),
    ] {
        let said = border.fails(&[&adapt(&format!("lora: {{ targets: {targets}, rank: 2 }}"))]);
        assert!(said.contains(says), "{targets}: {said}");
    }
}

#[test]
fn a_head_is_untied_or_it_is_said_why_not() {
    let adapt = |targets: &str| adapt(&format!("lora: {{ targets: [{targets}], rank: 2, tied: untie }}"));
    let said = border("target_tied").fails(&[&adapt("\"role:head\"")]);
    assert!(said.contains("needs a second weight beside `") && said.contains("cannot grow"), "{said}");
    assert!(border("target_tied").fails(&[&adapt("\"role:query\"")]).contains("unties nothing"));
}
