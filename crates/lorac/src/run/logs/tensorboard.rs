//! Event files of TensorBoard: records of TFRecord (length, its masked CRC-32C, bytes, their masked CRC-32C), each an
//! `Event` of tensorflow/core/util/event.proto.

use prost::Message;
use serde_json::Value as Json;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What an event is written as: the fields of `tensorflow.Event` that scalars need.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// In the first event of a file alone.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// An event file that is being written.
pub(super) struct Events {
    file: File,
}

impl Events {
    /// Makes a file, which must not be there.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn begin(path: &Path, time: f64) -> std::io::Result<Events> {
        let mut events = Events { file: File::create_new(path)? };
        let version = Some("brain.Event:2".to_string());
        events.record(&Event { wall_time: time, file_version: version, ..Event::default() })?;
        Ok(events)
    }

    /// Writes the numbers of a line of metrics.jsonl: `train/loss` of a step, `eval/accuracy` of an evaluation. A line
    /// without such numbers writes nothing.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn write(&mut self, line: &Json) -> std::io::Result<()> {
        let group = match line["kind"].as_str() {
            Some("step") => "train",
            Some("eval") => "eval",
            _ => return Ok(()),
        };
        // They are the axes of what is drawn.
        const AXES: [&str; 4] = ["time", "step", "seconds", "seconds_left"];
        let fields = line.as_object().into_iter().flatten().filter(|(key, _)| !AXES.contains(&key.as_str()));
        let number = |value: &Json| match value {
            // JSON has no NaN.
            Json::Null => Some(f32::NAN),
            other => other.as_f64().map(|x| x as f32),
        };
        let value = fields
            .filter_map(|(key, value)| Some(Scalar { tag: format!("{group}/{key}"), simple_value: number(value)? }));
        let summary = Summary { value: value.collect() };
        let (step, time) = (line["step"].as_i64().unwrap_or(0), line["time"].as_f64().unwrap_or(0.0));
        self.record(&Event { wall_time: time, step, summary: Some(summary), ..Event::default() })
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn finish(&mut self) -> std::io::Result<()> {
        self.file.sync_all()
    }

    fn record(&mut self, event: &Event) -> std::io::Result<()> {
        let bytes = event.encode_to_vec();
        let length = (bytes.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(bytes.len() + 16);
        record.extend(length);
        record.extend(masked(&length).to_le_bytes());
        record.extend(&bytes);
        record.extend(masked(&bytes).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// The sum as TFRecord has it, so that sums of sums are not taken.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with the polynomial of Castagnoli (RFC 3720, section 12.1).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The events of a file, their sums checked.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).expect("reads");
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("eight")) as usize;
            let (record, after) = rest.split_at(length + 16);
            let sum = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four"));
            let data = &record[12..12 + length];
            assert_eq!((sum(8), sum(12 + length)), (masked(&record[..8]), masked(data)));
            events.push(Event::decode(data).expect("an event"));
            rest = after;
        }
        events
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn steps_and_evaluations_are_scalars() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("events");
        let mut events = Events::begin(&path, 7.5).expect("begins");
        for line in [
            json!({"kind": "eval", "time": 8.0, "eval": "before", "step": 0, "accuracy": 0.5, "examples": 24}),
            json!({"kind": "step", "time": 9.0, "step": 3, "loss": null, "lr": 0.25, "seconds": 1.0}),
            json!({"kind": "other", "x": 1}),
        ] {
            events.write(&line).expect("writes");
        }
        events.finish().expect("syncs");
        let read = read(&path);
        let of = |event: &Event| -> Vec<(String, f32)> {
            event.summary.iter().flat_map(|s| &s.value).map(|v| (v.tag.clone(), v.simple_value)).collect()
        };
        assert_eq!((read.len(), read[0].file_version.as_deref()), (3, Some("brain.Event:2")));
        assert_eq!(
            (read[1].step, of(&read[1])),
            (0, vec![("eval/accuracy".into(), 0.5), ("eval/examples".into(), 24.0)])
        );
        assert_eq!((read[2].step, read[2].wall_time, of(&read[2])[1].clone()), (3, 9.0, ("train/lr".into(), 0.25)));
        assert!(of(&read[2])[0].1.is_nan() && of(&read[2]).len() == 2);
        assert!(Events::begin(&path, 0.0).is_err());
    }
}
