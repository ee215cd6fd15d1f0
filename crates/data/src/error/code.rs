//! Which fault an error is.

use super::DataError;
use crate::encoding::Malformed;

impl DataError {
    /// The error's name for good: `data::missing_column`. Messages may be reworded, codes are not.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "data::io",
            Self::Changed { .. } => "source::changed",
            Self::NotRegular { .. } => "data::not_regular",
            Self::OtherContent { .. } => "data::other_content",
            Self::BadFile { .. } => "data::bad_file",
            Self::Inflates { .. } => "data::inflates",
            Self::Utf16 { .. } => "data::utf16",
            Self::LongRow { .. } => "data::long_row",
            Self::ManyColumns { .. } => "data::many_columns",
            Self::OpenQuote { .. } => "data::open_quote",
            Self::Rows { faults, .. } => faults.first().map_or("data::empty", |fault| fault.error.code()),
            Self::NotUtf8 { .. } | Self::NotUtf8Text { .. } => "data::not_utf8",
            Self::NotEncoded { .. } => "data::not_encoded",
            Self::Ragged { .. } => "data::ragged",
            Self::BadJson { .. } | Self::BadList { .. } => "data::bad_json",
            Self::MissingColumn { .. } => "data::missing_column",
            Self::DuplicateColumn { .. } => "data::duplicate_column",
            Self::MissingField { .. } => "data::missing_field",
            Self::WrongType { .. } => "data::wrong_type",
            Self::NotANumber { .. } => "data::not_a_number",
            Self::UnknownLabel { .. } => "data::unknown_label",
            Self::LongText { .. } => "data::long_text",
            Self::ManyErrors { .. } => "data::many_errors",
            Self::Template(_) => "data::template",
            Self::NoClasses => "data::no_classes",
            Self::EmptyPart { .. } => "data::empty_part",
            Self::ChatTemplate { .. } => "data::chat_template",
            Self::NoChatTemplate => "data::no_chat_template",
            Self::Conversation { .. } => "data::conversation",
            Self::NoEndOfText => "data::no_end_of_text",
            Self::NothingToLearn { .. } => "data::nothing_to_learn",
            Self::TagCount { .. } => "data::tag_count",
            Self::UnknownMapping { .. } => "data::unknown_mapping",
            Self::ManyLabels { .. } => "data::many_labels",
            Self::DuplicateLabel { .. } => "data::duplicate_label",
            Self::Empty { .. } => "data::empty",
            Self::NoText { .. } => "data::no_text",
            Self::NoImage { .. } => "data::no_image",
            Self::ImageWithoutClass { .. } => "data::image_without_class",
            Self::BadImage { .. } => "data::bad_image",
            Self::LargeImage { .. } => "data::large_image",
            Self::ArrayRows { .. } => "data::array_rows",
            Self::Array { .. } => "data::array",
            Self::ArrayMismatch { .. } => "data::array_mismatch",
            Self::ShortBlock { .. } => "data::short_block",
            Self::NoBlock { .. } => "data::no_block",
            Self::Filter(_) => "data::filter",
            Self::EmptySelection { .. } => "data::empty_selection",
            Self::NoBatch { .. } => "data::no_batch",
            Self::BadTokenizer { .. } => "data::bad_tokenizer",
            Self::GrowingTokenizer { .. } => "data::growing_tokenizer",
            Self::MaxLengthTooSmall { .. } => "data::max_length_too_small",
            Self::Encode { .. } => "data::encode",
            Self::TooLong { .. } => "data::too_long",
            Self::LengthMismatch { .. } => "data::length_mismatch",
            Self::FieldMismatch { .. } => "data::field_mismatch",
            Self::NoExample { .. } => "data::no_example",
            Self::NoTokenizer { .. } => "data::no_tokenizer",
            Self::Tensor(_) => "data::tensor",
            Self::LabelOutOfRange { .. } => "data::label_out_of_range",
        }
    }
}

impl DataError {
    /// What the system, or a decompressor, says of a file.
    pub(crate) fn reading(path: &std::path::Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        let inner = source.get_ref();
        if let Some(malformed) = inner.and_then(|inner| inner.downcast_ref::<Malformed>()) {
            return Self::NotEncoded { path, what: malformed.to_string() };
        }
        match crate::compression::inflates(&source) {
            true => Self::Inflates { path, what: source.to_string() },
            false => Self::Io { path, source },
        }
    }

    /// Whether one row alone is wrong, so that the others can be used without it.
    #[must_use]
    pub fn is_of_a_row(&self) -> bool {
        match self {
            Self::NotUtf8 { row, .. } => *row > 0,
            Self::Ragged { .. }
            | Self::BadJson { .. }
            | Self::MissingField { .. }
            | Self::WrongType { .. }
            | Self::NotANumber { .. }
            | Self::UnknownLabel { .. }
            | Self::TagCount { .. }
            | Self::Conversation { .. }
            | Self::ImageWithoutClass { .. }
            | Self::BadImage { .. }
            | Self::LargeImage { .. }
            | Self::Array { .. }
            | Self::LongText { .. } => true,
            _ => false,
        }
    }
}
