//! What a pipeline's data are called, how they are written, and what of it a run takes.

use lorac::data::Tokenizer;
use lorac_tests::border::{Border, border};
use serde_json::Value;

#[test]
fn inputs_of_any_name_are_fed_what_they_are_said_to_stand_for() {
    let case = border("input_names");
    for (model, ids, mask) in [
        ("model.onnx", "input_ids:0", "attention_mask:0"),
        ("torch.onnx", "input.1", "onnx::Cast_1"),
        ("serving.onnx", "serving_default_input_ids:0", "serving_default_input_mask:0"),
    ] {
        let model = format!("model={model}");
        let refused = case.fails(&[&model]);
        assert!(refused.contains("pipeline.yaml:5:1: error[pipeline::inputs]"), "{refused}");
        assert!(
            refused.contains(&format!("say what they stand for, as in data.inputs: {{ input_ids: {ids:?}")),
            "{refused}"
        );
        let inputs = format!("data.inputs={{ input_ids: \"{ids}\", attention_mask: \"{mask}\" }}");
        case.succeeds(&[&model, &inputs]);
    }
    // Without its mask, nothing is fed to the model that it does not have.
    let one = case.fails(&["data.inputs={ input_ids: \"input_ids:0\" }"]);
    assert!(
        one.contains("the input `attention_mask:0` i64[batch,seq] is none of") && one.contains("attention_mask: "),
        "{one}"
    );
}

/// The numbers are those of transformers' AutoTokenizer.
#[test]
fn a_tokenizer_config_is_followed_as_transformers_does() {
    let folder = lorac_tests::data("tokenizer_config");
    let golden: Value =
        serde_json::from_slice(&std::fs::read(folder.join("golden.json")).expect("a file")).expect("JSON");
    let texts: Vec<&str> = golden["texts"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
    for case in golden["cases"].as_array().expect("cases") {
        let (file, config) = (case["tokenizer"].as_str().expect("a name"), &case["config"]);
        let one = tempfile::tempdir().expect("a folder");
        std::fs::copy(folder.join(format!("{file}.json")), one.path().join("tokenizer.json")).expect("copies");
        std::fs::write(one.path().join("tokenizer_config.json"), config.to_string()).expect("writes");
        for (length, key) in [(6, "short"), (64, "whole")] {
            let tokenizer = Tokenizer::from_file(&one.path().join("tokenizer.json"), length).expect("a tokenizer");
            let ids: Vec<Vec<i64>> = tokenizer.encode(&texts).expect("encodes").into_iter().map(|e| e.ids).collect();
            assert_eq!(serde_json::json!(ids), case[key], "{file} {config} {length}");
            assert!(case["pad_id"].as_i64().is_none_or(|id| id == tokenizer.pad_id()), "{file} {config}");
        }
    }
}

/// What a run says before the training.
fn words(case: &Border, settings: &[&str]) -> Vec<String> {
    #[derive(Debug)]
    struct Lines(std::sync::Mutex<Vec<String>>);
    impl lorac::progress::Progress for Lines {
        fn line(&self, text: &str) {
            if let Ok(mut lines) = self.0.lock() {
                lines.push(text.to_string());
            }
        }
        fn begin(&self, _: &str, _: u64) {}
        fn at(&self, _: u64, _: &str) {}
        fn end(&self) {}
    }
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let loaded = lorac::pipeline::Loaded::load(&case.path().join("pipeline.yaml"), &settings).expect("a pipeline");
    let resolver = lorac::source::Resolver::new(None, case.path()).expect("a resolver");
    let lines = Lines(Default::default());
    lorac::run::plan(&loaded, &resolver, &lines, None).expect("a plan");
    lines.0.into_inner().expect("lines")
}

const NAMED: &str = "data.inputs={ input_ids: \"input_ids:0\", attention_mask: \"attention_mask:0\" }";

#[test]
fn a_run_says_what_became_of_rows_texts_and_labels_and_of_the_tokenizer_config() {
    let case = border("input_names");
    let said =
        words(&case, &[NAMED, "data.max_length=8", "data.train.filter=\"label == positive\"", "data.eval.take=9"]);
    let of = |begin: &str| said.iter().filter(|line| line.starts_with(begin)).cloned().collect::<Vec<_>>();
    let train = &of("data      train: ")[0];
    assert!(train.contains("71 examples of 120 rows; 49 filtered out; 0 `negative`, 71 `positive`; cut "), "{train}");
    assert!(train.contains(" of 71 texts (") && train.ends_with(" %) at 8 tokens"), "{train}");
    assert!(of("data      eval: ")[0].contains("9 examples of 48 rows; 39 not taken; "), "{said:?}");
    assert_eq!(of("note "), ["note      no example to train on has the label `negative`"]);

    let config = r#"{"tokenizer_class":"PreTrainedTokenizerFast","truncation_side":"left","padding_side":"left"}"#;
    std::fs::write(case.path().join("tokenizer_config.json"), config).expect("writes");
    let notes = words(&case, &[NAMED]);
    let want = "note      tokenizer_config.json: `padding_side: \"left\"` is not followed: batches are padded on the right, and \
                masked there";
    assert!(notes.iter().any(|line| line == want), "{notes:?}");
}

#[test]
fn labels_that_are_wrong_in_one_way_are_one_message() {
    let case = border("input_names");
    let table: String =
        (0..100_000).map(|i| format!("a text {i},{}\n", if i == 7 { "neutral" } else { "2" })).collect();
    std::fs::write(case.path().join("train.csv"), format!("text,label\n{table}")).expect("writes");
    let wrong = case.fails(&[NAMED]);
    assert!(
        wrong.contains("row 1 (line 2) has the unknown label `2` in `label`")
            && wrong.contains("(99998 more rows like it: 2, 3, 4, 5, 6, ...)"),
        "{wrong}"
    );
    assert!(wrong.contains("row 8 (line 9) has the unknown label `neutral`") && wrong.lines().count() == 2, "{wrong}");
}

#[test]
fn files_that_are_no_tables_are_named() {
    let case = border("input_names");
    let utf16: Vec<u8> = "text,label\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, says) in [
        (&utf16[..], "the file is UTF-16; say so: encoding: utf-16"),
        (b"text,label\na,positive\n\"b,negative\n", "a quote of row 2, which begins on line 3, is never closed"),
        (b"", "no column `text`"),
        (b"text,label\n", "it has no rows"),
        (b"text,label,text\na,positive,b\n", "more than one column is named `text`"),
        (b"te\x1bxt,label\na,positive\n", "no column `text` (nearest: `te\\u{1b}xt`)"),
    ] {
        std::fs::write(case.path().join("train.csv"), bytes).expect("writes");
        let wrong = case.fails(&[NAMED]);
        assert!(wrong.contains(says) && !wrong.contains('\u{1b}'), "{wrong}");
    }
}

