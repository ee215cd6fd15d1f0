use super::*;

/// A model of eight tokens, of which the last ends a text: what follows depends on the last two tokens of a row.
struct Table {
    equal: bool,
    /// Rows of every call, with what they go on from.
    calls: Vec<Vec<(Vec<i64>, Option<usize>)>>,
}

const WIDTH: usize = 8;

/// A number from 0 to 4 that looks like chance.
fn drawn(seed: u32) -> f32 {
    let x = (seed ^ 0x9e37).wrapping_mul(2_654_435_761);
    let x = (x ^ (x >> 13)).wrapping_mul(0x5bd1_e995);
    ((x ^ (x >> 15)) % 64) as f32 / 16.0
}

impl NextToken for Table {
    fn equal_lengths(&self) -> bool {
        self.equal
    }

    fn score(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
        self.calls.push(rows.iter().map(|row| (row.ids.to_vec(), row.from)).collect());
        let logits = |row: &Going| -> Vec<f32> {
            let [.., a, b] = [&[0], row.ids].concat()[..] else { return vec![0.0; WIDTH] };
            (0..WIDTH as i64).map(|t| drawn((a * 64 + b * 8 + t) as u32)).collect()
        };
        Ok(Scored { logits: rows.iter().flat_map(logits).collect(), width: WIDTH })
    }
}

fn written(prompts: &[&[i64]], settings: &Generate, equal: bool, rows: usize) -> (Vec<Vec<i64>>, Table) {
    let prompts: Vec<Vec<i64>> = prompts.iter().map(|ids| ids.to_vec()).collect();
    let mut model = Table { equal, calls: Vec::new() };
    let never = |_: &[i64]| false;
    let job = Writing { prompts: &prompts, sources: &[], settings, ends: &[7], length: 40, rows, is_over: &never };
    let mut told = 0;
    let texts = generate(&mut model, &job, |n| told += n).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(told, prompts.len());
    (texts, model)
}

const PROMPTS: [&[i64]; 6] = [&[1, 2, 3], &[2], &[3, 1], &[5, 5, 5], &[0], &[4, 6]];

#[test]
fn texts_do_not_depend_on_what_is_written_beside_them() {
    for num_beams in [1, 3] {
        let settings = Generate { max_new_tokens: 12, num_beams, ..Generate::default() };
        let alone: Vec<Vec<i64>> = PROMPTS.iter().map(|ids| written(&[ids], &settings, false, 1).0.remove(0)).collect();
        assert!(alone.iter().any(|text| text.len() < 12) && alone.iter().all(|text| !text.contains(&7)), "{alone:?}");
        for (equal, rows) in [(false, 6), (true, 6), (true, 100), (false, 2)] {
            assert_eq!(written(&PROMPTS, &settings, equal, rows).0, alone);
        }
    }
}

#[test]
fn every_row_goes_on_from_one_that_was_scored_before() {
    for num_beams in [1, 4] {
        let settings = Generate { max_new_tokens: 9, num_beams, ..Generate::default() };
        let (_, model) = written(&PROMPTS, &settings, true, 8);
        let mut before: &[(Vec<i64>, Option<usize>)] = &[];
        for call in &model.calls {
            let length = call[0].0.len();
            for (ids, from) in call {
                assert_eq!(ids.len(), length, "rows that are scored together are as long as each other");
                if let Some(from) = from {
                    assert_eq!(before[*from].0, ids[..length - 1]);
                }
            }
            before = call;
        }
    }
}

