//! Params with a rate or a decay of their own.

use crate::select::{pick, role_named};
use crate::{Delta, DeltaForm, Group, Layout, NoMatch, Param, PassError, Role};
use lorac_config::{Check, NumberOrText, Problems};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Trained parameters with a learning rate or a weight decay of their own
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamGroup {
    /// Which: names of parameters, globs over them (`*.lora_B`), or role:query|key|value|output|up|gate|down|head for what is
    /// adapted there; role:head is a new head, too. A parameter is of the first group that it fits
    #[serde(rename = "match")]
    pub patterns: Vec<String>,
    /// Their highest learning rate: 1e-3, or 10x for a multiple of the optimizer's
    #[serde(default)]
    pub lr: Option<GroupRate>,
    /// Their weight decay
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

impl Check for ParamGroup {
    fn check(&self, problems: &mut Problems) {
        match self.lr {
            Some(GroupRate::Rate(lr)) => problems.range("lr", lr, 0.0, 1.0),
            Some(GroupRate::Times(times)) => problems.range("lr", times, 0.0, 1e6),
            None => {}
        }
        problems.range("weight_decay", self.weight_decay.unwrap_or(0.0), 0.0, 100.0);
        if self.lr.is_none() && self.weight_decay.is_none() {
            let message = "a group of parameters has an `lr` or a `weight_decay` of its own: this one has neither";
            problems.report("", "pipeline::idle", message);
        }
        if self.patterns.is_empty() {
            problems.report("match", "pipeline::idle", "`match` is empty: no parameter is of this group");
        }
    }
}

/// The highest learning rate of a group: a rate, or `10x` the optimizer's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub enum GroupRate {
    /// This rate.
    Rate(f64),
    /// The optimizer's, so many times.
    Times(f64),
}

impl TryFrom<NumberOrText> for GroupRate {
    type Error = String;

    fn try_from(given: NumberOrText) -> Result<GroupRate, String> {
        match (&given, given.with_unit(&["x"])) {
            (NumberOrText::Number(rate), _) => Ok(GroupRate::Rate(*rate)),
            (_, Some((times, _))) => Ok(GroupRate::Times(times)),
            _ => Err(format!(
                "`{given}` is not a rate: expected a number (`1e-3`) or a multiple of the optimizer's (`10x`)"
            )),
        }
    }
}

impl From<GroupRate> for NumberOrText {
    fn from(rate: GroupRate) -> NumberOrText {
        match rate {
            GroupRate::Rate(rate) => NumberOrText::Number(rate),
            GroupRate::Times(times) => NumberOrText::Text(format!("{times}x")),
        }
    }
}

impl JsonSchema for GroupRate {
    fn schema_name() -> Cow<'static, str> {
        "GroupRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A learning rate, or 10x for a multiple of the optimizer's",
            "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, { "type": "string", "pattern": "^[0-9.]+ *x$" }],
        })
    }
}

/// What is not the same for all params.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Groups<'a> {
    /// Groups of params: one that fits several is of the first.
    pub groups: &'a [ParamGroup],
    /// Patterns of params without weight decay.
    pub no_decay: &'a [String],
    /// LoRA+ (Hayou et al. 2024): what the rate of every B is multiplied by.
    pub lora_plus: Option<f64>,
}

/// How a param of theta is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlotRate {
    /// What the learning rate of a step is multiplied by.
    pub scale: f64,
    /// Its weight decay; `None` for the optimizer's, if any applies.
    pub decay: Option<f64>,
}

