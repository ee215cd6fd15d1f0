//! The report as its readers see it: in a browser, on a wide and on a narrow screen, by day and by night.

use lorac::pipeline::Loaded;
use lorac::progress::Silent;
use lorac::run::{RunOptions, run};
use lorac_tests::browser::Browser;
use lorac_tests::{resolver, root, skipped};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Everything that is asked of the page. Contrast is that of WCAG 2, against what lies under the page.
const ASK: &str = r#"(() => {
  const lum = c => { const [r, g, b] = c.match(/[\d.]+/g).map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = matchMedia('(prefers-color-scheme: dark)').matches ? 'rgb(18, 18, 18)' : 'rgb(255, 255, 255)';
  const contrast = c => { const [a, b] = [lum(c), lum(ground)].sort((x, y) => y - x); return (a + .05) / (b + .05); };
  const all = q => [...document.querySelectorAll(q)];
  const svg = document.querySelector('figure svg').getBoundingClientRect();
  const figure = document.querySelector('figure').getBoundingClientRect();
  const inside = e => { const r = e.getBoundingClientRect(); return r.left >= svg.left - 1 && r.right <= svg.right + 1 && r.top >= svg.top - 1 && r.bottom <= svg.bottom + 1; };
  const letters = all('p, th, td, h1, h2, figcaption');
  return {
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    width: document.documentElement.clientWidth,
    needed: document.documentElement.scrollWidth,
    cut: all('.scroll').filter(e => e.scrollWidth > e.clientWidth).length,
    sections: all('h2').map(e => e.textContent),
    rows: all('section').map(s => s.querySelectorAll('tbody tr').length),
    empty: all('td, th').filter(e => e.closest('tbody') && !e.textContent.trim()).length,
    hidden: letters.filter(e => e.textContent.trim() && e.getClientRects().length == 0).length,
    faint: letters.concat(all('svg text')).map(e => contrast(e.closest('svg') ? getComputedStyle(e).fill : getComputedStyle(e).color)).reduce((a, b) => Math.min(a, b)),
    chart: [svg.width / figure.width, svg.height],
    dots: all('svg circle').length,
    labels: all('svg text').length,
    outside: all('svg text, svg circle').filter(e => !inside(e)).length,
    smallest: Math.min(...all('svg text').map(e => e.getBoundingClientRect().height)),
    tallest: Math.max(...all('tbody tr').map(e => e.getBoundingClientRect().height)),
    fetched: performance.getEntriesByType('resource').length + all('[src], link, [href]').length,
    missed: all('.missed').map(e => e.textContent),
  };
})()"#;

fn page(sets: &[&str], out: &Path) {
    let short = ["train.steps=8", "data.eval.take=32", "data.train.take=200", "deploy.verify.samples=32"];
    let sets: Vec<String> = short.iter().chain(sets).map(|s| s.to_string()).collect();
    let loaded = Loaded::load(&root().join("pipelines/quickstart.yaml"), &sets).unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { out: out.to_path_buf(), command: "test".into(), progress: &Silent, emit: None };
    run(&loaded, &resolver(), &options, &AtomicBool::new(false)).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn readable_on_every_screen() {
    let Some(browser) = Browser::find() else {
        return skipped("a Chromium: none is on the path, and LORAC_BROWSER names none");
    };
    let out = tempfile::tempdir().expect("temp");
    page(&["metrics.accuracy.min=0.999"], out.path());
    let report = out.path().join("report.html");
    for (width, dark) in [(1280, false), (1280, true), (600, false), (600, true)] {
        let seen = browser.ask(&report, [width, 900], dark, ASK);
        let number = |key: &str| seen[key].as_f64().unwrap_or(f64::NAN);
        assert_eq!((seen["dark"].as_bool(), number("width")), (Some(dark), f64::from(width)), "{seen}");
        assert!(number("needed") <= number("width"), "scrolls sideways: {seen}");
        assert_eq!(number("cut"), 0.0, "a table is wider than the page: {seen}");
        let sections = [
            "Before and after",
            "By class",
            "Data",
            "Loss",
            "What was asked",
            "What was matched",
            "Verification",
            "Files",
        ];
        assert_eq!(seen["sections"], serde_json::json!(sections), "{seen}");
        // Three scores; two classes and two rows of their matrix; fourteen facts of the data; nine answers; twelve
        // matrices; four facts; the model, five files of the adapter with its head, metrics, what was trained, six files that
        // serve the model.
        assert_eq!(seen["rows"], serde_json::json!([3, 4, 14, 0, 9, 12, 4, 14]), "{seen}");
        assert_eq!((number("empty"), number("hidden"), number("fetched")), (0.0, 0.0, 0.0), "{seen}");
        assert!(number("faint") >= 4.5, "{seen}");
        let chart = &seen["chart"];
        assert!(chart[0].as_f64() >= Some(0.9) && chart[1].as_f64() >= Some(150.0), "{seen}");
        assert_eq!((number("dots"), number("outside")), (8.0, 0.0), "{seen}");
        assert!(number("labels") >= 6.0 && number("smallest") >= 9.0, "{seen}");
        assert!(number("tallest") <= 150.0, "{seen}");
        let missed = seen["missed"][0].as_str().unwrap_or_default();
        assert!(
            missed.starts_with("Gate missed: accuracy 0.") && missed.contains("metrics.accuracy.min 0.999"),
            "{seen}"
        );
    }
}
