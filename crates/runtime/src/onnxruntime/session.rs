//! Builds a session: options, weights, and the folder of the external files that the model names.

use super::foreign::{Foreign, lend};
use super::inline::inline;
use super::{OnnxRuntime, cuda};
use crate::error::node_in;
use crate::ports::Ports;
use crate::{Backend, Device, Optimization, RuntimeError, Source};
use bytes::Bytes;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};
use tempfile::TempDir;

/// Weights up to this size are written into the model, where ONNX Runtime can read them while it optimizes. Folding may
/// produce no constant larger than this: it would read a large weight, and be a second copy of it.
const SMALL_BYTES: usize = 65536;

/// Rewrites that read the data of large weights. A model that one of them stumbles over is compiled without. Names that
/// a version does not know are ignored by it.
const READERS: &str = "ConstantFolding;AttentionFusion;EmbedLayerNormFusion;GroupQueryAttentionFusion;ConvBNFusion;\
                       ConvMulFusion;ConvAddFusion;MatMul_BatchNormalization_Fusion;NchwcTransformer;NhwcTransformer";

/// The rewrite that moves transpositions through a Resize, also through a cubic one, which is computed of images with their
/// channels first alone. ONNX Runtime folds where it may fold large results, so that others do not see it.
const MOVES_CHANNELS: &str = "TransposeOptimizer_CPUExecutionProvider";

/// A session and the memory that it reads.
pub(crate) struct Compiled {
    pub(crate) session: Session,
    /// The weights' bytes; dropped after the session.
    pub(crate) weights: Vec<Bytes>,
}

pub(crate) fn compile(engine: &OnnxRuntime, ports: &Ports, source: &Source) -> Result<Compiled, RuntimeError> {
    let backend = engine.name();
    let fail = |why: String| RuntimeError::Compile { backend: backend.clone(), node: node_in(&why), why };
    let external: HashMap<&str, &str> =
        ports.manifest.initializers.iter().filter_map(|i| Some((i.name.as_str(), i.location.as_deref()?))).collect();
    // Data that the model itself holds would win over bound data in some rewrites: there, ours is written over it.
    let (lent, small): (Vec<_>, Vec<_>) = source
        .weights
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .partition(|(name, t)| external.contains_key(name) && t.bytes().len() > SMALL_BYTES);
    let written = match small.is_empty() {
        true => None,
        false => Some(inline(&source.model, &small.into_iter().collect()).map_err(|e| fail(e.to_string()))?),
    };
    let model = written.as_deref().unwrap_or(&source.model);
    let folder = external_files(lent.iter().filter_map(|(name, _)| external.get(name).copied()), &fail)?;

    let on_host = engine.device == Device::Cpu;
    let unwanted = ports.manifest.has_cubic_resize.then_some(MOVES_CHANNELS);
    let attempt = |disabled: Option<&str>| -> Result<Compiled, RuntimeError> {
        let builder = Session::builder(&engine.loaded.environment).map_err(|e| fail(e.to_string()))?;
        let disabled: Vec<&str> = disabled.into_iter().chain(unwanted).collect();
        let mut builder = configure(engine, builder, &disabled.join(";")).map_err(|e| fail(e.to_string()))?;
        if let Some(folder) = &folder {
            let key = "session.model_external_initializers_file_folder_path";
            let path = folder.path().to_string_lossy();
            builder = builder.with_config_entry(key, path).map_err(|e| fail(e.to_string()))?;
        }
        let mut weights = Vec::new();
        for (name, tensor) in &lent {
            let Foreign { value, bytes } = lend(&backend, name, tensor)?;
            weights.push(bytes);
            // Lent memory is used in place only where the weight is computed with, on the CPU. For another device ONNX
            // Runtime would look for the data in the file; given as external data it is copied to the device.
            let bound = if on_host {
                builder.with_initializer(name, value)
            } else {
                builder.with_external_initializer(name, value)
            };
            builder = bound.map_err(|e| fail(e.to_string()))?;
        }
        let session = builder.commit_from_memory(model).map_err(|e| fail(e.to_string()))?;
        Ok(Compiled { session, weights })
    };
    // Before 1.27 folding cannot be limited.
    let disabled = (engine.loaded.minor < 27).then_some("ConstantFolding");
    match attempt(disabled) {
        // Messages of versions differ, so any failure is tried again without what could have asked for a weight's data.
        Err(first) if !lent.is_empty() => attempt(Some(READERS)).map_err(|_| first),
        result => result,
    }
}

fn configure(engine: &OnnxRuntime, builder: SessionBuilder, disabled: &str) -> ort::Result<SessionBuilder> {
    let level = match engine.options.optimization {
        Optimization::Off => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    // Pattern and prepacking each keep a copy of what they plan for: on a 105 MB model these and the limit on folding
    // take peak memory from 635 to 340 MB at the same speed.
    let builder = builder
        .with_optimization_level(level)?
        .with_intra_threads(engine.options.intra_threads())?
        .with_intra_op_spinning(true)?
        .with_memory_pattern(false)?
        .with_prepacking(false)?
        .with_config_entry("optimization.constant_folding_max_output_size_in_bytes", SMALL_BYTES.to_string())?;
    let builder = if disabled.is_empty() { builder } else { builder.with_disabled_optimizers(disabled)? };
    Ok(match engine.device {
        Device::Cuda => builder.with_execution_providers([cuda(&engine.options)])?,
        Device::Cpu => builder,
    })
}

/// A folder with an empty file at each of these locations. From 1.31 on ONNX Runtime checks that the
/// files exist, although all their tensors are bound; an empty file makes a read that should not happen an error.
fn external_files<'a>(
    locations: impl Iterator<Item = &'a str>,
    fail: &impl Fn(String) -> RuntimeError,
) -> Result<Option<TempDir>, RuntimeError> {
    let locations: BTreeSet<&str> = locations.collect();
    if locations.is_empty() {
        return Ok(None);
    }
    let refuse = |path: &Path| {
        let path = path.to_path_buf();
        |source| RuntimeError::Io { path, source }
    };
    let folder = TempDir::with_prefix("lorac-").map_err(|e| e.kind().into()).map_err(refuse(&std::env::temp_dir()))?;
    for location in locations {
        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !plain {
            return Err(fail(format!("external data at `{location}`, which is not a plain relative path")));
        }
        let path = folder.path().join(relative);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(refuse(parent))?;
        }
        std::fs::write(&path, []).map_err(refuse(&path))?;
    }
    Ok(Some(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stand_where_the_model_names_them_and_nowhere_else() {
        let fail = |why: String| RuntimeError::Compile { backend: "test".into(), node: None, why };
        let folder = external_files(["./a.bin", "b/c.bin"].into_iter(), &fail).expect("plain").expect("a folder");
        assert!(folder.path().join("a.bin").is_file() && folder.path().join("b/c.bin").is_file());
        for location in ["", "../a.bin", "/a.bin", "b/../../a.bin"] {
            let error = external_files([location].into_iter(), &fail).expect_err(location).to_string();
            assert!(error.contains(&format!("external data at `{location}`")), "{error}");
        }
    }
}