impl Groups<'_> {
    /// How every slot of theta is updated, in their order, where the optimizer's highest rate is `lr`.
    ///
    /// # Errors
    /// Every pattern that no param fits.
    pub fn rates(
        &self,
        lr: f64,
        layout: &Layout,
        params: &[Param],
        deltas: &[(usize, Delta)],
    ) -> Result<Vec<SlotRate>, PassError> {
        let mut rates = vec![SlotRate { scale: 1.0, decay: None }; layout.slots().len()];
        let fits = Fits::of(layout, params, deltas);
        let mut unknown = Vec::new();
        let mut find = |patterns: &[String], path: &dyn Fn(usize) -> String| {
            let mut found = BTreeSet::new();
            for (i, pattern) in patterns.iter().enumerate() {
                match fits.pattern(pattern) {
                    Ok(slots) => found.extend(slots),
                    Err(why) => unknown.push((path(i), why)),
                }
            }
            found
        };
        let mut taken = BTreeSet::new();
        for (i, group) in self.groups.iter().enumerate() {
            for slot in find(&group.patterns, &|j| format!("groups.{i}.match.{j}")) {
                if taken.insert(slot) {
                    rates[slot] = SlotRate {
                        scale: match group.lr {
                            Some(GroupRate::Rate(rate)) => rate / lr,
                            Some(GroupRate::Times(times)) => times,
                            None => 1.0,
                        },
                        decay: group.weight_decay,
                    };
                }
            }
        }
        for slot in find(self.no_decay, &|j| format!("no_decay.{j}")) {
            rates[slot].decay = Some(0.0);
        }
        if let Some(ratio) = self.lora_plus {
            let factors = fits.second_factors();
            if factors.is_empty() {
                let (what, pattern) = ("low-rank branch", "lora_plus".to_string());
                let nothing = NoMatch::Nothing { what, pattern, nearest: Vec::new(), why: String::new() };
                unknown.push(("lora_plus".into(), nothing));
            }
            factors.into_iter().for_each(|slot| rates[slot].scale *= ratio);
        }
        for (slot, rate) in layout.slots().iter().zip(&mut rates) {
            if params.iter().any(|p| p.name == slot.name && !p.is_trained()) {
                *rate = SlotRate { scale: 1.0, decay: Some(0.0) };
            }
        }
        if unknown.is_empty() { Ok(rates) } else { Err(PassError::NoParam(unknown)) }
    }
}

/// The slots of theta by what patterns may say of them.
struct Fits<'a> {
    slots: Vec<(usize, &'a str)>,
    roles: BTreeMap<&'a str, BTreeSet<Role>>,
    deltas: &'a [(usize, Delta)],
}

impl<'a> Fits<'a> {
    fn of(layout: &'a Layout, params: &'a [Param], deltas: &'a [(usize, Delta)]) -> Fits<'a> {
        let slots = layout.slots().iter().enumerate().map(|(i, slot)| (i, slot.name.as_str())).collect();
        let mut roles: BTreeMap<&str, BTreeSet<Role>> = BTreeMap::new();
        for (_, Delta { target, form }) in deltas {
            let of_target = match &target.slice {
                Some(slice) => BTreeSet::from([slice.role]),
                None => target.roles.clone(),
            };
            let names = match form {
                DeltaForm::LowRank { a, b, magnitude, .. } => [a, b].into_iter().chain(magnitude).collect(),
                DeltaForm::Replaced { param } | DeltaForm::Scaled { param, .. } | DeltaForm::Rows { param, .. } => {
                    vec![param]
                }
            };
            names.into_iter().for_each(|name| roles.entry(name).or_default().extend(&of_target));
        }
        for param in params.iter().filter(|p| p.group == Group::Head) {
            roles.entry(&param.name).or_default().insert(Role::Head);
        }
        Fits { slots, roles, deltas }
    }

    fn pattern(&self, pattern: &str) -> Result<Vec<usize>, NoMatch> {
        const WHAT: &str = "trained parameter";
        let Some(role) = role_named(pattern)? else { return pick(WHAT, pattern, &self.slots) };
        let fits = |name: &str| self.roles.get(name).is_some_and(|roles| roles.contains(&role));
        let found: Vec<usize> = self.slots.iter().filter(|(_, name)| fits(name)).map(|(i, _)| *i).collect();
        if found.is_empty() {
            let roles: BTreeSet<String> = self.roles.values().flatten().map(|r| format!("role:{r}")).collect();
            let nearest = roles.into_iter().collect();
            return Err(NoMatch::Nothing { what: WHAT, pattern: pattern.to_string(), nearest, why: String::new() });
        }
        Ok(found)
    }

    /// Slots of every B of a low-rank branch.
    fn second_factors(&self) -> Vec<usize> {
        let names = self.deltas.iter().filter_map(|(_, delta)| match &delta.form {
            DeltaForm::LowRank { b, .. } => Some(b.as_str()),
            _ => None,
        });
        let names: BTreeSet<&str> = names.collect();
        self.slots.iter().filter(|(_, name)| names.contains(name)).map(|(i, _)| *i).collect()
    }
}
