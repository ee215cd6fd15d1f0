//! A model whose encoder and decoder are two files, read as one model.

use crate::error::Error;
use lorac_ir::{Graph, ValueId};
use lorac_onnx::{Model, ModelPart, load};
use lorac_passes::{join, readable};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The encoder and the decoder among the models of a folder: those called `encoder_model.onnx` and `decoder_model.onnx`, else the only
/// ones whose names begin so. Decoders that take caches are none. Nothing where there are not both kinds.
///
/// # Errors
/// Several of a kind, and a decoder with caches alone.
pub(super) fn pair_of(folder: &Path, files: &[PathBuf]) -> Result<Option<[PathBuf; 2]>, Error> {
    let of = |kind: &str| -> Vec<(&str, &PathBuf)> {
        let named = files.iter().filter_map(|file| Some((file.file_name()?.to_str()?, file)));
        named.filter(|(name, _)| name.starts_with(kind)).collect()
    };
    let (encoders, decoders) = (of("encoder"), of("decoder"));
    if encoders.is_empty() || decoders.is_empty() {
        return Ok(None);
    }
    let plain: Vec<_> =
        decoders.iter().filter(|(name, _)| !name.contains("with_past") && !name.contains("merged")).copied().collect();
    let names =
        |list: &[(&str, &PathBuf)]| list.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let folder = folder.display();
    if plain.is_empty() {
        let have = names(&decoders);
        return Err(Error::Usage(format!(
            "{folder} has {have} and no decoder_model.onnx: a decoder that takes caches is not trained, and the one without is"
        )));
    }
    let one = |list: &[(&str, &PathBuf)], usual: &str| {
        match list {
        [(_, file)] => Ok((*file).clone()),
        many => many.iter().find(|(name, _)| *name == usual).map(|(_, file)| (*file).clone()).ok_or_else(|| {
            let have = names(many);
            Error::Usage(format!("{folder} holds {have}, and none of them is called {usual}: give the one that is meant that name, or move the others out of the folder"))
        }),
    }
    };
    Ok(Some([one(&encoders, "encoder_model.onnx")?, one(&plain, "decoder_model.onnx")?]))
}

/// An encoder and a decoder as one model, which has both as its parts.
///
/// # Errors
/// Files that cannot be read, and two that do not go together.
pub fn open_pair(encoder: &Path, decoder: &Path) -> Result<Model, Error> {
    let models = [load(encoder)?, load(decoder)?];
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let both = format!("`{}` and `{}`", name(encoder), name(decoder));
    let apart = |why: String| Error::Usage(format!("{both} are no encoder and decoder of one model: {why}"));
    let shared = models[0].external_files().find(|file| models[1].external_files().any(|other| other == *file));
    if let Some(file) = shared {
        return Err(apart(format!("both have weights in `{}`, and each is to have a file of its own", file.display())));
    }
    let [first, second] = &models;
    let graphs = [readable(&first.graph, &first.functions)?, readable(&second.graph, &second.functions)?];
    let joined = join(&graphs[0], &graphs[1]).map_err(|error| apart(error.to_string()))?;
    let parts = models
        .into_iter()
        .zip(&graphs)
        .zip(joined.values)
        .map(|((model, own), values)| part(model, own, &joined.graph, &values));
    let parts = parts.collect();
    Ok(Model::of_parts(joined.graph, encoder.to_path_buf(), parts))
}

fn part(model: Model, own: &Graph, whole: &Graph, values: &HashMap<ValueId, ValueId>) -> ModelPart {
    let names = values.iter().map(|(id, there)| (own.name_of(*id), whole.name_of(*there)));
    let renamed = names.filter(|(own, there)| own != there).collect();
    let weights = values.iter().filter(|(id, _)| model.graph.weight(**id).is_some());
    ModelPart { weights: weights.map(|(id, there)| (*there, *id)).collect(), renamed, model }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_files_are_found_by_their_names() {
        let found = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(|name| Path::new("m").join(name)).collect();
            let pair = pair_of(Path::new("m"), &files).map_err(|e| e.to_string())?;
            Ok::<_, String>(
                pair.map(|pair| pair.map(|file| file.file_name().expect("a name").to_string_lossy().into_owned())),
            )
        };
        let all =
            ["decoder_model.onnx", "decoder_model_merged.onnx", "decoder_with_past_model.onnx", "encoder_model.onnx"];
        let want = Ok(Some(["encoder_model.onnx".to_string(), "decoder_model.onnx".to_string()]));
        assert_eq!(found(&all), want);
        let more = [&all[..], &["encoder_model_fp16.onnx", "decoder_model_fp16.onnx"]].concat();
        assert_eq!(found(&more), want);
        assert_eq!(found(&["encoder.onnx", "decoder.onnx"]), Ok(Some(["encoder.onnx".into(), "decoder.onnx".into()])));
        assert_eq!((found(&["encoder_model.onnx", "model.onnx"]), found(&all[..1])), (Ok(None), Ok(None)));
        let said = found(&all[1..]).expect_err("no plain decoder");
        assert!(said.contains("`decoder_model_merged.onnx`") && said.contains("no decoder_model.onnx"), "{said}");
        let said = found(&["encoder_a.onnx", "encoder_b.onnx", "decoder_model.onnx"]).expect_err("two");
        assert!(
            said.contains("`encoder_a.onnx`, `encoder_b.onnx`")
                && said.contains("called encoder_model.onnx: give the one"),
            "{said}"
        );
    }
}