#[test]
fn files_in_other_encodings_are_read_as_what_they_are_said_to_be() {
    let case = border("input_names");
    let rows: Vec<(String, &str)> =
        (0..24).map(|i| (format!("caf\u{e9} w{i} na\u{ef}ve w{}", i % 7), ["negative", "positive"][i % 2])).collect();
    let table: String = rows.iter().map(|(text, label)| format!("{text},{label}\n")).collect();
    let table = format!("text,label\n{table}");
    let latin1 = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect::<Vec<u8>>();
    let utf16 = |text: &str| {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_be_bytes).collect::<Vec<u8>>()
    };
    let write = |bytes: &[u8]| std::fs::write(case.path().join("train.csv"), bytes).expect("writes");
    let train = |encoding: &str| {
        let set = format!("data.train.encoding={encoding}");
        let done = case.succeeds(&[NAMED, &set, "train.steps=2", "deploy.formats=[onnx]"]);
        let card = done.manifest.data.train;
        (done.manifest.eval.after.scores, card.read, card.lengths.total, card.unknown.tokens)
    };
    write(table.as_bytes());
    let want = train("utf-8");
    for (name, bytes) in [("latin-1", latin1(&table)), ("windows-1252", latin1(&table)), ("utf-16", utf16(&table))] {
        write(&bytes);
        assert_eq!(train(name), want, "{name}");
    }
    write(&latin1(&table));
    let wrong = case.fails(&[NAMED]);
    let place = "train.csv: row 1 (line 2) is not UTF-8; say what the file is, as in encoding: windows-1252";
    assert!(wrong.contains(place), "{wrong}");
    write(&[&utf16(&table)[..], b"x"].concat());
    let wrong = case.fails(&[NAMED, "data.train.encoding=utf-16"]);
    assert!(wrong.contains("train.csv: line 26 (byte ") && wrong.contains("is not UTF-16BE"), "{wrong}");
    let unknown = case.fails(&[NAMED, "data.train.encoding=windows1252x"]);
    assert!(unknown.contains("unknown encoding `windows1252x`") && unknown.contains("windows-1252"), "{unknown}");
    let idle = case.fails(&[NAMED, "data.train={ parquet: a.parquet, text: text, label: label, encoding: latin-1 }"]);
    assert!(idle.contains("error[pipeline::idle]: `encoding`"), "{idle}");
}
