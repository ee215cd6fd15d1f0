//! What of a training goes into an adapter beside low-rank branches: scales, rows of tokens, modules trained in full.

use super::contract::{LowRank, Saved, SavedOf};
use crate::module_paths::{ModulePaths, own_path_of};
use crate::run::Plan;
use crate::task::Class;
use lorac_ir::ValueId;
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
    pub(super) fn add(&mut self, delta: &'a Delta) {
        match &delta.form {
            DeltaForm::Scaled { .. } if delta.target.matrix.is_some() => self.scaled.push(delta),
            DeltaForm::Rows { param, .. } => {
                let is_copy = |d: &&Delta| matches!(&d.form, DeltaForm::Rows { param: other, .. } if other == param);
                if !self.rows.iter().any(is_copy) {
                    self.rows.push(delta);
                }
            }
            DeltaForm::Replaced { .. } => self.whole.push(delta),
            DeltaForm::LowRank { .. } | DeltaForm::Scaled { .. } => {}
        }
    }

    /// Whether it is one adapter of PEFT's with these branches.
    pub(super) fn check(&self, branches: &[LowRank]) -> Result<(), String> {
        let (lora, tokens) = (!branches.is_empty(), !self.rows.is_empty());
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
