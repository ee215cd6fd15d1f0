//! JSON as Python writes it.

use serde_json::Value;

/// What `json.dumps` makes of a value: with `, ` and `: ` between items, or as `separators` say, on lines where there is an
/// indent.
pub(crate) fn dumps(
    value: &Value,
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    separators: Option<[String; 2]>,
) -> String {
    let usual = if indent.is_some() { [",", ": "] } else { [", ", ": "] };
    let [item, key] = separators.unwrap_or(usual.map(String::from));
    let mut out = String::new();
    Writer { indent, ascii, sorted, item, key, out: &mut out }.value(value, 0);
    out
}

struct Writer<'o> {
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    item: String,
    key: String,
    out: &'o mut String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => self.list('[', ']', depth, items.len(), |w, i| w.value(&items[i], depth + 1)),
            Value::Object(fields) => {
                let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
                if self.sorted {
                    fields.sort_by_key(|(name, _)| *name);
                }
                self.list('{', '}', depth, fields.len(), |w, i| {
                    w.text(fields[i].0);
                    w.out.push_str(&w.key.clone());
                    w.value(fields[i].1, depth + 1);
                });
            }
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn list(&mut self, open: char, close: char, depth: usize, len: usize, mut each: impl FnMut(&mut Self, usize)) {
        self.out.push(open);
        for i in 0..len {
            if i > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            each(self, i);
        }
        if len > 0 {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent.min(64) * depth));
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = Value::from(text).to_string();
        if !self.ascii {
            self.out.push_str(&quoted);
            return;
        }
        for c in quoted.chars() {
            match c.is_ascii() {
                true => self.out.push(c),
                false => c.encode_utf16(&mut [0; 2]).iter().for_each(|u| self.out.push_str(&format!("\\u{u:04x}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_what_python_writes() {
        let value = json!({"b": [1, 2.5, null, true], "a": {"x": "é\"😀"}, "e": [], "o": {}});
        let plain = r#"{"b": [1, 2.5, null, true], "a": {"x": "é\"😀"}, "e": [], "o": {}}"#;
        assert_eq!(dumps(&value, None, false, false, None), plain);
        let ascii = r#"{"a": {"x": "\u00e9\"\ud83d\ude00"}, "b": [1, 2.5, null, true], "e": [], "o": {}}"#;
        assert_eq!(dumps(&value, None, true, true, None), ascii);
        let small = json!({"a": [1, 2]});
        assert_eq!(dumps(&small, Some(4), false, false, None), "{\n    \"a\": [\n        1,\n        2\n    ]\n}");
        assert_eq!(dumps(&small, None, false, false, Some([",", ":"].map(String::from))), "{\"a\":[1,2]}");
    }
}
