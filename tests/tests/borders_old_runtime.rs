//! A model that is newer than the runtime that it is to be trained with. A process loads one runtime: this has its own.

use lorac::error::Error;
use lorac_tests::border::border;

#[test]
fn what_the_engine_will_not_load_at_the_end_is_found_before_the_training() {
    let border = border("ir13");
    let error = border.run(&[]).expect_err("IR version 13 on 1.20.1");
    let text = error.to_string();
    assert!(matches!(&error, Error::Trial { .. }) && error.code() == "runtime::compile", "{error:?}");
    assert!(text.contains("IR version: 13") && text.ends_with("nothing is trained"), "{text}");
    assert!(error.advice().is_some_and(|advice| advice.contains("runtime.source")));
    let left = std::fs::read_dir(border.out()).expect("lists").count();
    assert_eq!(left, 0);
}
