//! Which module of a PyTorch class a matrix of the model is: by its own name, by the scopes that exporters leave on nodes,
//! by the bias behind it, by what it does and in which layer.

mod layers;

use crate::task::Class;
use layers::{LayerModules, layer_modules};
use lorac_ir::{Graph, NodeId, ValueId};
use lorac_models::{Classes, ModelKind, Place, base_path, classes_by_paths, classes_of};
use lorac_onnx::{Model, ModuleScope, module_scopes};
use lorac_passes::{Matrix, ReadAs, Role, matrices, product_bias};
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A module of a class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// Its path in the class: `bert.encoder.layer.0.attention.self.query`.
    pub path: String,
    /// Whether it is a `Conv1D`, which keeps its weight as `[in,out]`.
    pub conv1d: bool,
}

/// What names the modules of a model.
pub struct ModulePaths<'a> {
    graph: &'a Graph,
    scopes: HashMap<String, Vec<ModuleScope>>,
    classes: Option<&'static Classes>,
    /// `model_type`, where something says it.
    model_type: Option<String>,
    /// Whether the type of the model is known, and not only what its kin call their base model.
    known: bool,
    /// Number of layers, where the configuration says it.
    layers: Option<usize>,
    layer_modules: OnceCell<LayerModules>,
    /// Weights of an encoder in a file of its own, which may be all that its exporter saw.
    of_encoder: HashSet<ValueId>,
}

/// What the model itself says of a matrix.
struct Raw {
    path: String,
    conv1d: Option<bool>,
}

impl<'a> ModulePaths<'a> {
    /// For a model of this kind, where that is known, whose graph is `graph` once it can be read.
    pub fn new(model: &Model, graph: &'a Graph, kind: Option<ModelKind>) -> ModulePaths<'a> {
        let scopes = module_scopes(model);
        let layers = kind.as_ref().and_then(|kind| kind.layers);
        let given = kind.map(|kind| kind.model_type).filter(|t| !t.is_empty());
        let given = given.or_else(|| scopes.values().filter_map(|s| model_type(s)).min());
        let known = given.as_deref().and_then(classes_of);
        let layer_modules = OnceCell::new();
        let is_known = known.is_some();
        let of_encoder = match &model.parts[..] {
            [encoder, _] => encoder.weights.keys().copied().collect(),
            _ => HashSet::new(),
        };
        let mut paths = ModulePaths {
            graph,
            scopes,
            classes: known,
            model_type: given,
            known: is_known,
            layers,
            layer_modules,
            of_encoder,
        };
        if known.is_none() {
            let all: Vec<String> =
                matrices(graph).iter().filter_map(|m| Some(paths.raw(m).ok()?.into_iter().next()?.path)).collect();
            paths.classes = classes_by_paths(all.iter().map(String::as_str));
        }
        paths
    }

    /// The type of the model, by its configuration or by what exporters leave on nodes.
    pub fn model_type(&self) -> Option<&str> {
        self.model_type.as_deref()
    }

    /// What is known of the classes of the model's type, where that is known.
    pub fn classes(&self) -> Option<&'static Classes> {
        self.classes.filter(|_| self.known)
    }

    /// The modules of `class` that a matrix is the weight of: several where the file keeps equal weights once.
    ///
    /// # Errors
    /// Why none can be named.
    pub fn of(&self, matrix: &Matrix, class: Class) -> Result<Vec<Module>, String> {
        let raw = self.raw(matrix)?;
        let modules = raw.into_iter().map(|raw| {
            let path = self.path_in(&raw.path, class)?;
            let conv1d = raw.conv1d.unwrap_or_else(|| self.is_conv1d(&path, matrix));
            Ok(Module { path, conv1d })
        });
        modules.collect()
    }

    /// The module of `class` that a slice of a matrix is the weight of, where the file has in one what the class has apart.
    pub fn of_slice(&self, matrix: &Matrix, role: Role, class: Class) -> Option<Module> {
        let path = self.path_in(self.layer_modules().get(&(matrix.weight, role))?, class).ok()?;
        let conv1d = self.is_conv1d(&path, matrix);
        Some(Module { path, conv1d })
    }

