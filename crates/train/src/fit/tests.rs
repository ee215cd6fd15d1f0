use super::*;
use crate::schedule::{Constant, Linear, ScheduleChoice};
use crate::testing::{Calls, Fault, examples, feeds, numbers, quadratic};
use crate::{Better, Count, Every, Patience, Score, Scores};
use lorac_data::{Field, LABELS};
use lorac_ir::{DType, Tensor};
use std::cell::RefCell;

const EXAMPLES: usize = 5;

/// Five examples in batches of two, filled up: three steps an epoch.
struct Job {
    data: Dataset,
    feeds: Feeds,
    sampler: Sampler,
    _folder: tempfile::TempDir,
    stop: AtomicBool,
    to: Checkpoints,
    schedule: ScheduleChoice,
    unsaved: Box<dyn Fn(&TrainError)>,
}

impl Job {
    fn new() -> Job {
        let folder = tempfile::tempdir().expect("temp");
        Job {
            data: examples((0..EXAMPLES).map(|i| Field::Real(i as f32))),
            feeds: feeds(DType::F32),
            sampler: Sampler::new(EXAMPLES, 2, 3, false).expect("a sampler"),
            to: Checkpoints { folder: folder.path().join("checkpoints"), keep: 9, ..Checkpoints::default() },
            _folder: folder,
            stop: AtomicBool::new(false),
            schedule: Constant { warmup: 0.0.into() }.into(),
            unsaved: Box::new(|error| panic!("{error}")),
        }
    }

    fn every(steps: u64) -> Job {
        let mut job = Job::new();
        job.to.every = Some(Every::Steps(steps));
        job
    }

    fn fit(&self, total: u64) -> Fit<'_> {
        Fit {
            data: &self.data,
            stream: None,
            feeds: &self.feeds,
            sampler: &self.sampler,
            slicing: Slicing::WHOLE,
            rows: 2,
            rate: LearningRate { lr: 0.1, total, schedule: self.schedule.clone() },
            checkpoints: &self.to,
            unsaved: &*self.unsaved,
            stop: &self.stop,
        }
    }

    /// What `fit` returns, and what it told.
    fn run(&self, step: &mut Step, total: u64) -> (Result<Summary, TrainError>, Vec<Event>) {
        self.continued(step, &mut History::default(), total)
    }

    /// The same of a training that has come so far.
    fn continued(
        &self,
        step: &mut Step,
        history: &mut History,
        total: u64,
    ) -> (Result<Summary, TrainError>, Vec<Event>) {
        let mut events = Vec::new();
        let result = fit(step, history, &self.fit(total), None, |event| {
            events.push(*event);
            Ok(())
        });
        (result, events)
    }

    /// Names in the folder of checkpoints, by their steps.
    fn checkpoints(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.to.folder).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort_by_key(|n| (n.len(), n.clone()));
        names
    }

    fn load(&self, name: &str) -> Checkpoint {
        Checkpoint::load(&self.to.folder.join(name)).expect("a checkpoint")
    }
}

/// What a training keeps behind these steps.
fn state(steps: u64) -> State {
    let (mut step, _) = quadratic(&[1.0, 2.0], &[]);
    Job::new().run(&mut step, steps).0.expect("trains");
    State::of(&step).expect("a state")
}

/// What a checkpoint puts back.
fn restored(checkpoint: &Checkpoint) -> State {
    let (mut step, _) = quadratic(&[0.0, 0.0], &[]);
    checkpoint.restore(&mut step).expect("fits");
    State::of(&step).expect("a state")
}

/// The examples of a run, by their ids.
fn rows(calls: &Calls) -> Vec<Vec<i64>> {
    let ids =
        |t: &Tensor| -> Vec<i64> { t.to_vec::<i64>().expect("i64").chunks(t.dims()[1]).map(|row| row[0]).collect() };
    calls.fed("ids").iter().map(ids).collect()
}

