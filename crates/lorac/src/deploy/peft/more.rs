//! What of a training goes into an adapter beside low-rank branches: scales, rows of tokens, modules trained in full.

use super::contract::{LowRank, Saved, SavedOf};
use crate::module_paths::{ModulePaths, own_path_of};
use crate::run::Plan;
use crate::task::Class;
use lorac_ir::{Graph, ValueId};
use lorac_passes::{Delta, DeltaForm, Matrix, ReadAs, Target, matrices};

/// What becomes of weights otherwise.
#[derive(Default)]
pub(super) struct More<'a> {
    /// Matrices that are scaled; their biases go with them.
    pub(super) scaled: Vec<&'a Delta>,
    /// Tables some of whose rows are trained; copies go with them.
    pub(super) rows: Vec<&'a Delta>,
    /// Weights trained in full.
    pub(super) whole: Vec<&'a Delta>,
}

impl<'a> More<'a> {
    pub(super) fn add(&mut self, delta: &'a Delta, graph: &Graph) {
        match &delta.form {
            DeltaForm::Scaled { .. } if delta.target.matrix.is_some() => self.scaled.push(delta),
            DeltaForm::Rows { param, .. } => {
                let is_copy = |d: &Delta| matches!(&d.form, DeltaForm::Rows { param: other, .. } if other == param);
                match self.rows.iter_mut().find(|d| is_copy(d)) {
                    // PEFT finds the head by the table that it is tied to.
                    Some(known) if !is_looked_up(graph, known) && is_looked_up(graph, delta) => *known = delta,
                    Some(_) => {}
                    None => self.rows.push(delta),
                }
            }
            DeltaForm::Replaced { .. } => self.whole.push(delta),
            DeltaForm::LowRank { .. } | DeltaForm::Scaled { .. } => {}
        }
    }

    /// Whether it is one adapter of PEFT's with these branches.
    pub(super) fn check(&self, branches: &[LowRank]) -> Result<(), String> {
        let (lora, tokens) = (!branches.is_empty(), !self.rows.is_empty());
        let (dora, plain): (Vec<&LowRank>, Vec<&LowRank>) = branches.iter().partition(|b| b.magnitude.is_some());
        if let (Some(dora), Some(plain)) = (dora.first(), plain.first()) {
            let [dora, plain] = [dora, plain].map(|b| b.delta.target.name());
            return Err(format!(
                "PEFT's `use_dora` holds for all modules of an adapter: `{dora}` has magnitudes and `{plain}` has none; adapt \
                 both by `dora`, or both by `lora`"
            ));
        }
        if let (false, Some((one, other))) = (lora, self.of_other_tokens()) {
            return Err(format!(
                "PEFT's trainable tokens are the same for all tables of an adapter without branches: those of `{one}` and of \
                 `{other}` are not"
            ));
        }
        match self.scaled.first() {
            Some(delta) if lora || tokens => {
                let other = if lora { "branches" } else { "trained tokens" };
                let name = &delta.target.weight_name;
                Err(format!(
                    "PEFT has scales (IA3) in adapters of their own: `{name}` is scaled, and there are {other}"
                ))
            }
            None if !lora && !tokens => Err(match self.whole.first() {
                Some(delta) => format!("PEFT's format holds LoRA, and `{}` is trained otherwise", delta.target.name()),
                None => "PEFT's format holds LoRA, and nothing but the head is trained".into(),
            }),
            _ => Ok(()),
        }
    }
}

impl More<'_> {
    /// Two tables of which other tokens are trained, by their names.
    fn of_other_tokens(&self) -> Option<(&str, &str)> {
        let ids = |delta: &Delta| match &delta.form {
            DeltaForm::Rows { rows, .. } => rows.clone(),
            _ => Vec::new(),
        };
        let first = self.rows.first()?;
        let other = self.rows.iter().find(|d| ids(d) != ids(first))?;
        Some((&first.target.weight_name, &other.target.weight_name))
    }
}

/// Whether rows of a table are looked up, and not only multiplied with.
fn is_looked_up(graph: &Graph, delta: &Delta) -> bool {
    let uses = graph.value(delta.target.weight).map(|v| v.uses()).unwrap_or_default();
    uses.iter().any(|u| u.slot == 0 && graph.node(u.node).is_some_and(|n| &*n.op.name == "Gather"))
}

