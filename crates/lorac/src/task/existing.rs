//! Which head a task trains: the one that the model has already, an output `[batch, outputs]`, or a new one.

use super::{HeadKind, LOGITS, NewHead, Subject};
use lorac_config::{Problem, Problems, nearest};
use lorac_ir::{Fact, Graph, ValueId};
use lorac_models::{Form, ModelKind};
use lorac_passes::{Attached, PassError, Pool, hidden_states, rewrite};

/// What a task says of its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    /// What it is made of.
    pub(super) kind: Option<HeadKind>,
    /// How hidden states become one vector.
    pub(super) pool: Option<Pool>,
    /// The output of hidden states that a new one is put on.
    pub(super) hidden: Option<&'a str>,
    /// The output that is the model's own.
    pub(super) logits: Option<&'a str>,
    /// Its outputs, where the task says how many.
    pub(super) outputs: Option<usize>,
    /// The operator that makes of its output what the loss does again: the loss is computed of what comes into it.
    pub(super) undone: Option<&'static str>,
}

/// The head that is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is made of: never [`HeadKind::Architecture`].
    pub(super) kind: HeadKind,
    /// The model's own output, where that is it, and its width.
    pub(super) own: Option<(String, usize)>,
    /// What a user should know of the choice.
    pub(super) notes: Vec<String>,
}

impl<'a> Asked<'a> {
    /// Whether the model's own head is asked for by name.
    fn wants_own(&self) -> bool {
        self.kind == Some(HeadKind::Existing) || (self.kind.is_none() && self.logits.is_some())
    }

    /// Whether a new head is asked for.
    fn wants_new(&self) -> bool {
        !self.wants_own() && (self.kind.is_some() || self.pool.is_some() || self.hidden.is_some())
    }

    /// Reports keys that say nothing beside the others.
    pub(super) fn check(&self, problems: &mut Problems) {
        let pool = self.pool.unwrap_or_default();
        match self.kind {
            Some(kind) => kind.check(pool, problems),
            None if self.logits.is_some() => HeadKind::Existing.check(pool, problems),
            None => {}
        }
        if self.logits.is_some() && self.kind.is_some_and(|kind| kind != HeadKind::Existing) {
            let message = "`logits` is the output of `head: existing`: a new head has an output of its own";
            problems.report("logits", "pipeline::idle", message);
        }
    }