#[test]
fn observers_hear_every_step_with_its_epoch_rate_loss_and_tokens() {
    let job = Job { schedule: Linear { warmup: 0.25.into() }.into(), ..Job::new() };
    let (mut step, calls) = quadratic(&[9.0, -9.0], &[]);
    let (summary, events) = job.run(&mut step, 8);
    let summary = summary.expect("trains");
    assert_eq!(events.iter().map(|e| e.step).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert_eq!(events.iter().map(|e| e.epoch).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3, 3]);
    let rate = job.fit(8).rate;
    assert_eq!(events.iter().map(|e| e.lr).collect::<Vec<_>>(), (0..8).map(|i| rate.at(i)).collect::<Vec<_>>());
    let fed: Vec<f32> = calls.fed("lr").iter().map(|t| numbers(t)[0]).collect();
    assert_eq!(fed, events.iter().map(|e| e.lr as f32).collect::<Vec<_>>());
    let drawn = rows(&calls);
    for ((event, row), targets) in events.iter().zip(&drawn).zip(calls.fed(LABELS)) {
        let real = row.iter().filter(|i| **i >= 0);
        assert_eq!(event.tokens, real.map(|i| *i as u64 % 3 + 1).sum::<u64>());
        assert_eq!(targets.len(), 2, "filled up to two rows");
    }
    for (epoch, batches) in drawn.chunks(3).enumerate() {
        let order: Vec<Vec<usize>> = job.sampler.epoch(epoch as u64).take(batches.len()).collect();
        let mut batches = batches.to_vec();
        batches.iter_mut().for_each(|rows| rows.retain(|i| *i >= 0));
        assert_eq!(batches, order.iter().map(|b| b.iter().map(|i| *i as i64).collect()).collect::<Vec<Vec<_>>>());
    }
    assert_eq!((summary.steps, summary.interrupted), (8, None));
    assert_eq!(summary.tokens, events.iter().map(|e| e.tokens).sum::<u64>());
    assert_eq!((summary.loss_first, summary.loss_last), (events[0].loss, events[7].loss));
    assert!((events[0].grad_norm.powi(2) / 2.0 - events[0].loss).abs() < 1e-4 * events[0].loss);
    assert!(events.is_sorted_by(|a, b| a.seconds <= b.seconds) && events[7].seconds <= summary.seconds);
}

#[test]
fn the_last_loss_is_the_mean_of_the_last_tenth_of_the_steps() {
    let (mut step, _) = quadratic(&[9.0], &[]);
    let (summary, events) = Job::new().run(&mut step, 21);
    let tail: f64 = events[18..].iter().map(|e| e.loss).sum();
    assert_eq!(summary.expect("trains").loss_last, tail / 3.0);
}

#[test]
fn checkpoints_are_written_when_due_and_hold_the_state_behind_that_step() {
    let job = Job::every(3);
    let (mut step, _) = quadratic(&[1.0, 2.0], &[]);
    job.run(&mut step, 7).0.expect("trains");
    assert_eq!(job.checkpoints(), ["step-3.safetensors", "step-6.safetensors"]);
    for steps in [3, 6] {
        assert_eq!(restored(&job.load(&format!("step-{steps}.safetensors"))), state(steps));
    }
    let none = Job::new();
    none.run(&mut quadratic(&[1.0], &[]).0, 4).0.expect("trains");
    assert_eq!(none.checkpoints(), Vec::<String>::new());
}

#[test]
fn a_checkpoint_that_cannot_be_saved_is_told_of_and_ends_nothing() {
    let told = std::rc::Rc::new(RefCell::new(Vec::new()));
    let hears = std::rc::Rc::clone(&told);
    let unsaved = Box::new(move |e: &TrainError| hears.borrow_mut().push(e.to_string()));
    let job = Job { unsaved, ..Job::every(3) };
    std::fs::write(&job.to.folder, "no folder").expect("writes");
    let (summary, events) = job.run(&mut quadratic(&[1.0], &[]).0, 7);
    assert_eq!((summary.expect("trains").steps, events.len()), (7, 7));
    let told = told.borrow();
    assert!(told.len() == 2 && told.iter().all(|t| t.contains("checkpoints")), "{told:?}");
}