/// The module of a weight that is trained in full, with all its parameters: PEFT keeps modules as a whole.
///
/// # Errors
/// A weight whose module its name does not say.
pub(super) fn whole<'a>(
    plan: &'a Plan,
    paths: &ModulePaths,
    delta: &Delta,
    class: Class,
) -> Result<Vec<Saved<'a>>, String> {
    let (name, weight) = (&delta.target.weight_name, delta.target.weight);
    let saved = |path: &str, end: &str, weight, turned| Saved {
        key: format!("{path}.{end}"),
        of: SavedOf::Weight { weight, turned },
    };
    // A matrix by itself, or by its bias.
    let known = matrices(&plan.readable);
    if let Some(matrix) = known.iter().find(|m| m.weight == weight || paths.bias_of(m) == Some(weight)) {
        let modules = paths.of(matrix, class).map_err(|why| unknown(name, &why))?;
        let path = modules.into_iter().next().map(|m| m.path).unwrap_or_default();
        let own = saved(&path, "weight", matrix.weight, !matrix.transposed);
        return Ok(std::iter::once(own).chain(paths.bias_of(matrix).map(|b| saved(&path, "bias", b, false))).collect());
    }
    let raw = ["weight", "bias"].iter().find_map(|end| own_path_of(name, end));
    let raw = raw.ok_or_else(|| unknown(name, "its name is not that of a module"))?;
    let path = paths.path_in(raw, class).map_err(|why| unknown(name, &why))?;
    let of = |end: &&str| {
        let weight = plan.readable.find(&format!("{raw}.{end}"))?;
        plan.readable.weight(weight).map(|_| saved(&path, end, weight, false))
    };
    Ok(["weight", "bias"].iter().filter_map(of).collect())
}

fn unknown(name: &str, why: &str) -> String {
    format!("the PyTorch module of `{name}`, which is trained in full, is not known: {why}")
}

/// The module of a table some of whose rows are trained.
///
/// # Errors
/// A table whose module is not known.
pub(super) fn table(plan: &Plan, paths: &ModulePaths, delta: &Delta, class: Class) -> Result<String, String> {
    let target = &delta.target;
    if let Some(path) = plan.deploy.peft.names.get(&target.weight_name) {
        return Ok(path.clone());
    }
    let lookup = |weight: ValueId| {
        let value = plan.readable.value(weight)?;
        let products = value.uses().iter().map(|u| u.node).collect();
        let [rows, cols] = *target.dims.first_chunk::<2>()?;
        let (name, dims, read_as) = (value.name.to_string(), target.dims.clone(), ReadAs::Lookup);
        Some(Matrix { weight, name, transposed: false, dims, rows, cols, products, shared: false, read_as })
    };
    let found = lookup(target.weight).ok_or_else(|| "it has no rows".to_string()).and_then(|m| paths.of(&m, class));
    let path = found.map_err(|why| format!("the PyTorch module of `{}` is not known: {why}", target.weight_name))?;
    Ok(path.into_iter().next().map(|m| m.path).unwrap_or_default())
}

/// Refuses a convolution that an exporter has folded the norm behind it into: that of the class is another.
///
/// # Errors
/// Such a one.
pub(super) fn no_norm_inside(plan: &Plan, target: &Target) -> Result<(), String> {
    let Some(matrix) = target.matrix.as_ref().filter(|m| m.read_as == ReadAs::Convolution) else { return Ok(()) };
    let own = own_path_of(&matrix.name, "weight");
    let mut biases = matrix.products.iter().filter_map(|p| plan.readable.node(*p)?.input(2));
    let bias_of_its_own = |bias: ValueId| own.is_some_and(|own| plan.readable.name_of(bias) == format!("{own}.bias"));
    let given = plan.deploy.peft.names.contains_key(&matrix.name);
    match given || (own.is_some() && biases.all(bias_of_its_own)) {
        true => Ok(()),
        false => Err(format!(
            "the exporter may have folded a norm into the convolution `{}`, as neither it nor its bias has the name of a \
             module: B of the PyTorch module would be another",
            matrix.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_passes::{Method, Tokens, Use};

    /// The head stands first in the file.
    #[test]
    fn of_copies_the_table_is_the_adapters() {
        let text = "graph g(%input_ids: i64[N]) -> %y {
            %h = weight \"head\" f32[3,2] = [1, 2, 3, 4, 5, 6]
            %t = weight \"table\" f32[3,2] = [1, 2, 3, 4, 5, 6]
            %x = Gather(%t, %input_ids) : f32[N,2]
            %y = Gemm(%x, %h, transB=1) : f32[N,3]
        }";
        let graph = lorac_ir::parse(text).expect("parses");
        let tokens = Tokens { ids: vec![1], ..Tokens::default() };
        let targets = tokens.select(&graph).expect("selects");
        let deltas = tokens.insert(&mut graph.clone(), &targets, Use::Verify).expect("fits").deltas;
        assert_eq!(deltas.len(), 2);
        let mut more = More::default();
        deltas.iter().for_each(|delta| more.add(delta, &graph));
        let names: Vec<&str> = more.rows.iter().map(|d| d.target.weight_name.as_str()).collect();
        assert_eq!(names, ["table"]);
    }
}
