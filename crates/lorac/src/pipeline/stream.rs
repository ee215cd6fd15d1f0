//! `data.train.stream`: a file that is read anew in every epoch, and never held whole.

use super::data::{Data, named};
use lorac_config::Problems;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;

/// How a file is streamed: `true`, or `{ buffer: 10000 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamOptions {
    /// Examples that are held at once, of which the next is drawn at random.
    pub buffer: usize,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions { buffer: 10_000 }
    }
}

impl<'de> Deserialize<'de> for StreamOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = StreamOptions;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("`true` or `buffer: EXAMPLES`")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<StreamOptions, E> {
                match on {
                    true => Ok(StreamOptions::default()),
                    false => Err(E::custom("leave `stream` out where the examples are held in memory")),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StreamOptions, A::Error> {
                let mut found = StreamOptions::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "buffer" => found.buffer = map.next_value()?,
                        _ => return Err(Error::unknown_field(&key, &["buffer"])),
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for StreamOptions {
    fn schema_name() -> Cow<'static, str> {
        "StreamOptions".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "true, or how many examples are held at once",
            "anyOf": [
                { "const": true },
                {
                    "type": "object",
                    "properties": { "buffer": {
                        "type": "integer", "minimum": 1, "default": 10000,
                        "description": "Examples that are held at once, of which the next is drawn at random",
                    } },
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// Reports what cannot be done with examples that are never there all at once.
pub(super) fn check(data: &Data, problems: &mut Problems) {
    for (path, split) in named("train", &data.train) {
        let Some(stream) = split.stream else { continue };
        problems.within(path, |p| {
            p.within("stream", |p| p.range("buffer", stream.buffer as f64, 1.0, 1e8));
            let mut refuse = |message: &str, help: &str| {
                p.report_with_help("stream", "pipeline::stream", message, Some(help.to_string()));
            };
            if data.train.len() > 1 {
                refuse("`stream`: a stream is the only source", "join the files, or leave `stream` out");
            }
            if !split.is_table() {
                let message = "`stream`: plain texts are cut into blocks, and each file is read whole";
                refuse(message, "write the texts as lines of a jsonl file, or leave `stream` out");
            }
            if split.weight.is_some() {
                refuse("`stream`: a weight is one among several sources", "leave `weight` out");
            }
            if data.eval.as_ref().is_some_and(|eval| eval.part().is_some()) {
                let message =
                    "`stream`: no part of a stream can be held out, whose examples are never there all at once";
                refuse(message, "name a file of held-out examples as data.eval, or leave `stream` out");
            }
        });
    }
    let held = data.eval.as_ref().map_or(&[][..], |eval| eval.sources());
    for (path, _) in named("eval", held).filter(|(_, split)| split.stream.is_some()) {
        let message = "`stream`: held-out examples are in memory, and evaluated in their order";
        problems.within(path, |p| p.report("stream", "pipeline::idle", message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_or_a_buffer() {
        let read = |json: &str| serde_json::from_str::<StreamOptions>(json).map_err(|e| e.to_string());
        assert_eq!(read("true"), Ok(StreamOptions { buffer: 10_000 }));
        assert_eq!(read("{\"buffer\": 50}"), Ok(StreamOptions { buffer: 50 }));
        assert!(["false", "7", "{\"size\": 5}"].iter().all(|wrong| read(wrong).is_err()));
        let stream = StreamOptions { buffer: 3 };
        assert_eq!(read(&serde_json::to_string(&stream).expect("writes")), Ok(stream));
    }
}
