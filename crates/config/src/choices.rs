//! A choice among several: one file for each, and one line where the folder lists them.

use schemars::{Schema, json_schema};
use serde_json::Value;

/// Declares the members of a folder, a line each, and the choice among them.
///
/// For every line `name: Type` there is a module `name` (the file `name.rs`) with a struct `Type`, which implements the
/// trait behind `dyn`, [`Check`](crate::Check) and serde. The enum dereferences to the trait, is written in a
/// configuration as `name: { settings }`, or as a bare `name` where every setting has a default, and checks its member.
///
/// rustfmt does not follow a `mod` that a macro writes: the members are formatted by their paths.
///
/// ```ignore
/// lorac_config::choices! {
///     /// The learning rate over time.
///     pub enum ScheduleChoice: Schedule {
///         linear: Linear,
///         constant: Constant,
///     }
/// }
/// ```
#[macro_export]
macro_rules! choices {
    ($(#[$doc:meta])* pub enum $choice:ident: $kind:ident { $($name:ident: $member:ident,)* }) => {
        $(mod $name; pub use $name::$member;)*

        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $choice {
            $(
                #[allow(missing_docs)]
                $member($member),
            )*
        }

        impl $choice {
            /// Every member by its name.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The member's name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$member(_) => stringify!($name),)* }
            }
        }

        impl std::ops::Deref for $choice {
            type Target = dyn $kind;
            fn deref(&self) -> &(dyn $kind + 'static) {
                match self { $(Self::$member(member) => member,)* }
            }
        }

        $(impl From<$member> for $choice {
            fn from(member: $member) -> Self { Self::$member(member) }
        })*

        impl $crate::Check for $choice {
            fn check(&self, problems: &mut $crate::Problems) {
                problems.within(self.name(), |p| match self { $(Self::$member(member) => $crate::Check::check(member, p),)* });
            }
        }

        impl $crate::serde::Serialize for $choice {
            fn serialize<S: $crate::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use $crate::serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(Some(1))?;
                match self { $(Self::$member(member) => map.serialize_entry(self.name(), member)?,)* }
                map.end()
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $choice {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> $crate::serde::de::Visitor<'de> for Visitor {
                    type Value = $choice;
                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        write!(f, "one of {}", $choice::NAMES.join(", "))
                    }
                    fn visit_enum<A: $crate::serde::de::EnumAccess<'de>>(self, data: A) -> Result<$choice, A::Error> {
                        use $crate::serde::de::VariantAccess;
                        let (name, settings) = data.variant::<String>()?;
                        $(if name == stringify!($name) {
                            return Ok($choice::$member(settings.newtype_variant()?));
                        })*
                        Err($crate::serde::de::Error::unknown_variant(&name, $choice::NAMES))
                    }
                }
                deserializer.deserialize_enum(stringify!($choice), $choice::NAMES, Visitor)
            }
        }

        impl $crate::schemars::JsonSchema for $choice {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($choice).into()
            }
            fn json_schema(generator: &mut $crate::schemars::SchemaGenerator) -> $crate::schemars::Schema {
                let members = vec![$((stringify!($name), generator.root_schema_for::<$member>(), generator.subschema_for::<$member>()),)*];
                $crate::choice_schema(members)
            }
        }
    };
}

/// Declares the members of a folder that have no settings, a line each, and the list of them.
///
/// For every line `name: Type` there is a module `name` (the file `name.rs`) with a unit struct `Type`, which implements
/// the trait of the list.
///
/// rustfmt does not follow a `mod` that a macro writes: the members are formatted by their paths.
///
/// ```ignore
/// lorac_config::members! {
///     /// Every metric.
///     pub static METRICS: dyn Metric = {
///         accuracy: Accuracy,
///         f1: F1,
///     };
/// }
/// ```
#[macro_export]
macro_rules! members {
    ($(#[$doc:meta])* pub static $list:ident: dyn $kind:ident = { $($name:ident: $member:ident,)* };) => {
        $(mod $name; pub use $name::$member;)*

        $(#[$doc])*
        pub static $list: &[(&str, &(dyn $kind + Sync))] = &[$((stringify!($name), &$member)),*];
    };
}

/// The schema of a choice: an object with one key, the member's name, or the bare name where nothing is required. Members
/// are given by name, with their whole schema and with a reference to it.
#[doc(hidden)]
pub fn choice_schema(members: Vec<(&str, Schema, Schema)>) -> Schema {
    let mut forms: Vec<Value> = Vec::new();
    let about = |s: &Schema| s.get("description").cloned().unwrap_or_default();
    let bare = members.iter().filter(|(_, whole, _)| {
        whole.get("required").and_then(Value::as_array).is_none_or(|required| required.is_empty())
    });
    for (name, whole, _) in bare {
        forms.push(serde_json::json!({ "const": name, "description": about(whole) }));
    }
    for (name, whole, reference) in &members {
        forms.push(serde_json::json!({
            "type": "object",
            "description": about(whole),
            "properties": { *name: reference },
            "required": [name],
            "additionalProperties": false,
        }));
    }
    json_schema!({ "oneOf": forms })
}
