//! What the params are before the first step: drawn from the seed, or what `train.init_from` names.

use super::Plan;
use super::compiler::first_batches;
use super::folder::{CHECKPOINTS, TRAINED};
use crate::deploy::{Given, adapter_params};
use crate::error::Error;
use crate::pipeline::Loaded;
use crate::progress::Progress;
use lorac_config::{Problem, nearest};
use lorac_passes::{Layout, Param};
use lorac_train::{Checkpoint, TrainError, derive, initial_theta, look};
use std::path::{Path, PathBuf};

/// The file by which a folder is known as an adapter of PEFT.
const CONFIG: &str = "adapter_config.json";

/// The first theta.
///
/// # Errors
/// What is named and is not an adapter or checkpoint, and what of it does not fit the params that are trained.
pub(super) fn start(plan: &Plan, loaded: &Loaded, progress: &dyn Progress) -> Result<Vec<f32>, Error> {
    let seed = loaded.pipeline.train.seed;
    let seen = looked(plan, seed, progress)?;
    let params = seen.as_ref().unwrap_or(&plan.training.params);
    let Some(from) = &plan.init_from else {
        return Ok(initial_theta(params, seed).map_err(TrainError::from)?);
    };
    let wrong = |why: String| -> Error {
        let message = format!("{} cannot be what the training begins with: {why}", from.source);
        let problem = Problem {
            path: "train.init_from".into(),
            code: "pipeline::init_from",
            message,
            help: Some(
                "name an adapter of PEFT or a checkpoint of lorac's whose targets, ranks and head are those of this \
                 pipeline"
                    .into(),
            ),
        };
        Box::new(loaded.errors_at(vec![problem])).into()
    };
    let (file, given) = read(plan, &from.path).map_err(wrong)?;
    from.unchanged()?;
    let drawn = initial_theta(params, seed).map_err(TrainError::from)?;
    let mut theta = theta(&plan.training.layout, params, &drawn, &given).map_err(wrong)?;
    derive(params, &mut theta).map_err(TrainError::from)?;
    progress.line(&format!("begins    with {} parameters of {}", theta.len(), file.display()));
    Ok(theta)
}

/// The params with what the first batches say of them, where that is what they begin with.
fn looked(plan: &Plan, seed: u64, progress: &dyn Progress) -> Result<Option<Vec<Param>>, Error> {
    let Some(first) = &plan.look else { return Ok(None) };
    let batches = first_batches(&plan.train, &plan.steps, &plan.sampler, first.batches)?;
    let (backend, params) = (plan.engine.backend.as_ref(), &plan.training.params);
    let fed = first.inputs.as_ref().map_or(0, |look| look.of.len());
    let moved = first.gradients.as_ref().map_or(0, |look| look.of.len());
    progress.line(&format!(
        "looks     at {} batches before the first step: what {fed} matrices are fed, gradients of {moved}",
        batches.len()
    ));
    Ok(Some(look(backend, first, params, seed, &plan.feeds, &batches)?))
}

/// The params in a checkpoint, an adapter, or the output folder of a run, and the file or folder that they are in.
fn read(plan: &Plan, path: &Path) -> Result<(PathBuf, Given), String> {
    let beside = path.parent().filter(|folder| folder.join(CONFIG).is_file()).map(Path::to_path_buf);
    let within = [path.join(CHECKPOINTS).join(TRAINED), path.join(TRAINED)];
    let folders = [path.to_path_buf(), path.join("adapter")];
    if path.is_file() {
        return match Checkpoint::load(path) {
            Ok(checkpoint) => Ok((path.to_path_buf(), of_checkpoint(&checkpoint)?)),
            Err(error) => match beside.filter(|_| path.extension().is_some_and(|e| e == "safetensors")) {
                Some(folder) => adapter_params(plan, &folder).map(|given| (folder, given)),
                None => Err(error.to_string()),
            },
        };
    }
    let adapter = |folder: &&PathBuf| folder.join(CONFIG).is_file();
    if let Some(folder) = folders.iter().take(1).find(adapter) {
        return adapter_params(plan, folder).map(|given| (folder.clone(), given));
    }
    if let Some(file) = within.iter().find(|file| file.is_file()) {
        let checkpoint = Checkpoint::load(file).map_err(|e| e.to_string())?;
        return Ok((file.clone(), of_checkpoint(&checkpoint)?));
    }
    match folders.iter().find(adapter) {
        Some(folder) => adapter_params(plan, folder).map(|given| (folder.clone(), given)),
        None => Err(format!("it holds neither {CONFIG} nor {CHECKPOINTS}/{TRAINED}")),
    }
}

