//! LoRA (Hu et al. 2021): `h = W0 x + s B A x`, with s = alpha / r.

use super::by_pattern::ByPattern;
use super::lora_init::LoraInit;
use super::narrow::{Narrow, note_entries};
use super::{
    Bias, Delta, Full, Inserted, Method, MethodChoice, Use, low_rank, low_rank_scale, stack, tables_and_kernels,
    target_list,
};
use crate::{
    FoldError, Layers, LeftOut, NoMatch, NoMatches, ParamValues, PassError, ReadAs, Target, left_out, product_bias,
    select,
};
use bytes::Bytes;
use lorac_ir::{Graph, Tensor, ValueId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Low-rank branches (Hu et al. 2021)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Matrices: names, role:query|key|value|output|up|gate|down|head, all-linear, or globs over names. Of a matrix that is
    /// query, key and value in one, or gate and up, a role means its columns, and so does { match: PATTERN, slice: [q, v] }. What fits
    /// no matrix may fit tables of embeddings, kernels of convolutions and the stacked matrices of experts; all-embeddings,
    /// all-convolutions and all-experts are all of these
    #[serde(deserialize_with = "target_list::read")]
    #[schemars(with = "target_list::TargetList")]
    pub targets: Vec<String>,
    /// Targets that are none after all: patterns as for targets
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The layers that targets are in, from 0: 6..12 (those before 12), 6.., 3, or a list. Default: all, and what is in none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// LoRA rank r: rows of A and columns of B
    #[serde(default = "rank")]
    pub rank: usize,
    /// alpha: branches are scaled by alpha / r
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Ranks of some targets, by patterns: { "role:query": 4 }. A target has that of the first that it fits
    #[serde(default, skip_serializing_if = "ByPattern::is_empty")]
    pub rank_pattern: ByPattern<usize>,
    /// Alphas of some targets, by patterns
    #[serde(default, skip_serializing_if = "ByPattern::is_empty")]
    pub alpha_pattern: ByPattern<f64>,
    /// Scale by alpha / sqrt(r) instead (rank-stabilised LoRA, Kalajdzievski 2023)
    #[serde(default)]
    pub rslora: bool,
    /// Probability that an element of what a branch reads is dropped in a training step (PEFT's lora_dropout);
    /// nothing is dropped in front of a look-up
    #[serde(default)]
    pub dropout: f64,
    /// What A and B are before the first step
    #[serde(default, skip_serializing_if = "is_default")]
    pub init: LoraInit,
    /// How many of the training's first batches `init: eva` and `init: lora_ga` look at. Default: 8
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_batches: Option<usize>,
    /// With `init: eva`, share the ranks out among the targets, more to those that are fed what varies in more directions: none
    /// gets more than so many times its own, and alpha moves with r (PEFT's rho, whose default is 2). Default: ranks stay
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_rho: Option<f64>,
    /// The ranks that targets got where they were shared out, by their names.
    #[serde(skip)]
    pub shared_out: BTreeMap<String, usize>,
    /// Train B alone, its gradient projected onto what A can reach (LoRA-FA, Zhang et al. 2023); of tables of embeddings A, which
    /// begins with zeros, is trained as well
    #[serde(default, skip_serializing_if = "is_default")]
    pub freeze_a: bool,
    /// What becomes of a table that is the head as well: a change reaches both, or the head gets a weight of its own
    #[serde(default, skip_serializing_if = "is_default")]
    pub tied: TiedChoice,
    /// Biases that are trained with the branches, in the place of the model's
    #[serde(default, skip_serializing_if = "is_default")]
    pub bias: BiasChoice,
    /// Weights that are trained in full beside the branches, by patterns as those of `full`: role:head, *LayerNorm* (PEFT's
    /// modules_to_save)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train_also: Vec<String>,
}

/// How many of the first batches are looked at, where nothing is said.
const FIRST_BATCHES: usize = 8;

/// Biases that are trained with the branches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BiasChoice {
    /// None
    #[default]
    None,
    /// All biases of the model, those of norms too
    All,
    /// Those of the targets
    Lora,
}