#[test]
fn a_training_continued_from_a_checkpoint_ends_with_the_same_bits() {
    let job = Job { schedule: Linear { warmup: 0.2.into() }.into(), ..Job::every(4) };
    let (mut whole, first) = quadratic(&[1.0, -2.0], &[]);
    let (summary, all) = job.run(&mut whole, 30);
    let (mut rest, second) = quadratic(&[0.0, 0.0], &[]);
    let mut kept = job.load("step-4.safetensors");
    kept.restore(&mut rest).expect("fits");
    let (continued, events) = job.continued(&mut rest, &mut kept.history, 30);
    let timeless = |s: Summary| Summary { seconds: 0.0, ..s };
    assert_eq!(timeless(continued.expect("trains")), timeless(summary.expect("trains")));
    assert_eq!(State::of(&rest).expect("a state"), State::of(&whole).expect("a state"));
    assert!(events.is_sorted_by(|a, b| a.seconds <= b.seconds) && all[3].seconds <= events[0].seconds);
    assert_eq!(rows(&second), rows(&first)[4..]);
    let timeless = |e: &Event| Event { seconds: 0.0, ..*e };
    let (events, all): (Vec<_>, Vec<_>) = (events.iter().map(timeless).collect(), all.iter().map(timeless).collect());
    assert_eq!(events, all[4..]);
}

#[test]
fn a_stop_ends_the_training_behind_the_step_under_way() {
    let job = Job::new();
    let (mut step, calls) = quadratic(&[1.0, 2.0], &[]);
    let summary = fit(&mut step, &mut History::default(), &job.fit(8), None, |event| {
        job.stop.store(event.step == 2, Ordering::Relaxed);
        Ok(())
    });
    let summary = summary.expect("a summary");
    assert_eq!((summary.steps, calls.all().len()), (2, 2));
    assert_eq!(job.checkpoints(), ["step-2.safetensors"]);
    assert_eq!(summary.interrupted, Some(Kept(Ok(job.to.folder.join("step-2.safetensors")))));
    assert_eq!(restored(&job.load("step-2.safetensors")), State::of(&step).expect("a state"));
}

/// A training of ten steps that is evaluated behind every second by `|theta|`, the lower the better.
fn evaluated(job: &Job, step: &mut Step, history: &mut History, interrupted_at: Option<u64>) -> (Summary, Vec<u64>) {
    let mut asked = Vec::new();
    let mut evaluate = |step: &Step| {
        asked.push(step.taken);
        let value = step.theta()?.iter().map(|x| f64::from(x.abs())).sum();
        let score = Score { name: "m".into(), value, better: Better::Lower };
        let scores = Scores { scores: vec![score], count: Count::Examples(1) };
        Ok((Some(step.taken) != interrupted_at).then_some(scores))
    };
    let patience = Some(Patience { metric: "m".into(), evaluations: 2, min_delta: 0.0 });
    let (every, best) = (Every::Steps(2), Some("m".into()));
    let mut watch = Evaluations { every, best, patience, evaluate: &mut evaluate, kept: None };
    let summary = fit(step, history, &job.fit(20), Some(&mut watch), |_| Ok(())).expect("trains");
    (summary, asked)
}

#[test]
fn the_best_is_saved_and_a_training_that_gets_no_better_ends() {
    let job = Job::every(100);
    // Targets lie between 0 and 4: first towards zero, then beyond.
    let (mut whole, _) = quadratic(&[-0.8, -0.8], &[]);
    let mut history = History::default();
    let (summary, asked) = evaluated(&job, &mut whole, &mut history, None);
    let best = history.best.expect("the best").step;
    assert_eq!((summary.interrupted, summary.steps), (None, best + 4), "two evaluations later");
    assert!(best >= 4 && asked == (1..=summary.steps / 2).map(|i| 2 * i).collect::<Vec<_>>(), "{asked:?}");
    let name = format!("step-{best}.safetensors");
    assert_eq!(job.checkpoints().last(), Some(&name));
    // It goes on behind the best as it did, also where an evaluation was interrupted.
    for interrupted_at in [None, Some(best + 2)] {
        let (mut rest, _) = quadratic(&[0.0, 0.0], &[]);
        let mut kept = job.load(&name);
        kept.restore(&mut rest).expect("fits");
        if interrupted_at.is_some() {
            let (summary, _) = evaluated(&job, &mut rest, &mut kept.history, interrupted_at);
            assert_eq!((summary.steps, summary.interrupted.is_some()), (best + 2, true));
        }
        let (summary, asked) = evaluated(&job, &mut rest, &mut kept.history, None);
        assert_eq!((summary.steps, asked), (best + 4, vec![best + 2, best + 4]));
        assert_eq!((kept.history.best, kept.history.waiting), (history.best, history.waiting));
        assert_eq!(State::of(&rest).expect("a state"), State::of(&whole).expect("a state"));
    }
}

