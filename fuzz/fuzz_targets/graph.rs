//! The text form, and every pass behind it: `cargo +nightly fuzz run graph`.
#![no_main]

mod through;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(graph) = lorac::ir::parse(text) {
        let printed = lorac::ir::print(&graph);
        let again = lorac::ir::parse(&printed).expect("what is printed parses");
        assert_eq!(lorac::ir::print(&again), printed);
        through::through(graph, &[]);
    }
});