#[test]
fn beam_search_finds_likelier_texts() {
    let likelihood = |prompt: &[i64], text: &[i64], whole: bool| {
        let mut ids = prompt.to_vec();
        let mut sum = 0.0;
        for id in text.iter().copied().chain(whole.then_some(7)) {
            let mut model = Table { equal: false, calls: Vec::new() };
            let logits = model.score(&[Going { ids: &ids, from: None, source: None }]).expect("scores").logits;
            let all: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
            sum += f64::from(logits[id as usize]) - all.ln();
            ids.push(id);
        }
        sum / (text.len() + usize::from(whole)) as f64
    };
    let of = |num_beams, prompt: &[i64]| {
        let settings = Generate { max_new_tokens: 10, num_beams, ..Generate::default() };
        let text = written(&[prompt], &settings, false, 8).0.remove(0);
        likelihood(prompt, &text, text.len() < 10)
    };
    let pairs: Vec<(f64, f64)> = PROMPTS.iter().map(|prompt| (of(8, prompt), of(1, prompt))).collect();
    let better = pairs.iter().filter(|(beam, greedy)| beam > &(greedy + 1e-9)).count();
    let worse = pairs.iter().filter(|(beam, greedy)| beam < &(greedy - 1e-9)).count();
    assert!(better >= 3 && worse == 0, "{pairs:?}");
}

#[test]
fn a_text_ends_where_it_is_said_to_and_where_the_model_does() {
    let settings = Generate { max_new_tokens: 30, ..Generate::default() };
    let mut model = Table { equal: false, calls: Vec::new() };
    let prompts = [vec![5, 5, 5], vec![1; 50]];
    let two = |new: &[i64]| new.len() >= 2;
    let job =
        Writing { prompts: &prompts, sources: &[], settings: &settings, ends: &[], length: 40, rows: 2, is_over: &two };
    let texts = generate(&mut model, &job, |_| ()).expect("writes");
    assert_eq!(texts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1], "the last token need not be fed");
    assert!(model.calls.iter().flatten().all(|(ids, _)| ids.len() <= 40));
    let never = |_: &[i64]| false;
    let job = Writing { length: 10, is_over: &never, ..job };
    let texts = generate(&mut model, &job, |_| ()).expect("writes");
    assert_eq!(texts.iter().map(Vec::len).collect::<Vec<_>>(), [8, 1]);
    assert!(generate(&mut model, &Writing { prompts: &[], ..job }, |_| ()).expect("writes").is_empty());
}

#[test]
fn what_came_already_may_be_forbidden_or_made_less_likely() {
    let twice = |text: &[i64], n: usize| {
        let ngrams: Vec<&[i64]> = text.windows(n).collect();
        ngrams.iter().enumerate().any(|(at, ngram)| ngrams[at + 1..].contains(ngram))
    };
    for num_beams in [1, 3] {
        let plain = Generate { max_new_tokens: 30, num_beams, ..Generate::default() };
        let write = |settings: &Generate, ends: &[i64]| {
            let mut model = Table { equal: false, calls: Vec::new() };
            let never = |_: &[i64]| false;
            let job =
                Writing { prompts: &[vec![5, 5]], sources: &[], settings, ends, length: 40, rows: 4, is_over: &never };
            [vec![5, 5], generate(&mut model, &job, |_| ()).expect("writes").remove(0)].concat()
        };
        assert!(twice(&write(&plain, &[]), 2));
        assert!(!twice(&write(&Generate { no_repeat_ngram_size: 2, ..plain.clone() }, &[]), 2));
        let penalized = write(&Generate { repetition_penalty: 100.0, ..plain.clone() }, &[]);
        assert_ne!(penalized, write(&plain, &[]));
    }
}

#[test]
fn scores_that_are_no_numbers_end_as_well() {
    struct Broken;
    impl NextToken for Broken {
        fn equal_lengths(&self) -> bool {
            false
        }

        fn score(&mut self, rows: &[Going]) -> Result<Scored, TrainError> {
            Ok(Scored { logits: vec![f32::NAN; rows.len() * 3], width: 3 })
        }
    }
    for num_beams in [1, 2] {
        let settings = Generate { max_new_tokens: 5, num_beams, ..Generate::default() };
        let never = |_: &[i64]| false;
        let job = Writing {
            prompts: &[vec![1]],
            sources: &[],
            settings: &settings,
            ends: &[2],
            length: 9,
            rows: 1,
            is_over: &never,
        };
        assert!(generate(&mut Broken, &job, |_| ()).expect("writes")[0].len() <= 5);
    }
}
