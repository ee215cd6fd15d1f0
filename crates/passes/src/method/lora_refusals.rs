//! What LoRA cannot be asked for: settings that contradict each other, and targets that they do not fit.

use super::lora::{ALPHAS, Lora, RANKS, TiedChoice};
use super::lora_init::LoraInit;
use crate::tables_and_kernels::is_lookup;
use crate::{NoMatch, ReadAs, Role, Target, roles};
use lorac_config::{Check, Problems};
use lorac_ir::Graph;

impl Check for Lora {
    fn check(&self, problems: &mut Problems) {
        if self.targets.is_empty() {
            problems.report("targets", "pipeline::targets", "no targets: try [\"role:query\", \"role:value\"]");
        }
        problems.range("rank", self.rank as f64, 1.0, 1e5);
        problems.positive("alpha", self.alpha, 1e6);
        problems.range("dropout", self.dropout, 0.0, 0.99);
        problems.within(RANKS, |p| {
            self.rank_pattern.0.iter().for_each(|(pattern, rank)| p.range(pattern, *rank as f64, 1.0, 1e5));
        });
        problems.within(ALPHAS, |p| {
            self.alpha_pattern.0.iter().for_each(|(pattern, alpha)| p.positive(pattern, *alpha, 1e6));
        });
        let looks = matches!(self.init, LoraInit::Eva | LoraInit::LoraGa);
        match self.init_batches {
            Some(_) if !looks => {
                let why = "`init_batches` says how many batches `init: eva` and `init: lora_ga` look at, and `init` is neither";
                problems.report("init_batches", "pipeline::init", why);
            }
            Some(batches) => problems.range("init_batches", batches as f64, 1.0, 1e6),
            None => {}
        }
        match self.init_rho {
            Some(_) if self.init != LoraInit::Eva => {
                let why = "`init_rho` says how ranks are shared out by `init: eva`, and `init` is another";
                problems.report("init_rho", "pipeline::init", why);
            }
            Some(rho) => problems.range("init_rho", rho, 1.0, 1000.0),
            None => {}
        }
        if self.init == LoraInit::Orthogonal {
            let odd = |rank: usize| format!("`init: orthogonal` halves the rank, and {rank} is odd");
            if self.rank % 2 == 1 {
                problems.report("rank", "pipeline::init", odd(self.rank));
            }
            problems.within(RANKS, |p| {
                for (pattern, rank) in self.rank_pattern.0.iter().filter(|(_, rank)| rank % 2 == 1) {
                    p.report(pattern, "pipeline::init", odd(*rank));
                }
            });
        }
    }
}

impl Lora {
    /// Why the head has no weight of its own, where one is asked for. `targets` are all that are trained.
    pub(super) fn still_tied(&self, graph: &Graph, targets: &[Target]) -> Option<NoMatch> {
        if self.tied == TiedChoice::Both {
            return None;
        }
        let why = |why: String| Some(NoMatch::Idle { path: "tied".into(), pattern: "untie".into(), why });
        let roles = roles(graph);
        let is_head = |t: &Target| roles.get(&t.weight).is_some_and(|roles| roles.contains(&Role::Head));
        let looked_up = |u: &lorac_ir::Use| graph.node(u.node).is_some_and(|node| is_lookup(node, u.slot));
        let is_table = |t: &Target| graph.value(t.weight).is_some_and(|value| value.uses().iter().any(looked_up));
        match targets.iter().find(|t| is_head(t) && is_table(t)) {
            Some(target) => why(format!(
                "needs a second weight beside `{}`, which is a table and the head in one, and the bytes of an .onnx file cannot \
                 grow: leave `tied` out, or train from the config.json and safetensors that the file was made of",
                target.weight_name
            )),
            None if targets.iter().any(|t| is_head(t) || is_table(t)) => None,
            None => why("unties nothing: no target is a head, or a table of embeddings".into()),
        }
    }

    /// The targets whose rank is beyond them.
    pub(super) fn beyond(&self, targets: &[Target]) -> Vec<NoMatch> {
        let unfit = |target: &Target| {
            let (matrix, rank) = (target.matrix.as_ref()?, self.rank_of(target));
            let (rows, cols) = (matrix.rows, target.cols());
            let entry = target.entries.get(RANKS).and_then(|at| self.rank_pattern.patterns().nth(*at));
            let path = entry.map_or("rank".to_string(), |pattern| format!("{RANKS}.{pattern}"));
            let pattern = entry.unwrap_or("rank").to_string();
            let (name, read_as) = (target.name(), matrix.read_as);
            let halved = self.init == LoraInit::LoraGa && read_as == ReadAs::Product;
            let most = rows.min(cols) / if halved { 2 } else { 1 };
            (rank > most).then_some(NoMatch::Rank { path, pattern, rank, name, rows, cols, read_as, halved })
        };
        targets.iter().filter_map(unfit).collect()
    }

    /// What is asked for that stacks of matrices do not have.
    pub(super) fn not_of_stacks(&self) -> Option<&'static str> {
        match self.init {
            LoraInit::Orthogonal => Some("`init: orthogonal`"),
            LoraInit::Pissa => Some("`init: pissa`"),
            LoraInit::Olora => Some("`init: olora`"),
            _ if self.dropout > 0.0 => Some("dropout"),
            _ => self.freeze_a.then_some("`freeze_a`"),
        }
    }
}
