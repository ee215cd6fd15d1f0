//! What an optimizer writes against what it is to compute, element by element in f64, from random values of theta, of
//! what is kept and of what slices have added up to.

use lorac::ir::{Graph, ValueId};
use lorac::ops::{Array, Random, evaluate};
use lorac::passes::{Clip, OptimizerChoice, Update};
use std::collections::BTreeMap;

/// An update in plain words.
#[derive(Debug)]
pub struct Wanted {
    /// The rule: one of those that [`computes_the_update`] knows.
    pub optimizer: OptimizerChoice,
    /// The limit of gradients.
    pub clip: Option<Clip>,
    /// What every element of theta is trained with.
    pub elements: Vec<ElementRate>,
    /// The mean loss of a slice, and how much counts in it; the loss alone of a step in one piece.
    pub loss: Vec<ValueId>,
    /// The gradient.
    pub grad: ValueId,
}

/// What an element of theta is trained with.
#[derive(Clone, Copy, Debug)]
pub struct ElementRate {
    /// What the learning rate is multiplied by.
    pub rate: f64,
    /// Its weight decay.
    pub decay: f64,
}

/// Values by the names of inputs and outputs.
type Values = BTreeMap<String, Vec<f64>>;

/// Fails unless `after` computes the update that is wanted of the losses and gradients of `before`: in the last slice of
/// a step and in one before it, where much, less than one and nothing counts, and where the gradient is not finite: of
/// slices what they have added up to, of a step in one piece what the gradient is computed of.
///
/// # Errors
/// The first output that is another, and what cannot be evaluated.
pub fn computes_the_update(before: &Graph, after: &Graph, wanted: &Wanted, update: &Update) -> Result<(), String> {
    let sliced = update.has_slices();
    for (seed, last, count, spoilt) in [
        (1, 1.0, 3.0, false),
        (2, 1.0, 0.25, false),
        (3, 1.0, 0.0, false),
        (4, 0.0, 5.0, false),
        (5, 1.0, 2.0, true),
        (6, 0.0, 2.0, true),
    ] {
        let mut given = random(after, &mut Random(seed))?;
        let mut put = |name: &str, value: &dyn Fn(f64) -> f64| {
            given.get_mut(name).into_iter().flatten().for_each(|x| *x = value(*x));
        };
        put("last_slice", &|_| last);
        put("loss.count", &|_| count);
        // Means of squares are none below zero, and numbers of a step are from 0 to 1.
        ["v", "lr", "correction1", "correction2"].iter().for_each(|name| put(name, &|x| 0.1 + x.abs()));
        if spoilt {
            let of = given.get_mut(if sliced { "accumulated" } else { "theta" });
            of.and_then(|values| values.first_mut()).into_iter().for_each(|first| *first = f64::INFINITY);
        }
        let of_batch = of_batch(before, wanted, &given)?;
        let want = expected(wanted, &given, &of_batch, sliced, !sliced || last > 0.5);
        if spoilt && (!sliced || last > 0.5) && want["grad_norm"][0].is_finite() {
            return Err(format!("the gradient that was to be spoilt is finite: {of_batch:?}"));
        }
        let feeds = feeds(after, &given)?;
        let got = evaluate(after, &feeds).map_err(|e| e.to_string())?;
        for (output, got) in after.outputs().iter().zip(got) {
            let name = after.name_of(*output);
            let want = want.get(&name).ok_or(format!("an output %{name} that an update does not have"))?;
            // No number comes of infinite ones: what of the loss and of the gradient's length is left open.
            let open = spoilt && ["loss", "grad_norm"].contains(&name.as_str());
            let near = |(a, b): (&f64, &f64)| {
                a == b || (a - b).abs() <= 1e-6 * (1.0 + b.abs()) || (open && !a.is_finite() && !b.is_finite())
            };
            if got.len() != want.len() || !got.iter().zip(want).all(near) {
                let which = format!("with last_slice {last}, count {count}, spoilt {spoilt}");
                return Err(format!("{which}: expected %{name} {want:?}\nand it is {got}"));
            }
        }
        if after.outputs().len() != want.len() {
            return Err(format!("{} outputs, expected {:?}", after.outputs().len(), want.keys()));
        }
    }
    Ok(())
}

/// Random numbers for every input.
fn random(graph: &Graph, random: &mut Random) -> Result<Values, String> {
    let one = |v: &ValueId| {
        let dims = graph.fact(*v).known_dims().ok_or("an input of no fixed shape")?;
        Ok((graph.name_of(*v), random.array(&dims, -0.9, 0.9).iter().copied().collect()))
    };
    graph.inputs().iter().map(one).collect()
}