fn of_checkpoint(checkpoint: &Checkpoint) -> Result<Given, String> {
    let one = |(name, values): (&str, &lorac_ir::Tensor)| {
        let data = values.to_vec::<f32>().map_err(|e| e.to_string())?;
        Ok((name.to_string(), (values.dims().to_vec(), data)))
    };
    checkpoint.params().map(one).collect()
}

/// theta of params that are all given, and nothing else with them. Those that stay as they begin, and are not given, are as
/// `drawn` has them.
fn theta(layout: &Layout, params: &[Param], drawn: &[f32], given: &Given) -> Result<Vec<f32>, String> {
    let mut theta = Vec::with_capacity(layout.len());
    let is_fixed = |name: &str| params.iter().any(|p| p.name == name && !p.is_trained());
    for slot in layout.slots() {
        let drawn = drawn.get(slot.start..slot.start + slot.len());
        if let Some(drawn) = drawn.filter(|_| is_fixed(&slot.name) && !given.contains_key(&slot.name)) {
            theta.extend_from_slice(drawn);
            continue;
        }
        let near = |of: &str| nearest(of, given.keys().map(String::as_str).collect::<Vec<_>>());
        let Some((dims, data)) = given.get(&slot.name) else {
            let near = near(&slot.name);
            let near = if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
            return Err(format!("it has nothing for `{}`, which is trained{near}", slot.name));
        };
        if *dims != slot.dims {
            return Err(format!("`{}` is {dims:?} there, and {:?} is trained", slot.name, slot.dims));
        }
        if let Some(x) = data.iter().find(|x| !x.is_finite()) {
            return Err(format!("`{}` holds {x}", slot.name));
        }
        theta.extend_from_slice(data);
    }
    match given.keys().find(|name| layout.slot(name).is_err()) {
        Some(other) => Err(format!("it has `{other}`, which is not trained here")),
        None => Ok(theta),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::ValueId;
    use lorac_passes::{Group, Init, Param};

    #[test]
    fn every_param_is_there_in_its_shape_and_no_other() {
        let param = |name: &str, dims: &[usize]| {
            let (init, group) = (Init::Zeros, Group::Adapter);
            Param { value: ValueId(0), name: name.into(), dims: dims.to_vec(), init, group, decay: true }
        };
        let params = [param("q.lora_A", &[1, 2]), param("q.lora_B", &[2, 1])];
        let layout = Layout::of(&params);
        let theta = |layout: &Layout, given: &Given| theta(layout, &params, &[0.0; 4], given);
        let given = |names: &[(&str, &[usize], &[f32])]| -> Given {
            names.iter().map(|(n, d, v)| (n.to_string(), (d.to_vec(), v.to_vec()))).collect()
        };
        let (a, b) =
            (("q.lora_A", &[1usize, 2][..], &[1.0f32, 2.0][..]), ("q.lora_B", &[2usize, 1][..], &[3.0f32, 4.0][..]));
        assert_eq!(theta(&layout, &given(&[b, a])), Ok(vec![1.0, 2.0, 3.0, 4.0]));
        for (names, says) in [
            (vec![a], "it has nothing for `q.lora_B`, which is trained; nearest: q.lora_A"),
            (vec![a, ("q.lora_B", &[1, 2], &[3.0, 4.0])], "`q.lora_B` is [1, 2] there, and [2, 1] is trained"),
            (vec![a, ("q.lora_B", &[2, 1], &[3.0, f32::NAN])], "`q.lora_B` holds NaN"),
            (vec![a, b, ("v.lora_A", &[1], &[1.0])], "it has `v.lora_A`, which is not trained here"),
        ] {
            assert_eq!(theta(&layout, &given(&names)), Err(says.to_string()));
        }
    }
}