/// What becomes of a table that tokens are looked up in and that is the head as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TiedChoice {
    /// What is added to it is added for both. Weights that hold the same and are two in the file are two
    #[default]
    Both,
    /// The head gets a weight of its own, in models that lorac builds of config.json with safetensors, or of GGUF: the bytes of an
    /// .onnx file cannot grow
    Untie,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn rank() -> usize {
    8
}

fn alpha() -> f64 {
    16.0
}

impl Default for Lora {
    fn default() -> Lora {
        Lora {
            targets: ["role:query", "role:value"].map(String::from).to_vec(),
            exclude: Vec::new(),
            layers: None,
            rank: rank(),
            alpha: alpha(),
            rank_pattern: ByPattern::default(),
            alpha_pattern: ByPattern::default(),
            rslora: false,
            dropout: 0.0,
            init: LoraInit::default(),
            init_batches: None,
            init_rho: None,
            shared_out: BTreeMap::new(),
            freeze_a: false,
            tied: TiedChoice::default(),
            bias: BiasChoice::default(),
            train_also: Vec::new(),
        }
    }
}

/// The keys of settings that hold for some targets only.
pub(super) const RANKS: &str = "rank_pattern";
pub(super) const ALPHAS: &str = "alpha_pattern";

impl Lora {
    /// s: what the branch of a target without settings of its own is multiplied by.
    pub fn scale(&self) -> f64 {
        low_rank_scale(self.rank, self.alpha, self.rslora)
    }

    /// r of a target.
    pub fn rank_of(&self, target: &Target) -> usize {
        self.shared_out.get(&target.name()).copied().unwrap_or(self.asked_rank(target))
    }

    /// r of a target as the pipeline says it.
    fn asked_rank(&self, target: &Target) -> usize {
        self.rank_pattern.at(target.entries.get(RANKS)).copied().unwrap_or(self.rank)
    }

    /// alpha of a target.
    pub fn alpha_of(&self, target: &Target) -> f64 {
        let alpha = self.alpha_pattern.at(target.entries.get(ALPHAS)).copied().unwrap_or(self.alpha);
        match self.shared_out.get(&target.name()) {
            Some(rank) => alpha * *rank as f64 / self.asked_rank(target) as f64,
            None => alpha,
        }
    }

    /// The same with such ranks.
    pub(super) fn ranked(&self, ranks: &BTreeMap<String, usize>) -> Lora {
        Lora { shared_out: ranks.clone(), ..self.clone() }
    }

    /// s: what the branch of a target is multiplied by.
    pub fn scale_of(&self, target: &Target) -> f64 {
        low_rank_scale(self.rank_of(target), self.alpha_of(target), self.rslora)
    }

    /// Whether A of a target stays as it begins. That of a table begins with zeros: with it the branch would learn nothing.
    pub(super) fn freezes_a(&self, target: &Target) -> bool {
        self.freeze_a && target.matrix.as_ref().is_some_and(|m| m.read_as != ReadAs::Lookup)
    }

    /// The biases that are trained beside these targets.
    fn biases(&self, graph: &Graph, targets: &[Target]) -> Result<Vec<Target>, NoMatches> {
        let idle = |why: &str| {
            let (path, pattern) = ("bias".to_string(), format!("{:?}", self.bias).to_lowercase());
            NoMatches(vec![NoMatch::Idle { path, pattern, why: why.to_string() }])
        };
        match self.bias {
            BiasChoice::None => Ok(Vec::new()),
            BiasChoice::All => {
                Bias::default().select(graph).map_err(|_| idle("asks for biases, and the model has none"))
            }
            BiasChoice::Lora => {
                let products = targets.iter().filter_map(|t| t.matrix.as_ref()).flat_map(|m| &m.products);
                let found: BTreeSet<ValueId> = products.filter_map(|p| product_bias(graph, *p)).collect();
                if found.is_empty() {
                    return Err(idle("asks for the biases of the targets, and none of them has one"));
                }
                let target = |weight: &ValueId| Target::of_weight(graph, *weight, BTreeSet::new(), "bias");
                Ok(found.iter().map(target).collect())
            }
        }
    }

