//! A loaded model: its graph, and where in which file every weight lies.

use crate::OnnxError;
use crate::map::Mapped;
use crate::proto::FunctionProto;
use bytes::Bytes;
use lorac_ir::{Function, Graph, ValueId};
use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model as it was read. The weights of `graph` are ranges of its files in memory. Files of more than 16 MiB are mapped:
/// whoever shortens such a file while the model lives ends the process that touches what is gone, unless
/// [`Model::check_unchanged`] finds it before.
#[derive(Debug, Clone)]
pub struct Model {
    /// The computation. `Constant` nodes of tensors and numbers are weights here.
    pub graph: Graph,
    /// The file; empty for a model decoded from memory.
    pub path: PathBuf,
    /// The whole file, mapped.
    pub file: Bytes,
    /// Where the bytes of every weight lie.
    pub locations: HashMap<ValueId, Location>,
    /// Weights that are `Constant` nodes in the file.
    pub constants: HashSet<ValueId>,
    /// Version of the file format.
    pub ir_version: i64,
    /// Functions of the model, which nodes may call by domain and name (`name:overload` where it has an overload).
    pub functions: Vec<Function>,
    /// The functions as the file has them, for writing the graph again.
    pub function_protos: Vec<FunctionProto>,
    /// The model's own key-value pairs.
    pub metadata: BTreeMap<String, String>,
    /// Name and version of the tool that wrote the file.
    pub producer: String,
    /// Number of nodes in the file, `Constant` nodes included.
    pub node_count: usize,
    /// External data files that tensors refer to, by path relative to the model's folder.
    pub(crate) external: BTreeMap<PathBuf, Mapped>,
    pub(crate) mapped: Option<Mapped>,
    /// Models of which this one is put together; empty where it is one file.
    pub parts: Vec<ModelPart>,
    /// What has to live as long as the model: a guard of its files.
    pub keep: Option<Arc<dyn Any + Send + Sync>>,
}

/// A model that is part of another one: its file, and what its values are in the whole.
#[derive(Debug, Clone)]
pub struct ModelPart {
    /// The model of its file.
    pub model: Model,
    /// Its weights by those of the whole.
    pub weights: HashMap<ValueId, ValueId>,
    /// What its values are called in the whole, where they are called otherwise; of what it is fed by another part, as that part's
    /// output.
    pub renamed: HashMap<String, String>,
}

impl ModelPart {
    /// What a value of the part is called in the whole.
    pub fn name<'a>(&'a self, own: &'a str) -> &'a str {
        self.renamed.get(own).map_or(own, String::as_str)
    }

    /// What a weight of the whole is called in the part; none where it is another part's.
    pub fn own_name(&self, weight: ValueId) -> Option<String> {
        Some(self.model.graph.name_of(*self.weights.get(&weight)?))
    }
}

/// Where the bytes of a weight lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In the model's file, as little-endian elements: replaceable in place.
    Inline {
        /// Bytes of the file.
        range: Range<u64>,
    },
    /// In another file, replaceable in place there.
    External {
        /// The file, relative to the model's folder.
        path: PathBuf,
        /// Bytes of that file.
        range: Range<u64>,
    },
    /// In the model's file in a form that must be written anew to change it.
    Encoded {
        /// The form: the protobuf field.
        why: &'static str,
    },
}

impl Model {
    /// A model of several files, each a part of it that is fed by those before: `graph` is what they compute together. It has no
    /// file of its own, and what is patched, compared and run are its parts.
    pub fn of_parts(graph: Graph, path: PathBuf, parts: Vec<ModelPart>) -> Model {
        let models = || parts.iter().map(|part| &part.model);
        Model {
            graph,
            path,
            file: Bytes::new(),
            locations: HashMap::new(),
            constants: HashSet::new(),
            ir_version: models().map(|model| model.ir_version).max().unwrap_or_default(),
            functions: Vec::new(),
            function_protos: Vec::new(),
            metadata: models().flat_map(|model| model.metadata.clone()).collect(),
            producer: models().next().map(|model| model.producer.clone()).unwrap_or_default(),
            node_count: models().map(|model| model.node_count).sum(),
            external: BTreeMap::new(),
            mapped: None,
            parts,
            keep: None,
        }
    }

    /// The files beside the model's own that its weights lie in, relative to its folder, sorted.
    pub fn external_files(&self) -> impl Iterator<Item = &Path> {
        self.external.keys().map(PathBuf::as_path)
    }

    /// The contents of those files, as they were read, in the same order.
    pub fn external_contents(&self) -> impl Iterator<Item = (&Path, &Bytes)> {
        self.external.iter().map(|(path, file)| (path.as_path(), &file.bytes))
    }

    /// Refuses a model of which a mapped file has changed since: the same file on the disk, its length, and when it was
    /// last written. Whoever reads many weights asks before.
    ///
    /// # Errors
    /// [`OnnxError::ChangedOnDisk`].
    pub fn check_unchanged(&self) -> Result<(), OnnxError> {
        self.parts.iter().try_for_each(|part| part.model.check_unchanged())?;
        match self.mapped.iter().chain(self.external.values()).find(|file| !file.is_unchanged()) {
            Some(file) => Err(OnnxError::ChangedOnDisk { path: file.path.clone() }),
            None => Ok(()),
        }
    }

    /// The weight called `name`, with its location.
    pub fn location(&self, name: &str) -> Option<(ValueId, &Location)> {
        let id = self.graph.find(name)?;
        Some((id, self.locations.get(&id)?))
    }
}