fn feeds<'a>(graph: &Graph, values: &'a Values) -> Result<Vec<(&'a str, Array)>, String> {
    let one = |(name, values): (&'a String, &Vec<f64>)| {
        let dims = graph.find(name).and_then(|v| graph.fact(v).known_dims()).ok_or(format!("no input {name}"))?;
        Ok((name.as_str(), Array::from_shape_vec(dims, values.clone()).map_err(|e| e.to_string())?))
    };
    values.iter().map(one).collect()
}

/// The loss, how much counts where that is said, and the gradient, before there was an update.
fn of_batch(before: &Graph, wanted: &Wanted, given: &Values) -> Result<Vec<Vec<f64>>, String> {
    let mut graph = before.clone();
    graph.set_outputs([wanted.loss.as_slice(), &[wanted.grad]].concat()).map_err(|e| e.to_string())?;
    let known = given.iter().filter(|(name, _)| graph.input(name).is_some());
    let given: Values = known.map(|(name, v)| (name.clone(), v.clone())).collect();
    let found = evaluate(&graph, &feeds(&graph, &given)?).map_err(|e| e.to_string())?;
    Ok(found.iter().map(|a| a.iter().copied().collect()).collect())
}

/// Every output.
fn expected(wanted: &Wanted, given: &Values, of_batch: &[Vec<f64>], sliced: bool, last: bool) -> Values {
    let of = |name: &str| given.get(name).cloned().unwrap_or_default();
    let number = |name: &str| of(name).first().copied().unwrap_or(f64::NAN);
    let (grad, loss) = (of_batch[of_batch.len() - 1].clone(), of_batch[0][0]);
    let mut want = Values::new();
    let (grad, loss) = if sliced {
        let count = of_batch[1][0];
        let weight = count.max(1.0);
        let sum: Vec<f64> = of("accumulated").iter().zip(&grad).map(|(before, g)| before + g * weight).collect();
        let loss = number("accumulated.loss") + loss * weight;
        let count = number("accumulated.count") + count;
        let kept = |x: f64| if last { 0.0 } else { x };
        want.insert("accumulated.next".into(), sum.iter().map(|x| kept(*x)).collect());
        want.insert("accumulated.loss.next".into(), vec![kept(loss)]);
        want.insert("accumulated.count.next".into(), vec![kept(count)]);
        (sum.iter().map(|x| x / count.max(1.0)).collect(), loss / count.max(1.0))
    } else {
        (grad, loss)
    };
    let norm = grad.iter().map(|x| x * x).sum::<f64>().sqrt();
    want.insert("loss".into(), vec![loss]);
    want.insert("grad_norm".into(), vec![norm]);
    let clipped = |g: f64| match wanted.clip {
        None => g,
        Some(Clip::Norm(most)) => g * (most / (norm + 1e-6)).min(1.0),
        Some(Clip::Value(most)) => g.clamp(-most, most),
    };
    let lr = number("lr");
    let theta = of("theta");
    let (state, names): (Vec<Vec<f64>>, &[&str]) = match wanted.optimizer {
        OptimizerChoice::AdamW(_) => (vec![of("m"), of("v")], &["m", "v"]),
        _ => (vec![of("momentum")], &["momentum"]),
    };
    let kept: Vec<f64> = vec![f64::NAN; theta.len()];
    let mut next = vec![kept; 1 + state.len()];
    for (i, (x, rate)) in theta.iter().zip(&wanted.elements).enumerate() {
        let (g, lr) = (clipped(grad[i]), lr * rate.rate);
        let before = |slot: usize| state[slot].get(i).copied().unwrap_or(0.0);
        match &wanted.optimizer {
            OptimizerChoice::AdamW(adamw) => {
                let m = adamw.beta1 * before(0) + (1.0 - adamw.beta1) * g;
                let v = adamw.beta2 * before(1) + (1.0 - adamw.beta2) * g * g;
                let (mean, root) = (m / number("correction1"), (v / number("correction2")).sqrt());
                next[0][i] = x - lr * rate.decay * x - lr * mean / (root + adamw.eps);
                (next[1][i], next[2][i]) = (m, v);
            }
            OptimizerChoice::Sgd(sgd) => {
                next[1][i] = sgd.momentum * before(0) + g + rate.decay * x;
                next[0][i] = x - lr * next[1][i];
            }
            _ => {}
        }
    }
    let moves = last && norm.is_finite();
    for (slot, (name, before)) in [("theta", theta)].into_iter().chain(names.iter().copied().zip(state)).enumerate() {
        if !before.is_empty() {
            want.insert(format!("{name}.next"), if moves { next[slot].clone() } else { before });
        }
    }
    want
}