    /// The new head, where the kind is one.
    pub(super) fn new_head(&self) -> Option<NewHead<'a>> {
        let kind = self.kind.unwrap_or_default();
        let (pool, hidden, outputs) = (self.pool.unwrap_or_default(), self.hidden, self.outputs.unwrap_or_default());
        (kind != HeadKind::Existing).then_some(NewHead { outputs, kind, pool, hidden })
    }

    /// The model's own head, where that is trained: its output, and nothing is trained beside the adaptations. In the graphs of
    /// a training alone, what comes into the operator that is undone is an output too.
    ///
    /// # Errors
    /// A model without it.
    pub(super) fn attach_own(&self, graph: &mut Graph) -> Result<Attached, PassError> {
        let (own, _) = own(graph, self.logits, self.outputs).map_err(PassError::Unsuitable)?;
        let Some(before) = self.before(graph, own) else { return Ok(Attached { prediction: own, params: Vec::new() }) };
        rewrite(graph, "head", |e| {
            let copied = e.named(LOGITS, "Identity", &[e.val(before)], &[], 1);
            let prediction = copied.first().map_or(before, |v| v.id());
            let all = [e.graph().outputs(), &[prediction]].concat();
            e.edit(|p| p.set_outputs(all));
            Ok(Attached { prediction, params: Vec::new() })
        })
    }

    /// What comes into the operator that is undone, where it makes an output.
    fn before(&self, graph: &Graph, own: ValueId) -> Option<ValueId> {
        let (_, node) = graph.producer(own).filter(|(_, node)| Some(&*node.op.name) == self.undone)?;
        let axis = node.int("axis", -1);
        node.input(0).filter(|_| axis == -1 || axis == 1)
    }

    /// Whether it is the model's own head that is trained, where the task has so many outputs.
    pub(super) fn finds_own(&self, subject: &Subject, outputs: usize) -> bool {
        let asked = Asked { outputs: Some(outputs), ..*self };
        asked.find(subject, "labels").is_ok_and(|found| found.kind == HeadKind::Existing)
    }

    /// What is built of a model of this kind that is not an `.onnx` file.
    pub(super) fn form(&self, kind: Option<&ModelKind>) -> Form {
        if self.wants_own() {
            return Form::Saved;
        }
        let fits = |kind: &ModelKind| self.outputs.is_none_or(|n| n == kind.labels.len());
        match kind.filter(|kind| kind.classifies && fits(kind) && !self.wants_new()) {
            Some(_) => Form::Saved,
            None => self.new_head().map_or(Form::Saved, |head| head.form()),
        }
    }

    /// Chooses the head for a model.
    ///
    /// # Errors
    /// A head that the model does not have, or whose width is another; the path is that of a key of the task. `key` is
    /// what says how many outputs there are.
    pub(super) fn find(&self, subject: &Subject, key: &str) -> Result<Found, Problem> {
        let graph = subject.graph;
        let new = |kind, notes| Ok(Found { kind, own: None, notes });
        if self.kind == Some(HeadKind::Architecture) {
            return new(super::head::architecture((subject.classes)())?, Vec::new());
        }
        if let (Some(kind), false) = (self.kind, self.wants_own()) {
            return new(kind, Vec::new());
        }
        let own = own(graph, self.logits, self.outputs);
        match own {
            Err(_) if self.wants_new() => new(HeadKind::Linear, Vec::new()),
            Ok((value, width)) if self.wants_new() => new(HeadKind::Linear, second(subject, value, width)),
            Err(why) if self.wants_own() => {
                let at = if self.logits.is_some() { "logits" } else { "head" };
                let help = "`head: linear` puts a new one on the hidden states".to_string();
                Err(Problem { path: at.into(), code: "pipeline::head", message: why, help: Some(help) })
            }
            Err(_) => new(HeadKind::Linear, Vec::new()),
            Ok((value, width)) if self.outputs.is_none_or(|n| n == width) => {
                let name = graph.name_of(value);
                let before = self.undone.filter(|_| self.before(graph, value).is_some());
                let before = before.map_or(String::new(), |op| format!(", by what is before its {op}"));
                let notes = vec![format!("the model's own head is trained: `{name}` {}{before}", graph.fact(value))];
                Ok(Found { kind: HeadKind::Existing, own: Some((name, width)), notes })
            }
            // What has hidden states can get a head that fits.
            Ok((value, width)) if !self.wants_own() && hidden_states(graph, None).is_ok() => {
                new(HeadKind::Linear, second(subject, value, width))
            }
            Ok((value, width)) => {
                let n = self.outputs.unwrap_or_default();
                let named = format!("`{}` {}", graph.name_of(value), graph.fact(value));
                let message = format!("the model's own head, {named}, has {width} outputs, and the task {n}");
                let help = match hidden_states(graph, None) {
                    Ok(_) => format!("give {width}, or say `head: linear` for a new head"),
                    Err(_) => {
                        format!("give {width}: the model has no output of hidden states that a new head could go on")
                    }
                };
                Err(Problem { path: key.into(), code: "pipeline::labels", message, help: Some(help) })
            }
        }
    }
}

/// What is said of an own head that is not the one that is trained, where it is one and no pooled vector.
fn second(subject: &Subject, own: ValueId, width: usize) -> Vec<String> {
    let (name, fact) = (subject.graph.name_of(own), subject.graph.fact(own));
    let note = format!(
        "a new head is trained, beside the model's own: `{name}` {fact} stays as it is (`head: existing` trains it)"
    );
    if name == LOGITS || subject.labels.len() == width { vec![note] } else { Vec::new() }
}