    /// The weights that are trained in full beside these targets.
    fn also(&self, graph: &Graph, targets: &[Target]) -> Result<Vec<Target>, NoMatches> {
        if self.train_also.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Full { targets: self.train_also.clone() }.select(graph)?;
        let branch = |t: &&Target| targets.iter().any(|o| o.weight == t.weight && o.matrix.is_some());
        if let Some(t) = found.iter().find(branch) {
            let why = format!("picks `{}`, which has a branch: a weight is adapted once", t.weight_name);
            return Err(NoMatch::Idle { path: self.path(&t.pattern), pattern: t.pattern.clone(), why }.into());
        }
        found.retain(|t| targets.iter().all(|o| o.weight != t.weight));
        Ok(found)
    }

    /// Puts branches and biases into the graph.
    pub(super) fn insert_with(
        &self,
        graph: &mut Graph,
        targets: &[Target],
        purpose: Use,
        with_magnitude: bool,
    ) -> Result<Inserted, PassError> {
        let (matrices, biases): (Vec<Target>, Vec<Target>) = targets.iter().cloned().partition(|t| t.matrix.is_some());
        let mut inserted = low_rank::insert(graph, self, &matrices, purpose, with_magnitude)?;
        if !biases.is_empty() {
            let more = Inserted::replaced(graph, &biases)?;
            inserted.params.extend(more.params);
            inserted.deltas.extend(more.deltas);
        }
        Ok(inserted)
    }
}

impl Method for Lora {
    fn patterns(&self) -> &[String] {
        &self.targets
    }

    fn path(&self, pattern: &str) -> String {
        let place = |key: &str, all: &[String]| Some(format!("{key}.{}", all.iter().position(|p| p == pattern)?));
        let targets = place("targets", &self.targets);
        targets.or_else(|| place("train_also", &self.train_also)).unwrap_or("targets".into())
    }

    fn select(&self, graph: &Graph) -> Result<Vec<Target>, NoMatches> {
        let picked = select(graph, &self.targets)?;
        let narrow = Narrow { exclude: &self.exclude, layers: self.layers.as_ref() };
        let mut targets = narrow.remaining(graph, picked)?;
        let shared = targets.iter().filter(|t| t.matrix.as_ref().is_some_and(|m| m.shared) && self.dropout > 0.0);
        let tied = shared.map(|t| NoMatch::Tied { pattern: t.pattern.clone(), name: t.weight_name.clone() });
        let kernels = targets.iter().filter(|t| self.dropout > 0.0 && tables_and_kernels::is_kernel(t));
        let mut wrong: Vec<NoMatch> = tied.chain(kernels.map(tables_and_kernels::no_dropout)).collect();
        let ranks = note_entries(graph, &mut targets, RANKS, self.rank_pattern.patterns());
        let alphas = note_entries(graph, &mut targets, ALPHAS, self.alpha_pattern.patterns());
        wrong.extend([ranks, alphas].into_iter().filter_map(Result::err).flat_map(|e| e.0));
        wrong.extend(self.beyond(&targets));
        targets.retain(|t| self.shared_out.get(&t.name()) != Some(&0));
        if let Some(setting) = self.not_of_stacks() {
            wrong.extend(targets.iter().filter(|t| stack::is_stack(t)).map(|t| stack::not_with(t, setting)));
        }
        match self.biases(graph, &targets) {
            Ok(biases) => targets.extend(biases),
            Err(e) => wrong.extend(e.0),
        }
        match self.also(graph, &targets) {
            Ok(also) => targets.extend(also),
            Err(e) => wrong.extend(e.0),
        }
        wrong.extend(self.still_tied(graph, &targets));
        if wrong.is_empty() { Ok(targets) } else { Err(NoMatches(wrong)) }
    }

    fn left_out(&self, graph: &Graph) -> Vec<LeftOut> {
        left_out(graph, &self.targets)
    }

    fn yields(&self, target: &Target) -> bool {
        target.matrix.is_none() && !self.train_also.contains(&target.pattern)
    }

    fn param_count(&self, _: &Graph, targets: &[Target]) -> usize {
        let of = |target: &Target| match target.matrix {
            None => target.dims.iter().product(),
            Some(_) if self.freezes_a(target) => self.rank_of(target) * target.cols(),
            Some(_) => self.rank_of(target) * (target.rows() + target.cols()) * target.count(),
        };
        targets.iter().map(of).sum()
    }

