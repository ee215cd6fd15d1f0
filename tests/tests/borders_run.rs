//! What a run leaves in its folder, and who shares that folder.

use lorac_tests::border::border;

#[test]
fn a_run_succeeds() {
    border("bert").succeeds(&[]);
}
