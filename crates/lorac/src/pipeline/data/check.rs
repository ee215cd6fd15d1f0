//! What is wrong with data, as far as the pipeline alone says it.

use super::super::{check_pin, offer_value, stream};
use super::written::names;
use super::{Data, MOST_ROWS, OnError, Split, named, sign};
use crate::inputs::FIELDS;
use lorac_config::{Check, Problems};
use lorac_data::{Filter, Format, Template, TextEncoding, encode};

impl Check for Data {
    fn check(&self, problems: &mut Problems) {
        problems.range("max_length", self.max_length as f64, 4.0, 1e6);
        problems.range("pad_to_multiple", self.pad_to_multiple as f64, 1.0, 1024.0);
        problems.within("inputs", |p| {
            for (i, (field, name)) in self.inputs.iter().enumerate() {
                let known = [&FIELDS[..], &[encode::PIXELS]].concat();
                if !known.contains(&field.as_str()) {
                    let help = Some(offer_value(field, &known));
                    p.report_with_help(field, "pipeline::unknown_key", format!("unknown field `{field}`"), help);
                }
                if self.inputs.values().take(i).any(|other| other == name) {
                    p.report(field, "pipeline::inputs", format!("the input `{name}` stands for two fields"));
                }
            }
        });
        problems.within("images", |p| self.images.iter().for_each(|images| images.check(p)));
        if self.images.is_some() && !self.splits().any(|(_, split)| split.is_images()) {
            problems.report("images", "pipeline::idle", "`images`: no source of the data has images");
        }
        if self.on_error == OnError::Fail && self.max_errors.is_some() {
            problems.report("max_errors", "pipeline::idle", "`max_errors`: on_error is fail, which ends at the first");
        }
        if let Some(most) = self.max_errors {
            problems.range("max_errors", most as f64, 1.0, MOST_ROWS);
        }
        if self.train.is_empty() {
            problems.report(
                "train",
                "pipeline::split",
                format!("a split names its file by a format: one of {}", names()),
            );
        }
        for (path, split) in named("train", &self.train) {
            problems.within(path, |p| split.check(p));
        }
        problems.within("eval", |p| self.eval.iter().for_each(|eval| eval.check(p)));
        stream::check(self, problems);
    }
}

impl Check for Split {
    fn check(&self, problems: &mut Problems) {
        check_pin(&self.format, &self.source, self.sha256.as_deref(), problems);
        let settings = self.format().map_or(&[][..], Format::settings);
        let written = [
            ("separator", self.separator.is_some()),
            ("quote", self.quote.is_some()),
            ("columns", self.columns.is_some()),
            ("encoding", self.encoding.is_some()),
        ];
        for (key, _) in written.iter().filter(|(key, given)| *given && !settings.contains(key)) {
            problems.report(key, "pipeline::idle", format!("`{key}`: it says nothing about a {} file", self.format));
        }
        for (key, text) in [("separator", &self.separator), ("quote", &self.quote)] {
            let is_none = key == "quote" && text.as_deref() == Some("none");
            if let Some(text) = text.as_deref().filter(|text| !is_none && sign(text).is_none()) {
                problems.report(key, "pipeline::split", format!("`{text}` is not one character of ASCII"));
            }
        }
        if let Some(Err(near)) = self.encoding.as_deref().map(TextEncoding::named) {
            let name = self.encoding.as_deref().unwrap_or_default();
            let help = Some(if near.len() == 1 {
                format!("nearest: {}", near[0])
            } else {
                format!("known: {}", near.join(", "))
            });
            problems.report_with_help(
                "encoding",
                "pipeline::unknown_value",
                format!("unknown encoding `{name}`"),
                help,
            );
        }
        if self.separator.is_some() && self.written().separator == self.quote.as_deref().and_then(sign) {
            problems.report("separator", "pipeline::split", "the separator is the quote");
        }
        let columns = self.columns.iter().flatten().enumerate();
        for (i, column) in columns.filter(|(i, c)| self.columns.iter().flatten().take(*i).any(|other| other == *c)) {
            let message = format!("two columns are called `{column}`");
            problems.within("columns", |p| p.report(&i.to_string(), "pipeline::split", message));
        }
        if let Some(weight) = self.weight {
            problems.positive("weight", weight, 1000.0);
        }
        for (key, text) in [("text", &self.text), ("text_pair", &self.text_pair)] {
            if let Some(Err(e)) = text.as_deref().map(Template::parse) {
                problems.report(key, "pipeline::template", e);
            }
        }
        for (i, text) in self.negatives.iter().enumerate() {
            if let Err(e) = Template::parse(text) {
                problems.within("negatives", |p| p.report(&i.to_string(), "pipeline::template", e));
            }
        }
        if self.label_separator.as_ref().is_some_and(String::is_empty) {
            problems.report("label_separator", "pipeline::split", "nothing cannot stand between labels");
        }
        let of_texts = [
            ("include", !self.include.is_empty()),
            ("exclude", !self.exclude.is_empty()),
            ("block", self.block.is_some()),
        ];
        let (idle, why): (Vec<&str>, _) = match self.is_table() {
            true => (
                of_texts.into_iter().filter_map(|(key, given)| given.then_some(key)).collect(),
                "it is for plain texts: it says nothing about a table",
            ),
            false => (
                self.given().into_iter().chain(self.filter.is_some().then_some("filter")).collect(),
                "it is for tables: plain texts have no columns",
            ),
        };
        for key in idle {
            problems.report(key, "pipeline::idle", format!("`{key}`: {why}"));
        }
        self.check_dialogue(problems);
        for (input, _) in self.arrays.iter().filter(|(_, columns)| columns.is_empty()) {
            let message = format!("the input `{input}` has no column");
            problems.within("arrays", |p| p.report(input, "pipeline::split", message));
        }
        let other = !self.has_texts() || !self.arrays.is_empty();
        for (key, given) in [("text", self.text.is_some()), ("text_pair", self.text_pair.is_some())] {
            if given && other {
                let message = format!("`{key}`: the model is fed arrays and images, and no texts");
                problems.report(key, "pipeline::idle", message);
            }
        }
        if self.is_images() && !self.arrays.is_empty() {
            problems.report("arrays", "pipeline::idle", "`arrays`: folders of images have no columns of numbers");
        }
        let named = self.text_and_label()[0].is_some() || self.dialogue_key().is_some();
        if self.is_table() && !other && !named {
            problems.report("text", "pipeline::split", "a table needs the column of its texts: text: COLUMN");
        }
        for (key, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            for (i, pattern) in patterns.iter().enumerate() {
                if let Err(e) = globset::Glob::new(pattern) {
                    let message = format!("`{pattern}` is not a valid pattern: {}", e.kind());
                    problems.within(key, |p| p.report(&i.to_string(), "pipeline::glob", message));
                }
            }
        }
        if let Some(block) = self.block {
            problems.range("block", block as f64, 2.0, 1e6);
        }
        if let Some(take) = self.take {
            problems.range("take", take as f64, 1.0, MOST_ROWS);
        }
        problems.range("skip", self.skip as f64, 0.0, MOST_ROWS);
        if let Some(Err(e)) = self.filter.as_ref().map(|f| Filter::parse(f)) {
            problems.report("filter", "pipeline::filter", e);
        }
    }
}