    fn dropout(&self) -> f64 {
        self.dropout
    }

    fn unties(&self) -> bool {
        self.tied == TiedChoice::Untie
    }

    fn first_batches(&self) -> usize {
        match self.init {
            LoraInit::Eva | LoraInit::LoraGa => self.init_batches.unwrap_or(FIRST_BATCHES),
            _ => 0,
        }
    }

    fn rank_factor(&self) -> Option<f64> {
        self.init_rho
    }

    fn with_ranks(&self, ranks: &BTreeMap<String, usize>) -> Option<MethodChoice> {
        Some(MethodChoice::Lora(self.ranked(ranks)))
    }

    fn insert(&self, graph: &mut Graph, targets: &[Target], purpose: Use) -> Result<Inserted, PassError> {
        self.insert_with(graph, targets, purpose, false)
    }

    fn fold(&self, delta: &Delta, w0: &Tensor, values: &ParamValues) -> Result<Bytes, FoldError> {
        low_rank::fold(delta, w0, values)
    }
}

#[cfg(test)]
mod tests {
    use super::super::branch::follow_each_other;
    use super::*;
    use crate::{Layout, Param, group_by_weight};
    use lorac_ir::{parse, print};
    use std::fmt::Write;

    /// Matrices `w0`, `w1`, ... in a graph of such inputs and body.
    fn graph(inputs: &str, matrices: usize, body: &str) -> Graph {
        let mut text = format!("graph g({inputs}) -> %y {{\n");
        (0..matrices).for_each(|i| writeln!(text, "%w{i} = weight \"w{i}\" f32[2,2]").expect("writes"));
        write!(text, "%b = weight \"b\" f32[2]\n{body}\n}}").expect("writes");
        parse(&text).expect("parses")
    }

    fn all() -> Lora {
        Lora { rank: 1, alpha: 1.0, ..Lora::default() }
    }

    fn matrices(graph: &Graph) -> Vec<Target> {
        crate::matrices(graph).iter().map(|m| Target::of_matrix(m, Default::default(), "all")).collect()
    }

    /// One matrix after the other gives the same nodes, names and order of reading.
    #[test]
    fn matrices_that_follow_each_other_are_adapted_as_if_one_by_one() {
        let (flat, rows) = ("%x: f32[N,2]", "%x: f32[N,3,2]");
        let chain = "%p = MatMul(%x, %w0) : f32[..]\n %q = MatMul(%p, %w1) : f32[..]\n %y = MatMul(%q, %w2) : f32[..]";
        let reversed =
            "%p = MatMul(%x, %w2) : f32[..]\n %q = MatMul(%p, %w1) : f32[..]\n %y = MatMul(%q, %w0) : f32[..]";
        let biased = "%p = MatMul(%x, %w1) : f32[..]\n %s = Add(%p, %b) : f32[..]\n %q = MatMul(%s, %w0) : f32[..]
            %k = MatMul(%s, %w2) : f32[..]\n %y = Add(%q, %k) : f32[..]";
        let twice = "%p = MatMul(%x, %w1) : f32[..]\n %q = MatMul(%p, %w1) : f32[..]\n %r = MatMul(%q, %w0) : f32[..]
            %y = MatMul(%r, %w1) : f32[..]";
        let turned = "%t = Transpose(%w1, perm=[1,0]) : f32[..]\n %p = MatMul(%x, %w0) : f32[..]
            %q = MatMul(%p, %w1) : f32[..]\n %r = MatMul(%q, %t) : f32[..]\n %y = MatMul(%r, %w2) : f32[..]";
        for purpose in [Use::Verify, Use::Train { tokens: None }, Use::Train { tokens: Some(1000) }] {
            for (inputs, body) in
                [flat, rows].into_iter().flat_map(|i| [chain, reversed, biased, twice, turned].map(|b| (i, b)))
            {
                let before = graph(inputs, 3, body);
                let targets = matrices(&before);
                assert!(follow_each_other(&before, &targets), "{body}");
                let (mut at_once, mut one_by_one) = (before.clone(), before.clone());
                let inserted = all().insert(&mut at_once, &targets, purpose).expect("fits");
                let mut params = Vec::new();
                for of_weight in group_by_weight(&targets, |t| t) {
                    let of_weight: Vec<Target> = of_weight.into_iter().cloned().collect();
                    params.extend(all().insert(&mut one_by_one, &of_weight, purpose).expect("fits").params);
                }
                assert_eq!(print(&at_once), print(&one_by_one), "{body} {purpose:?}");
                assert_eq!(inserted.params, params, "{body}");
            }
        }
    }