    /// The module whose weight is all of a matrix, by what it does.
    fn by_role(&self, weight: ValueId) -> Option<String> {
        let mut own = self.layer_modules().iter().filter(|((w, _), _)| *w == weight).map(|(_, path)| path);
        let first = own.next()?;
        own.all(|path| path == first).then(|| first.clone())
    }

    fn layer_modules(&self) -> &LayerModules {
        self.layer_modules.get_or_init(|| match (self.classes(), self.layers) {
            (Some(classes), Some(layers)) => layer_modules(self.graph, classes, layers),
            _ => LayerModules::new(),
        })
    }

    /// Whether a module is a `Conv1D`, as its class does not say: the type of the model does, or a weight that the file
    /// keeps by its name as `[in,out]`.
    pub fn is_conv1d(&self, path: &str, matrix: &Matrix) -> bool {
        let leaf = path.rsplit('.').next().unwrap_or_default();
        let usual = ["c_attn", "c_proj", "c_fc", "q_attn"].contains(&leaf);
        match self.classes() {
            Some(classes) => classes.conv1d && usual,
            None => usual && !matrix.transposed && own_path(&matrix.name).is_some(),
        }
    }

    /// A path as the model has it, as `class` has it.
    ///
    /// # Errors
    /// A module that the class does not have.
    pub fn path_in(&self, raw: &str, class: Class) -> Result<String, String> {
        let Some(classes) = self.classes else {
            let base = base_path(raw).filter(|_| class == Class::Base);
            return Ok(base.unwrap_or_else(|| raw.to_string()));
        };
        let heads: &[&str] = match class {
            Class::Base => &[],
            Class::SequenceClassification => &["classifier", "pre_classifier", "score"],
            Class::TokenClassification => &["classifier", "score"],
            Class::CausalLm | Class::MaskedLm | Class::Seq2SeqLm => {
                &["lm_head", "embed_out", "cls", "vocab_projector", "vocab_transform"]
            }
        };
        match classes.place(raw) {
            Some(Place::Base(path)) if class == Class::Base || classes.base.is_empty() => Ok(path),
            Some(Place::Base(path)) => Ok(format!("{}.{path}", classes.base)),
            Some(Place::Head(path)) if heads.contains(&path.split('.').next().unwrap_or_default()) => Ok(path),
            Some(Place::Head(path)) => Err(format!("it is `{path}`, which {} does not have", class.auto())),
            None => Err(format!("it is `{raw}`, which is not a module of {}", classes.model_types.join(", "))),
        }
    }

    fn raw(&self, matrix: &Matrix) -> Result<Vec<Raw>, String> {
        let mut found = self.raw_in_file(matrix)?;
        for raw in found.iter_mut().filter(|_| self.of_encoder.contains(&matrix.weight)) {
            if raw.path.split('.').all(|part| part != "encoder") {
                raw.path.insert_str(0, "encoder.");
            }
        }
        Ok(found)
    }

