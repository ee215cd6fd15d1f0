//! The table against the standard: every operator of opset 24 has an entry.

use lorac_ir::OpName;
use lorac_ops::{Grad, TABLE, find};

/// The operators of the domain ai.onnx at opset 24 that are not deprecated.
const STANDARD: &str = "
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu
CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger
ConvTranspose Cos Cosh CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout
DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND
Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization
HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageDecoder InstanceNormalization IsInf
IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul
MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul
Multinomial Neg NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement
OptionalHasElement Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN RandomNormal
RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu
Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT Scan ScatterElements ScatterND Selu
SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap Shape
Shrink Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split
SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TensorScatter
TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor
";

#[test]
fn every_operator_of_the_standard_has_an_entry() {
    let missing: Vec<&str> =
        STANDARD.split_whitespace().filter(|name| find(&OpName::new("", name)).is_none()).collect();
    assert!(missing.is_empty(), "{} operators have no entry: {}", missing.len(), missing.join(" "));
    assert_eq!(STANDARD.split_whitespace().count(), 196);
}

/// Operators that ONNX Runtime's optimizer writes into the standard domain without their being in the standard.
const WRITTEN_BY_RUNTIMES: &[&str] = &["SimplifiedLayerNormalization"];

#[test]
fn no_entry_is_invented() {
    let standard: Vec<&str> = STANDARD.split_whitespace().collect();
    let ours = TABLE.iter().flat_map(|family| family.iter()).filter(|op| op.domain.is_empty());
    let invented: Vec<&str> =
        ours.map(|op| op.name).filter(|name| !standard.contains(name) && !WRITTEN_BY_RUNTIMES.contains(name)).collect();
    assert!(invented.is_empty(), "not in the standard: {}", invented.join(" "));
}

#[test]
fn most_of_the_standard_is_not_unsupported() {
    let ops = STANDARD.split_whitespace().filter_map(|name| find(&OpName::new("", name)));
    let (refused, taken): (Vec<_>, Vec<_>) = ops.partition(|op| matches!(op.grad, Grad::Unsupported(_)));
    let names: Vec<&str> = refused.iter().map(|op| op.name).collect();
    assert!(taken.len() >= 150, "{} of the standard's operators, without {}", taken.len(), names.join(" "));
}

#[test]
fn reasons_say_something() {
    for op in TABLE.iter().flat_map(|family| family.iter()) {
        if let Grad::Zero(why) | Grad::Unsupported(why) = op.grad {
            assert!(why.len() >= 10, "{}: `{why}`", op.name);
        }
    }
}

#[test]
fn properties_agree_with_each_other_and_with_names() {
    for op in TABLE.iter().flat_map(|family| family.iter()) {
        let traits = op.traits;
        assert!(traits.carries || !(traits.activation || traits.reshapes), "{} carries", op.name);
        assert!(!(traits.carries && traits.normalizes), "{} carries or normalizes", op.name);
        assert_eq!(traits.normalizes, op.name.contains("Normalization"), "{}", op.name);
    }
}
