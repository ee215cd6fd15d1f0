//! The names of labels that a task leaves open: those of the model's own head, or those that the training set has.

use super::Subject;
use lorac_config::Problem;

impl Subject<'_> {
    /// The labels of a task that names none: those that config.json says of the model's own head, where it is of that many outputs
    /// and trained; else those of the training set. `LABEL_0` and its kin are no names where the training set has others for as
    /// many. None where nobody knows them.
    pub(super) fn open_labels(&self, is_own: impl Fn(usize) -> bool) -> Vec<String> {
        let said = self.labels;
        let own = !said.is_empty() && is_own(said.len());
        if own && !is_numbered(said) {
            return said.to_vec();
        }
        let of_data = (self.of_data)().unwrap_or_default();
        let is_known =
            |label: &String| said.contains(label) || label.parse().is_ok_and(|index: usize| index < said.len());
        if own && of_data.iter().all(is_known) { said.to_vec() } else { of_data }
    }

    /// Checks that a task's labels have names. Where config.json has those of the model's own head of so many outputs in
    /// another order, that is noted.
    ///
    /// # Errors
    /// Labels that nobody names.
    pub(super) fn named_labels(
        &self,
        labels: &[String],
        own: Option<usize>,
        notes: &mut Vec<String>,
    ) -> Result<(), Problem> {
        let said = if own == Some(self.labels.len()) { self.labels } else { &[] };
        let renamed = !said.is_empty() && said != labels && said.iter().all(|name| labels.contains(name));
        if renamed {
            let said = said.join(", ");
            notes.push(format!("the model's config.json has the labels in another order than the pipeline: {said}"));
        }
        if !labels.is_empty() {
            return Ok(());
        }
        let message = "the task needs its labels, in the order of the logits: neither the training set nor the config.json of a \
                       model with a head says them";
        let help = Some("labels: [negative, positive]".to_string());
        Err(Problem { path: "labels".into(), code: "pipeline::labels", message: message.into(), help })
    }
}

/// Whether names are those that `transformers` gives where nobody does.
fn is_numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorac_ir::Graph;

    fn open(said: &[&str], of_data: &[&str], own: usize) -> Vec<String> {
        let strings = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (graph, said, of_data) = (Graph::new("g", 20), strings(said), strings(of_data));
        let of_data = || Some(of_data.clone());
        let subject = Subject { graph: &graph, labels: &said, columns: &[], of_data: &of_data, classes: &|| None };
        subject.open_labels(|n| n == own)
    }

    #[test]
    fn names_are_the_model_s_where_its_head_has_some() {
        let numbered = ["LABEL_0", "LABEL_1", "LABEL_2"];
        assert_eq!(open(&["neg", "pos"], &["bad", "good"], 2), ["neg", "pos"]);
        assert_eq!(open(&["neg", "pos"], &["bad", "good"], 0), ["bad", "good"], "another head");
        assert_eq!(open(&[], &["bad", "good"], 2), ["bad", "good"]);
        assert_eq!(open(&numbered, &["a", "b", "c"], 3), ["a", "b", "c"], "nobody has named them");
        for same in [&["0", "1", "2"][..], &["LABEL_0", "LABEL_2"], &["0"]] {
            assert_eq!(open(&numbered, same, 3), numbered, "{same:?}");
        }
        assert_eq!(open(&numbered, &["1", "2", "3"], 3), ["1", "2", "3"]);
    }
}