    fn raw_in_file(&self, matrix: &Matrix) -> Result<Vec<Raw>, String> {
        let unknown = || "neither its name nor the nodes around it say which module it is".to_string();
        if matrix.read_as != ReadAs::Product {
            let own = own_path(&matrix.name).map(String::from);
            let path = own.or_else(|| self.scope_of(*matrix.products.first()?, matrix.read_as));
            return Ok(vec![Raw { path: path.ok_or_else(unknown)?, conv1d: Some(false) }]);
        }
        let named_after = |product: &NodeId| Some(is_of_node(&matrix.name, &self.graph.node(*product)?.op.name));
        if matrix.products.first().and_then(named_after).unwrap_or(false) {
            // Whoever wrote the file gave names of its own to nodes, too.
            let path = self.by_role(matrix.weight).ok_or_else(unknown)?;
            return Ok(vec![Raw { path, conv1d: None }]);
        }
        let scoped: Option<Vec<Raw>> = matrix.products.iter().map(|p| self.scope(*p, &matrix.name)).collect();
        let mut seen = BTreeSet::new();
        let mut scoped: Vec<Raw> = scoped.unwrap_or_default();
        scoped.retain(|raw| seen.insert(raw.path.clone()));
        if scoped.len() > 1 {
            return Ok(scoped);
        }
        if let Some(path) = own_path(&matrix.name) {
            let conv1d = scoped.first().and_then(|raw| raw.conv1d);
            return Ok(vec![Raw { path: path.to_string(), conv1d }]);
        }
        if !scoped.is_empty() {
            return Ok(scoped);
        }
        let beside = match matrix.products.as_slice() {
            [product] => self.bias_beside(*product),
            _ => None,
        };
        let path = beside.or_else(|| self.by_role(matrix.weight)).ok_or_else(unknown)?;
        Ok(vec![Raw { path, conv1d: None }])
    }

    /// The module of embeddings, or of a convolution, that a node is in.
    fn scope_of(&self, reader: NodeId, read_as: ReadAs) -> Option<String> {
        let node = self.graph.node(reader)?;
        let result = node.outputs.first().map(|v| self.graph.name_of(*v)).unwrap_or_default();
        let Some(scopes) = self.scopes.get(&result) else { return of_node_name(&node.origin.source) };
        let inner = scopes.last()?;
        let class = inner.class.rsplit('.').next().unwrap_or_default();
        let fits = if read_as == ReadAs::Lookup { class.ends_with("Embedding") } else { class.starts_with("Conv") };
        fits.then(|| unwrapped(scopes, &inner.path))
    }

    /// The linear module that a product is in.
    fn scope(&self, product: NodeId, weight: &str) -> Option<Raw> {
        let node = self.graph.node(product)?;
        let result = node.outputs.first().map(|v| self.graph.name_of(*v)).unwrap_or_default();
        if let Some(scopes) = self.scopes.get(&result) {
            let inner = scopes.last()?;
            let conv1d = inner.class.ends_with("Conv1D");
            let linear = conv1d || inner.class.ends_with("Linear");
            return linear.then(|| Raw { path: unwrapped(scopes, &inner.path), conv1d: Some(conv1d) });
        }
        let path = of_node_name(&node.origin.source)?;
        // A parameter of this module that is not a linear module's weight: `self_attn.in_proj_weight`.
        let parameter = weight.strip_prefix(&path).is_some_and(|end| end.starts_with('.') && end != ".weight");
        (!parameter).then_some(Raw { path, conv1d: None })
    }

    /// The bias that is added to the only product of a matrix.
    pub fn bias_of(&self, matrix: &Matrix) -> Option<ValueId> {
        let [product] = matrix.products[..] else { return None };
        product_bias(self.graph, product)
    }

    /// The module of the bias that is added to a product and to nothing else.
    fn bias_beside(&self, product: NodeId) -> Option<String> {
        let value = self.graph.value(product_bias(self.graph, product)?)?;
        let own = value.uses().len() == 1;
        value.name.strip_suffix(".bias").filter(|path| own && is_path(path)).map(str::to_string)
    }
}

/// The path that a weight's own name says: `encoder.layer.0.output.dense.weight`.
fn own_path(name: &str) -> Option<&str> {
    own_path_of(name, "weight")
}

/// The path that the name of a parameter `end` of a module says.
pub(crate) fn own_path_of<'n>(name: &'n str, end: &str) -> Option<&'n str> {
    name.strip_suffix(end)?.strip_suffix('.').filter(|path| is_path(path))
}

/// Whether a weight has the name of the node that reads it: `model.layers.0.attn.qkv_proj.MatMul.weight`.
fn is_of_node(weight: &str, operator: &str) -> bool {
    own_path(weight).and_then(|path| path.rsplit('.').next()) == Some(operator)
}