    /// A of a table begins with zeros: were it fixed, nothing would be learnt.
    #[test]
    fn a_of_a_table_is_never_frozen() {
        let text = "graph g(%ids: i64[N]) -> %y {
            %t = weight \"table\" f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8]
            %w = weight \"w\" f32[2,3] = [1, 2, 3, 4, 5, 6]
            %x = Gather(%t, %ids) : f32[N,2]
            %y = MatMul(%x, %w) : f32[N,3]
        }";
        let mut graph = parse(text).expect("parses");
        let lora = Lora { targets: vec!["table".into(), "w".into()], freeze_a: true, ..all() };
        let targets = lora.select(&graph).expect("selects");
        let count = lora.param_count(&graph, &targets);
        let inserted = lora.insert(&mut graph, &targets, Use::Verify).expect("fits");
        let trained: Vec<&Param> = inserted.params.iter().filter(|p| p.is_trained()).collect();
        let names: Vec<&str> = trained.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["table.lora_A", "table.lora_B", "w.lora_B"]);
        assert_eq!(count, trained.iter().map(|p| p.len()).sum::<usize>());
        let layout = Layout::of(&inserted.params);
        let projected = layout.slots().iter().filter(|s| s.projected_by.is_some());
        assert_eq!(projected.map(|s| s.name.as_str()).collect::<Vec<_>>(), ["w.lora_B"]);
    }

    #[test]
    fn a_rank_beyond_its_target_is_named_with_its_key() {
        let text = "graph g(%ids: i64[N], %kinds: i64[N]) -> %y {
            %t = weight \"words\" f32[4,3] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
            %k = weight \"types\" f32[2,3] = [1, 2, 3, 4, 5, 6]
            %a = Gather(%t, %ids) : f32[N,3]
            %b = Gather(%k, %kinds) : f32[N,3]
            %y = Add(%a, %b) : f32[N,3]
        }";
        let graph = parse(text).expect("parses");
        let tables = |rank, patterns: &[(&str, usize)]| {
            let rank_pattern = ByPattern(patterns.iter().map(|(p, r)| (p.to_string(), *r)).collect());
            let found = Lora { targets: vec!["all-embeddings".into()], rank, rank_pattern, ..all() }.select(&graph);
            found.map(|_| ()).map_err(|e| (e.0[0].path().map(str::to_string), e.to_string()))
        };
        let (path, said) = tables(3, &[]).expect_err("the second has two rows");
        assert_eq!(path.as_deref(), Some("rank"));
        assert!(said.starts_with("rank 3 of `types`, a 2 x 3 table: ") && said.contains("`rank_pattern`"), "{said}");
        assert!(tables(3, &[("types", 2)]).is_ok());
        assert_eq!(tables(2, &[("words", 4)]).expect_err("three columns").0.as_deref(), Some("rank_pattern.words"));
    }

    /// As many rewritings as matrices would not end.
    #[test]
    fn thousands_of_matrices_that_follow_each_other() {
        let count = 4000;
        let mut body = String::new();
        (0..count).for_each(|i| {
            let x = if i == 0 { "x".into() } else { format!("h{i}") };
            let y = if i + 1 == count { "y".into() } else { format!("h{}", i + 1) };
            writeln!(body, "%{y} = MatMul(%{x}, %w{i}) : f32[N,2]").expect("writes");
        });
        let mut graph = graph("%x: f32[N,2]", count, &body);
        let targets = matrices(&graph);
        assert_eq!(all().insert(&mut graph, &targets, Use::Verify).expect("fits").deltas.len(), count);
        assert_eq!(graph.nodes().filter(|(_, n)| &*n.op.name == "Gemm").count(), 2 * count);
    }
}
