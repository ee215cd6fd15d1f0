//! Typed ids. They print as they stand in the text form and are never reused after a deletion.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the graph's own table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A node: one application of an operator. Prints as `n7`.
    NodeId,
    "n"
);
id!(
    /// A value: a graph input, a weight or an output of a node. Prints as `%12`.
    ValueId,
    "%"
);
id!(
    /// A tensor held by the graph. Prints as `t3`.
    TensorId,
    "t"
);