/// Whether a text is names and numbers with dots between them.
fn is_path(text: &str) -> bool {
    let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    text.split('.').all(word)
}

/// The module of `/encoder/layer.0/output/dense/MatMul`.
fn of_node_name(name: &str) -> Option<String> {
    let (path, _) = name.strip_prefix('/')?.rsplit_once('/')?;
    let path = path.replace('/', ".");
    is_path(&path).then_some(path)
}

/// A path from the outermost class of `transformers` on.
fn unwrapped(scopes: &[ModuleScope], path: &str) -> String {
    let outer = scopes.iter().find(|s| of_transformers(s).is_some()).map_or("", |s| s.path.as_str());
    let inner = path.strip_prefix(outer).and_then(|rest| rest.strip_prefix('.'));
    inner.filter(|_| !outer.is_empty()).unwrap_or(path).to_string()
}

/// `bert` of `transformers.models.bert.modeling_bert.BertModel`.
fn of_transformers(scope: &ModuleScope) -> Option<&str> {
    scope.class.strip_prefix("transformers.models.")?.split('.').next()
}

fn model_type(scopes: &[ModuleScope]) -> Option<String> {
    scopes.iter().find_map(of_transformers).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str, known: Option<&str>) -> (Graph, Option<&'static Classes>) {
        (lorac_ir::parse(text).expect("parses"), known.and_then(classes_of))
    }

    fn names(text: &str, known: Option<&str>, scopes: &[(&str, &[(&str, &str)])], class: Class) -> Vec<String> {
        let (graph, classes) = paths(text, known);
        let scope = |(path, class): &(&str, &str)| ModuleScope { path: path.to_string(), class: class.to_string() };
        let scopes = scopes.iter().map(|(v, s)| (v.to_string(), s.iter().map(scope).collect())).collect();
        let (known, layer_modules) = (known.is_some(), OnceCell::new());
        let of_encoder = graph.weights().filter(|(_, v, _)| v.name.starts_with("onnx::E")).map(|w| w.0).collect();
        let paths = ModulePaths {
            graph: &graph,
            scopes,
            classes,
            model_type: None,
            known,
            layers: None,
            layer_modules,
            of_encoder,
        };
        let name = |m: &Matrix| match paths.of(m, class) {
            Ok(all) => {
                let each = all.iter().map(|m| format!("{}{}", m.path, if m.conv1d { " (Conv1D)" } else { "" }));
                each.collect::<Vec<_>>().join(" and ")
            }
            Err(why) => why,
        };
        matrices(&graph).iter().map(name).collect()
    }

    const BERT: &str = "graph g(%x: f32[2,2]) -> %y {
        %w = weight \"onnx::MatMul_7\" f32[2,2] = [1, 2, 3, 4]
        %b = weight \"m.encoder.layer.3.attention.self.query.bias\" f32[2] = [1, 2]
        %p = MatMul(%x, %w) : f32[2,2]
        %y = Add(%b, %p) : f32[2,2]
    }";

    #[test]
    fn the_bias_behind_a_product_names_it() {
        let query = "encoder.layer.3.attention.self.query";
        assert_eq!(names(BERT, Some("bert"), &[], Class::Base), [query]);
        assert_eq!(names(BERT, Some("bert"), &[], Class::SequenceClassification), [format!("bert.{query}")]);
        assert_eq!(names(BERT, None, &[], Class::Base), [query]);
        // One bias of several modules, as an exporter keeps equal ones, says nothing.
        let shared = BERT.replace("%y = Add(%b, %p)", "%q = Add(%b, %p) : f32[2,2]\n %y = Add(%q, %b)");
        assert!(names(&shared, Some("bert"), &[], Class::Base)[0].contains("neither its name"));
    }

    #[test]
    fn an_encoder_that_was_exported_alone_is_that_of_the_whole_model() {
        let text = |path: &str| {
            format!(
                "graph g(%x: f32[2,2]) -> %y {{
                %w = weight \"onnx::E_7\" f32[2,2] = [1, 2, 3, 4]
                %b = weight \"{path}.bias\" f32[2] = [1, 2]
                %p = MatMul(%x, %w) : f32[2,2]
                %y = Add(%b, %p) : f32[2,2]
            }}"
            )
        };
        let query = "block.0.layer.0.SelfAttention.q";
        for path in [query.to_string(), format!("encoder.{query}"), format!("m.encoder.{query}")] {
            let found = names(&text(&path), Some("t5"), &[], Class::Seq2SeqLm);
            assert_eq!(found, [format!("encoder.{query}")]);
        }
    }

    #[test]
    fn the_scope_of_a_node_names_its_weights() {
        let outer = [("m", "transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel")];
        let leaf = |class| [outer[0], ("m.transformer.h.1.mlp.c_fc", class)];
        let conv = leaf("transformers.pytorch_utils.Conv1D");
        let own = leaf("__main__.Mine");
        let name = |scopes, known, class| names(BERT, known, &[("p", scopes)], class);
        assert_eq!(name(&conv, Some("gpt2"), Class::CausalLm), ["transformer.h.1.mlp.c_fc (Conv1D)"]);
        assert_eq!(name(&conv, Some("gpt2"), Class::Base), ["h.1.mlp.c_fc (Conv1D)"]);
        assert_eq!(name(&conv, None, Class::CausalLm), ["transformer.h.1.mlp.c_fc (Conv1D)"]);
        // A module that is not a linear map is not the weight's.
        assert!(name(&own, Some("gpt2"), Class::Base)[0].contains("is not a module of gpt2"));
    }

    #[test]
    fn equal_weights_that_a_file_keeps_once_are_several_modules() {
        let text = "graph g(%x: f32[2,2]) -> %y {
            %w = weight \"model.layers.0.mlp.up_proj.weight\" f32[2,2] = [1, 2, 3, 4]
            %p = MatMul(%x, %w) : f32[2,2]
            %y = MatMul(%p, %w) : f32[2,2]
        }";
        let linear = "torch.nn.modules.linear.Linear";
        let scopes: [(&str, &[(&str, &str)]); 2] =
            [("p", &[("model.layers.0.mlp.up_proj", linear)]), ("y", &[("model.layers.1.mlp.up_proj", linear)])];
        let up = |i| format!("model.layers.{i}.mlp.up_proj");
        assert_eq!(names(text, Some("llama"), &scopes, Class::CausalLm), [format!("{} and {}", up(0), up(1))]);
        assert_eq!(names(text, Some("llama"), &scopes[..1], Class::CausalLm), [up(0)]);
    }

    #[test]
    fn a_module_that_the_class_lacks_is_not_named() {
        let text = BERT.replace("onnx::MatMul_7", "lm_head.weight");
        assert_eq!(names(&text, Some("llama"), &[], Class::CausalLm), ["lm_head"]);
        let why = "it is `lm_head`, which AutoModel does not have";
        assert_eq!(names(&text, Some("llama"), &[], Class::Base), [why]);
    }

    #[test]
    fn names_of_nodes_are_paths() {
        assert_eq!(of_node_name("/encoder/layer.0/dense/MatMul_1").as_deref(), Some("encoder.layer.0.dense"));
        for other in ["/MatMul", "MatMul_3", "node_MatMul_3", "", "/a//MatMul", "/a b/MatMul"] {
            assert_eq!(of_node_name(other), None, "{other}");
        }
        assert_eq!(own_path("h.0.attn.c_attn.weight"), Some("h.0.attn.c_attn"));
        for other in ["onnx::MatMul_3", "val_3", "MatMul_3.weight_quantized", "/a/b.weight"] {
            assert_eq!(own_path(other), None, "{other}");
        }
        assert!(is_of_node("model.layers.0.attn.qkv_proj.MatMul.weight", "MatMul"));
        assert!(!is_of_node("model.layers.0.attn.qkv_proj.weight", "MatMul") && !is_of_node("MatMul_3", "MatMul"));
    }
}
