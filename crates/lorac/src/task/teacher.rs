//! A model that another one learns from.

use lorac_ir::{Dialect, Graph};
use lorac_onnx::Model;
use lorac_passes::{Caches, PassError, for_dialect};
use std::fmt;
use std::sync::Arc;

/// The graph of a teacher, read when a run is planned; which one it is, a pipeline's source says.
#[derive(Clone, Default)]
pub struct Teacher(Option<Arc<Read>>);

struct Read {
    graph: Graph,
    /// The graph may read its mapped file.
    _model: Model,
}

impl Teacher {
    /// Makes the graph of a model fit to stand in a training's graphs.
    ///
    /// # Errors
    /// What cannot be rewritten.
    pub fn of(model: Model) -> Result<Teacher, PassError> {
        let mut graph = model.graph.clone();
        // As the engine that reads least does.
        let least = Dialect { fused: false, i64_cumsum: false, half_gemm: false, empty_inputs: false, files: false };
        for_dialect(&mut graph, &model.functions, &Caches::default(), &least)?;
        Ok(Teacher(Some(Arc::new(Read { graph, _model: model }))))
    }

    /// The graph; none before it is read.
    pub fn graph(&self) -> Option<&Graph> {
        self.0.as_ref().map(|read| &read.graph)
    }
}

impl PartialEq for Teacher {
    fn eq(&self, other: &Teacher) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl fmt::Debug for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Teacher(read)" } else { "Teacher(not read)" })
    }
}