#[test]
fn the_best_of_an_evaluation_that_was_interrupted_is_saved_when_it_is_made_up_for() {
    let job = Job::every(100);
    let (mut step, _) = quadratic(&[-0.8, -0.8], &[]);
    let (first, _) = evaluated(&job, &mut step, &mut History::default(), Some(4));
    assert_eq!((first.steps, first.interrupted.is_some()), (4, true));
    let mut kept = job.load("step-4.safetensors");
    assert_eq!(kept.history.best.map(|best| best.step), Some(2));
    let (mut rest, _) = quadratic(&[0.0, 0.0], &[]);
    kept.restore(&mut rest).expect("fits");
    let (second, asked) = evaluated(&job, &mut rest, &mut kept.history, Some(6));
    assert_eq!((second.steps, asked), (6, vec![4, 6]));
    assert_eq!(job.load("step-4.safetensors").history.best.map(|best| best.step), Some(4));
}

#[test]
fn a_stop_in_the_last_step_interrupts_nothing() {
    let job = Job::new();
    let summary = fit(&mut quadratic(&[1.0], &[]).0, &mut History::default(), &job.fit(2), None, |event| {
        job.stop.store(event.step == 2, Ordering::Relaxed);
        Ok(())
    });
    assert_eq!(summary.expect("a summary").interrupted, None);
    assert_eq!(job.checkpoints(), Vec::<String>::new());
}

/// What a training that a fault ends says of the checkpoint, whose step this is.
#[track_caller]
fn diverges(faults: &'static [(u64, Fault)], good: bool, kept: u64) -> TrainError {
    let job = Job::new();
    let (mut step, _) = quadratic(&[1.0, 2.0], faults);
    let (result, events) = job.run(&mut step, 50);
    let error = result.expect_err("diverges");
    let TrainError::Diverged { step: at, good: said, checkpoint, .. } = &error else { panic!("{error}") };
    assert_eq!((*at, *said, events.len() as u64), (faults[0].0, good, faults[0].0 - 1));
    let name = format!("step-{kept}.safetensors");
    assert_eq!((job.checkpoints(), checkpoint), (vec![name.clone()], &Kept(Ok(job.to.folder.join(&name)))));
    let saved = job.load(&name);
    let tokens = events[..kept as usize].iter().map(|e| e.tokens).sum();
    assert_eq!((restored(&saved), saved.history.tokens), (state(kept), tokens));
    error
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_parameters_that_gave_one() {
    let error = diverges(&[(5, Fault::Loss)], true, 0);
    assert!(error.to_string().starts_with("step 5: the loss is NaN"), "{error}");
    assert!(error.to_string().contains("the last good parameters"), "{error}");
    // The copy after 32 steps gave no number, the one before it did.
    diverges(&[(33, Fault::Loss)], true, 0);
    diverges(&[(34, Fault::Loss)], true, 32);
}

#[test]
fn a_first_loss_that_is_no_number_keeps_the_first_parameters_and_says_that_none_are_good() {
    let error = diverges(&[(1, Fault::Loss)], false, 0);
    assert!(error.to_string().contains("no parameters gave a finite loss: the first ones"), "{error}");
}

#[test]
fn a_gradient_that_is_not_finite_keeps_the_parameters_that_it_was_taken_at() {
    let error = diverges(&[(5, Fault::Gradient)], true, 4);
    assert!(matches!(error, TrainError::Diverged { loss, norm, .. } if loss.is_finite() && norm.is_infinite()));
}

#[test]
fn an_error_of_the_engine_ends_the_training_and_leaves_the_state() {
    let job = Job::new();
    let (mut step, calls) = quadratic(&[1.0, 2.0], &[(3, Fault::Engine)]);
    let (result, events) = job.run(&mut step, 8);
    assert!(matches!(result, Err(TrainError::Runtime(_))), "{result:?}");
    assert_eq!((events.len(), step.taken, calls.all().len()), (2, 2, 3));
    assert_eq!(State::of(&step).expect("a state"), state(2));
}

#[test]
fn an_error_of_the_observer_ends_the_training() {
    let job = Job::new();
    let (mut step, calls) = quadratic(&[1.0], &[]);
    let result = fit(&mut step, &mut History::default(), &job.fit(8), None, |event| match event.step {
        3 => Err(TrainError::NoField { field: "mine".into() }),
        _ => Ok(()),
    });
    assert!(matches!(result, Err(TrainError::NoField { field }) if field == "mine"));
    assert_eq!(calls.all().len(), 3);
}