/// An output that is a head, and its width: the one called `name`; else the one called `logits`, or the first, of those
/// that have so many `outputs`, or of all where none has.
///
/// # Errors
/// Why there is none, in words.
fn own(graph: &Graph, name: Option<&str>, outputs: Option<usize>) -> Result<(ValueId, usize), String> {
    let width = |fact: &Fact| match fact.dims() {
        Some([_, width]) if fact.dtype.is_float() => width.known().and_then(|n| usize::try_from(n).ok()),
        _ => None,
    };
    let all: Vec<ValueId> = graph.outputs().to_vec();
    let list = || {
        let each = all.iter().map(|v| format!("`{}` {}", graph.name_of(*v), graph.fact(*v)));
        each.collect::<Vec<_>>().join(", ")
    };
    if let Some(name) = name {
        let Some(value) = all.iter().find(|v| graph.name_of(**v) == name) else {
            let near = nearest(name, all.iter().map(|v| graph.name_of(*v)));
            let near = near.first().map_or(String::new(), |near| format!("; nearest: {near}"));
            return Err(format!("the model has no output `{name}`: it has {}{near}", list()));
        };
        let fact = graph.fact(*value);
        return width(&fact).map(|width| (*value, width)).ok_or_else(|| {
            format!("`{name}` is {fact}: a head is a float output [batch, outputs] of a known number of outputs")
        });
    }
    let heads: Vec<(ValueId, usize)> = all.iter().filter_map(|v| Some((*v, width(&graph.fact(*v))?))).collect();
    let fits = |width: usize| outputs.is_none_or(|n| n == width);
    let fitting: Vec<(ValueId, usize)> = heads.iter().copied().filter(|(_, width)| fits(*width)).collect();
    let of = if fitting.is_empty() { &heads } else { &fitting };
    let usual = of.iter().find(|(v, _)| graph.name_of(*v) == LOGITS);
    usual
        .or(of.first())
        .copied()
        .ok_or_else(|| format!("the model has no head of its own, a float output [batch, outputs]: it has {}", list()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = "%hidden = Gather(%table, %ids) : f32[N,S,2]";

    fn graph(outputs: &[(&str, &str)]) -> Graph {
        let named: Vec<String> = outputs.iter().map(|(name, _)| format!("%{name}")).collect();
        let nodes = outputs.iter().map(|(name, dims)| match *name {
            "hidden" => HIDDEN.to_string(),
            name => format!("%{name} = Relu(%x_{name}) : {dims}"),
        });
        let inputs: Vec<String> = outputs.iter().map(|(name, dims)| format!("%x_{name}: {dims}")).collect();
        let text = format!(
            "graph g(%ids: i64[N,S], {}) -> {} {{\n %table = weight \"table\" f32[4,2] = [1, 2, 3, 4, 5, 6, 7, 8]\n {}\n}}",
            inputs.join(", "),
            named.join(", "),
            nodes.collect::<Vec<_>>().join("\n ")
        );
        lorac_ir::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_softmax_that_the_loss_has_itself_is_left_out_of_it() {
        let text = "graph g(%x: f32[N,3]) -> %p { %t = Tanh(%x) : f32[N,3]\n %p = Softmax(%t, axis=1) : f32[N,3] }";
        let mut graph = lorac_ir::parse(text).expect("parses");
        let asked =
            Asked { kind: Some(HeadKind::Existing), outputs: Some(3), undone: Some("Softmax"), ..Asked::default() };
        let outputs = |graph: &Graph| graph.outputs().iter().map(|v| graph.name_of(*v)).collect::<Vec<_>>();
        let plain = Asked { undone: None, ..asked }.attach_own(&mut graph.clone()).expect("attaches");
        assert_eq!(graph.name_of(plain.prediction), "p");
        let attached = asked.attach_own(&mut graph).expect("attaches");
        assert_eq!(
            (graph.name_of(attached.prediction).as_str(), outputs(&graph)),
            ("logits", vec!["p".into(), "logits".into()])
        );
        let x = lorac_ops::Array::from_shape_vec(vec![1, 3], vec![0.5, -1.0, 2.0]).expect("fits");
        let got = lorac_ops::evaluate(&graph, &[("x", x.clone())]).expect("runs").remove(1);
        assert_eq!(got, x.mapv(f64::tanh));
    }

    fn find(asked: Asked, outputs: &[(&str, &str)]) -> Result<(HeadKind, Option<String>), String> {
        let graph = graph(outputs);
        let subject = Subject { graph: &graph, labels: &[], columns: &[], of_data: &|| None, classes: &|| None };
        match asked.find(&subject, "labels") {
            Ok(found) => Ok((found.kind, found.own.map(|(name, _)| name))),
            Err(p) => Err(format!("{}: {} ({})", p.path, p.message, p.help.unwrap_or_default())),
        }
    }

    #[test]
    fn the_model_s_own_head_is_the_default_where_it_fits() {
        let hidden = ("hidden", "f32[N,S,2]");
        let asked = |n| Asked { outputs: Some(n), ..Asked::default() };
        let own = |name: &str| Ok((HeadKind::Existing, Some(name.to_string())));
        let new = Ok((HeadKind::Linear, None));
        assert_eq!(find(asked(3), &[hidden, ("scores", "f32[N,3]")]), own("scores"));
        assert_eq!(find(asked(3), &[("pooled", "f32[N,3]"), ("logits", "f32[N,3]")]), own("logits"));
        assert_eq!(find(asked(3), &[("logits", "f32[N,2]"), ("more", "f32[N,3]")]), own("more"));
        // A pooled vector, scores of every token, or of an unknown number of classes are none.
        for other in ["f32[N,8]", "f32[N,S,3]", "f32[N,K]", "i64[N,3]"] {
            assert_eq!(find(asked(3), &[hidden, ("other", other)]), new, "{other}");
        }
        for new_asked in [
            Asked { pool: Some(Pool::Mean), ..asked(3) },
            Asked { hidden: Some("hidden"), ..asked(3) },
            Asked { kind: Some(HeadKind::Linear), ..asked(3) },
        ] {
            assert_eq!(find(new_asked, &[hidden, ("logits", "f32[N,3]")]), new, "{new_asked:?}");
        }
        assert_eq!(find(Asked::default(), &[("a", "f32[N,5]")]), own("a"), "any width, where none is said");
    }

    #[test]
    fn a_head_that_does_not_fit_is_refused_with_the_numbers() {
        let asked = |n| Asked { outputs: Some(n), ..Asked::default() };
        let own = |n| Asked { kind: Some(HeadKind::Existing), ..asked(n) };
        let (hidden, logits) = (("hidden", "f32[N,S,2]"), ("logits", "f32[N,3]"));
        let want = "labels: the model's own head, `logits` f32[N,3], has 3 outputs, and the task 2 (give 3";
        for (asked, outputs) in [(own(2), vec![hidden, logits]), (own(2), vec![logits]), (asked(2), vec![logits])] {
            let wrong = find(asked, &outputs).expect_err("another width");
            assert!(wrong.starts_with(want), "{wrong}");
        }
        let none = find(own(2), &[hidden]).expect_err("no head");
        assert!(
            none.starts_with("head: the model has no head of its own") && none.contains("`hidden` f32[N,S,2]"),
            "{none}"
        );
        let wrong = find(Asked { logits: Some("logit"), ..asked(3) }, &[hidden, logits]).expect_err("no such output");
        assert!(
            wrong.starts_with("logits: the model has no output `logit`") && wrong.contains("nearest: logits"),
            "{wrong}"
        );
        let wrong = find(Asked { logits: Some("hidden"), ..asked(3) }, &[hidden, logits]).expect_err("no head");
        assert!(wrong.starts_with("logits: `hidden` is f32[N,S,2]: a head is"), "{wrong}");
    }
}
